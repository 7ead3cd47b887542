"""The numbers of the figures that show effects, before anything is drawn.

Outcomes are a run's `value`, in any unit; runs are rows with params, `value` and `finished`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.tracking.columns import natural, param, text
from ablations.verdicts import Comparison

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEANS = ["mean", "low", "high", "n"]
DISAGREEMENTS = 24


def marginal_means(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """What each level of each factor reaches, averaged over the settings of the other factors.

    Settings have equal weight, and those count that every level of the factor was run in, so that levels differ
    in nothing else; the same settings, therefore, as in the paired comparisons. Seeds count where all of these
    settings finished.

    Args:
        runs: those of the study; one that did not log each factor is left out.
        factors: the params that were varied.

    Returns:
        One row per factor and level, in order: `factor`, `level`, `mean` over the seeds, `low` and `high` (the
        lowest and highest seed, each its mean over the settings) and `n` seeds, without which the rest is NaN.
    """
    frames = [
        _means(runs, factors, [factor]).rename(columns={factor: "level"}).assign(factor=factor)
        for factor in factors
    ]
    columns = ["factor", "level", *MEANS]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def interaction_means(runs: pd.DataFrame, factors: Sequence[str]) -> pd.DataFrame:
    """What each combination of two factors' levels reaches, averaged as `marginal_means` does.

    Args:
        runs: those of the study; one that did not log each factor is left out.
        factors: the params that were varied.

    Returns:
        One row per pair of factors and combination of their levels that was run, in order: `a`, `b` (the factors),
        `level_a`, `level_b`, `mean`, `low`, `high`, `n`. Pairs of which no two levels meet two others, as where one
        factor at a time was varied, have no rows.
    """
    frames = []
    for a, b in combinations(factors, 2):
        means = _means(runs, factors, [a, b]).rename(columns={a: "level_a", b: "level_b"})
        met = set(zip(means["level_a"], means["level_b"], strict=True))
        levels = [{pair[i] for pair in met} for i in (0, 1)]
        if any(met.issuperset(product(p, q)) for p, q in product(*(combinations(x, 2) for x in levels))):
            frames.append(means.assign(a=a, b=b))
    columns = ["a", "b", "level_a", "level_b", *MEANS]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _means(runs: pd.DataFrame, factors: Sequence[str], keys: list[str]) -> pd.DataFrame:
    """One row per combination of the keys' levels, with `MEANS`."""
    frame = pd.DataFrame(
        {factor: runs[param(factor)].map(text) for factor in factors}, index=runs.index
    ).dropna()
    runs = runs.loc[frame.index]
    others = [factor for factor in factors if factor not in keys]
    frame = frame.assign(
        setting=frame.groupby(others).ngroup() if others else 0,
        seed=runs[param("seed")].astype(str),
        value=pd.to_numeric(runs["value"]).where(runs["finished"].astype(bool)).astype(float),
    )
    combined = frame[keys].drop_duplicates()
    combined = combined.sort_values(keys, key=lambda column: column.map(natural), ignore_index=True)
    met = frame.drop_duplicates([*keys, "setting"])["setting"].value_counts()
    common = met.index[met == len(combined)]
    frame = frame[frame["setting"].isin(common) & np.isfinite(frame["value"])]
    settings = frame.groupby([*keys, "seed", "setting"])["value"].mean()
    seeds = settings.groupby(level=[*keys, "seed"]).agg(["mean", "size"])
    whole = seeds.loc[seeds["size"] == len(common), "mean"]
    summary = whole.groupby(level=keys).agg(["mean", "min", "max", "size"]).set_axis(MEANS, axis=1)
    means = combined.merge(summary.reset_index(), on=keys, how="left")
    return means.assign(n=means["n"].fillna(0).astype(int))


