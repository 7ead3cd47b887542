"""Tests: how often chance alone makes differences like these.

The sign-flip test asks how often differences of random sign would have a mean as far from zero; the interval holds
every difference that this same test does not reject, so that the two never contradict each other.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

ALPHA = 0.05  # the interval's level is 1 − ALPHA
FLIPS = 9999  # beyond so many sign patterns (14 pairs) the test draws this many at random
EPSILON = 2 * np.finfo(float).eps  # relative error of one addition, with a reserve


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
    sets S are therefore the places where the p-value p(θ) steps: p = p(0), and the interval is {θ: p(θ) > α}.

    Of 2ⁿ sign patterns all are used where they are at most `flips`, else `flips` random ones, always the same. With
    fewer than 6 pairs nothing is rejected at α = 0.05 and the interval is (−inf, inf); without pairs p is NaN.

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
    from scipy.stats import permutation_test

    pairs = _finite(differences)
    order = np.argsort(pairs, kind="stable")  # so that their order cannot matter
    errors = np.broadcast_to(np.asarray(rounding, float), pairs.shape)[order]
    pairs = pairs[order]
    if len(pairs) < 2:
        return SignFlip(1.0 if len(pairs) else math.nan, -math.inf, math.inf)

    def mean_of_flipped(signed: "NDArray", axis: int) -> "NDArray":
        flipped = np.signbit(signed) != np.signbit(pairs)
        total = (flipped * pairs).sum(axis)
        limit = (flipped * (errors + EPSILON * len(pairs) * np.abs(pairs))).sum(axis)
        with np.errstate(invalid="ignore"):  # no flip at all: 0 / 0
            return np.where(np.abs(total) <= limit, 0.0, total) / flipped.sum(axis)

    steps = permutation_test(
        (pairs,),
        mean_of_flipped,
        permutation_type="samples",
        vectorized=True,
        n_resamples=flips,
        random_state=np.random.default_rng(0),
    ).null_distribution
    # The observed signs are as extreme as themselves, whatever θ is.
    rising = np.sort(np.where(np.isnan(steps), -np.inf, steps))
    falling = np.sort(np.where(np.isnan(steps), -np.inf, -steps))

    observed = 0 if 2 ** len(pairs) <= flips else 1  # random patterns do not contain the observed one
    patterns = len(steps) + observed
    as_extreme = int(min((rising <= 0).sum(), (falling <= 0).sum())) + observed
    last = math.floor(alpha * patterns / 2 + 1e-9) - observed
    return SignFlip(min(1.0, 2 * as_extreme / patterns), float(rising[last]), -float(falling[last]))


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
    largest = float(np.abs(values).max())
    # Squares of the very large and the very small are no numbers.
    scale = largest if largest and not 1e-150 < largest < 1e150 else 1.0
    mean = math.fsum(values / scale) / len(values) * scale
    if len(values) < 2:
        return mean, math.nan
    sd = float((values / scale).std(ddof=1)) * scale
    limit = float(np.max(rounding)) + EPSILON * len(values) * largest
    return mean, 0.0 if sd <= limit else sd


def _finite(differences: "ArrayLike") -> "NDArray[np.float64]":
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"differences: one finite number for each pair is expected, got {differences!r}")
    return values
