"""From the `study:` section of the configuration to the record of the study, which is kept beside its runs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from ablations.errors import InputError
from ablations.experiment.job import TRAIN_IMAGES, is_below, logged_params
from ablations.sweep.composing import PlannedRun
from ablations.sweep.designs import FRACTION, LADDER, in_order
from ablations.sweep.plan import SEED, Plan
from ablations.tracking.columns import PARAM
from ablations.tracking.directly import EXPERIMENT_TAG_CHARACTERS
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.study import Study, tag_of

if TYPE_CHECKING:
    from ablations.comparison.pairs import Comparison

OF_THE_PLAN = {"seeds", "reproduces", "start", "spread"}
"""Keys of the section that the record of a study does not have."""
MOST_IDS = 200
"""Of tunings: the record has room for few thousand characters."""


def study_of(
    name: str, section: Mapping[str, Any], planned: Plan, runs: Sequence[PlannedRun], command: str
) -> Study:
    """The study as the report needs it: levels as the runs will log them, of the claims those that they can answer.

    Raises InputError for a key that no study has, for a metric of which nobody says which values are better, and for a
    level that no run logs.
    """
    if unknown := section.keys() - {each.name for each in fields(Study)} - OF_THE_PLAN:
        raise InputError(f"study.{min(unknown)}: there is no such key; accepted: those of conf/config.yaml")
    logged = {key: list(dict.fromkeys(run.logged(key) for run in runs)) for key in planned.factors}
    if str(None) in logged.get(TRAIN_IMAGES, ()):
        raise InputError(
            f"{TRAIN_IMAGES}: null is no level, as a run says how many images it trained on; accepted: their number"
        )
    wanted = {key: str(level) for key, level in section["baseline"].items()} | _as_logged(planned, runs)
    found = {
        "name": name,
        "factors": planned.factors,
        "baseline": {key: wanted[key] if wanted.get(key) in of else of[0] for key, of in logged.items()},
        "nuisance": planned.nuisance,
        "claims": [
            claim
            for claim in section["claims"]
            if {str(claim["variant"]), str(claim["baseline"])} <= set(logged.get(claim["factor"], ()))
        ],
        "published": _published(section["reproduces"], runs),
        "tuning": None,
        "command": command,
        "brings": brought(planned, runs, section["design"] == FRACTION),
        "steps": steps(planned, runs) if section["design"] == LADDER else None,
    }
    study = Study.read({**section, **found})
    study.require_directions()
    return study


def _as_logged(planned: Plan, runs: Sequence[PlannedRun]) -> dict[str, str]:
    """The baseline of the plan, its levels as the runs will log them."""
    names = logged_names(planned, runs)
    return {key: names[key, level] for key, level in planned.baseline.items()}


def comparisons_of(study: Study, runs: Sequence[PlannedRun]) -> "tuple[Comparison, ...]":
    """What will be compared of these runs, whatever they measure."""
    import pandas as pd

    from ablations.report.analysis import planned_comparisons

    planned = [{key: run.logged(key) for key in (*study.varied, SEED)} for run in runs]
    return planned_comparisons(study, pd.DataFrame(planned).add_prefix(PARAM))


def logged_names(planned: Plan, runs: Sequence[PlannedRun]) -> dict[tuple[str, str], str]:
    """By factor and level, as overrides have it, the level as the runs log it."""
    found = {}
    for overrides, run in zip(planned.runs, runs, strict=False):  # those of one seed are enough
        for override in overrides:
            key, _, level = override.lstrip("+").partition("=")
            if key in planned.levels:
                found[key, level] = run.logged(key)
    return found


def steps(planned: Plan, runs: Sequence[PlannedRun]) -> dict[str, tuple[str, ...]]:
    """Of a ladder each factor's levels in the order in which they are added."""
    names, order = logged_names(planned, runs), in_order(planned.levels, planned.baseline)
    return {key: tuple(names[key, level] for level in of) for key, of in order.items()}


