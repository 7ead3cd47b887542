"""Claims: what a source says of a choice, and what a study says of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations.comparison.verdicts import COLUMNS, Verdict
from ablations.errors import InputError

SUPPORTED, REFUTED = "supported", "refuted"
DEPENDS = "depends"
"""Where comparisons at each level of another choice answer in place of one that averages over them."""
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


def answer(claim: Claim, table: pd.DataFrame) -> tuple[str, Mapping[str, Any]]:
    """What a study says of a claim, and the row of its verdict table that says it.

    The verdict in the claim's direction makes it *supported*, the opposite one *refuted*; every other verdict is the
    answer itself. Of `not_worse` a difference that does not matter is in its direction, too. A row that compares the
    same two levels the other way round answers as well.

    Args:
        claim: on a comparison that the table has.
        table: as `tabulate` gives it, possibly of several metrics one below the other.

    Raises:
        InputError: the table has no such comparison.
    """
    supporting, refuting = DIRECTIONS[claim.direction]
    rows = {tuple(row[name] for name in COLUMNS[:4]): row for row in table.to_dict("records")}
    for variant, baseline in ((claim.variant, claim.baseline), (claim.baseline, claim.variant)):
        row = rows.get(((claim.factor,), (variant,), (baseline,), claim.metric))
        if row is not None:
            verdict = row["verdict"]
            of_claim = verdict if variant == claim.variant else TURNED.get(verdict, verdict)
            found = SUPPORTED if of_claim in supporting else REFUTED if of_claim in refuting else verdict
            return found, row
    there = "; ".join(f"{f[0]}: {v[0]} against {b[0]} in {m}" for f, v, b, m in rows if len(f) == 1)
    raise InputError(
        f"claim '{claim.text}': the study does not compare {claim.factor}={claim.variant} with "
        f"{claim.baseline} in {claim.metric}; it compares {there or 'nothing'}"
    )
