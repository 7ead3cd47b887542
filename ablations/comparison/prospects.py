"""Prospects: which comparisons are still open, and whether further seeds can be expected to settle them."""

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from ablations.comparison.looks import can_reach, counted, next_look, share
from ablations.comparison.outcomes import Outcome
from ablations.comparison.pairs import Comparison, Unpaired
from ablations.comparison.tests import ALPHA, mean_and_sd, smallest_p
from ablations.comparison.verdicts import Verdict, fewest_seeds

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

HOPE = 0.1
"""A comparison that the most seeds would settle with a smaller probability is given up."""
DRAWS = 2000
"""Futures that are drawn for the probability; the error of 10 % is then 0.7 %."""


class Standing(StrEnum):
    """Whether a comparison needs further seeds."""

    SETTLED = "settled"
    OPEN = "open"
    GIVEN_UP = "given up"
    BEYOND_SEEDS = "beyond seeds"
    """No seeds can settle it: it is confounded, or one of its sides never gives a result."""
    AT_LEVELS = "at each level"
    """An average that depends on another factor: its simple effects are the answer."""


@dataclass(frozen=True)
class Prospect:
    """What can be expected of a comparison.

    Attributes:
        comparison: which one.
        standing: whether it needs further seeds.
        chance: probability that the spare seeds settle it, 1 where it is settled.
        spare: the seeds that it may still be given, in order.
        next: how many of them the next look takes.
    """

    comparison: Comparison
    standing: Standing
    chance: float
    spare: tuple[str, ...]
    next: int


def prospects(
    comparisons: Sequence[Comparison],
    table: "pd.DataFrame",
    margins: Sequence[float],
    fewest: int,
    most: int,
    at_levels: Collection[int] = (),
) -> list[Prospect]:
    """What can be expected of each comparison of a family.

    Args:
        comparisons: of the family.
        table: their verdicts, as `verdicts.tabulate` gives them.
        margins: largest difference that does not matter, of each comparison, in its metric's unit.
        fewest: seeds that each is given before it may be given up.
        most: seeds that each may be given: those from 0 on.
        at_levels: the places of averages that simple effects answer in place of.
    """
    m = len(table)
    left = m - int(table["verdict"].isin((Verdict.BETTER, Verdict.WORSE)).sum())
    found = []
    for at, (each, row, margin) in enumerate(
        zip(comparisons, table.to_dict("records"), margins, strict=True)
    ):
        tried = {*each.seeds, *(one.seed for one in each.unpaired if _was_tried(one))}
        spare = tuple(seed for seed in map(str, range(most)) if seed not in tried)
        n = len(each.seeds)
        wanted = max(next_look(n), fewest_seeds(m), fewest) - n
        chance = 1.0
        if Verdict(row["verdict"]).settled:
            standing = Standing.SETTLED
        elif each.beyond_seeds:
            standing, chance = Standing.BEYOND_SEEDS, 0.0
        elif at in at_levels:
            standing = Standing.AT_LEVELS
        else:
            looks = list(_looks(n, n + len(spare), max(fewest_seeds(m), fewest)))
            so_far = SoFar(each, row["ci_low"], row["ci_high"], row["p"], m)
            chance = chance_of_settling(so_far, looks, margin, left) if spare else 0.0
            hopeful = chance >= HOPE or (n < fewest and spare)
            standing = Standing.OPEN if hopeful else Standing.GIVEN_UP
        found.append(Prospect(each, standing, chance, spare, min(wanted, len(spare))))
    return found


def _was_tried(seed: Unpaired) -> bool:
    """Whether a seed without a pair has been run on both sides, so that to run it again would give none either."""
    return all(gap.outcome not in (Outcome.MISSING, Outcome.UNFINISHED) for gap in seed.gaps)


def _looks(n: int, most: int, fewest: int) -> Iterator[int]:
    """At how many pairs there will be looks."""
    while n < most:
        n = min(max(next_look(n), fewest), most)
        yield n