def brought(
    planned: Plan, runs: Sequence[PlannedRun], fraction: bool = False
) -> dict[str, dict[str, list[str]]]:
    """By factor and level the keys in which its runs differ from those of the factor's first level by design.

    Two runs are compared that differ in no other varied key, or, where a level has values of its own for a nuisance
    factor, in no other factor; of a fraction, which has no such runs, all of one level with all of the other: what
    another factor brings is there as often on either side. The factor's own section is not listed, nor is a level that
    brings nothing.
    """
    found: dict[str, dict[str, set[str]]] = {key: {} for key in planned.factors}
    first = {run.logged(SEED) for run in runs[:1]}
    settings = [
        ({key: run.logged(key) for key in planned.varied}, logged_params(run.config, run.choices))
        for run in runs
        if run.logged(SEED) in first
    ]
    for factor in planned.factors:
        first_levels: dict[tuple[str, ...], tuple[str, dict[str, object]]] = {}
        twins: dict[tuple[str, ...], dict[str, object]] = {}
        for levels, params in settings if not fraction else ():
            others = {key: level for key, level in levels.items() if key != factor}
            of_factors = tuple(level for key, level in others.items() if key in planned.factors)
            level, nearest = first_levels.setdefault(of_factors, (levels[factor], params))
            twin = twins.setdefault(tuple(others.values()), params if levels[factor] == level else nearest)
            keys = {key for key in {**params, **twin} if params.get(key) != twin.get(key)}
            keys = {key for key in keys - {*planned.varied} if not is_below(key, (factor, *planned.nuisance))}
            if keys:
                found[factor].setdefault(levels[factor], set()).update(keys)
    if fraction:
        found = {factor: _by_level(factor, planned, settings) for factor in planned.factors}
    return {
        key: {level: sorted(keys) for level, keys in of.items()}
        for key, of in found.items()
        if any(of.values())
    }


def _by_level(
    factor: str, planned: Plan, settings: Sequence[tuple[Mapping[str, str], Mapping[str, object]]]
) -> dict[str, set[str]]:
    """The keys whose values, over all variants, are other ones at a level of a factor than at its first level."""
    variants = {
        tuple(levels[key] for key in planned.factors): (levels, params) for levels, params in settings
    }
    of_level: dict[str, list[Mapping[str, object]]] = {}
    for levels, params in variants.values():
        of_level.setdefault(levels[factor], []).append(params)
    first, *others = of_level.values()
    keys = {key for _, params in settings for key in params} - {*planned.varied}

    def values(of: Sequence[Mapping[str, object]], key: str) -> Counter[str]:
        return Counter(str(params.get(key)) for params in of)

    return {
        level: {
            key
            for key in keys
            if not is_below(key, (factor, *planned.nuisance)) and values(of, key) != values(first, key)
        }
        for level, of in zip(list(of_level)[1:], others, strict=True)
    }


def _published(experiments: Sequence[str], runs: Sequence[PlannedRun]) -> dict[str, Any]:
    """What was published of those of the experiments that are run, as each has it in conf/experiment/."""
    composed = {run.choices.get("experiment"): run.config.study.published for run in runs}
    return {name: OmegaConf.to_container(composed[name][name]) for name in experiments if name in composed}


def keep(study: Study, store: Store, experiment_id: str) -> None:
    """Leave the study in a tag of its experiment, with what levels of earlier commands brought.

    Raises InputError where it is too long for that.
    """
    before = Reader(store).experiment_tags(experiment_id).get(tag_of(study.name))
    text = _with_levels_of(before, study).to_json()
    if len(text) > EXPERIMENT_TAG_CHARACTERS:
        raise InputError(
            f"study {study.name}: its text has {len(text)} characters, {EXPERIMENT_TAG_CHARACTERS} can be kept; "
            "shorten published, sections or claims"
        )
    store.tag_experiment(experiment_id, tag_of(study.name), text)


def _with_levels_of(before: str | None, study: Study) -> Study:
    """The study with what is known of the levels that it had before and this command does not name."""
    if before is None:
        return study
    kept = study.with_readable(before)[0]
    earlier = kept.brings or {}
    brings = {key: {**earlier.get(key, {}), **(study.brings or {}).get(key, {})} for key in study.factors}
    return replace(study, brings={key: of for key, of in brings.items() if of}, tuning=_tuning(kept, study))


def _tuning(earlier: Study, study: Study) -> dict[str, Any] | None:
    """What the study keeps of its tuning, with the ids of earlier commands behind its own: they have other levels."""
    if study.tuning is None or earlier.tuning is None:
        return study.tuning
    ids = dict.fromkeys([*study.tuning["ids"], *earlier.tuning["ids"]])
    return {**study.tuning, "ids": list(ids)[:MOST_IDS]}
