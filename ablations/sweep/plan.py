"""Plan a sweep: from a study's design and the command line to the runs that are to be made.

A factor has levels, and a level may bring settings of its own (`optimizer=sgd` its learning rates); where such a
setting has several values, each of them makes a run.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ablations.errors import InputError
from ablations.sweep.designs import ADD_ONE_IN, FRACTION, GRID, LADDER, Setting, opposite, settings
from ablations.sweep.overrides import Given, has_key, override_text, override_value
from ablations.sweep.where import condition

SEED = "seed"


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        factors: the keys that are compared, in order.
        nuisance: the keys of which each variant is given its own best value.
        settings: the overrides of each variant, the seed aside.
        levels: of each factor, as overrides have them; without those that levels of others bring.
        baseline: of each of these the level that the others are compared with, as overrides have it.
        remarks: what was not done as the command line has it.
        seeds: with which each setting is run; None for the configuration's own.
    """

    factors: tuple[str, ...]
    nuisance: tuple[str, ...]
    settings: tuple[tuple[str, ...], ...]
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    baseline: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    seeds: tuple[str | None, ...] = (None,)

    @property
    def runs(self) -> tuple[tuple[str, ...], ...]:
        """The overrides of each run, seed by seed, so that a sweep that is stopped holds whole seeds."""
        return tuple(with_seed(setting, seed) for seed in self.seeds for setting in self.settings)

    @property
    def varied(self) -> tuple[str, ...]:
        """Everything that tells runs of one seed apart."""
        return (*self.factors, *self.nuisance)


def with_seed(setting: tuple[str, ...], seed: str | None) -> tuple[str, ...]:
    """The overrides of the run of a setting with a seed."""
    return setting if seed is None else (*setting, f"{SEED}={seed}")


def plan(study: Mapping[str, Any], given: Mapping[str, Given]) -> Plan:
    """The runs that a study and the command line ask for together; where both name a key the command line wins.

    A swept key of the command line becomes a factor, or replaces the levels of the study's; a key with one value
    there is held at it and is no factor. One that some of the compared choices lack is held where it exists.

    Args:
        study: `design`, `factors`, `baseline`, `start`, `where`, `seeds` and `nuisance` as in conf/study/*.yaml.
        given: by key, the overrides of the command line in their order.

    Raises:
        InputError: an unknown design, or levels that it has no place for; no seeds, a factor without levels, a baseline
            that is none of them, a key that no compared choice has, or not all where it is swept; a filter that is
            none, or that leaves nothing, or not the baseline.
    """
    design = study["design"]
    levels = {_bare(key): _levels(key, of) for key, of in study["factors"].items()}
    prefixes = {_bare(key): key[: len(key) - len(_bare(key))] for key in study["factors"]}
    for key, level in study["baseline"].items():
        if key in levels and override_value(level) not in levels[key]:
            raise InputError(
                f"study.baseline.{key}: {level} is no level of the factor: {', '.join(levels[key])}"
            )
    held, brought = _with_command_line(levels, prefixes, given)
    having = _having(levels, given)
    baseline = _baseline(study["baseline"], levels)
    start = {key: override_value(level) for key, level in study["start"].items() if key in levels}

    found, several = [], {}
    for setting in settings(design, {key: list(of) for key, of in levels.items()}, baseline, start):
        bring = [*brought, *(item for key, level in setting.items() for item in levels[key][level].items())]
        ours = {key: _values(value) for key, value in bring if _bare(key) not in given}
        several |= {_bare(key): None for key, values in ours.items() if len(values) > 1}
        chosen = [f"{prefixes[key]}{key}={level}" for key, level in setting.items()]
        here = [
            line for key, line in held.items() if key not in having or setting[_group(key)] in having[key]
        ]
        for values in product(*ours.values()):
            own = dict(zip(ours, values, strict=True))
            more = [f"{key}={value}" for key, value in own.items()]
            found.append(_Combination(setting, own, (*chosen, *more, *here)))
    factors = tuple(key for key in dict.fromkeys((*levels, *several)) if key not in study["nuisance"])
    _require_fitting(design, levels, factors)
    if study["where"] is not None:
        held_factors = {key: own.values[0] for key, own in given.items() if key in prefixes and not own.swept}
        found = _filtered(study["where"], design, baseline, held_factors, found)

    return Plan(
        factors=factors,
        nuisance=tuple(key for key in study["nuisance"] if key not in given or given[key].swept),
        settings=tuple(each.overrides for each in found),
        levels={key: tuple(of) for key, of in levels.items()},
        baseline=opposite(levels, baseline, start) if design == ADD_ONE_IN else baseline,
        remarks=_remarks(held, having, levels),
        seeds=tuple(given[SEED].values if SEED in given else _seeds(study["seeds"])),
    )


def _remarks(
    held: Mapping[str, str], having: Mapping[str, Sequence[str]], levels: Mapping[str, Any]
) -> tuple[str, ...]:
    """Of keys that some of the compared choices lack for which they are set."""
    return tuple(
        f"{held[key]}: {_group(key)}={', '.join(each for each in levels[_group(key)] if each not in of)} "
        f"has no such key; it is set for {', '.join(of)}"
        for key, of in having.items()
        if len(of) < len(levels[_group(key)])
    )


