"""What runs and variants reached: by variant, over a grid of factors, against the time that it took."""

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablations.plots.axes import (
    fitted,
    is_wide,
    legend,
    limits,
    log_if_wide,
    log_note,
    number_form,
    plain_numbers,
)
from ablations.plots.style import DPI, HIGHLIGHTED, MEAN, NOT_RUN, PALETTE, VALUES, look
from ablations.tracking.columns import natural, param

SHOWN_VARIANTS = 40


def values_by_variant(runs: pd.DataFrame, names: Sequence[str], label: str, title: str = "") -> Figure:
    """The outcome of every run, one line per variant, best on top, the mean as a bar.

    Args:
        runs: finished runs with `variant` (number) and `value`.
        names: those of the variants by number.
        label: what the value is, with its unit.
        title: what the names are, above them.
    """
    import seaborn as sns

    runs = runs[runs["variant"] < SHOWN_VARIANTS]
    shown = sorted(set(runs["variant"]))
    place = runs["variant"].map({variant: i for i, variant in enumerate(shown)})
    means = runs.groupby("variant")["value"].mean()
    figure = Figure(figsize=(9, 1.1 + 0.32 * max(len(shown), 3)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    log_if_wide(axes, "x", runs["value"])
    values, dots = runs["value"].to_numpy(), {"color": PALETTE[0], "alpha": 0.65}
    plain = {"orient": "h", "native_scale": True, "jitter": False}
    sns.stripplot(x=values, y=place.to_numpy(), ax=axes, size=6, zorder=3, **plain, **dots)
    axes.scatter(means, range(len(shown)), marker="|", s=260, linewidths=2.2, color=MEAN, zorder=4)
    axes.set_yticks(range(len(shown)), [fitted(names[variant]) for variant in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set_xlabel(fitted(label, 44) + log_note(axes.xaxis))
    axes.set_title(
        fitted(title, 40), loc="left", fontsize="medium"
    )  # beside the axis few lines leave no room
    axes.grid(axis="x", which="both", alpha=0.3)
    handles = [
        Line2D([], [], marker="o", linestyle="", label="one run", **dots),
        Line2D([], [], marker="|", ms=13, mew=2.2, linestyle="", color=MEAN, label="mean"),
    ]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    return figure


def grids(table: pd.DataFrame, factors: Sequence[str], facets: int = 6) -> dict[str, pd.DataFrame]:
    """Mean outcome over the first two factors, one grid per level of the third, by its level.

    Without a third factor, or where it has more levels than `facets`, there is one grid, named ''. Further
    factors are averaged over, every variant with equal weight.
    """
    row, col, *more = (param(key) for key in factors)
    third = more[0] if more and table[more[0]].nunique() <= facets else None
    rows, cols = (sorted(table[key].unique(), key=natural) for key in (row, col))
    levels = sorted(table[third].unique(), key=natural) if third else [""]
    return {
        level: (table[table[third] == level] if third else table)
        .pivot_table(index=row, columns=col, values="mean", aggfunc="mean")
        .reindex(index=rows, columns=cols)
        for level in levels
    }


def value_grids(
    grids: Mapping[str, pd.DataFrame], label: str, rows: str, columns: str, facet: str = ""
) -> Figure:
    """Mean outcome over two factors, one panel per level of a third.

    Args:
        grids: frames by level of the third factor, as `grids` gives them.
        label: what the numbers are, with their unit, such as "mean test error (%)".
        rows: the name of the factor in the rows.
        columns: the name of the factor in the columns.
        facet: the name of the third factor, if there is one.
    """
    import seaborn as sns

    first = next(iter(grids.values()))
    across = min(len(grids), 3 if first.shape[1] <= 3 else 2 if first.shape[1] <= 6 else 1)
    down = -(-len(grids) // across)
    width, height = 0.75 * first.shape[1] + 1.1, max(0.5 * first.shape[0] + 1.0, min(len(rows), 24) / 8)
    size = min(max(width * across + 1.2, 4.5), 14), min(height * down + 0.4, 18)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    values = np.concatenate([grid.to_numpy(dtype=float).ravel() for grid in grids.values()])
    values = values[np.isfinite(values)]
    norm = (LogNorm if is_wide(values) else Normalize)(*limits(values))
    for axes, (level, grid) in zip(panels, grids.items(), strict=False):
        means = grid.to_numpy(dtype=float)
        names = {"xticklabels": grid.columns, "yticklabels": grid.index}
        names = {side: [fitted(name, 16) for name in found] for side, found in names.items()}
        written = {"annot": grid.size <= 200, "fmt": number_form(values), "annot_kws": {"fontsize": 9}}
        sns.heatmap(means, ax=axes, norm=norm, cmap=VALUES, linewidths=1, cbar=False, **names, **written)
        # Seaborn's own choice leaves white on khaki; below 0.18 white has the better contrast.
        cells = axes.collections[0].to_rgba(means[grid.notna()])
        for text, colour in zip(axes.texts, cells, strict=False):
            text.set_color("white" if sns.utils.relative_luminance(colour) < 0.18 else "black")
        axes.set(xlabel=fitted(columns, 30), ylabel=fitted(rows, int(8 * height)))
        axes.tick_params(left=False, bottom=False)
        axes.set_yticks(axes.get_yticks(), axes.get_yticklabels(), rotation=0)
        if max(len(str(name)) for name in grid.columns) > 7 or grid.shape[1] > 12:
            axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=45, ha="right")
        axes.patch.set(**NOT_RUN)
        if facet:
            axes.set_title(fitted(f"{facet} = {level}", int(10 * width)), fontsize="medium")
    for axes in panels[len(grids) :]:
        axes.set_visible(False)
    lines = textwrap.wrap(label, 20, max_lines=2, placeholder="…")
    label = "\n".join(fitted(line, 20) for line in lines)
    bar = figure.colorbar(panels[0].collections[0], ax=list(panels), label=label, aspect=15)
    plain_numbers(bar.ax.yaxis)
    return figure


def value_against_time(runs: pd.DataFrame, names: Sequence[str], label: str, title: str = "") -> Figure:
    """The outcome of every run against the time its training took.

    Args:
        runs: finished runs with `variant` (number), `value` and `train_s` (seconds).
        names: those of the variants by number.
        label: what the value is, with its unit.
        title: what the names are, over the legend.
    """
    import seaborn as sns

    figure = Figure(figsize=(9, 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    log_if_wide(axes, "x", runs["train_s"])
    log_if_wide(axes, "y", runs["value"])
    for variant, points in sorted(runs.groupby("variant"), reverse=True):
        drawn = {name: look(variant)[name] for name in ("color", "marker")}
        drawn |= {"s": 45, "alpha": 0.8, "zorder": 3 if variant < HIGHLIGHTED else 2}
        sns.scatterplot(data=points, x="train_s", y="value", ax=axes, **drawn)
    axes.set_xlabel("training time of the run (s)" + log_note(axes.xaxis))
    axes.set_ylabel(fitted(label, 26) + log_note(axes.yaxis))
    axes.grid(which="both", alpha=0.3)
    if len(names) > 1:
        legend(figure, names, runs["variant"], title, lambda variant: look(variant) | {"linestyle": ""})
    return figure
