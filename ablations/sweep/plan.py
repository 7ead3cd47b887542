"""Plan a sweep: from a study's design and the command line to the runs that are to be made.

A factor has levels, and a level may bring settings of its own (`optimizer=sgd` its learning rates); where such a
setting has several values, each of them makes a run.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from ablations.errors import InputError
from ablations.sweep.overrides import Given, override_value

GRID, ONE_AT_A_TIME = "grid", "one_at_a_time"
SEED = "seed"


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        factors: the keys that are compared, in order.
        nuisance: the keys of which each variant is given its own best value.
        runs: the overrides of each run, seed by seed, so that a sweep that is stopped holds whole seeds.
    """

    factors: tuple[str, ...]
    nuisance: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]

    @property
    def varied(self) -> tuple[str, ...]:
        """Everything that tells runs of one seed apart."""
        return (*self.factors, *self.nuisance)


@dataclass(frozen=True)
class PlannedRun:
    """The configuration of one run, as the run will see it, and the choices that it was composed of."""

    config: DictConfig
    choices: Mapping[str, str | None]

    @classmethod
    def composed(cls, config: DictConfig) -> "PlannedRun":
        """Part Hydra's own section from the rest."""
        with open_dict(config):
            hydra = config.pop("hydra")
        return cls(config, OmegaConf.to_container(hydra.runtime.choices))

    def logged(self, key: str) -> str:
        """The value of a key as the run logs it: the choice of a group, else the value as text."""
        choice = self.choices.get(key)
        return str(OmegaConf.select(self.config, key) if choice is None else choice)


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
    for key, own in given.items():
        known = levels.get(key, {})
        if key == SEED:
            continue
        if own.swept:
            levels[key] = {value: known.get(value, {}) for value in own.values}
            prefixes[key] = own.prefix
        elif levels.pop(key, None) is not None:
            brought += known.get(own.values[0], {}).items()
    held = [own.line for key, own in given.items() if not own.swept and key != SEED]

    settings = []
    for setting in _settings(design, levels, study["baseline"]):
        bring = [*brought, *(item for key, level in setting.items() for item in levels[key][level].items())]
        ours = {key: _values(value) for key, value in bring if _bare(key) not in given}
        chosen = [f"{prefixes[key]}{key}={level}" for key, level in setting.items()]
        for values in product(*ours.values()):
            more = [f"{key}={value}" for key, value in zip(ours, values, strict=True)]
            settings.append((*chosen, *more, *held))

    seeds = given[SEED].values if SEED in given else _seeds(study["seeds"])
    chosen_seeds = [() if seed is None else (f"{SEED}={seed}",) for seed in seeds]
    return Plan(
        factors=tuple(key for key in levels if key not in study["nuisance"]),
        nuisance=tuple(key for key in study["nuisance"] if key not in given or given[key].swept),
        runs=tuple((*setting, *seed) for seed in chosen_seeds for setting in settings),
    )


def _settings(
    design: str, levels: Mapping[str, Any], baseline: Mapping[str, Any]
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


def _bare(key: str) -> str:
    return key.lstrip("+")
