"""Sums that every processor rounds alike.

A library adds in the order that suits the processor, so that the last digits differ from machine to machine. Here
sums are rounded once, at their end, and what goes on to a table or a sentence has `DIGITS` significant digits: what
is shown is rounded from that.
"""

import math
import statistics
from collections.abc import Iterable

import pandas as pd

DIGITS = 12
"""Of every number of a table; the rounding of a sum of a million numbers reaches none of them."""


def digits(value: float) -> float:
    """The number with `DIGITS` significant digits."""
    return float(f"{value:.{DIGITS}g}")


def total(values: Iterable[float]) -> float:
    """The sum, rounded once (`math.fsum`); infinite where it is larger than any float."""
    values = list(values)
    try:
        return math.fsum(values)
    except OverflowError:  # on the way, or at its end
        return float(sum(values))


def mean(values: Iterable[float]) -> float:
    """The mean to `DIGITS` digits; NaN of nothing."""
    values = list(values)
    if not values:
        return math.nan
    found = total(values) / len(values)
    return digits(found if math.isfinite(found) else statistics.mean(values))


def deviation(values: Iterable[float]) -> float:
    """The standard deviation (n − 1) to `DIGITS` digits; NaN of fewer than two values."""
    values = [float(value) for value in values]
    return digits(statistics.stdev(values)) if len(values) > 1 else math.nan


def rounded(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose floats have `DIGITS` digits."""
    floats = table.select_dtypes("float")
    return table.assign(**{str(name): values.map(digits) for name, values in floats.items()})
