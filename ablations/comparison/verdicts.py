"""Verdicts: the rules by which a comparison is called better, worse, too small to matter, or open."""

import math
from collections.abc import Sequence
from enum import StrEnum
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.comparison import exact, tests
from ablations.comparison.looks import Looked, can_reach, share
from ablations.comparison.pairs import Comparison
from ablations.comparison.tests import ALPHA, mean_and_sd
from ablations.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Verdict(StrEnum):
    """What may be said of a comparison, what is settled first."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference that matters"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "too few seeds"
    CONFOUNDED = "confounded"
    """The two sides differ in more than the factor: no verdict."""

    @property
    def settled(self) -> bool:
        """Whether it answers the question."""
        return self in (Verdict.BETTER, Verdict.WORSE, Verdict.NO_DIFFERENCE)


LIKELY, ALMOST_SURE = 0.5, 0.8  # probabilities of settling, between which `seeds_needed` gives a range
MOST_SEEDS = 1000  # `seeds_needed` looks no further

COLUMNS = (
    *("factors", "variant", "baseline", "metric", "n", "mean_diff", "ci_low", "ci_high", "p", "p_holm"),
    *(
        "prob_better",
        "effect_size",
        "verdict",
        "seeds_needed",
        "seeds_needed_at_least",
        "looks",
        "settled_at",
    ),
)
"""Of a verdict table."""


def fewest_seeds(comparisons: int) -> int:
    """The smallest number of seeds at which a study of so many comparisons can come to a verdict."""
    return next(n for n in count(2) if can_reach(n, comparisons))


def verdict(looked: Looked, p_holm: float, margin: float, smaller_is_better: bool) -> Verdict:
    """The first that applies.

    *too few seeds*: no look so far could reach 0.05 after the correction, however large the effect. *no difference
    that matters*: the whole interval lies inside ±margin, even where it excludes 0: a difference that is certain but
    small. *better* or *worse*: corrected p < 0.05 and the interval excludes 0. *inconclusive*: none of these.

    Args:
        looked: at the differences variant − baseline.
        p_holm: the p-value after correction.
        margin: largest difference that does not matter, in the metric's unit.
        smaller_is_better: as for errors.
    """
    if not looked.pairs:
        return Verdict.TOO_FEW
    if -margin <= looked.low and looked.high <= margin:
        return Verdict.NO_DIFFERENCE
    if p_holm < ALPHA and not looked.low <= 0 <= looked.high:
        return Verdict.BETTER if (looked.high < 0) == smaller_is_better else Verdict.WORSE
    return Verdict.INCONCLUSIVE


def seeds_needed(
    mean: float, sd: float, n: int, margin: float, comparisons: int = 1, pairs: Sequence[int] = ()
) -> tuple[int, int]:
    """About how many seeds in all would settle a comparison that n seeds have not, from an even chance to a good one.

    The fewest seeds, more than n, at which one more look would settle it with a predictive probability of 0.5, and of
    0.8: as *better* or *worse*, or as *no difference that matters*. What is not known yet, mean and spread, is drawn
    from what the seeds so far leave open (a flat prior), so that the mean of all N differences is distributed as
    mean + sd · √((N − n)/(nN)) · t with n − 1 degrees of freedom. The test is the t-test at w · 0.05 / comparisons, w
    the share of the error that the next look may spend.

    Source: the predictive distribution of a normal mean, e.g. A. Gelman et al., Bayesian Data Analysis, 3rd ed., 3.2.

    Args:
        mean: of the differences, in the metric's unit.
        sd: standard deviation of the differences, same unit; NaN where there is none yet.
        n: pairs there are now.
        margin: largest difference that does not matter, same unit.
        comparisons: that share the error of 5 %.
        pairs: how many there were at each look so far that counts.

    Returns:
        Each at most `MOST_SEEDS` (or n + 1), which stands for "so many or more".
    """
    seeds = np.arange(n + 1, max(MOST_SEEDS, n + 2))
    possible = np.array([bool(pairs) or can_reach(each, comparisons) for each in seeds])
    settles = possible.astype(float)
    if n >= 2 and not math.isnan(sd):
        shares = np.array([share(int(each), pairs) for each in seeds])
        settles *= _predicted(mean, sd, n, margin, seeds, ALPHA * shares, comparisons)
    enough = [np.flatnonzero(settles >= chance) for chance in (LIKELY, ALMOST_SURE)]
    return tuple(int(seeds[each[0]]) if len(each) else max(MOST_SEEDS, n + 1) for each in enough)


def _predicted(
    mean: float,
    sd: float,
    n: int,
    margin: float,
    seeds: "NDArray[np.int64]",
    alpha: "NDArray[np.float64]",
    comparisons: int,
) -> "NDArray[np.float64]":
    """For each number of seeds in all the probability that a look at level alpha settles."""
    from scipy.special import stdtr, stdtrit

    if sd == 0:
        return np.full(len(seeds), float(mean != 0 or margin > 0))
    error = sd / np.sqrt(seeds)
    beyond = stdtrit(seeds - 1, 1 - alpha / comparisons / 2) * error
    within = margin - stdtrit(seeds - 1, 1 - alpha / 2) * error
    spread = sd * np.sqrt((seeds - n) / (n * seeds))

    def below(limit: "NDArray[np.float64]") -> "NDArray[np.float64]":
        return stdtr(n - 1, (limit - mean) / spread)

    # A mean inside the margin may be significant, too: it is counted once.
    confined = np.minimum(within, beyond)
    between = np.where(within > 0, below(confined) - below(-confined), 0.0)
    return 1 - below(beyond) + below(-beyond) + between


def judge(
    samples: Sequence["ArrayLike"],
    margin: "float | Sequence[float]",
    smaller_is_better: "bool | Sequence[bool]",
    seen: Sequence[Sequence[int]] | None = None,
    rounding: "Sequence[ArrayLike] | None" = None,
) -> pd.DataFrame:
    """Test, interval, effect sizes and verdict of each comparison of one study, one row each, in their order.

    Args:
        samples: for each comparison its differences variant − baseline, one for each pair, possibly none.
        margin: largest difference that does not matter, in the metric's unit; one for all or one for each.
        smaller_is_better: as for errors; one for all or one for each.
        seen: for each comparison the number of the look at which each pair was first there, from 1; None: all of them
            at one look.
        rounding: for each comparison the largest error that rounding can have made in each difference.

    Returns:
        Columns `n`, `mean_diff`, `ci_low`, `ci_high`, `p` (over all looks), `p_holm`, `prob_better`, `effect_size`,
        `verdict`, `seeds_needed` and `seeds_needed_at_least` (for a good and for an even chance; missing where the
        verdict is settled), `looks` (how many count), `settled_at` (the number of the look since which it is settled,
        missing where it is not).

    Raises:
        InputError: the margin is negative or not a number.
    """
    m = len(samples)
    margins, smaller = (np.broadcast_to(each, m).tolist() for each in (margin, smaller_is_better))
    for each in margins:
        if not each >= 0:
            raise InputError(f"margin={each:g}: a number of at least 0 is expected, in the metric's unit")
    seen = [[1] * len(sample) for sample in samples] if seen is None else seen
    errors = [np.broadcast_to(0.0, len(sample)) for sample in samples] if rounding is None else rounding
    looked, since, verdicts, corrected = [Looked()] * m, [0] * m, [Verdict.TOO_FEW] * m, [math.nan] * m
    for look in sorted({at for each in seen for at in each}):
        for i, (sample, at, error) in enumerate(zip(samples, seen, errors, strict=True)):
            there = np.flatnonzero(np.asarray(at) <= look)
            # Random sign patterns must be able to pass the correction, too.
            flips = max(tests.FLIPS, 80 * m)
            looked[i] = looked[i].again(np.asarray(sample)[there], m, flips, np.asarray(error)[there])
        corrected = tests.holm([each.p for each in looked])
        ruled = zip(looked, corrected, margins, smaller, strict=True)
        verdicts = [verdict(*each) for each in ruled]
        since = [(at or look) if each.settled else 0 for at, each in zip(since, verdicts, strict=True)]
    # Holm's correction asks less of the others once some are settled.
    left = m - sum(each in (Verdict.BETTER, Verdict.WORSE) for each in verdicts)
    rows = []
    for i, sample in enumerate(samples):
        each, (mean, sd), n = looked[i], mean_and_sd(sample, errors[i]), len(sample)
        fewest, needed = pd.NA, pd.NA
        if not verdicts[i].settled:
            fewest, needed = seeds_needed(mean, sd, n, margins[i], left, each.pairs)
        sizes = tests.prob_better(sample, smaller[i]), tests.effect_size(sample, errors[i])
        found = n, mean, each.low, each.high, each.p, corrected[i], *sizes, verdicts[i]
        rows.append((*found, needed, fewest, len(each.pairs), since[i] or pd.NA))
    return typed(pd.DataFrame(rows, columns=COLUMNS[4:]))


def tabulate(
    comparisons: Sequence[Comparison],
    margin: float | Sequence[float],
    smaller_is_better: bool | Sequence[bool],
) -> pd.DataFrame:
    """The verdict table of one study: a row for each of its comparisons, with exactly the columns `COLUMNS`.

    `factors`, `variant` and `baseline` are tuples, as in a `Comparison`; floats have 12 significant digits. As in
    `judge`, there is one rule for all or one for each; what no seeds can settle needs none. Runs that never reached a
    target do not make a tie, nor would seeds end it: such a comparison is *inconclusive* unless it is *better* or
    *worse*. So is one of which a side never gives a result. Where the two sides differ in more than the factor it is
    *confounded*, whatever its numbers.

    Raises:
        InputError: a margin is negative or not a number.
    """
    fields = ("differences", "seen", "rounding")
    samples, seen, rounding = ([getattr(each, name) for each in comparisons] for name in fields)
    judged = judge(samples, margin, smaller_is_better, seen, rounding)
    needed = ["seeds_needed", "seeds_needed_at_least"]
    judged.loc[np.array([each.beyond_seeds for each in comparisons], bool), needed] = pd.NA
    names = {name: [getattr(each, name) for each in comparisons] for name in COLUMNS[:4]}
    return exact.rounded(hindered(judged.assign(**names)[list(COLUMNS)], comparisons))


def typed(table: pd.DataFrame) -> pd.DataFrame:
    """A verdict table with counts as whole numbers, of which some may be missing."""
    whole = dict.fromkeys(("seeds_needed", "seeds_needed_at_least", "settled_at"), "Int64")
    return table.astype({"n": int, "looks": int, **whole})


def hindered(table: pd.DataFrame, comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """A verdict table without the verdicts that numbers alone would give, where something is in their way."""
    censored = np.array([bool(each.censored) for each in comparisons], bool)
    open_ones = censored & ~table["verdict"].isin((Verdict.BETTER, Verdict.WORSE))
    for word, those in (
        (Verdict.INCONCLUSIVE, open_ones),
        (Verdict.INCONCLUSIVE, np.array([each.without_result for each in comparisons], bool)),
        (Verdict.CONFOUNDED, np.array([each.confounded for each in comparisons], bool)),
    ):
        table.loc[those, "verdict"] = word
        table.loc[those, "settled_at"] = pd.NA
    return table