def _baseline(wanted: Mapping[str, Any], levels: Mapping[str, Any]) -> Setting:
    """Of each factor the wanted level, or its first where it has no such level (any more)."""
    named = {key: override_value(level) for key, level in wanted.items()}
    return {key: named[key] if named.get(key) in of else next(iter(of)) for key, of in levels.items()}


@dataclass(frozen=True)
class _Combination:
    """A run without its seed: the levels of its factors, what these bring by key, and all its overrides."""

    setting: Setting
    brought: Mapping[str, str]
    overrides: tuple[str, ...]


def _require_fitting(design: str, levels: Mapping[str, Any], factors: Sequence[str]) -> None:
    """Raises InputError for several values that a level brings, or levels of a nuisance factor, in a design that has no
    place for them."""
    further = [key for key in factors if key not in levels] if design in (LADDER, FRACTION) else []
    if further:
        raise InputError(
            f"study.design={design}: a level brings several values of {further[0]}, which this design has no place "
            f"for; accepted: one value, or study.nuisance: [{further[0]}]"
        )
    nuisance = [key for key in levels if key not in factors]
    if nuisance and design in (ADD_ONE_IN, LADDER, FRACTION):
        raise InputError(
            f"study.design={design}: {nuisance[0]} is no factor, but a nuisance; accepted: values that levels bring"
        )


def _filtered(
    where: Any, design: str, baseline: Setting, held: Setting, found: Sequence[_Combination]
) -> list[_Combination]:
    """The combinations of a grid that an expression allows, which may name levels, what these bring, and factors that
    are held. Raises InputError as `plan` does."""
    if design != GRID:
        raise InputError(
            f"study.where: of a grid combinations can be left out, of study.design={design} none"
        )
    known = [
        {_bare(key): override_text(value) for key, value in (held | each.setting | each.brought).items()}
        for each in found
    ]
    values: dict[str, set[str]] = {}
    for key, value in (item for each in known for item in each.items()):
        values.setdefault(key, set()).add(value)
    allowed = condition(where, values)
    left = [each for each, names in zip(found, known, strict=True) if allowed(names)]
    if not left:
        raise InputError(f"study.where: {where}: none of {len(found)} combinations is left")
    if all(each.setting != baseline for each in left):
        named = " ".join(f"{key}={level}" for key, level in baseline.items())
        raise InputError(
            f"study.where: {where}: leaves out the baseline ({named}), which the others are compared with"
        )
    return left


def _with_command_line(
    levels: dict[str, dict[str, Mapping[str, Any]]], prefixes: dict[str, str], given: Mapping[str, Given]
) -> tuple[dict[str, str], list[tuple[str, Any]]]:
    """Change levels and prefixes as the command line wants them; what is held, by key, and what that brings."""
    swept = {key for key, own in given.items() if own.swept}
    compared = {*levels, *swept} - (given.keys() - swept)
    held, brought = {}, []
    for key, own in given.items():
        known = levels.get(key, {})
        one_of_a_choice = len(own.values) == 1 and _group(key) in compared and "." in key
        if key == SEED:
            continue
        if own.swept and not one_of_a_choice:
            levels[key] = {value: known.get(value, {}) for value in own.values}
            prefixes[key] = own.prefix
            continue
        if levels.pop(key, None) is not None:
            brought += known.get(own.values[0], {}).items()
        held[key] = f"{own.prefix}{key}={own.values[0]}" if own.swept else own.line
    return held, brought


def _having(levels: Mapping[str, Mapping[str, Any]], given: Mapping[str, Given]) -> dict[str, list[str]]:
    """For each given key of a compared choice the levels that have it. Raises InputError as `plan` does."""
    having = {}
    for key, own in given.items():
        group, dot, rest = key.partition(".")
        if not dot or group not in levels or own.prefix:
            continue
        of = [level for level in levels[group] if has_key(group, level, rest)]
        lacking = ", ".join(level for level in levels[group] if level not in of)
        if not of:
            raise InputError(f"{key}: there is no such key; {group} is compared at {lacking}")
        if lacking and key in levels:
            raise InputError(
                f"{key}: {group}={lacking} has no such key, so that it cannot be swept beside {group}; "
                f"accepted: one value, or {group}={','.join(of)}"
            )
        having[key] = of
    return having


def _group(key: str) -> str:
    """The group of a choice's own key."""
    return key.partition(".")[0]


def _levels(key: str, of: Any) -> dict[str, Mapping[str, Any]]:
    """Each level of a factor with the settings that it brings."""
    if isinstance(of, Mapping):
        levels = {override_value(level): dict(own or {}) for level, own in of.items()}
    elif isinstance(of, Sequence) and not isinstance(of, str):
        if any(isinstance(level, Mapping) for level in of):
            raise InputError(
                f"study.factors.{key}: sections cannot be levels; accepted: names or single values, each with the "
                "settings that it brings"
            )
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
