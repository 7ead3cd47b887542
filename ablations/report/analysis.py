"""Everything that a report says in numbers, from the study and its runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from ablations import statistics, verdicts
from ablations.errors import InputError
from ablations.report.request import params_of, require_seed
from ablations.study import Study, smaller_is_better
from ablations.tracking.columns import NOT_LOGGED, column, metric, natural, param
from ablations.verdicts import Claim, Comparison, Verdict

MOST_INTERACTIONS = 24
"""Beyond so many a report compares main effects alone: each comparison costs the others seeds."""


@dataclass(frozen=True)
class Answer:
    """What a study says of one claim.

    Attributes:
        claim: as its source makes it.
        finding: supported, refuted, or the verdict itself.
        row: of the table of effects, the evidence.
    """

    claim: Claim
    finding: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Analysis:
    """The numbers of a report.

    Attributes:
        study: what was asked.
        runs: ranked, with `value`, `finished`, `variant`; at the nuisance values that were chosen.
        left_out: runs that do not count, in words.
        variants: as `statistics.variants` gives them.
        comparisons: all of them, in the order of `effects`.
        effects: the verdict table, columns `verdicts.COLUMNS`.
        interactions_left_out: how many were not looked at.
        answers: to the study's claims.
        dependences: as `verdicts.dependences` gives them.
        tuned: as `verdicts.tuned` gives it; None without nuisance factors.
        everything: all runs, those at other nuisance values as well.
    """

    study: Study
    runs: pd.DataFrame
    left_out: tuple[str, ...]
    variants: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    effects: pd.DataFrame
    interactions_left_out: int
    answers: tuple[Answer, ...]
    dependences: pd.DataFrame
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
    if not strict:  # a sweep all of whose runs failed has a report, too
        asked = {study.metric, *(claim.get("metric", study.metric) for claim in study.claims)}
        lacking = sorted(set(map(metric, asked)) - set(everything))
        everything = everything.assign(**dict.fromkeys(lacking, float("nan")))
    if strict and study.factors and param("seed") not in everything:
        require_seed(everything, study.seed_param)
    runs, tuned = everything, None
    if study.nuisance:
        runs, tuned = verdicts.tuned(
            everything, study.factors, study.nuisance, study.tuned_on, smaller_is_better(study.tuned_on)
        )
    ranked = statistics.ranked(runs, study.factors, study.metric, study.smaller)
    study, comparisons, left_alone = _compared(study, ranked, strict)
    rules = [_rule(study, each) for each in comparisons]
    effects = verdicts.tabulate(comparisons, [margin for margin, _ in rules], [small for _, small in rules])
    return Analysis(
        study=study,
        runs=ranked,
        left_out=tuple(left_out),
        variants=statistics.variants(ranked, study.factors, study.smaller),
        comparisons=comparisons,
        effects=effects,
        interactions_left_out=left_alone,
        answers=tuple(_answers(study, effects)),
        dependences=verdicts.dependences(effects[effects["metric"] == study.metric]),
        tuned=tuned,
        everything=everything,
    )


def _compared(study: Study, runs: pd.DataFrame, strict: bool) -> tuple[Study, tuple[Comparison, ...], int]:
    """The study with its whole baseline, its comparisons, and how many interactions are left out."""
    levels = {
        key: sorted(set(column(runs, param(key)).dropna()) - {NOT_LOGGED}, key=natural)
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
    comparisons = verdicts.comparisons(runs, study.factors, baseline, study.metric, asked)
    left_alone = 0 if asked or study.design != "grid" else many
    return study, (*comparisons, *_claimed(study, runs, comparisons)), left_alone


def _claims(study: Study) -> list[Claim]:
    return [
        Claim(
            text=claim["text"],
            source=claim["source"],
            factor=claim["factor"],
            variant=str(claim["variant"]),
            baseline=str(claim["baseline"]),
            metric=str(claim.get("metric", study.metric)),
            direction=claim.get("direction", Verdict.BETTER),
        )
        for claim in study.claims
    ]


def _claimed(study: Study, runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """The comparisons that claims need besides: of other metrics, or with another level than the baseline."""
    known = {(each.factors, each.metric, frozenset((each.variant, each.baseline))) for each in comparisons}
    for claim in _claims(study):
        key = ((claim.factor,), claim.metric, frozenset(((claim.variant,), (claim.baseline,))))
        if key in known:
            continue
        known.add(key)
        baseline = {**study.baseline, claim.factor: claim.baseline}
        found = verdicts.comparisons(runs, study.factors, baseline, claim.metric, False)
        wanted = (claim.factor,), (claim.variant,)
        yield from (each for each in found if (each.factors, each.variant) == wanted)


def _rule(study: Study, comparison: Comparison) -> tuple[float, bool]:
    """The margin of a comparison, and whether smaller is better in its metric."""
    if comparison.metric == study.metric:
        return study.margin, study.smaller
    margins = [
        claim["margin"]
        for claim in study.claims
        if claim.get("metric") == comparison.metric and claim.get("margin") is not None
    ]
    return float(margins[0] if margins else 0), smaller_is_better(comparison.metric)


def _answers(study: Study, effects: pd.DataFrame) -> Iterator[Answer]:
    for claim in _claims(study):
        yield Answer(claim, *verdicts.answer(claim, effects))


def more_seeds(analysis: Analysis, affordable: int = 50) -> tuple[int, pd.DataFrame, pd.DataFrame]:
    """How many seeds in all would settle what is open, the comparisons that they would settle, and those that
    would take more than is affordable."""
    table = analysis.effects
    open_ones = table[table["seeds_needed"].notna()]
    within = open_ones[open_ones["seeds_needed"] <= affordable]
    seeds = int(within["seeds_needed"].max()) if len(within) else 0
    return seeds, within, open_ones[open_ones["seeds_needed"] > affordable]
