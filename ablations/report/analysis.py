"""Everything that a report says in numbers, from the study and its runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ablations import statistics, verdicts
from ablations.errors import InputError
from ablations.study import Study, smaller_is_better
from ablations.verdicts import Claim, Contrast

MOST_INTERACTIONS = 24
"""Beyond so many a report compares main effects alone: each comparison costs the others seeds."""


@dataclass(frozen=True)
class Answer:
    """What a study says of one claim.

    Attributes:
        claim: as its source makes it.
        said: supported, refuted, or the verdict itself.
        row: of the table of effects, the evidence.
    """

    claim: Claim
    said: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Analysis:
    """The numbers of a report.

    Attributes:
        study: what was asked.
        runs: ranked, with `value`, `finished`, `variant`, `outcome`; at the nuisance values that were chosen.
        left_out: runs that do not count, in words.
        variants: as `statistics.variants` gives them.
        contrasts: every comparison, in the order of `effects`.
        effects: the verdict table, columns `verdicts.COLUMNS`.
        interactions_left_out: how many were not looked at.
        answers: to the study's claims.
        dependences: as `verdicts.dependences` gives them.
        failures: as `verdicts.failures` gives them.
        tuned: as `verdicts.tuned` gives it; None without nuisance factors.
        everything: all runs, those at other nuisance values as well.
    """

    study: Study
    runs: pd.DataFrame
    left_out: tuple[str, ...]
    variants: pd.DataFrame
    contrasts: tuple[Contrast, ...]
    effects: pd.DataFrame
    interactions_left_out: int
    answers: tuple[Answer, ...]
    dependences: pd.DataFrame
    failures: pd.DataFrame
    tuned: pd.DataFrame | None
    everything: pd.DataFrame


def analyse(study: Study, everything: pd.DataFrame, left_out: Sequence[str], strict: bool) -> Analysis:
    """Every comparison that the study asks for.

    Args:
        study: the question; a baseline that it does not name is completed here.
        everything: the runs that belong together, with the columns of `statistics.with_times`.
        left_out: in words.
        strict: whether runs that cannot be compared at all are an error, or a report without verdicts.

    Raises:
        InputError: where strict, no run has the metric, the seed or two levels; a baseline that no run has.
    """
    metric = study.metric
    if not strict:  # a sweep all of whose runs failed has a report, too
        asked = {
            f"metrics.{name}" for name in (metric, *(claim.get("metric", metric) for claim in study.claims))
        }
        everything = everything.assign(**dict.fromkeys(sorted(asked - set(everything)), float("nan")))
    if strict and study.factors and "params.seed" not in everything:
        raise InputError(
            f"seeds: no run has the param {study.seed_param}, so that nothing can be paired; there are "
            f"{params_of(everything)}"
        )
    runs, tuned = everything, None
    if study.nuisance:
        runs, tuned = verdicts.tuned(
            everything, study.factors, study.nuisance, study.tuned_on, smaller_is_better(study.tuned_on)
        )
    ranked = statistics.ranked(runs, study.factors, metric, study.smaller)
    ranked = ranked.assign(outcome=verdicts.with_outcomes(ranked, metric)["outcome"])
    study, contrasts, left_alone = _compared(study, ranked, strict)
    rules = [_rule(study, contrast) for contrast in contrasts]
    effects = verdicts.tabulate(contrasts, [margin for margin, _ in rules], [small for _, small in rules])
    main = effects[effects["metric"] == metric]
    return Analysis(
        study=study,
        runs=ranked,
        left_out=tuple(left_out),
        variants=statistics.variants(ranked, study.factors, study.smaller),
        contrasts=contrasts,
        effects=effects,
        interactions_left_out=left_alone,
        answers=tuple(_answers(study, effects)),
        dependences=verdicts.dependences(main) if len(main) else pd.DataFrame(),
        failures=verdicts.failures(everything, study.factors, metric),
        tuned=tuned,
        everything=everything,
    )


def params_of(runs: pd.DataFrame) -> str:
    """The params that runs logged, for a message."""
    logged = runs.filter(regex=r"^params\.").replace(statistics.NOT_LOGGED, None).dropna(axis=1, how="all")
    return ", ".join(sorted(name.removeprefix("params.") for name in logged)) or "none"


def _compared(study: Study, runs: pd.DataFrame, strict: bool) -> tuple[Study, tuple[Contrast, ...], int]:
    """The study with its whole baseline, its comparisons, and how many interactions are left out."""
    levels = {
        key: sorted(set(runs[f"params.{key}"]) - {statistics.NOT_LOGGED}, key=statistics.natural)
        if f"params.{key}" in runs
        else []
        for key in study.factors
    }
    if strict:
        for key in study.factors:
            if not levels[key]:
                raise InputError(f"factor {key}: no run has such a param; there are {params_of(runs)}")
    baseline = {key: str(study.baseline.get(key, levels[key][0])) for key in study.factors if levels[key]}
    study = replace(study, baseline=baseline)
    if not strict and (
        not any(len(of) > 1 for of in levels.values())
        or not all(levels.values())
        or any(baseline[key] not in levels[key] for key in levels)
    ):
        return study, (), 0

    # Interactions are only in a grid, and only as many as their number does not drown the main effects.
    many = 0
    for at, a in enumerate(study.factors):
        many += sum((len(levels[a]) - 1) * (len(levels[b]) - 1) for b in study.factors[at + 1 :])
    asked = study.design == "grid" and many <= MOST_INTERACTIONS
    contrasts = verdicts.contrasts(runs, study.factors, baseline, study.metric, asked)
    return (
        study,
        (*contrasts, *_claimed(study, runs, contrasts)),
        0 if asked or study.design != "grid" else many,
    )


def _claimed(study: Study, runs: pd.DataFrame, contrasts: Sequence[Contrast]) -> Iterator[Contrast]:
    """The comparisons that claims need besides: of other metrics, or with another level than the baseline."""
    known = {(each.factor, each.metric, frozenset((each.variant, each.baseline))) for each in contrasts}
    for claim in study.claims:
        metric = str(claim.get("metric", study.metric))
        key = (claim["factor"], metric, frozenset((str(claim["variant"]), str(claim["baseline"]))))
        if key in known:
            continue
        known.add(key)
        found = verdicts.contrasts(
            runs, study.factors, {**study.baseline, claim["factor"]: str(claim["baseline"])}, metric, False
        )
        yield from (
            each for each in found if (each.factor, each.variant) == (claim["factor"], str(claim["variant"]))
        )


def _rule(study: Study, contrast: Contrast) -> tuple[float, bool]:
    """The margin of a comparison, and whether smaller is better in its metric."""
    if contrast.metric == study.metric:
        return study.margin, study.smaller
    margins = [
        claim["margin"]
        for claim in study.claims
        if claim.get("metric") == contrast.metric and claim.get("margin") is not None
    ]
    return float(margins[0] if margins else 0), smaller_is_better(contrast.metric)


def _answers(study: Study, effects: pd.DataFrame) -> Iterator[Answer]:
    for said in study.claims:
        claim = verdicts.Claim(
            text=said["text"],
            source=said["source"],
            factor=said["factor"],
            variant=str(said["variant"]),
            baseline=str(said["baseline"]),
            metric=str(said.get("metric", study.metric)),
            direction=said.get("direction", verdicts.BETTER),
        )
        answer, row = verdicts.answer(claim, effects)
        yield Answer(claim, answer, row.to_dict())


def more_seeds(analysis: Analysis, affordable: int = 50) -> tuple[int, pd.DataFrame, pd.DataFrame]:
    """How many seeds in all would settle what is open, the comparisons that they would settle, and those that
    would take more than is affordable."""
    table = analysis.effects
    open_ones = table[table["seeds_needed"].notna()]
    within = open_ones[open_ones["seeds_needed"] <= affordable]
    seeds = int(within["seeds_needed"].max()) if len(within) else 0
    return seeds, within, open_ones[open_ones["seeds_needed"] > affordable]
