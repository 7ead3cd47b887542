"""How much each factor has to do with the outcome: shares of its variance, and of the gap between two variants.

Both need a full grid, every setting with every seed that is counted; other seeds are left out.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import chain, combinations, product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.comparison import exact, tests
from ablations.comparison.outcomes import Outcome
from ablations.tracking.columns import NOT_LOGGED, natural, param, text

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_FACTORS = 10
"""Shapley values take every subset of the factors."""


def grid(
    runs: pd.DataFrame, factors: Sequence[str]
) -> tuple[list[list[str]], list[str], "NDArray[np.float64]"] | None:
    """The outcome over a full grid: each factor's levels, the seeds, and values of shape (levels of the first factor,
    …, levels of the last, seeds); None where a setting was never run, or no seed has one finished run of each.

    Args:
        runs: with `value`, `outcome` and the factors' params, as `outcomes.with_outcomes` gives them.
        factors: the params that were varied.
    """
    found: dict[tuple[tuple[str, ...], str], list[float]] = {}
    levels: list[set[str]] = [set() for _ in factors]
    needed = ["value", "outcome", *map(param, (*factors, "seed"))]
    for run in runs.reindex(columns=needed).to_dict("records"):
        setting = tuple(text(run.get(param(factor))) or NOT_LOGGED for factor in factors)
        if NOT_LOGGED in setting:
            continue
        for known, level in zip(levels, setting, strict=True):
            known.add(level)
        if run["outcome"] == Outcome.FINISHED and (seed := text(run.get(param("seed")))):
            found.setdefault((setting, seed), []).append(run["value"])
    ordered = [sorted(each, key=natural) for each in levels]
    if not factors or math.prod(map(len, ordered)) > len(found):
        return None
    settings = list(product(*ordered))
    seeds = sorted({seed for _, seed in found}, key=natural)
    seeds = [seed for seed in seeds if all(len(found.get((each, seed), ())) == 1 for each in settings)]
    if not seeds:
        return None
    values = [found[setting, seed][0] for setting in settings for seed in seeds]
    return ordered, seeds, np.reshape(values, (*map(len, ordered), len(seeds)))


def shares(values: "NDArray[np.float64]", factors: Sequence[str]) -> pd.DataFrame | None:
    """Which part of the variance of a grid's outcomes each factor, each two of them and the seeds account for.

    The sums of squares of the balanced layout with seeds as blocks, each divided by the whole one (η²): columns
    `factors` (one, or the two of an interaction), `share`. Two further rows have no single name: `("seed",)`, and `()`
    for the rest: seeds that differ from setting to setting, and interactions of more than two factors. None where
    nothing varies, or there is one seed or one level.

    Args:
        values: as `grid` gives them.
        factors: of all axes but the last.
    """
    if min(values.shape) < 2:
        return None
    centre = exact.total(values.ravel()) / values.size
    values = values - centre
    whole = exact.total(np.square(values).ravel())
    if whole <= values.size * (1e-9 * max(abs(centre), np.abs(values).max())) ** 2:
        return None
    axes = range(len(factors))
    asked = [*((i,) for i in axes), *combinations(axes, 2), (len(factors),)]
    names = [*((each,) for each in factors), *combinations(factors, 2), ("seed",)]
    found = [_sum_of_squares(values, each) / whole for each in asked]
    table = pd.DataFrame({"factors": [*names, ()], "share": [*found, max(1 - math.fsum(found), 0.0)]})
    return exact.rounded(table)


def _sum_of_squares(values: "NDArray[np.float64]", axes: tuple[int, ...]) -> float:
    """Of one factor, or of the interaction of two, in a balanced layout whose mean is 0."""
    effect = _means(values, axes)
    for axis in axes if len(axes) > 1 else ():
        effect = effect - _means(values, (axis,))
    return values.size / effect.size * exact.total(np.square(effect).ravel())


def _means(values: "NDArray[np.float64]", kept: tuple[int, ...]) -> "NDArray[np.float64]":
    return values.mean(axis=tuple(i for i in range(values.ndim) if i not in kept), keepdims=True)


def shapley(
    runs: pd.DataFrame, factors: Sequence[str], baseline: Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, str]] | None:
    """How the gap between the baseline and the variant that differs from it in everything falls to the factors.

    φ of factor i with seed s is the mean, over all orders in which the factors may be changed one after the other, of
    what changing i brings. Estimates, without verdicts: the intervals are those of the sign-flip test over seeds.

    Source: L. S. Shapley (1953), Contributions to the Theory of Games II, 307–317.

    Args:
        runs: as for `grid`.
        factors: two or more, of two levels each.
        baseline: the level of each from which the gap is measured.

    Returns:
        Columns `factor` ('' for the total), `mean`, `low`, `high`, `n` (seeds); and the other level of each factor.
        None for another design.
    """
    found = grid(runs, factors) if 2 <= len(factors) <= MOST_FACTORS else None
    if found is None:
        return None
    levels, seeds, values = found
    if any(
        len(each) != 2 or baseline.get(key) not in each for key, each in zip(factors, levels, strict=True)
    ):
        return None
    at_base = [each.index(baseline[key]) for key, each in zip(factors, levels, strict=True)]
    other = {key: each[1 - at] for key, each, at in zip(factors, levels, at_base, strict=True)}
    values = values[np.ix_(*([at, 1 - at] for at in at_base), range(len(seeds)))]
    rows = []
    by_factor = [_phi(values, i) for i in range(len(factors))]
    total = values[(1,) * len(factors)] - values[(0,) * len(factors)]
    for name, each in zip((*factors, ""), (*by_factor, total), strict=True):
        test = tests.sign_flip(each)
        rows.append((name, exact.mean(each), test.low, test.high, len(each)))
    return pd.DataFrame(rows, columns=["factor", "mean", "low", "high", "n"]), other


def _phi(values: "NDArray[np.float64]", factor: int) -> "NDArray[np.float64]":
    """(seeds,): the Shapley value of a factor; axes of `values` are the factors, 0 for the baseline, then seeds."""
    many = values.ndim - 1
    rest = [i for i in range(many) if i != factor]
    terms: list[list[float]] = [[] for _ in range(values.shape[-1])]
    for changed in chain.from_iterable(combinations(rest, size) for size in range(many)):
        weight = math.factorial(len(changed)) * math.factorial(many - len(changed) - 1)
        without = tuple(int(i in changed) for i in range(many))
        with_it = tuple(int(i in changed or i == factor) for i in range(many))
        for seed, pair in enumerate(zip(values[with_it], values[without], strict=True)):
            terms[seed] += [weight * pair[0], -weight * pair[1]]
    return np.array([exact.total(each) / math.factorial(many) for each in terms])
