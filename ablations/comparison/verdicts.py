"""Verdicts: the rules by which a comparison is called better, worse, too small to matter, or open."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.comparison import tests
from ablations.comparison.pairs import Comparison
from ablations.comparison.tests import ALPHA, SignFlip, mean_and_sd
from ablations.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Verdict(StrEnum):
    """What may be said of a comparison, what is settled first."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference that matters"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "too few seeds"
    CONFOUNDED = "confounded"
    """The two sides differ in more than the factor: no verdict."""
    NO_RESULT = "no result"
    """One side never gives one."""

    @property
    def settled(self) -> bool:
        """Whether it answers the question."""
        return self in (Verdict.BETTER, Verdict.WORSE, Verdict.NO_DIFFERENCE)


POWER = 0.8  # of the studies that `seeds_needed` proposes
MOST_SEEDS = 1000  # `seeds_needed` looks no further

COLUMNS = (
    *("factors", "variant", "baseline", "metric", "n", "mean_diff", "ci_low", "ci_high", "p", "p_holm"),
    *("prob_better", "effect_size", "verdict", "seeds_needed"),
)
"""Of a verdict table."""


def can_reach(n: int, comparisons: int, alpha: float = ALPHA) -> bool:
    """Whether n pairs can be significant at all after the correction for so many comparisons."""
    return tests.smallest_p(n) * comparisons < alpha


def fewest_seeds(comparisons: int) -> int:
    """The smallest number of seeds at which a study of so many comparisons can come to a verdict."""
    return next(n for n in count(2) if can_reach(n, comparisons))


def verdict(
    test: SignFlip, p_holm: float, n: int, comparisons: int, margin: float, smaller_is_better: bool
) -> Verdict:
    """The first that applies.

    *no difference that matters*: the whole interval lies inside ±margin, even where it excludes 0: a difference that
    is certain but small. *better* or *worse*: corrected p < 0.05 and the interval excludes 0. *too few seeds*: n pairs
    cannot reach 0.05 after the correction, however large the effect. *inconclusive*: none of these.

    Args:
        test: of the differences variant − baseline.
        p_holm: the p-value after correction.
        n: pairs.
        comparisons: of the study.
        margin: largest difference that does not matter, in the metric's unit.
        smaller_is_better: as for errors.
    """
    if -margin <= test.low and test.high <= margin:
        return Verdict.NO_DIFFERENCE
    if p_holm < ALPHA and not test.low <= 0 <= test.high:
        return Verdict.BETTER if (test.high < 0) == smaller_is_better else Verdict.WORSE
    return Verdict.INCONCLUSIVE if can_reach(n, comparisons) else Verdict.TOO_FEW


def seeds_needed(mean: float, sd: float, n: int, margin: float, comparisons: int = 1) -> int:
    """About how many seeds in all would settle a comparison that n seeds have not.

    The fewest seeds, more than n, at which a study would be expected (probability 0.8) to say *better* or *worse*, or
    else *no difference that matters*, if mean and standard deviation were as estimated. The power is that of the
    t-test at α / comparisons; never fewer than the sign-flip test needs to reach its level at all.

    Args:
        mean: of the differences, in the metric's unit.
        sd: standard deviation of the differences, same unit; NaN where there is none yet.
        n: pairs there are now.
        margin: largest difference that does not matter, same unit.
        comparisons: that share the error of 5 %.

    Returns:
        At most `MOST_SEEDS` (or n + 1), which stands for "so many or more".
    """

    def settles(seeds: int) -> bool:
        possible = can_reach(seeds, comparisons)
        if math.isnan(sd) or (possible and _power(mean, sd, seeds, ALPHA / comparisons) >= POWER):
            return possible
        return can_reach(seeds, 1) and _confined(mean, sd, seeds, margin) >= POWER

    more = range(n + 1, MOST_SEEDS)
    return n + 1 + bisect_left(more, True, key=settles)


def _power(mean: float, sd: float, n: int, alpha: float) -> float:
    """Probability that a two-sided t-test of n differences rejects a zero mean."""
    if sd == 0:
        return float(mean != 0)
    from statsmodels.stats.power import ttest_power

    # The far tail adds nothing and is not computed reliably; neither is a power that is 1 anyway.
    effect = min(abs(mean) / sd, 30 / math.sqrt(n))
    return float(ttest_power(effect, n, alpha / 2, alternative="larger"))


