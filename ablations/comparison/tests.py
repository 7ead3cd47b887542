"""Tests: how often chance alone makes differences like these.

The sign-flip test asks how often differences of random sign would have a mean as far from zero; the interval holds
every difference that this same test does not reject, so that the two never contradict each other.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from ablations.comparison import exact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

ALPHA = 0.05  # the interval's level is 1 − ALPHA
FLIPS = 100_000  # beyond so many sign patterns (17 pairs) the test draws this many at random
TOGETHER = 8  # pairs whose sums are tabulated
EPSILON = 2 * float(np.finfo(float).eps)  # relative error of one addition, with a reserve


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p-value of "the mean difference is zero" and the interval of the means that are not rejected."""

    p: float
    low: float
    high: float


def sign_flip(
    differences: "ArrayLike", alpha: float = ALPHA, flips: int = FLIPS, rounding: "ArrayLike" = 0.0
) -> SignFlip:
    """The paired sign-flip permutation test of a zero mean, and the same test inverted.

    Were the mean θ and the distribution symmetric, dᵢ − θ could as well have the other sign. Flipping the signs of
    a set S gives a mean as high as the observed one exactly where mean(dᵢ, i ∈ S) ≤ θ. The sorted means over all
    sets S are therefore the places where the p-value p(θ) steps: p = p(0), which is that of
    `scipy.stats.permutation_test(…, permutation_type="samples")`, and the interval is {θ: p(θ) > α}.

    Of 2ⁿ sign patterns all are used where they are at most `flips`, else `flips` random ones, always the same.
    Where so many patterns reject nothing at α (fewer than 6 pairs at 0.05) the interval is (−inf, inf); without
    pairs p is NaN.

    Source: E. J. G. Pitman (1937), Supplement to the J. R. Stat. Soc. 4(1), 119–130.

    Args:
        differences: finite, one for each pair, in any unit, which is that of the interval.
        alpha: 1 − the level of the interval.
        flips: the most sign patterns looked at.
        rounding: the largest error that rounding can have made in each difference; one for all or one for each. A sum
            that is 0 but for what rounding can make of what was summed is 0.

    Raises:
        ValueError: a difference is not finite.
    """
    pairs = _finite(differences)
    order = np.argsort(pairs, kind="stable")  # so that their order cannot matter
    errors = np.broadcast_to(np.asarray(rounding, float), pairs.shape)[order]
    pairs = pairs[order]
    if len(pairs) < 2:
        return SignFlip(1.0 if len(pairs) else math.nan, -math.inf, math.inf)
    steps = _means_of_sets(pairs, errors, flips)
    # Without its empty set a complete list of sets lacks the observed signs, as random ones do: they are as extreme
    # as themselves, whatever θ is.
    patterns = len(steps) + 1
    as_extreme = 1 + int(min((steps <= 0).sum(), (steps >= 0).sum()))
    p = min(1.0, 2 * as_extreme / patterns)
    last = math.floor(alpha * patterns / 2 + 1e-9) - 1
    if last < 0:
        return SignFlip(p, -math.inf, math.inf)
    steps.partition((last, len(steps) - 1 - last))
    return SignFlip(p, exact.digits(steps[last]), exact.digits(steps[len(steps) - 1 - last]))


def _means_of_sets(
    pairs: "NDArray[np.float64]", errors: "NDArray[np.float64]", flips: int
) -> "NDArray[np.float64]":
    """The mean of each set of pairs but the empty one; what is rounding alone, that of the pairs included, is 0.

    Sums are looked up among those of a few pairs at a time, always in the same order: every processor gives the same.
    """
    limits = errors + EPSILON * len(pairs) * np.abs(pairs)
    sets, sizes = _sets(len(pairs), flips)
    sums = _summed(pairs, sets)
    means = sums / sizes
    # What rounding can make of a set is looked up where that of all pairs could be the whole sum.
    small = np.flatnonzero(np.abs(sums) <= limits.sum() * (1 + EPSILON * len(pairs)))
    if len(small):
        most = _summed(limits, [each[small] for each in sets])
        means[small[np.abs(sums[small]) <= most]] = 0.0
    return means


def _summed(values: "NDArray[np.float64]", sets: "Sequence[NDArray[np.uint8]]") -> "NDArray[np.float64]":
    """The sum of the values of each set."""
    sums = np.zeros(len(sets[0]))
    for start, some in zip(range(0, len(values), TOGETHER), sets, strict=True):
        sums += _sums_of_sets(values[start : start + TOGETHER])[some]
    return sums


def _sums_of_sets(values: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """The sum of each set of values; bit i of a set's index says whether it has value i."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums, sums + value])
    return sums


@lru_cache(maxsize=8)
def _sets(n: int, flips: int) -> "tuple[list[NDArray[np.uint8]], NDArray[np.float64]]":
    """Sets of n pairs, as indices for `_sums_of_sets` of `TOGETHER` pairs each, and how many pairs are in each: all
    sets but the empty one, or `flips` random ones."""
    widths = [min(TOGETHER, n - start) for start in range(0, n, TOGETHER)]
    if 2**n <= flips:
        every = np.arange(1, 2**n)
        found = np.array([every >> TOGETHER * i & 2**width - 1 for i, width in enumerate(widths)], np.uint8)
    else:
        rng = np.random.default_rng(n)
        found = np.array([rng.integers(2**width, size=flips).astype(np.uint8) for width in widths])
        found = found[:, found.any(axis=0)]
    return list(found), _summed(np.ones(n), list(found))


def smallest_p(n: int) -> float:
    """The smallest two-sided p-value that n pairs can reach: 2/2ⁿ."""
    return min(1.0, 2.0 ** (1 - n))


def prob_better(differences: "ArrayLike", smaller_is_better: bool) -> float:
    """Share of the pairs in which the variant beats the baseline, ties counting half; NaN without pairs."""
    signs = np.sign(_finite(differences)) * (-1 if smaller_is_better else 1)
    return float((1 + signs.mean()) / 2) if len(signs) else math.nan


def effect_size(differences: "ArrayLike", rounding: "ArrayLike" = 0.0) -> float:
    """Paired standardised difference: mean / standard deviation (n − 1), with the sign of the mean.

    ±inf where all differences are equal, 0 where all are zero, NaN for fewer than two pairs.
    """
    mean, sd = mean_and_sd(differences, rounding)
    if math.isnan(sd):
        return math.nan
    if sd == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / sd


def holm(p: "ArrayLike") -> "NDArray[np.float64]":
    """Holm's correction of the p-values of one study. A planned comparison without pairs (NaN) counts as well."""
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p, dtype=float)
    if not len(p):
        return p
    corrected = multipletests(np.nan_to_num(p, nan=1.0), alpha=ALPHA, method="holm")[1]
    return np.where(np.isnan(p), np.nan, corrected)


def mean_and_sd(differences: "ArrayLike", rounding: "ArrayLike" = 0.0) -> tuple[float, float]:
    """Mean and standard deviation (n − 1); NaN where there are too few pairs, a spread as small as rounding is none."""
    values = _finite(differences)
    if not len(values):
        return math.nan, math.nan
    mean, sd, largest = exact.mean(values), exact.deviation(values), float(np.abs(values).max())
    limit = float(np.max(rounding)) + EPSILON * len(values) * largest
    return mean, 0.0 if sd <= limit else sd


def _finite(differences: "ArrayLike") -> "NDArray[np.float64]":
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"differences: one finite number for each pair is expected, got {differences!r}")
    return values
