"""Claims: what a source says of a choice, and what a study says of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations.comparison.verdicts import COLUMNS, Verdict
from ablations.errors import InputError

SUPPORTED, REFUTED = "supported", "refuted"
DEPENDS = "depends"
"""Where comparisons at each level of another choice answer in place of one that averages over them, and not alike."""
DIRECTIONS = {
    "better": ({Verdict.BETTER}, {Verdict.WORSE}),
    "worse": ({Verdict.WORSE}, {Verdict.BETTER}),
    "not_worse": ({Verdict.BETTER, Verdict.NO_DIFFERENCE}, {Verdict.WORSE}),
}
"""What a claim may say of its variant, each with the verdicts that support and those that refute it."""
TURNED = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}


@dataclass(frozen=True)
class Claim:
    """A comparison that a source has decided: "ReLU converges faster than sigmoid".

    Attributes:
        text: in words.
        source: where it was found.
        factor: what is varied.
        variant: the level that the claim is about.
        baseline: the level that it is compared with.
        metric: name of the outcome.
        direction: `better`, `worse` or `not_worse`, what the source says of the variant.

    Raises:
        InputError: another direction.
    """

    text: str
    source: str
    factor: str
    variant: str
    baseline: str
    metric: str
    direction: str = Verdict.BETTER

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            given = f"claim '{self.text}': direction={self.direction}"
            raise InputError(f"{given}; accepted: {', '.join(DIRECTIONS)}")


def answer(
    claim: Claim, table: pd.DataFrame, simple: pd.DataFrame | None = None
) -> tuple[str, Mapping[str, Any]]:
    """What a study says of a claim, and the row of its verdict table that says it.

    The verdict in the claim's direction makes it *supported*, the opposite one *refuted*; every other verdict is the
    answer itself. Of `not_worse` a difference that does not matter is in its direction, too. A row that compares the
    same two levels the other way round answers as well. No average is an answer where simple effects are: they have to
    support or to refute it at every level, else it *depends*; and so within every data set or fold, where each has its
    own row.

    Args:
        claim: on a comparison that the table has.
        table: as `tabulate` gives it, possibly of several metrics one below the other.
        simple: the same of the effects at each level of another factor.

    Raises:
        InputError: the table has no such comparison.
    """
    rows = {tuple(row[name] for name in COLUMNS[:4]): row for row in table.to_dict("records")}
    for variant, baseline in ((claim.variant, claim.baseline), (claim.baseline, claim.variant)):
        row = rows.get(((claim.factor,), (variant,), (baseline,), claim.metric))
        if row is not None:
            apart = [] if simple is None else alike(row, simple)
            found = {_finding(claim, each["verdict"], variant) for each in apart or alike(row, table)}
            clear = len(found) == 1 and (found <= {SUPPORTED, REFUTED} or not apart)
            return found.pop() if clear else DEPENDS, row
    there = "; ".join(f"{f[0]}: {v[0]} against {b[0]} in {m}" for f, v, b, m in rows if len(f) == 1)
    raise InputError(
        f"claim '{claim.text}': the study does not compare {claim.factor}={claim.variant} with "
        f"{claim.baseline} in {claim.metric}; it compares {there or 'nothing'}"
    )


def alike(row: Mapping[str, Any], table: pd.DataFrame) -> list[Mapping[str, Any]]:
    """The rows of a verdict table that compare the same: one, or one within each data set, or at each level."""
    every = table.to_dict("records")
    return [each for each in every if all(each[name] == row[name] for name in COLUMNS[:4])]


def _finding(claim: Claim, verdict: str, variant: str) -> str:
    """What a verdict on this variant says of the claim."""
    supporting, refuting = DIRECTIONS[claim.direction]
    of_claim = verdict if variant == claim.variant else TURNED.get(verdict, verdict)
    return SUPPORTED if of_claim in supporting else REFUTED if of_claim in refuting else verdict