def _confined(mean: float, sd: float, n: int, margin: float) -> float:
    """Probability that the 95 % interval of n differences lies inside ±margin (t instead of sign-flip)."""
    if sd == 0:
        return float(abs(mean) <= margin)
    from scipy.special import ndtr, stdtrit

    error = sd / math.sqrt(n)
    room = margin - stdtrit(n - 1, 1 - ALPHA / 2) * error
    return float(ndtr((room - mean) / error) - ndtr((-room - mean) / error)) if room > 0 else 0.0


def judge(
    samples: Sequence["ArrayLike"],
    margin: "float | Sequence[float]",
    smaller_is_better: "bool | Sequence[bool]",
    rounding: "Sequence[ArrayLike] | None" = None,
) -> pd.DataFrame:
    """Test, interval, effect sizes and verdict of each comparison of one study, one row each, in their order.

    Args:
        samples: for each comparison its differences variant − baseline, one for each pair, possibly none.
        margin: largest difference that does not matter, in the metric's unit; one for all or one for each.
        smaller_is_better: as for errors; one for all or one for each.
        rounding: for each comparison the largest error that rounding can have made in each difference.

    Returns:
        Columns `n`, `mean_diff`, `ci_low`, `ci_high`, `p`, `p_holm`, `prob_better`, `effect_size`, `verdict`,
        `seeds_needed` (missing where the verdict is settled).

    Raises:
        InputError: the margin is negative or not a number.
    """
    m = len(samples)
    margins, smaller = (np.broadcast_to(each, m).tolist() for each in (margin, smaller_is_better))
    for each in margins:
        if not each >= 0:
            raise InputError(f"margin={each:g}: a number of at least 0 is expected, in the metric's unit")
    # Random sign patterns must be able to pass the correction, too.
    errors = [0.0] * m if rounding is None else rounding
    flips = max(tests.FLIPS, 80 * m)
    found = [
        tests.sign_flip(sample, flips=flips, rounding=of) for sample, of in zip(samples, errors, strict=True)
    ]
    corrected = tests.holm([test.p for test in found])
    ruled = list(zip(samples, found, corrected, margins, smaller, strict=True))
    verdicts = [verdict(test, p, len(sample), m, each, small) for sample, test, p, each, small in ruled]
    # Holm's correction asks less of the others once some are settled.
    left = m - sum(each in (Verdict.BETTER, Verdict.WORSE) for each in verdicts)
    rows = []
    for (sample, test, p_holm, each, small), ruling, of in zip(ruled, verdicts, errors, strict=True):
        (mean, sd), n = mean_and_sd(sample, of), len(sample)
        needed = pd.NA if ruling.settled else seeds_needed(mean, sd, n, each, left)
        sizes = tests.prob_better(sample, small), tests.effect_size(sample, of)
        rows.append((n, mean, test.low, test.high, test.p, p_holm, *sizes, ruling, needed))
    return pd.DataFrame(rows, columns=COLUMNS[4:]).astype({"n": int, "seeds_needed": "Int64"})


def tabulate(
    comparisons: Sequence[Comparison],
    margin: float | Sequence[float],
    smaller_is_better: bool | Sequence[bool],
) -> pd.DataFrame:
    """The verdict table of one study: a row for each of its comparisons, with exactly the columns `COLUMNS`.

    `factors`, `variant` and `baseline` are tuples, as in a `Comparison`. As in `judge`, there is one rule for all or
    one for each; what no seeds can settle needs none. Runs that never reached a target do not make a tie, nor would
    seeds end it: such a comparison is *inconclusive* unless it is *better* or *worse*. Where the two sides differ in
    more than the factor it is *confounded*, whatever its numbers; where one side never gives a result, *no result*.

    Raises:
        InputError: a margin is negative or not a number.
    """
    samples = [each.differences for each in comparisons]
    judged = judge(samples, margin, smaller_is_better, [each.rounding for each in comparisons])
    judged.loc[np.array([each.beyond_seeds for each in comparisons], bool), "seeds_needed"] = pd.NA
    censored = np.array([bool(each.censored) for each in comparisons], bool)
    judged.loc[censored & ~judged["verdict"].isin((Verdict.BETTER, Verdict.WORSE)), "verdict"] = (
        Verdict.INCONCLUSIVE
    )
    for word, those in ((Verdict.NO_RESULT, "without_result"), (Verdict.CONFOUNDED, "confounded")):
        judged.loc[np.array([getattr(each, those) for each in comparisons], bool), "verdict"] = word
    names = {name: [getattr(each, name) for each in comparisons] for name in COLUMNS[:4]}
    return judged.assign(**names)[list(COLUMNS)]
