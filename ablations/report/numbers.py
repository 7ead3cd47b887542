"""Numbers as a reader wants them: as many decimals as they deserve."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ablations.tracking.study import unit

if TYPE_CHECKING:
    from ablations.report.analysis import Analysis

FEWEST_DECIMALS, MOST_DECIMALS, MOST_DIGITS = -5, 6, 15
"""Of numbers without an exponent: 1234567 has the place of 10⁵ as the last that counts."""
ENOUGH_SEEDS = 1000
NO_SPREAD = "–"
"""Stands for a number that there is not."""


def number(value: float, digits: int = 2) -> str:
    """A number with so many decimals; a dash where there is none."""
    return f"{value:z.{digits}f}" if value == value else NO_SPREAD


def whole(value: float) -> str:
    """A whole number with its thousands parted; a dash where there is none."""
    return f"{value:,.0f}" if value == value else NO_SPREAD


def p_value(p: float) -> str:
    """A p-value with three decimals, very small ones as such."""
    return "< 0.001" if p < 0.0005 else number(p, 3)


def effect_size(value: float) -> str:
    """A standardised difference with its sign."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:+z.1f}" if value == value else NO_SPREAD


def seeds_needed(likely: Any, needed: Any) -> str:
    """How many seeds would settle a comparison, from an even chance to a good one; '' where none are needed."""
    import pandas as pd

    if pd.isna(needed):
        return ""
    if likely >= ENOUGH_SEEDS:
        return f"{ENOUGH_SEEDS} or more"
    if needed >= ENOUGH_SEEDS:
        return f"{likely} or more"
    return f"{likely} to {needed}" if likely < needed else str(likely)


@dataclass(frozen=True)
class Form:
    """How the values and differences of one metric are written.

    Attributes:
        decimals: of values and differences.
        unit: of a difference in words, '' for a bare number.
        exponent: whether they are written with one, to the same place: 10 to the power of −`decimals`.
    """

    decimals: int
    unit: str
    exponent: bool = False

    @classmethod
    def fitting(cls, differences: Iterable[float], unit: str) -> "Form":
        """Two digits of the middle difference; percentage points always have two decimals."""
        sizes = sorted(abs(each) for each in differences if math.isfinite(each) and each)
        if unit == "percentage points" or not sizes:
            return cls(2, unit)
        place = 1 - math.floor(math.log10(sizes[(len(sizes) - 1) // 2]))
        if FEWEST_DECIMALS <= place <= MOST_DECIMALS:
            return cls(max(place, 0), unit)
        return cls(place, unit, exponent=True)

    def value(self, value: float, sign: str = "") -> str:
        """A value; a dash where there is none."""
        if value != value:
            return NO_SPREAD
        if not math.isfinite(value) or value == 0:
            return f"{value:{sign}z.{0 if self.exponent else self.decimals}f}"
        size = math.floor(math.log10(abs(value)))
        if self.exponent or size >= MOST_DIGITS:
            return f"{value:{sign}.{min(max(size + self.decimals, 0), MOST_DIGITS)}e}"
        return f"{value:{sign}z.{self.decimals}f}"

    def spread(self, mean: float, sd: float) -> str:
        """`1.23 ± 0.04`; a dash for the deviation where one value leaves it unknown."""
        return f"{self.value(mean)} {'± ' if sd == sd else ''}{self.value(sd)}"

    def difference(self, value: float) -> str:
        """A difference with its sign."""
        return self.value(value, "+")

    def limit(self, value: float) -> str:
        """A limit with its unit, with all its digits: a rounded one would be another limit."""
        shown = self.value(value)
        exact = math.isclose(float(shown), value, rel_tol=1e-9)
        return f"{shown if exact else f'{value:g}'} {self.unit}".rstrip()

    def ends(self, low: float, high: float) -> str:
        """`-0.10, +0.24`; '' where no finite interval exists."""
        finite = math.isfinite(low) and math.isfinite(high)
        return f"{self.difference(low)}, {self.difference(high)}" if finite else ""

    def interval(self, low: float, high: float) -> str:
        """`[-0.10, +0.24]`; without limits where no finite interval exists."""
        ends = self.ends(low, high)
        return f"[{ends}]" if ends else "no limits"

    def with_unit(self, value: float) -> str:
        """The size of a difference with its unit."""
        return f"{self.value(abs(value))} {self.unit}".rstrip()


def forms(analysis: "Analysis") -> dict[str, Form]:
    """How each metric's numbers are written."""
    study, table = analysis.study, analysis.variants
    spread = table["sd"].dropna().tolist() or table["mean"].tolist()
    found = {study.metric: Form.fitting(spread, study.unit)}
    for metric, rows in analysis.effects.groupby("metric"):
        found[metric] = Form.fitting(rows["mean_diff"].tolist(), unit(metric))
    return found
