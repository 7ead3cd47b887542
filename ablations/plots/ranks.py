"""Variants by their mean rank over data sets or folds."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.plots import style
from ablations.plots.axes import fitted

SHOWN = 24
STEP, ABOVE = 0.32, 0.28
"""Inches from one name to the next, and from one bar to the next."""


def critical_difference(
    ranks: Sequence[float], names: Sequence[str], critical: float, cliques: Sequence[tuple[int, int]]
) -> Figure:
    """Mean ranks on a line, the best at the left; a bar joins variants that do not differ significantly.

    Source: J. Demšar (2006), JMLR 7, figure 1.

    Args:
        ranks: mean ranks in order, 1 the best; the first `SHOWN` are drawn.
        names: of the variants.
        critical: the difference from which on two of them differ.
        cliques: first and last position of each group that a bar joins.
    """
    ranks, names = np.asarray(ranks[:SHOWN], dtype=float), list(names[:SHOWN])
    cliques = [(first, min(last, len(ranks) - 1)) for first, last in cliques if first < len(ranks) - 1]
    left = (len(ranks) + 1) // 2  # names on the left, the others on the right
    below = ABOVE * (len(cliques) + 1) + STEP * left
    height = below + 1.1
    figure = Figure(figsize=(10, height), dpi=style.DPI)
    axes = figure.add_axes((0.27, 0, 0.46, 1))
    low, high = 1.0, float(max(2, np.ceil(ranks.max()), np.ceil(1 + critical)))
    axes.set_xlim(low, high)
    axes.set_ylim(-below, 1.1)
    axes.axis("off")
    axes.plot([low, high], [0, 0], color="black", lw=1.2, clip_on=False)
    for tick in np.arange(low, high + 0.5):
        axes.plot([tick, tick], [0, 0.08], color="black", lw=1, clip_on=False)
        axes.text(tick, 0.12, f"{tick:g}", ha="center", va="bottom", fontsize=9)
    axes.plot([low, low + critical], [0.62, 0.62], color="black", lw=2, marker="|", ms=8, clip_on=False)
    axes.text(low, 0.72, f"critical difference {critical:.2f}", ha="left", va="bottom", fontsize=9)
    axes.text(high, 0.72, "mean rank (1 is best)", ha="right", va="bottom", fontsize=9)
    for at, (first, last) in enumerate(cliques):
        y = -ABOVE * (at + 0.75)
        axes.plot(
            ranks[[first, last]], [y, y], color=style.PALETTE[0], lw=4, solid_capstyle="round", clip_on=False
        )
    top = -ABOVE * (len(cliques) + 0.75)
    for i, (rank, name) in enumerate(zip(ranks, names, strict=True)):
        on_left = i < left
        row = i if on_left else len(ranks) - 1 - i
        _named(axes, rank, top - STEP * row, f"{fitted(name, 26)}", f"{rank:.2f}", on_left)
    return figure


def _named(axes: Axes, rank: float, y: float, name: str, value: str, on_left: bool) -> None:
    """A line from the axis down to a name beside it."""
    low, high = axes.get_xlim()
    room = 0.02 * (high - low)
    edge = low - room if on_left else high + room
    axes.plot([rank, rank, edge], [0, y, y], color="#6e6e6e", lw=0.9, clip_on=False, zorder=1)
    axes.plot(rank, 0, color="black", marker="o", ms=4, clip_on=False, zorder=3)
    text = f"{name}  ({value})" if on_left else f"({value})  {name}"
    side = -room if on_left else room
    axes.text(edge + side, y, text, ha="right" if on_left else "left", va="center", fontsize=9.5)
