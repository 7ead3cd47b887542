"""Power: how small a difference a study settles with so many seeds, and how many a difference takes.

Settled is what `verdicts.verdict` calls *better* or *worse* at one look, with a probability of `PROBABILITY`, where the
other comparisons of the study show nothing and paired differences are normal.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.comparison.looks import FIRST, can_reach
from ablations.comparison.pairs import Comparison
from ablations.comparison.tests import ALPHA
from ablations.comparison.verdicts import ALMOST_SURE, MOST_SEEDS, fewest_seeds
from ablations.tracking.columns import column, numbers, param, tag
from ablations.tracking.columns import metric as metric_column

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROBABILITY = ALMOST_SURE
SIMULATED = 10
"""Pairs up to which the sign-flip test itself is simulated; beyond, the t-test, whose limits are the same there."""
SIMULATIONS, DRAWS = 2000, 50_000
"""Samples of differences for the one, of their means and deviations for the other."""


@lru_cache(maxsize=64)
def _ends(n: int, comparisons: int) -> "tuple[NDArray[np.float64], NDArray[np.float64]]":
    """Of samples of n standard normal differences the lower end of the interval that stands for the corrected p-value,
    and the upper end of the interval that is reported."""
    rng = np.random.default_rng(n)
    levels = FIRST * ALPHA / comparisons, FIRST * ALPHA
    if n <= SIMULATED:
        means = _means_of_sets(rng.standard_normal((SIMULATIONS, n)))
        low, high = (math.floor(level * 2**n / 2 + 1e-9) - 1 for level in levels)  # as in `tests.sign_flip`
        return np.partition(means, low)[:, low], np.partition(means, -1 - high)[:, -1 - high]
    from scipy.special import stdtrit

    mean = rng.standard_normal(DRAWS) / math.sqrt(n)
    error = np.sqrt(rng.chisquare(n - 1, DRAWS) / (n - 1) / n)
    corrected, alone = (float(stdtrit(n - 1, 1 - level / 2)) for level in levels)
    return mean - corrected * error, mean + alone * error


def _means_of_sets(samples: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Of samples (samples, n) the mean of each set of pairs but the empty one, (samples, 2ⁿ − 1)."""
    n = samples.shape[1]
    sets = (np.arange(1, 2**n) >> np.arange(n)[:, None]) & 1
    return samples @ (sets / sets.sum(axis=0))


def smallest_difference(n: int, comparisons: int, sd: float, margin: float) -> float:
    """The smallest true difference that n seeds settle as *better* or *worse* with probability `PROBABILITY`.

    A sample with noise z (standard deviations of paired differences) settles a difference D where the corrected test
    rejects 0, D > −sd · low(z), and the interval reaches beyond the margin, D > margin − sd · high(z): the smallest
    D is the quantile of the larger of both.

    Args:
        n: seeds, all looked at once.
        comparisons: that share the error of 5 %.
        sd: standard deviation of the paired differences, in the metric's unit.
        margin: largest difference that does not matter, same unit.

    Returns:
        In that unit; inf where so many seeds settle nothing, however large.
    """
    if not can_reach(n, comparisons):
        return math.inf
    low, high = _ends(n, comparisons)
    return float(np.quantile(np.maximum(-sd * low, margin - sd * high), PROBABILITY))


def seeds_for(difference: float, comparisons: int, sd: float, margin: float) -> int | None:
    """The fewest seeds that settle a true difference with probability `PROBABILITY`; None for more than `MOST_SEEDS`.

    Args:
        difference: in the metric's unit, more than 0.
        comparisons: as for `smallest_difference`.
        sd: as there.
        margin: as there.
    """

    def settle(n: int) -> bool:
        return smallest_difference(n, comparisons, sd, margin) <= difference

    below, above = fewest_seeds(comparisons) - 1, fewest_seeds(comparisons)
    while not settle(above):
        if above >= MOST_SEEDS:
            return None
        below, above = above, min(2 * above, MOST_SEEDS)
    while above - below > 1:
        middle = (below + above) // 2
        below, above = (below, middle) if settle(middle) else (middle, above)
    return above


def deviation(comparison: Comparison, spread: float) -> float:
    """The standard deviation of a comparison's differences where those of two single settings have `spread`.

    What it averages over scatters less: settings are taken to scatter independently, so that B of them on either side
    divide by √B; an interaction takes twice as many runs, and √2.
    """
    corners = 2 ** len(comparison.factors)
    cells = len(comparison.signs) / corners
    return spread * math.sqrt(corners / 2 / cells) if cells else math.nan


def spread(runs: pd.DataFrame, metric: str) -> tuple[float, int]:
    """The standard deviation of the differences between two variants seed by seed, pooled over all pairs of variants of
    each sweep, and how many runs say it; NaN where no two variants have two seeds in common.

    Args:
        runs: as the store's reader gives them, of one kind; those of a sweep with the same params but the seed are a
            variant. Runs without a result, and those that did not learn, do not count.
        metric: name of the outcome.
    """
    values = numbers(runs, metric_column(metric))
    good = (runs["status"] == "FINISHED") & values.notna() & column(runs, tag("did_not_learn")).isna()
    runs = runs.assign(value=values)[good & column(runs, param("seed")).notna()]
    squares, degrees, counted = 0.0, 0, set()
    for variants in _variants(runs):
        for a, b in combinations(variants, 2):
            both = sorted(a.keys() & b.keys())
            if len(both) > 1:
                differences = np.array([a[seed][0] - b[seed][0] for seed in both])
                squares += float(((differences - differences.mean()) ** 2).sum())
                degrees += len(both) - 1
                counted |= {each[seed][1] for each in (a, b) for seed in both}
    return (math.sqrt(squares / degrees) if degrees else math.nan), len(counted)


def _variants(runs: pd.DataFrame) -> Iterator[list[dict[str, tuple[float, str]]]]:
    """For each sweep its variants: of each by seed the value and the id of its last run."""
    for _, own in runs.groupby(column(runs, tag("sweep")).fillna("")):
        keys = [name for name in own if name.startswith(param("")) and name != param("seed")]
        setting = pd.util.hash_pandas_object(own[keys].astype(str), index=False)
        found: dict[int, dict[str, tuple[float, str]]] = {}
        rows = zip(setting, own[param("seed")], own["value"], own["run_id"], strict=True)
        for variant, seed, value, run_id in rows:
            found.setdefault(variant, {})[str(seed)] = value, str(run_id)
        yield list(found.values())
