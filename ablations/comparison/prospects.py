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
DRAWS = 1000
"""Futures that are drawn for the probability: the error of 10 % is then 1 %."""
NEWTON_STEPS, FARTHEST = 12, 300.0


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
    differences that are still to come. A look settles by the rules of `verdicts.verdict`, with the p-values of
    `approximate_p`.

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
    futures = _futures(comparison.differences, mean, sd, looks[-1])
    low = np.full(DRAWS, bool(pairs) and so_far.low >= -margin)  # whether that end is within the margin
    high = np.full(DRAWS, bool(pairs) and so_far.high <= margin)
    significant = np.zeros(DRAWS, bool)
    for at in looks:
        if not pairs and not can_reach(at, m):
            continue
        level, pairs = share(at, pairs) * ALPHA, (*pairs, at)
        there = futures[:, :at]
        significant |= approximate_p(there) * left < level
        if margin > 0:
            means = there.mean(axis=1)
            low |= (means > -margin) & (approximate_p(there + margin) <= level)
            high |= (means < margin) & (approximate_p(there - margin) <= level)
    return float((significant | (low & high)).mean())


def _futures(differences: Sequence[float], mean: float, sd: float, most: int) -> "NDArray[np.float64]":
    """The differences with those that may follow them, up to so many, one row for each future."""
    rng, n = np.random.default_rng(0), len(differences)
    sigma = sd * np.sqrt((n - 1) / rng.chisquare(n - 1, DRAWS))
    mu = mean + sigma / math.sqrt(n) * rng.standard_normal(DRAWS)
    new = mu[:, None] + sigma[:, None] * rng.standard_normal((DRAWS, most - n))
    return np.hstack([np.tile(np.asarray(differences, float), (DRAWS, 1)), new])


def approximate_p(samples: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """The two-sided p-value of `tests.sign_flip` of each row, to some per cent, in a thousandth of the time.

    A sum of values of random sign has the cumulants of K(u) = Σ log cosh(u aᵢ), from which its tail follows by a
    saddlepoint: with K'(u) = s, w = √(2 (u s − K(u))) and v = u √K''(u) it is 1 − Φ(w) + φ(w) (1/v − 1/w).

    Source: R. Lugannani, S. Rice (1980), Adv. Appl. Prob. 12, 475–490; for permutation tests J. Robinson (1982), J. R.
    Stat. Soc. B 44(1), 91–101.
    """
    from scipy.special import ndtr

    n = samples.shape[1]
    sizes = np.abs(samples) / np.sqrt((samples**2).mean(axis=1, keepdims=True))
    total = np.abs(samples.sum(axis=1)) * sizes.sum(axis=1) / np.abs(samples).sum(axis=1)
    u = total / n  # below the saddlepoint, as all steps that follow: K' is concave
    for _ in range(NEWTON_STEPS):
        slopes = np.tanh(u[:, None] * sizes)
        curvature = ((1 - slopes**2) * sizes**2).sum(axis=1)
        u = u + (total - (slopes * sizes).sum(axis=1)) / np.maximum(curvature, 1e-12)
        u = np.minimum(u, FARTHEST)
    angles = u[:, None] * sizes
    curvature = (sizes**2 / np.cosh(np.minimum(angles, FARTHEST)) ** 2).sum(axis=1)
    cumulants = (np.logaddexp(angles, -angles) - math.log(2)).sum(axis=1)
    w, v = np.sqrt(2 * np.maximum(u * total - cumulants, 1e-12)), u * np.sqrt(np.maximum(curvature, 1e-12))
    tail = 1 - ndtr(w) + np.exp(-(w**2) / 2) / math.sqrt(2 * math.pi) * (1 / np.maximum(v, 1e-12) - 1 / w)
    tail = np.where(w < 1e-2, 0.5, tail)  # in the middle, where both fractions are large
    of_one_sign = np.abs(samples.sum(axis=1)) >= np.abs(samples).sum(axis=1) * (1 - 1e-12)
    # The observed signs count as well: of their own share the tail has half.
    return np.where(of_one_sign, smallest_p(n), np.clip(2 * tail + smallest_p(n) / 2, smallest_p(n), 1))
