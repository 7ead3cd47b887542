"""Numbers as a reader wants them: as many decimals as they deserve."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from ablations import markdown as md

MOST_DECIMALS = 6


@dataclass(frozen=True)
class Form:
    """How the values and differences of one metric are written.

    Attributes:
        decimals: of values and differences.
        unit: of a difference in words, '' for a bare number.
    """

    decimals: int
    unit: str

    @classmethod
    def fitting(cls, differences: Iterable[float], unit: str) -> "Form":
        """Two digits of the middle difference; percentage points always have two decimals."""
        sizes = sorted(abs(each) for each in differences if math.isfinite(each) and each)
        if unit == "percentage points" or not sizes:
            return cls(2, unit)
        size = sizes[(len(sizes) - 1) // 2]
        return cls(min(max(1 - math.floor(math.log10(size)), 0), MOST_DECIMALS), unit)

    def value(self, value: float) -> str:
        """A value; a dash where there is none."""
        return md.number(value, self.decimals)

    def spread(self, mean: float, sd: float) -> str:
        """`1.23 ± 0.04`; a dash for the deviation where one value leaves it unknown."""
        return f"{self.value(mean)} ± {self.value(sd)}" if sd == sd else f"{self.value(mean)} {md.NO_SPREAD}"

    def difference(self, value: float) -> str:
        """A difference with its sign."""
        return f"{value:+.{self.decimals}f}" if value == value else md.NO_SPREAD

    def interval(self, low: float, high: float) -> str:
        """`[-0.10, +0.24]`; without limits where no finite interval exists."""
        if not (math.isfinite(low) and math.isfinite(high)):
            return "no limits"
        return f"[{self.difference(low)}, {self.difference(high)}]"

    def with_unit(self, value: float) -> str:
        """The size of a difference with its unit."""
        return f"{abs(value):.{self.decimals}f} {self.unit}".rstrip()


def p_value(p: float) -> str:
    """A p-value with three decimals, very small ones as such."""
    if p != p:
        return md.NO_SPREAD
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"
