"""The figures of one run: its learning curves, its confusion matrix, its network from the inside."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import ArrayLike, NDArray

from ablations.plots.axes import Page, by_epoch, fitted, level_ticks, limits, percent
from ablations.plots.style import COUNTS, OTHERS, PALETTE, PIXELS, WEIGHTS

ACROSS = 8
MOST_MAPS = 64
# In inches: a map, a vector's height, between rows, left of the maps, around everything, the bars of the output.
CELL, STRIP, GAP, LEFT, EDGE, BARS = 0.8, 0.36, 0.16, 1.75, 0.2, 1.5


def learning_curves(history: pd.DataFrame) -> Figure:
    """Loss and accuracy of one run by epoch.

    Args:
        history: columns `epoch`, `train/loss`, `train/accuracy` and, where measured, `val/loss` and
            `val/accuracy`; accuracies are fractions.
    """
    figure = Figure(figsize=(8, 3), dpi=100)
    for place, (quantity, label) in enumerate((("loss", "loss"), ("accuracy", "accuracy (%)")), start=1):
        axes = figure.add_subplot(1, 2, place)
        for part, name, colour, dash in (
            ("train", "training", PALETTE[0], "-"),
            ("val", "validation", PALETTE[1], "--"),
        ):
            if f"{part}/{quantity}" in history:
                values = history[f"{part}/{quantity}"]
                look = {"color": colour, "linestyle": dash, "marker": "o", "ms": 3}
                axes.plot(history["epoch"], values, **look, label=name)
        axes.set(xlabel="epoch", ylabel=label)
        by_epoch(axes)
        if quantity == "accuracy":
            axes.yaxis.set_major_formatter(percent)
        else:
            axes.legend(frameon=False)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.17, top=0.96, wspace=0.25)
    return figure


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: Sequence[str]) -> Figure:
    """Which class was read as which: counts, coloured by their share of the true class.

    The scale is logarithmic, so that a mistake in a hundred differs from none; what never happened is white.

    Args:
        labels: true classes, integers from 0.
        predictions: predicted classes, integers from 0.
        classes: the classes' names, in their order.
    """
    counts = confusion(labels, predictions, len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [fitted(name, 14) for name in classes]
    # In inches: the matrix, room for the names on its left and below, and for the scale on its right.
    side, room = min(max(0.48 * len(names), 2.5), 12), 0.55 + 0.075 * max(map(len, names), default=0)
    page = Page(room + side + 1.0, room + side + 0.15, dpi=100)
    axes = page.axes(room, 0.15, side, side)
    norm = LogNorm(min(0.5 * shares[shares > 0].min(initial=1), 0.01), 1)
    image = axes.imshow(shares, cmap=COUNTS, norm=norm)
    axes.set_yticks(range(len(names)), names)
    slanted = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(len(names)), names, **slanted if any(len(name) > 2 for name in names) else {})
    axes.set(xlabel="read as", ylabel="true class")
    if len(classes) <= 20:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if norm(shares[i, j]) > 0.6 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=8)
    scale = page.axes(room + side + 0.15, 0.15, 0.15, side)
    bar = page.figure.colorbar(image, cax=scale, format=lambda share, _: f"{100 * share:g}")
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.set_label("share of the true class (%), logarithmic")
    return page.figure


def confusion(labels: "ArrayLike", predictions: "ArrayLike", classes: int) -> "NDArray[np.int64]":
    """Counts of test images: rows are the true classes 0 … classes − 1, columns the predicted ones."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(np.asarray(labels), np.asarray(predictions), labels=np.arange(classes))


def kernels_and_maps(
    image: np.ndarray,
    kernels: np.ndarray,
    layers: Mapping[str, np.ndarray],
    classes: Sequence[str] | None = None,
) -> Figure:
    """A network from the inside: an image, the first layer's kernels, and what each layer makes of the image.

    Kernels have one scale, symmetric about white, maps one grey scale per layer; its ends stand at the left.

    Args:
        image: (y, x), bright on dark.
        kernels: (kernels, y, x).
        layers: by name, in the order of the pass: maps (maps, y, x) and vectors (n,); the last of these is the
            output, a probability for each class.
        classes: the classes' names; their numbers by default.
    """
    *hidden, (last, output) = ((name, np.asarray(values)) for name, values in layers.items())
    rows = [("input", np.asarray(image)[None]), ("kernels", np.asarray(kernels)), *hidden]
    heights = [-(-min(len(x), MOST_MAPS) // ACROSS) * CELL if x.ndim == 3 else STRIP for _, x in rows]
    page = Page(LEFT + ACROSS * CELL + EDGE, EDGE + sum(heights) + GAP * len(rows) + BARS)
    y = EDGE
    for i, ((name, values), height) in enumerate(zip(rows, heights, strict=True)):
        _beside(page, y, name, _layer(page, y, values, height, signed=i == 1))
        y += height + GAP
    _beside(page, y, last, f"{len(output)} probabilities (%)")
    axes = page.axes(LEFT, y, (ACROSS - 0.08) * CELL, BARS - 0.7)
    best = int(output.argmax())
    colours = [PALETTE[0] if i == best else OTHERS for i in range(len(output))]
    axes.bar(range(len(output)), output, color=colours)
    above = {"textcoords": "offset points", "ha": "center"}
    axes.annotate(f"{100 * output[best]:.3g} %", (best, output[best]), (0, 1), **above)
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.5, 1], ["0", "50", "100"], fontsize=7.5)
    level_ticks(axes, [fitted(name, 12) for name in classes or map(str, range(len(output)))])
    axes.spines[["right", "top"]].set_visible(False)
    return page.figure


def _layer(page: Page, y: float, values: np.ndarray, height: float, signed: bool) -> str:
    """Draw maps or a vector; how many there are, of which size, and the ends of their scale."""
    finite = values[np.isfinite(values)]
    low, high = limits(finite) if finite.size else (0.0, 1.0)
    if signed:
        high = max(abs(low), abs(high))
        low = -high
    style = {"cmap": WEIGHTS if signed else PIXELS, "vmin": low, "vmax": high, "interpolation": "nearest"}
    scale = f"blue {low:.3g} … red {high:.3g}" if signed else f"black {low:.3g} … white {high:.3g}"
    scale = scale.replace("-", "−")
    if values.ndim == 1:
        axes = page.axes(LEFT, y, (ACROSS - 0.08) * CELL, height)
        axes.imshow(values[None], aspect="auto", **style)
        return f"{len(values)} units\n{scale}"
    shown = values[:MOST_MAPS]
    at = (divmod(i, ACROSS) for i in range(len(shown)))
    page.pictures([(LEFT + column * CELL, y + row * CELL, 0.92 * CELL) for row, column in at], shown, **style)
    size = "×".join(map(str, values.shape[1:]))
    size = f"{len(values)} of {size}" if len(values) > 1 else size
    return f"{size}{f', {MOST_MAPS} shown' if len(values) > MOST_MAPS else ''}\n{scale}"


def _beside(page: Page, y: float, name: str, text: str) -> None:
    page.write(0.15, y, fitted(name, 16), fontsize=9, weight="bold")
    page.write(0.15, y + 0.17, text, fontsize=7.5)