def seed_pairs(runs: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """The two values behind each difference of a main effect: `seed`, `baseline`, `variant`, in the seeds' order.

    Where other factors were varied, too, each value is the mean over their settings.

    Args:
        runs: with `run_id`, `value` and the factor's level.
        comparison: of one factor, as `verdicts.comparisons` gives it for these runs.
    """
    runs = runs.set_index(runs["run_id"].astype(str))
    (factor,), (variant,), (baseline,) = comparison.factors, comparison.variant, comparison.baseline
    levels = runs[param(factor)].astype(str)
    rows = []
    for seed, run_ids in zip(comparison.seeds, comparison.run_ids, strict=True):
        own = pd.to_numeric(runs.loc[list(run_ids), "value"]).groupby(levels[list(run_ids)]).mean()
        rows.append((seed, own[baseline], own[variant]))
    return pd.DataFrame(rows, columns=["seed", "baseline", "variant"])


@dataclass(frozen=True)
class Disagreement:
    """On which test images two variants disagree.

    Attributes:
        images: the clearest cases, one row each, those that the first variant reads better before the others:
            `index` (in the test set), `label`, `first`, `second` (what most runs of each variant read, the lower
            class where runs are divided equally), `first_right`, `second_right` (runs that read it rightly).
        pixels: of these, uint8 (images, y, x).
        runs: of the first and of the second variant.
        better: how many test images the first and the second variant read rightly in a larger share of its runs.
        total: test images.
    """

    images: pd.DataFrame
    pixels: "NDArray[np.uint8]"
    runs: tuple[int, int]
    better: tuple[int, int]
    total: int


def disagreement(
    first: Sequence[Mapping[str, "NDArray"]],
    second: Sequence[Mapping[str, "NDArray"]],
    most: int = DISAGREEMENTS,
) -> Disagreement:
    """Compare what the runs of two variants read, image by image.

    Args:
        first: for each run of one variant the arrays of its `predictions.npz`: `labels` and `predictions` (one for
            each test image), `misread` (indices) and `misread_images` (uint8, their pixels). Whatever two variants
            disagree on was misread by a run, so that these pixels suffice.
        second: the same for the other variant.
        most: how many images to give: half from each direction, where there are so many.

    Raises:
        ValueError: a variant without runs, or runs that were tested on different images.
        KeyError: an array is missing.
    """
    if not first or not second:
        raise ValueError("disagreement: each variant needs a run")
    labels = np.asarray(first[0]["labels"])
    read = [np.array([run["predictions"] for run in runs]) for runs in (first, second)]
    if any(not np.array_equal(run["labels"], labels) for run in (*first, *second)):
        raise ValueError("disagreement: the runs were tested on different images")
    right = [(predictions == labels).sum(axis=0) for predictions in read]
    # In whole numbers, so that equal shares are equal.
    lead = right[0] * len(second) - right[1] * len(first)
    pixels = {
        int(index): image
        for run in (*first, *second)
        for index, image in zip(run["misread"], run["misread_images"], strict=True)
    }
    drawable = np.isin(np.arange(len(labels)), list(pixels))
    sides = [np.flatnonzero(drawable & (sign * lead > 0)) for sign in (1, -1)]
    sides = [side[np.argsort(-np.abs(lead[side]), kind="stable")] for side in sides]
    leading = sides[0][: most - min(len(sides[1]), most // 2)]
    chosen = np.concatenate([leading, sides[1][: most - len(leading)]])
    images = pd.DataFrame({"index": chosen, "label": labels[chosen]}).assign(
        first=[int(np.bincount(read[0][:, i]).argmax()) for i in chosen],
        second=[int(np.bincount(read[1][:, i]).argmax()) for i in chosen],
        first_right=right[0][chosen],
        second_right=right[1][chosen],
    )
    return Disagreement(
        images,
        np.array([pixels[int(i)] for i in chosen], dtype=np.uint8),
        (len(first), len(second)),
        (int((lead > 0).sum()), int((lead < 0).sum())),
        len(labels),
    )
