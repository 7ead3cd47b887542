"""What a choice changes in several outcomes: a forest for each, side by side, each on a scale of its own."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ablations.comparison.verdicts import Verdict
from ablations.plots import style
from ablations.plots.axes import fitted
from ablations.plots.effects import LOOKS, SHOWN_EFFECTS, heading, interval, reach

WIDTH = 11
"""Of a figure, in inches."""


def forests(effects: pd.DataFrame, outcomes: Mapping[str, tuple[str, str, bool]]) -> Figure:
    """The comparisons of one group of outcomes: a column for each outcome, a line for each choice.

    Of many choices the first `SHOWN_EFFECTS` are drawn. What an outcome was not measured for has an empty line.

    Args:
        effects: as `tabulate` gives them, at least one; `factor`, `variant` and `baseline` in words.
        outcomes: by metric its name, the unit of a difference ('' for none), and whether smaller is better.
    """
    choices = effects[["factor", "variant", "baseline"]].drop_duplicates().head(SHOWN_EFFECTS)
    names: list[tuple[str, bool]] = []
    lines: dict[tuple[str, ...], int] = {}
    for (factor, baseline), rows in choices.groupby(["factor", "baseline"], sort=False):
        names.append((heading(factor, baseline), True))
        for variant in rows["variant"]:
            lines[factor, variant, baseline] = len(names)
            names.append((fitted(variant, 34), False))
    metrics = [name for name in outcomes if (effects["metric"] == name).any()]
    figure = Figure(figsize=(WIDTH, 2.1 + 0.25 * max(len(names), 3)), dpi=style.DPI, layout="constrained")
    columns = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, name in zip(columns, metrics, strict=True):
        own = effects[effects["metric"] == name].to_dict("records")
        found = {(row["factor"], row["variant"], row["baseline"]): row for row in own}
        _column(axes, [(at, found[key]) for key, at in lines.items() if key in found], *outcomes[name])
    columns[0].set_ylim(len(names) - 0.4, -0.6)
    columns[0].set_yticks(range(len(names)), [name for name, _ in names], fontsize=9)
    for tick, (_, bold) in zip(columns[0].get_yticklabels(), names, strict=True):
        tick.set_fontweight("bold" if bold else "normal")
    _legend(figure, effects["verdict"].tolist())
    return figure


def _column(
    axes: Axes, rows: Sequence[tuple[int, Mapping[str, Any]]], noun: str, unit: str, smaller: bool
) -> None:
    """The forest of one outcome."""
    left, right, cut = reach(pd.DataFrame([row for _, row in rows]), 0.0)
    axes.set_xlim(left, right)
    axes.axvline(0, color=style.BASELINE, lw=0.9, zorder=1)
    for line, row in rows:
        interval(axes, line, row)
        if row["mean_diff"] < left or row["mean_diff"] > right:
            _number_at_the_edge(axes, line, row["mean_diff"], row["mean_diff"] > right)
    axes.set_title(textwrap.fill(fitted(noun, 60), 24), fontsize=10)
    sides = ("better", "worse") if smaller else ("worse", "better")
    notes = [unit or "difference", f"← {sides[0]}     {sides[1]} →", *(["axis cut"] if cut else [])]
    axes.set_xlabel("\n".join(notes), fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(4, min_n_ticks=2))
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["left", "right", "top"]].set_visible(False)


def _number_at_the_edge(axes: Axes, line: float, mean: float, at_right: bool) -> None:
    """How far beyond the axis a mean lies, above its arrow head: what is inside of its interval stands beside it."""
    place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    side = "right" if at_right else "left"
    text = f"{mean:+.2g}".replace("-", "−")
    axes.annotate(text, (float(at_right), line), (0, 4), ha=side, va="bottom", fontsize=8, **place)


def _legend(figure: Figure, verdicts: Sequence[str]) -> None:
    """The look of each verdict that there is."""
    handles = []
    for verdict in (each for each in Verdict if each in verdicts):
        colour, marker, filled = LOOKS[verdict]
        face = colour if filled else "white"
        look = {"color": colour, "marker": marker, "mfc": face, "mew": 1.5, "lw": 1.6, "ms": 7}
        handles.append(Line2D([], [], label=str(verdict), **look))
    figure.legend(handles=handles, loc="outside upper right", ncols=len(handles), frameon=False, fontsize=9)
