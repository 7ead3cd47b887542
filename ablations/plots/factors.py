"""What each level of the factors reaches, and each combination of two: main effects and interactions.

A value is a run's outcome, in any unit; runs are rows with params, `value` and `finished`.
"""

from collections.abc import Sequence
from itertools import combinations, product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.plots.axes import fitted, level_ticks, log_if_wide, log_note
from ablations.plots.style import DPI, HIGHLIGHTED, OTHERS, PALETTE, look
from ablations.tracking.columns import natural, param, text

MEANS = ["mean", "low", "high", "n"]
PAIRS = 12


def marginal_means(runs: pd.DataFrame, factors: Sequence[str], everywhere: bool = False) -> pd.DataFrame:
    """What each level of each factor reaches, averaged over the settings of the other factors.

    Settings have equal weight, and those count that every level of the factor was run in, so that levels differ
    in nothing else; the same settings, therefore, as in the paired comparisons. Seeds count where all of these
    settings finished.

    Args:
        runs: those of the study; one that did not log each factor is left out.
        factors: the params that were varied.
        everywhere: count every setting, as in a fraction, whose levels are balanced without having one in common.

    Returns:
        One row per factor and level, in order: `factor`, `level`, `mean` over the seeds, `low` and `high` (the
        lowest and highest seed, each its mean over the settings) and `n` seeds, without which the rest is NaN.
    """
    empty = pd.DataFrame(columns=["factor", "level", *MEANS])
    found = ((key, _means(runs, factors, [key], everywhere)) for key in factors)
    frames = [means.rename(columns={key: "level"}).assign(factor=key) for key, means in found]
    return pd.concat(frames, ignore_index=True)[list(empty)] if frames else empty


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


def _means(
    runs: pd.DataFrame, factors: Sequence[str], keys: list[str], everywhere: bool = False
) -> pd.DataFrame:
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
    common = met.index if everywhere else met.index[met == len(combined)]
    frame = frame[frame["setting"].isin(common)]
    expected = frame.drop_duplicates([*keys, "setting"]).groupby(keys).size()
    frame = frame[np.isfinite(frame["value"])]
    settings = frame.groupby([*keys, "seed", "setting"])["value"].mean()
    seeds = settings.groupby(level=[*keys, "seed"]).agg(["mean", "size"])
    at = seeds.index.droplevel("seed")
    whole = seeds.loc[seeds["size"].to_numpy() == expected.reindex(at).to_numpy(), "mean"]
    summary = whole.groupby(level=keys).agg(["mean", "min", "max", "size"]).set_axis(MEANS, axis=1)
    means = combined.merge(summary.reset_index(), on=keys, how="left")
    return means.assign(n=means["n"].fillna(0).astype(int))


def main_effects(means: pd.DataFrame, label: str) -> Figure:
    """The mean outcome at each level of each factor, one panel per factor, all on one axis.

    Args:
        means: as `marginal_means` gives them; the bars reach from `low` to `high`.
        label: what the value is, with its unit.
    """
    factors = list(dict.fromkeys(means["factor"]))
    panels, figure = _factor_panels(len(factors), across=4, height=2.9)
    panels[0].margins(y=0.1)
    log_if_wide(panels[0], "y", means["mean"])
    for axes, factor in zip(panels, factors, strict=False):
        own = means[means["factor"] == factor].reset_index(drop=True)
        place = range(len(own))
        axes.plot(place, own["mean"], color=OTHERS, lw=1.2, zorder=2)
        axes.vlines(place, own["low"], own["high"], color=PALETTE[0], lw=1.6, alpha=0.55, zorder=3)
        axes.plot(place, own["mean"], ls="", marker="o", ms=6, color=PALETTE[0], zorder=4)
        most = own["n"].max()
        names = [
            fitted(level, 14) + ("" if n == most else f" (n = {n})")
            for level, n in zip(own["level"], own["n"], strict=True)
        ]
        level_ticks(axes, names)
        axes.set_title(fitted(factor, 26), fontsize="medium")
    figure.supylabel(fitted(label, 28) + log_note(panels[0].yaxis).replace(", ", "\n"), fontsize="medium")
    return figure


def interactions(means: pd.DataFrame, label: str) -> Figure:
    """The mean outcome over the levels of one factor, a line for each level of another, one panel per pair.

    Where the lines are parallel the two factors act independently of each other.

    Args:
        means: as `interaction_means` gives them, at least one pair; the first `PAIRS` are drawn.
        label: what the value is, with its unit.
    """
    pairs = list(dict.fromkeys(zip(means["a"], means["b"], strict=True)))
    shown = pairs[:PAIRS]
    panels, figure = _factor_panels(len(shown), across=3, height=3.6)
    log_if_wide(panels[0], "y", means["mean"])
    for axes, (a, b) in zip(panels, shown, strict=False):
        own = means[(means["a"] == a) & (means["b"] == b)]
        levels, lines = (list(dict.fromkeys(own[name])) for name in ("level_a", "level_b"))
        for i, line in enumerate(lines):
            points = own[own["level_b"] == line]
            aside = 0.24 * ((i + 0.5) / len(lines) - 0.5)  # so that bars do not hide each other
            place, style = points["level_a"].map(levels.index) + aside, look(i)
            bars = {"color": style["color"], "lw": 1.2, "alpha": 0.5, "zorder": 2}
            axes.vlines(place, points["low"], points["high"], **bars)
            axes.plot(place, points["mean"], lw=1.5, zorder=3, **style)
        level_ticks(axes, [fitted(level, 14) for level in levels])
        axes.set_xlabel(fitted(a, 26))
        names = [*(fitted(line, 14) for line in lines[:HIGHLIGHTED]), "the others"][: len(lines)]
        sizes = {"title_fontsize": 9, "fontsize": 8.5, "handlelength": 3, "frameon": False}
        above = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "ncols": 2}
        axes.legend(axes.lines[: HIGHLIGHTED + 1], names, title=fitted(b, 26), **above, **sizes)
    figure.supylabel(fitted(label, 28) + log_note(panels[0].yaxis).replace(", ", "\n"), fontsize="medium")
    if len(pairs) > len(shown):
        figure.supxlabel(f"The first {len(shown)} of {len(pairs)} pairs.", fontsize="medium")
    return figure


def _factor_panels(number: int, across: int, height: float) -> tuple[list[Axes], Figure]:
    """So many panels with one vertical axis, and their figure."""
    down = -(-number // across)
    across = -(-number // down)
    figure = Figure(figsize=((4.5, 6.5, 9, 9)[across - 1], height * down), dpi=DPI)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axes in panels[number:]:
        axes.set_visible(False)
    for axes in panels:
        axes.grid(axis="y", alpha=0.3)
    return list(panels), figure
