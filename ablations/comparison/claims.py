"""Claims: what a source says of a choice, and what a study says of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations.comparison.verdicts import COLUMNS, Verdict
from ablations.errors import InputError

SUPPORTED, REFUTED = "supported", "refuted"
NOT_WORSE = "not_worse"


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
        accepted = (Verdict.BETTER, Verdict.WORSE, NOT_WORSE)
        if self.direction not in accepted:
            given = f"claim '{self.text}': direction={self.direction}"
            raise InputError(f"{given}; accepted: {', '.join(accepted)}")


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
    better = {Verdict.BETTER, Verdict.NO_DIFFERENCE} if claim.direction == NOT_WORSE else {Verdict.BETTER}
    says, denies = (
        (better, {Verdict.WORSE}) if claim.direction != Verdict.WORSE else ({Verdict.WORSE}, better)
    )
    turned = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    rows = {tuple(row[name] for name in COLUMNS[:4]): row for row in table.to_dict("records")}
    for variant, baseline, other_way in (
        (claim.variant, claim.baseline, False),
        (claim.baseline, claim.variant, True),
    ):
        row = rows.get(((claim.factor,), (variant,), (baseline,), claim.metric))
        if row is not None:
            verdict = turned.get(row["verdict"], row["verdict"]) if other_way else row["verdict"]
            found = SUPPORTED if verdict in says else REFUTED if verdict in denies else row["verdict"]
            return found, row
    there = "; ".join(f"{f[0]}: {v[0]} against {b[0]} in {m}" for f, v, b, m in rows if len(f) == 1)
    raise InputError(
        f"claim '{claim.text}': the study does not compare {claim.factor}={claim.variant} with "
        f"{claim.baseline} in {claim.metric}; it compares {there or 'nothing'}"
    )
