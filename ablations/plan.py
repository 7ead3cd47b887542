"""From a study's design and what the command line changed to the runs that are to be made. Nothing is run here.

A factor has levels, and a level may bring settings of its own (`optimizer=sgd` its learning rates); where such a
setting has several values, each of them makes a run.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ablations.errors import InputError

GRID, ONE_AT_A_TIME = "grid", "one_at_a_time"
SEED = "seed"


@dataclass(frozen=True)
class Given:
    """One key of the command line.

    Attributes:
        values: as Hydra writes them.
        swept: whether they are several by intention.
        prefix: of the override: `+` adds a key, `++` adds or overrides it.
        line: the override as it was given.
    """

    values: tuple[str, ...]
    swept: bool
    prefix: str
    line: str


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        factors: the keys that are compared, in order.
        levels: of each factor, in order, as text; the first is compared with where the study names no baseline.
        nuisance: the keys of which each variant is given its own best value.
        jobs: the overrides of each run, seed by seed, so that a sweep that is stopped holds whole seeds.
    """

    factors: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    nuisance: tuple[str, ...]
    jobs: tuple[tuple[str, ...], ...]

    @property
    def varied(self) -> tuple[str, ...]:
        """Everything that tells runs of one seed apart."""
        return (*self.factors, *self.nuisance)


def plan(study: Mapping[str, Any], given: Mapping[str, Given]) -> Plan:
    """The runs that a study and the command line ask for together; where both name a key the command line wins.

    A swept key of the command line becomes a factor, or replaces the levels of the study's; a key with one value
    there is held at it and is no factor.

    Args:
        study: `design`, `factors`, `baseline`, `seeds` and `nuisance` as in conf/study/*.yaml.
        given: by key, the overrides of the command line in their order.

    Raises:
        InputError: an unknown design, no seeds, a factor without levels, or a baseline that is none of them.
    """
    design = study["design"]
    if design not in (GRID, ONE_AT_A_TIME):
        raise InputError(f"study.design: must be {GRID} or {ONE_AT_A_TIME}, got {design}")
    levels = {_bare(key): _levels(key, of) for key, of in study["factors"].items()}
    prefixes = {_bare(key): key[: len(key) - len(_bare(key))] for key in study["factors"]}
    for key, level in study["baseline"].items():
        if key in levels and override_value(level) not in levels[key]:
            raise InputError(
                f"study.baseline.{key}: {level} is no level of the factor: {', '.join(levels[key])}"
            )
    brought: list[tuple[str, Any]] = []
    for key, said in given.items():
        known = levels.get(key, {})
        if key == SEED:
            continue
        if said.swept:
            levels[key] = {value: known.get(value, {}) for value in said.values}
            prefixes[key] = said.prefix
        elif levels.pop(key, None) is not None:
            brought += known.get(said.values[0], {}).items()
    held = [said.line for key, said in given.items() if not said.swept and key != SEED]

    settings = []
    for setting in _settings(design, levels, study["baseline"]):
        own = [*brought, *(item for key, level in setting.items() for item in levels[key][level].items())]
        ours = {key: _values(value) for key, value in own if _bare(key) not in given}
        chosen = [f"{prefixes[key]}{key}={level}" for key, level in setting.items()]
        for values in product(*ours.values()):
            more = [f"{key}={value}" for key, value in zip(ours, values, strict=True)]
            settings.append((*chosen, *more, *held))

    seeds = given[SEED].values if SEED in given else _seeds(study["seeds"])
    said_seeds = [() if seed is None else (f"{SEED}={seed}",) for seed in seeds]
    return Plan(
        factors=tuple(key for key in levels if key not in study["nuisance"]),
        levels={key: tuple(map(_unquoted, of)) for key, of in levels.items()},
        nuisance=tuple(key for key in study["nuisance"] if key not in given or given[key].swept),
        jobs=tuple((*setting, *seed) for seed in said_seeds for setting in settings),
    )


def _settings(
    design: str, levels: Mapping[str, Mapping[str, Any]], baseline: Mapping[str, Any]
) -> Iterator[dict[str, str]]:
    """The level of every factor, run by run."""
    if design == GRID:
        for chosen in product(*levels.values()):
            yield dict(zip(levels, chosen, strict=True))
        return
    base = {}
    for key, of in levels.items():
        wanted = override_value(baseline.get(key))
        base[key] = wanted if wanted in of else next(iter(of))
    yield dict(base)
    for key, of in levels.items():
        for level in of:
            if level != base[key]:
                yield base | {key: level}


def _levels(key: str, of: Any) -> dict[str, Mapping[str, Any]]:
    """Each level of a factor with the settings that it brings."""
    if isinstance(of, Mapping):
        levels = {override_value(level): dict(own or {}) for level, own in of.items()}
    elif isinstance(of, Sequence) and not isinstance(of, str):
        levels = {override_value(level): {} for level in of}
    else:
        raise InputError(
            f"study.factors.{key}: a list of levels is expected, or levels with their settings; got {of!r}"
        )
    if not levels:
        raise InputError(f"study.factors.{key}: no levels")
    return levels


def _values(value: Any) -> list[str]:
    """The values of a level's own setting: a list is one value after the other."""
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return [override_value(each) for each in (value if several else [value])]


def _seeds(seeds: Any) -> list[str | None]:
    """So many seeds from 0 on, these seeds, or for None the configuration's own."""
    if seeds is None:
        return [None]
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
        return list(map(str, range(seeds)))
    if isinstance(seeds, Sequence) and not isinstance(seeds, str) and len(seeds):
        return list(map(str, seeds))
    raise InputError(f"study.seeds: must be how many, or a list of them; got {seeds!r}")


def override_value(value: Any) -> str:
    """A value of a YAML file in Hydra's override grammar."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_value(item)}" for key, item in value.items()) + "}"
    if not isinstance(value, str):
        return "[" + ",".join(map(override_value, value)) + "]"
    plain = value.isascii() and value.replace("_", "").replace(".", "").isalnum()
    return value if plain else quoted(value)


def quoted(text: str) -> str:
    """Any text as one value in Hydra's override grammar, where backslashes are escaped before a quote only."""
    escaped = re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text)
    return f"'{escaped}'"


def _unquoted(value: str) -> str:
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        quote = value[0]
        return re.sub(
            rf"(\\+)({quote}|\Z)", lambda found: found[1][: len(found[1]) // 2] + found[2], value[1:-1]
        )
    return value


def _bare(key: str) -> str:
    return key.lstrip("+")
