"""Where a choice wins in one outcome and loses in another, in a sentence."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ablations.comparison.pairs import Comparison
from ablations.comparison.verdicts import Verdict
from ablations.report.analysis import Analysis
from ablations.report.dependence import depends
from ablations.report.escaping import Markdown, crossed, enumerated, md
from ablations.tracking.secondary import SECONDARY

SAME = ("factors", "variant", "baseline", "block")
"""Of the rows of verdict tables that are about the same choice."""
MOST_NAMED, MOST_OUTCOMES = 3, 3
"""Choices of the sentence, and outcomes of either side; the others are counted."""


def trade_offs(analysis: Analysis) -> Iterator[Markdown]:
    """Where a choice wins in one outcome and loses in another, or changes others though it does nothing for the study's
    own; the first of these choices as one sentence."""
    effects = analysis.effects
    alone = effects[(effects["metric"] == analysis.study.metric) & (effects["factors"].map(len) == 1)]
    parts = [
        md("{} {}{}", _name(row), found, _over(analysis.comparisons[row["at"]]))
        for row in alone.assign(at=alone.index).to_dict("records")
        if (found := trade_off(analysis, row)) is not None
    ]
    if parts:
        more = len(parts) - MOST_NAMED
        rest = [md("{} more {} such", more, "is" if more == 1 else "are")] if more > 0 else []
        yield md("{} (secondary outcomes).", md("; ").join([*parts[:MOST_NAMED], *rest]))


def trade_off(analysis: Analysis, row: Mapping[str, Any]) -> Markdown | None:
    """What the choice of a row of the verdict table is better in and what it is worse in, as the rest of a sentence
    about it; None where it wins or loses nothing, or only one of both."""
    sides: dict[str, list[str]] = {Verdict.BETTER: [], Verdict.WORSE: []}
    own = None if depends(analysis, row) else row["verdict"]
    if own in sides:
        sides[own].append(analysis.study.noun)
    for group in analysis.secondary:
        for other in group.effects.to_dict("records"):
            if all(other.get(key) == row.get(key) for key in SAME):
                sides.get(other["verdict"], []).append(SECONDARY[other["metric"]].noun)
    better, worse = (_named(nouns) for nouns in sides.values())
    if all(sides.values()):
        return md("is better in {}, but worse in {}", better, worse)
    if own == Verdict.NO_DIFFERENCE and any(sides.values()):
        how = md("better in {}", better) if sides[Verdict.BETTER] else md("worse in {}", worse)
        return md("does nothing for the {}, but is {}", analysis.study.noun, how)
    return None


def _over(comparison: Comparison) -> Markdown:
    averaged = comparison.averaged
    return md(", on average over {}", enumerated(averaged)) if averaged else md("")


def _name(row: Mapping[str, Any]) -> Markdown:
    name = md("**{}: {}** against {}", *(crossed(row[key]) for key in SAME[:3]))
    return md("{} ({})", name, row["block"]) if row.get("block") else name


def _named(nouns: Sequence[str]) -> str:
    """The first of these outcomes, the others counted."""
    more = len(nouns) - MOST_OUTCOMES
    shown = [*nouns[:MOST_OUTCOMES], *([f"{more} more"] if more > 0 else [])]
    return enumerated(shown)
