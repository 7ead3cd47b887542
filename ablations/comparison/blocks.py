"""Variants over data sets or folds: a block is no factor, and values of different blocks are compared by rank alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ablations.comparison import tests
from ablations.comparison.outcomes import Outcome
from ablations.comparison.tests import ALPHA
from ablations.tracking.columns import NOT_LOGGED, column, natural, param, text

FEWEST = 2  # blocks and variants


@dataclass(frozen=True)
class Ranks:
    """Variants over blocks.

    Attributes:
        variants: the levels of each, in order.
        means: of the metric, a row for each variant (by its position), a column for each block; over the seeds that all
            variants of the block have, NaN where a variant has none.
        sds: standard deviations over these seeds (n − 1).
        seeds: for each block over how many seeds.
        ranks: mean rank of each variant over the blocks that all variants have, the best first (1), ties shared; its
            index has the variants' positions.
        blocks: those blocks.
        friedman: statistic and p of Friedman's test that all variants are equal; NaN with fewer than three.
        critical: the difference of mean ranks from which on two variants differ (Nemenyi, 5 %).
        cliques: largest groups of variants, first and last place in `ranks`, of which no two differ so much.
        wilcoxon: for each variant but the baseline (by its position) `p` and `p_holm`, against the baseline.
    """

    variants: tuple[tuple[str, ...], ...]
    means: pd.DataFrame
    sds: pd.DataFrame
    seeds: pd.Series
    ranks: pd.Series
    blocks: tuple[str, ...]
    friedman: tuple[float, float]
    critical: float
    cliques: tuple[tuple[int, int], ...]
    wilcoxon: pd.DataFrame


def ranked_over(
    runs: pd.DataFrame, factors: Sequence[str], block: str, baseline: Sequence[str], smaller_is_better: bool
) -> Ranks | None:
    """The variants of a study over its blocks; None where fewer than two of either have a result.

    Sources: J. Demšar (2006), Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7, 1-30: mean ranks,
    Friedman's test, the critical difference q(0.05, k) · √(k (k + 1) / 6N) with q the studentized range by √2,
    Wilcoxon's signed ranks.

    Args:
        runs: with `outcome` and `value`.
        factors: the params that make a variant.
        block: the param with the data set or fold.
        baseline: its level of each factor.
        smaller_is_better: as for errors.
    """
    from scipy.stats import friedmanchisquare, rankdata

    variants, means, sds, seeds = _means(runs, factors, block)
    whole = means.columns[means.notna().all()]
    if len(variants) < FEWEST or len(whole) < FEWEST:
        return None
    values = _rounded(means[whole].to_numpy()) * (1 if smaller_is_better else -1)
    ranks = pd.Series(rankdata(values, axis=0).mean(axis=1)).sort_values(kind="stable")
    friedman = (math.nan, math.nan)
    if len(variants) > 2 and np.ptp(values, axis=0).any():
        found = friedmanchisquare(*values)
        friedman = float(found.statistic), float(found.pvalue)
    critical = critical_difference(len(variants), len(whole))
    return Ranks(
        variants=variants,
        means=means,
        sds=sds,
        seeds=seeds,
        ranks=ranks,
        blocks=tuple(whole),
        friedman=friedman,
        critical=critical,
        cliques=cliques(ranks.to_numpy(), critical),
        wilcoxon=_wilcoxon(means[whole], variants, tuple(baseline)),
    )


def _rounded(values: np.ndarray) -> np.ndarray:
    """Values of a block (a column) in whole 10⁻¹² of its largest: what differs by rounding alone is a tie."""
    largest = np.abs(values).max(axis=0)
    return np.round(values / np.where(largest > 0, largest, 1) * 1e12)


def _means(
    runs: pd.DataFrame, factors: Sequence[str], block: str
) -> tuple[tuple[tuple[str, ...], ...], pd.DataFrame, pd.DataFrame, pd.Series]:
    done = runs[runs["outcome"] == Outcome.FINISHED]
    names = [*map(param, factors), param(block)]
    done = done[np.logical_and.reduce([column(done, name).map(text).notna() for name in names])]
    levels = list(zip(*(done[param(key)] for key in factors), strict=True))
    variants = tuple(sorted(set(levels), key=lambda each: [natural(level) for level in each]))
    frame = pd.DataFrame(
        {
            "variant": [variants.index(each) for each in levels],
            "block": done[param(block)].tolist(),
            "seed": column(done, param("seed")).map(text).fillna(NOT_LOGGED).tolist(),
            "value": done["value"].tolist(),
        }
    )
    frame = frame.groupby(["variant", "block", "seed"])["value"].mean().reset_index()
    blocks = sorted(set(frame["block"]), key=natural)
    means, sds = (pd.DataFrame(np.nan, range(len(variants)), blocks) for _ in range(2))
    seeds = pd.Series(0, blocks)
    for name, rows in frame.groupby("block"):
        table = rows.pivot(index="seed", columns="variant", values="value")
        common = table.dropna() if len(table.dropna()) else table
        seeds[name] = len(common)
        means.loc[common.columns, name] = common.mean()
        sds.loc[common.columns, name] = common.std()
    return variants, means, sds, seeds


def critical_difference(variants: int, blocks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical difference of mean ranks."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - alpha, variants, np.inf)) / math.sqrt(2)
    return q * math.sqrt(variants * (variants + 1) / (6 * blocks))


def cliques(ranks: np.ndarray, critical: float) -> tuple[tuple[int, int], ...]:
    """First and last position of each largest group of variants, in the order of their ranks, that do not differ."""
    found: list[tuple[int, int]] = []
    for first, rank in enumerate(ranks):
        last = int(np.searchsorted(ranks, rank + critical, side="right")) - 1
        if last > first and not any(last <= end for _, end in found):
            found.append((first, last))
    return tuple(found)


def _wilcoxon(
    means: pd.DataFrame, variants: Sequence[tuple[str, ...]], baseline: tuple[str, ...]
) -> pd.DataFrame:
    """Each variant against the baseline over the blocks, zeros shared among the signs as Demšar has it."""
    from scipy.stats import wilcoxon

    if baseline not in variants:
        return pd.DataFrame(columns=["p", "p_holm"])
    values = means.to_numpy()
    values = np.round(values / (np.abs(values).max() or 1) * 1e12)  # so that rounding parts no ties
    others = [i for i, variant in enumerate(variants) if variant != baseline]
    differences = [values[i] - values[variants.index(baseline)] for i in others]
    p = [float(wilcoxon(each, zero_method="zsplit").pvalue) if each.any() else 1.0 for each in differences]
    return pd.DataFrame({"p": p, "p_holm": tests.holm(p)}, others)