@dataclass(frozen=True)
class SoFar:
    """A comparison and what its looks say together: the ends of its interval and its p-value; `family` is how many
    comparisons there are in all."""

    comparison: Comparison
    low: float
    high: float
    p: float
    family: int


def chance_of_settling(so_far: SoFar, looks: Sequence[int], margin: float, left: int) -> float:
    """The predictive probability that one of these further looks settles a comparison.

    Mean and variance of the differences are drawn from what the seeds so far leave open (a flat prior), then the
    means and variances that each look will find. A look settles by the rules of `verdicts.verdict`, with the t-test in
    place of the sign-flip test, which takes a thousand times as long; its p-value is never below 2/2ⁿ here either.

    Source: the predictive distribution of a normal mean, e.g. A. Gelman et al., Bayesian Data Analysis, 3rd ed., 3.2.

    Args:
        so_far: the comparison.
        looks: how many pairs there will be at each.
        margin: largest difference that does not matter, in the metric's unit.
        left: comparisons that share the error of 5 %, by Holm those that are not significant yet.
    """
    comparison, m = so_far.comparison, so_far.family
    pairs = counted(comparison.seen, m)
    n, (mean, sd) = len(comparison.seeds), mean_and_sd(comparison.differences, comparison.rounding or 0.0)
    possible = bool(looks) and (bool(pairs) or can_reach(looks[-1], m))
    if not possible or n < 2 or sd == 0:
        return float(possible and (n < 2 or mean != 0 or margin > 0))
    rng = np.random.default_rng(0)
    sigma = sd * np.sqrt((n - 1) / rng.chisquare(n - 1, DRAWS))
    mu = mean + sigma / math.sqrt(n) * rng.standard_normal(DRAWS)
    future = _Future(np.full(DRAWS, mean), np.full(DRAWS, sd**2 * (n - 1)), n)
    ends = (so_far.low, so_far.high) if pairs else (-math.inf, math.inf)
    low, high = (np.full(DRAWS, end) for end in ends)
    significant = np.full(DRAWS, bool(pairs) and so_far.p * left < ALPHA)
    settled = np.zeros(DRAWS, bool)
    for at in looks:
        future = future.with_pairs(at, mu, sigma, rng)
        if not pairs and not can_reach(at, m):
            continue
        level, pairs = share(at, pairs) * ALPHA, (*pairs, at)
        significant |= np.abs(future.mean) > future.half_width(level / left)
        ours = future.mean - future.half_width(level), future.mean + future.half_width(level)
        low, high = np.maximum(low, ours[0]), np.minimum(high, ours[1])
        apart = low > high
        low, high = np.where(apart, ours[0], low), np.where(apart, ours[1], high)
        settled |= (-margin <= low) & (high <= margin)
        settled |= significant & ((low > 0) | (high < 0))
    return float(settled.mean())


@dataclass(frozen=True)
class _Future:
    """Mean, sum of squares around it, and number of the differences in each future that was drawn."""

    mean: "NDArray[np.float64]"
    squares: "NDArray[np.float64]"
    n: int

    def with_pairs(
        self, n: int, mu: "NDArray[np.float64]", sigma: "NDArray[np.float64]", rng: np.random.Generator
    ) -> "_Future":
        """The same with normal differences up to n: only their mean and their sum of squares are drawn."""
        new = n - self.n
        mean = mu + sigma / math.sqrt(new) * rng.standard_normal(len(mu))
        within = sigma**2 * rng.chisquare(new - 1, len(mu)) if new > 1 else 0.0
        between = (mean - self.mean) ** 2 * self.n * new / n
        return _Future((self.n * self.mean + new * mean) / n, self.squares + within + between, n)

    def half_width(self, level: float) -> "NDArray[np.float64]":
        """Of the interval of a test at a level; infinite where so few pairs cannot reach it."""
        from scipy.special import stdtrit

        if smallest_p(self.n) > level:
            return np.full(len(self.mean), math.inf)
        return stdtrit(self.n - 1, 1 - level / 2) * np.sqrt(self.squares / (self.n - 1) / self.n)
