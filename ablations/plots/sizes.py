"""The outcome against how much was trained on: a line for each setting of the other factors."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullLocator

from ablations.comparison.sizes import FEWEST
from ablations.plots.axes import fitted, legend, log_note, plain_numbers
from ablations.plots.ladder import mean_with_bar
from ablations.plots.style import DPI, look
from ablations.tracking.columns import param, text

APART = 1.25
"""Sizes that are closer than this ratio would write over each other at the axis."""


def by_size(runs: pd.DataFrame, factor: str, sizes: Mapping[str, float], variants: pd.Series) -> pd.DataFrame:
    """What each setting of the other factors reaches at each size.

    Args:
        runs: those of the study, with params, `value` and `finished`.
        factor: the key of the size.
        sizes: by its levels, in order.
        variants: of each run the number of its setting of the other factors.

    Returns:
        One row per setting and size, in order: `variant`, `size`, `mean`, `low` and `high` (as in `ladder.rungs`) and
        `n` seeds, of each the mean of its runs; of settings with results at `FEWEST` sizes or more.
    """
    done = runs[runs["finished"].astype(bool)]
    seeds = done[param("seed")].map(text)
    values = pd.DataFrame(
        {
            "variant": variants.reindex(done.index),
            "size": done[param(factor)].map(text).map(sizes),
            "seed": seeds.where(seeds.notna(), done.index.map(str)),  # unnamed, each run is one of its own
            "value": pd.to_numeric(done["value"]).astype(float),
        }
    )
    reached = values.groupby(["variant", "size", "seed"])["value"].mean().groupby(level=["variant", "size"])
    rows = [(*at, *mean_with_bar(own.to_numpy())) for at, own in reached]
    table = pd.DataFrame(rows, columns=["variant", "size", "mean", "low", "high", "n"])
    enough = table.groupby("variant")["size"].transform("size") >= FEWEST
    return table[enough].reset_index(drop=True)


def values_by_size(
    table: pd.DataFrame, names: Sequence[str], label: str, axis: str, title: str = "", ratios: bool = True
) -> Figure:
    """The mean outcome against the size with its bars, the sizes on a logarithmic axis.

    Args:
        table: as `by_size` gives it.
        names: those of the settings by number.
        label: what the value is, with its unit.
        axis: what the size is.
        title: what the names are, over the legend.
        ratios: make the axis of the outcome logarithmic, too; all must be above 0.
    """
    figure = Figure(figsize=(9, 4.4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    variants, sizes = (sorted(set(table[name])) for name in ("variant", "size"))
    closest = min(np.divide(sizes[1:], sizes[:-1]))
    aside = min(1.06, closest**0.2)  # at most, so that bars do not hide each other
    for at, variant in reversed(list(enumerate(variants))):
        own, style = table[table["variant"] == variant], look(variant)
        place = own["size"] * aside ** ((2 * at + 1) / len(variants) - 1)
        axes.vlines(place, own["low"], own["high"], color=style["color"], lw=1.6, alpha=0.6, zorder=2)
        axes.plot(place, own["mean"], lw=1.5, zorder=3, **style)
    axes.set_xscale("log")
    plain_numbers(axes.xaxis)
    if closest >= APART:
        axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.xaxis.set_minor_locator(NullLocator())
    if ratios:
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
        if table["high"].max() < 10 * table["low"].min():
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)))
    axes.set_xlabel(fitted(axis, 60) + log_note(axes.xaxis))
    axes.set_ylabel(fitted(label, 26) + log_note(axes.yaxis))
    axes.grid(which="both", alpha=0.3)
    if len(names) > 1:
        legend(figure, names, variants, title, look)
    return figure
