"""What is said of a study that runs until it is settled: how far it is, and where each comparison stands."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pandas as pd

from ablations.commands import duration, many
from ablations.comparison.outcomes import Outcome
from ablations.comparison.pairs import Comparison, Unpaired
from ablations.comparison.prospects import Prospect, Standing, prospects
from ablations.report.analysis import Analysis, answered_at_levels, at_level, family, rules_of
from ablations.report.confounds import named_comparison
from ablations.report.escaping import Markdown, md

MOST_NAMED = 3
BUDGET = "budget"
"""What a study says that the time ended."""

GOES_ON = "**In progress**, {}: {}. The same command goes on from here."
HAS_ENDED = "**Run until settled**, {}: {}{}."
OUT_OF_TIME = (
    ". Another round, of about {1}, would have gone beyond the budget of {0}; the same command goes on"
)
STOPPED = "A comparison that is settled or given up gets no more seeds: some rest on fewer seeds than others."


def prospects_of(analysis: Analysis, fewest: int, most: int) -> list[Prospect]:
    """What can be expected of each comparison in the order of `analysis.all_effects`, every family by itself.

    Args:
        analysis: of the runs so far.
        fewest: seeds that each comparison is given before it may be given up.
        most: seeds that each may be given.
    """
    at_levels = {i for i, yes in enumerate(answered_at_levels(analysis.effects, analysis.simple)) if yes}
    found = _prospects(analysis, analysis.comparisons, analysis.effects, fewest, most, at_levels)
    begun = 0
    for _, members in groupby(analysis.simple, family):
        comparisons = list(members)
        table = analysis.simple_effects.iloc[begun : begun + len(comparisons)]
        found += _prospects(analysis, comparisons, table, fewest, most, ())
        begun += len(comparisons)
    return found


def _prospects(
    analysis: Analysis,
    comparisons: Sequence[Comparison],
    table: pd.DataFrame,
    fewest: int,
    most: int,
    at_levels: Collection[int],
) -> list[Prospect]:
    margins = [margin for margin, _ in rules_of(analysis.study, comparisons, analysis.everything)]
    return prospects(comparisons, table, margins, fewest, most, at_levels)


def head(analysis: Analysis) -> Iterator[Markdown]:
    """How far a study is that runs until it is settled, or what ended it; nothing of any other."""
    until = analysis.study.until
    if until is None:
        return
    found = prospects_so_far(analysis)
    looks, seeds = len(analysis.looks), max((len(each.comparison.seeds) for each in found), default=0)
    if until.get("ended") is None:
        yield md(GOES_ON, f"look {looks}", f"{_settled(found)}, {many(seeds, 'seed')} so far")
    else:
        far = f"{many(looks, 'look')}, up to {many(seeds, 'seed')} each"
        out_of_time = md("")
        if until["ended"] == BUDGET:
            out_of_time = md(OUT_OF_TIME, *(duration(until.get(key, 0.0)) for key in ("budget_s", "next_s")))
        yield md(
            HAS_ENDED, far, md("; ").join([md("{}", _settled(found)), *_left(found, until)]), out_of_time
        )
    stopped = any(each.standing in (Standing.SETTLED, Standing.GIVEN_UP) for each in found)
    if stopped and len({len(each.comparison.seeds) for each in found}) > 1:
        yield md(STOPPED)


def prospects_so_far(analysis: Analysis) -> list[Prospect]:
    """The same with the numbers of seeds that the study itself allows."""
    until = analysis.study.until or {}
    return prospects_of(analysis, int(until["seeds_at_least"]), int(until["seeds_at_most"]))


def _settled(found: Sequence[Prospect]) -> str:
    """`2 of 5 comparisons settled, 1 given up`."""
    counted = [each for each in found if each.standing is not Standing.AT_LEVELS]
    settled = sum(each.standing is Standing.SETTLED for each in counted)
    given_up = sum(each.standing is Standing.GIVEN_UP and bool(each.spare) for each in counted)
    return f"{settled} of {many(len(counted), 'comparison')} settled" + (
        f", {given_up} given up" if given_up else ""
    )


def _left(found: Sequence[Prospect], until: Mapping[str, Any]) -> Iterator[Markdown]:
    """Why each of those that are not settled was given up, or that it is open."""
    left = [each for each in found if each.standing not in (Standing.SETTLED, Standing.AT_LEVELS)]
    for each in left[:MOST_NAMED]:
        yield md("{} {}", name(each), _why(each, int(until["seeds_at_most"])))
    if len(left) > MOST_NAMED:
        yield md("{} more are not settled either", len(left) - MOST_NAMED)


def _why(each: Prospect, most: int) -> str:
    match each.standing:
        case Standing.OPEN:
            return "is open"
        case Standing.BEYOND_SEEDS:
            return "cannot be settled by seeds"
    if not each.spare:
        return f"is open after {most} seeds, the most that were allowed"
    return f"was given up: even {most} seeds would settle it with a probability of {each.chance:.0%}"


def name(each: Prospect) -> str:
    """`pool: avg against max`, of a simple effect with the level at which it was taken."""
    at = at_level(each.comparison)
    return named_comparison(each.comparison) + (f" at {at}" if at else "")


def state(each: Prospect, verdict: str) -> str:
    """Where a comparison stands, in a word or its verdict."""
    match each.standing:
        case Standing.SETTLED:
            return verdict
        case Standing.GIVEN_UP if each.spare:
            return f"given up ({each.chance:.0%})"
        case Standing.GIVEN_UP:
            return "open, no seeds left"
        case Standing.BEYOND_SEEDS:
            return "confounded" if each.comparison.confounded else "no result"
    return str(each.standing)


def was_spared(analysis: Analysis, seed: Unpaired) -> bool:
    """Whether a seed gave a comparison no pair because that needed no more."""
    gaps = [gap.outcome is Outcome.MISSING for gap in seed.gaps]
    return analysis.study.until is not None and bool(gaps) and all(gaps)


def goes_on(analysis: Analysis) -> bool:
    """Whether the study asks for its next seeds by itself."""
    return (analysis.study.until or {"ended": "done"}).get("ended") != "done"
