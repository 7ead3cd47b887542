"""Every figure, drawn from numbers that are ready: the only file that imports seaborn and matplotlib.

Figures are made without pyplot, so that nothing stays open and threads do not meet. Seaborn takes two seconds
to import; the two figures of a single run, which every training draws, do without it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike
from PIL import Image

from ablations.statistics import confusion

# Seaborn's "colorblind", without its yellow (too light for a line) and its grey (which means: the others).
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
OTHERS = "#b8b8b8"
HIGHLIGHTED = len(PALETTE)
SHOWN_VARIANTS = 40
DPI = 130
# From this ratio of largest to smallest, equal steps mean equal ratios.
LOG_FROM = 8


def save(figure: Figure, path: str | Path, colours: int | None = None) -> None:
    """Write the figure as PNG; the same figure gives the same bytes.

    Args:
        figure: what to write.
        path: the file.
        colours: reduce to so many colours (at most 256), for a file of a third the size in 0.1 s more.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    if colours is not None:
        image = image.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(path, format="PNG", dpi=(figure.dpi, figure.dpi), optimize=colours is not None)


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
                axes.plot(
                    history["epoch"], values, color=colour, linestyle=dash, marker="o", ms=3, label=name
                )
        axes.set(xlabel="epoch", ylabel=label)
        _by_epoch(axes)
        if quantity == "accuracy":
            axes.yaxis.set_major_formatter(_percent)
        else:
            axes.legend(frameon=False)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.17, top=0.96, wspace=0.25)
    return figure


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: Sequence[str]) -> Figure:
    """Which class was read as which: counts, coloured by their share of the true class.

    Args:
        labels: true classes, integers from 0.
        predictions: predicted classes, integers from 0.
        classes: the classes' names, in their order.
    """
    counts = confusion(labels, predictions, len(classes))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_text(name, 14) for name in classes]
    # In inches: the matrix, room for the names on its left and below, and for the scale on its right.
    side, room = min(max(0.48 * len(names), 2.5), 12), 0.55 + 0.075 * max(map(len, names), default=0)
    width, height = room + side + 1.0, room + side + 0.15
    figure = Figure(figsize=(width, height), dpi=100)
    axes = figure.add_axes((room / width, room / height, side / width, side / height))
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_yticks(range(len(names)), names)
    if any(len(name) > 2 for name in names):
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    else:
        axes.set_xticks(range(len(names)), names)
    axes.set(xlabel="read as", ylabel="true class")
    if len(classes) <= 20:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if shares[i, j] > 0.5 else "black"
            axes.text(j, i, str(counts[i, j]), ha="center", va="center", color=colour, fontsize=8)
    scale = figure.add_axes(((room + side + 0.15) / width, room / height, 0.15 / width, side / height))
    figure.colorbar(image, cax=scale, label="share of the true class")
    return figure


def sweep_curves(curves: pd.DataFrame, labels: Sequence[str], title: str = "") -> Figure:
    """Loss and accuracy by epoch: a line per variant (its mean), a band where it has several runs.

    Args:
        curves: as `statistics.curves` gives them; variants are numbered by rank, the best is 0.
        labels: the variants' names by number.
        title: what the labels are, over the legend.
    """
    import seaborn as sns

    measured = set(curves["metric"])
    parts = [(p, n) for p, n in (("train", "training"), ("val", "validation")) if f"{p}/loss" in measured]
    if len(parts) == 2:
        figure = Figure(figsize=(9, 6.2), dpi=DPI, layout="constrained")
        panels = figure.subplots(2, 2, sharex=True, sharey="row", squeeze=False)
    else:
        figure = Figure(figsize=(9, 3.4), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, 2, squeeze=False).T
    few_epochs = curves["step"].nunique() <= 12
    for row, (quantity, label) in enumerate((("loss", "loss"), ("accuracy", "accuracy (%)"))):
        for axes, (part, name) in zip(panels[row], parts, strict=True):
            points = curves[curves["metric"] == f"{part}/{quantity}"]
            others = points[points["variant"] >= HIGHLIGHTED]
            if not others.empty:
                axes.plot(*_separated(others), color=OTHERS, linewidth=0.7, alpha=0.7, zorder=1)
            for variant, line in points[points["variant"] < HIGHLIGHTED].groupby("variant"):
                sns.lineplot(
                    data=line,
                    x="step",
                    y="mean",
                    ax=axes,
                    estimator=None,
                    zorder=3,
                    **_look(variant, few_epochs),
                )
                if (line["n"] > 1).any():
                    colour = PALETTE[variant]
                    axes.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.15, lw=0)
            axes.set_title(name, fontsize="medium")
            _by_epoch(axes)
            axes.grid(alpha=0.3)
            if quantity == "accuracy":
                axes.yaxis.set_major_formatter(_percent)
            elif not points.empty:
                _log_if_wide(axes, "y", curves.loc[curves["metric"].str.endswith("/loss"), "mean"], 20)
            ylabel = label + _log_note(axes.yaxis) if axes is panels[row][0] else ""
            axes.set(xlabel="epoch" if row or len(parts) == 1 else "", ylabel=ylabel)
    if len(labels) > 1:
        shown = sorted(set(curves["variant"]))
        _legend(figure, labels, shown, title, lambda variant: _look(variant, few_epochs))
    return figure


def errors_by_variant(runs: pd.DataFrame, labels: Sequence[str], title: str = "") -> Figure:
    """Test error of every run, one line per variant, best on top, the mean as a bar.

    Args:
        runs: finished runs with `variant` (number) and `error` (%).
        labels: the variants' names by number.
        title: what the labels are, beside the axis.
    """
    import seaborn as sns

    runs = runs[runs["variant"] < SHOWN_VARIANTS]
    shown = sorted(set(runs["variant"]))
    place = runs["variant"].map({variant: i for i, variant in enumerate(shown)})
    means = runs.groupby("variant")["error"].mean()
    figure = Figure(figsize=(9, 1.1 + 0.32 * max(len(shown), 3)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _log_if_wide(axes, "x", runs["error"])
    sns.stripplot(
        x=runs["error"].to_numpy(),
        y=place.to_numpy(),
        ax=axes,
        orient="h",
        native_scale=True,
        jitter=False,
        color=PALETTE[0],
        alpha=0.65,
        size=6,
        zorder=3,
    )
    axes.scatter(means, range(len(shown)), marker="|", s=260, linewidths=2.2, color="black", zorder=4)
    axes.set_yticks(range(len(shown)), [_text(labels[variant]) for variant in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.set(xlabel="test error (%)" + _log_note(axes.xaxis), ylabel=_text(title, 40))
    axes.grid(axis="x", which="both", alpha=0.3)
    axes.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", color=PALETTE[0], alpha=0.65, label="one run"),
            Line2D([], [], marker="|", ms=13, mew=2.2, linestyle="", color="black", label="mean"),
        ],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
    )
    return figure


def error_grids(grids: Mapping[str, pd.DataFrame], rows: str, columns: str, facet: str = "") -> Figure:
    """Mean test error (%) over two factors, one panel per level of a third.

    Args:
        grids: frames by level of the third factor, as `statistics.grids` gives them.
        rows: the name of the factor in the rows.
        columns: the name of the factor in the columns.
        facet: the name of the third factor, if there is one.
    """
    import seaborn as sns

    first = next(iter(grids.values()))
    across = min(len(grids), 3 if first.shape[1] <= 3 else 2 if first.shape[1] <= 6 else 1)
    down = -(-len(grids) // across)
    width, height = 0.75 * first.shape[1] + 1.1, 0.5 * first.shape[0] + 1.0
    figure = Figure(
        figsize=(min(max(width * across + 1.2, 4.5), 14), min(height * down + 0.4, 18)),
        dpi=DPI,
        layout="constrained",
    )
    panels = figure.subplots(down, across, squeeze=False).ravel()
    values = np.concatenate([grid.to_numpy(dtype=float).ravel() for grid in grids.values()])
    values = values[np.isfinite(values)]
    norm = (LogNorm if _is_wide(values) else Normalize)(*_limits(values))
    for axes, (level, grid) in zip(panels, grids.items(), strict=False):
        sns.heatmap(
            grid.to_numpy(dtype=float),
            ax=axes,
            norm=norm,
            cmap="cividis",
            annot=grid.size <= 200,
            fmt=".2f",
            annot_kws={"fontsize": 9},
            linewidths=1,
            cbar=False,
            xticklabels=[_text(name, 16) for name in grid.columns],
            yticklabels=[_text(name, 16) for name in grid.index],
        )
        # Seaborn's own choice leaves white on khaki; below 0.18 white has the better contrast.
        cells = axes.collections[0].to_rgba(grid.to_numpy(dtype=float)[grid.notna()])
        for text, colour in zip(axes.texts, cells, strict=False):
            text.set_color("white" if sns.utils.relative_luminance(colour) < 0.18 else "black")
        axes.set(xlabel=_text(columns, 30), ylabel=_text(rows, 30))
        axes.tick_params(left=False, bottom=False)
        axes.set_yticks(axes.get_yticks(), axes.get_yticklabels(), rotation=0)
        if max(len(str(name)) for name in grid.columns) > 7 or grid.shape[1] > 12:
            axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=45, ha="right")
        axes.set_facecolor("#e4e4e4")
        if facet:
            axes.set_title(_text(f"{facet} = {level}", 36), fontsize="medium")
    for axes in panels[len(grids) :]:
        axes.set_visible(False)
    bar = figure.colorbar(panels[0].collections[0], ax=list(panels), label="mean test error (%)", aspect=15)
    _plain_numbers(bar.ax.yaxis)
    return figure


def error_against_time(runs: pd.DataFrame, labels: Sequence[str], title: str = "") -> Figure:
    """Test error of every run against the time its training took.

    Args:
        runs: finished runs with `variant` (number), `error` (%) and `train_s` (seconds).
        labels: the variants' names by number.
        title: what the labels are, over the legend.
    """
    import seaborn as sns

    figure = Figure(figsize=(9, 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _log_if_wide(axes, "x", runs["train_s"])
    _log_if_wide(axes, "y", runs["error"])
    for variant, points in sorted(runs.groupby("variant"), reverse=True):
        look = _look(variant)
        sns.scatterplot(
            data=points,
            x="train_s",
            y="error",
            ax=axes,
            color=look["color"],
            marker=look["marker"],
            s=45,
            alpha=0.8,
            zorder=3 if variant < HIGHLIGHTED else 2,
        )
    axes.set(
        xlabel="training time of the run (s)" + _log_note(axes.xaxis),
        ylabel="test error (%)" + _log_note(axes.yaxis),
    )
    axes.grid(which="both", alpha=0.3)
    if len(labels) > 1:
        _legend(figure, labels, sorted(set(runs["variant"])), title, lambda v: {**_look(v), "linestyle": ""})
    return figure


def _look(variant: int, marked: bool = True) -> dict[str, Any]:
    """Colour, dash and marker of a variant, the same in every figure."""
    if variant >= HIGHLIGHTED:
        return {"color": OTHERS, "marker": ".", "linestyle": "-"}
    return {
        "color": PALETTE[variant],
        "linestyle": DASHES[variant % len(DASHES)],
        "marker": MARKERS[variant] if marked else None,
        "markersize": 5,
    }


def _legend(
    figure: Figure,
    labels: Sequence[str],
    shown: Sequence[int],
    title: str,
    look: Callable[[int], dict[str, Any]],
) -> None:
    named = [variant for variant in shown if variant < HIGHLIGHTED]
    handles = [Line2D([], [], **look(variant)) for variant in named]
    names = [_text(labels[variant]) for variant in named]
    if len(shown) > len(named):
        handles.append(Line2D([], [], **look(HIGHLIGHTED)))
        names.append(f"the other {len(shown) - len(named)}")
    title = _text(title, 36) + ("\n(best first)" if title else "best first")
    figure.legend(
        handles,
        names,
        title=title,
        loc="outside right upper",
        frameon=False,
        alignment="left",
        handlelength=3,
    )


def _text(text: str, width: int = 32) -> str:
    """Text from outside as a label: cut to width, not read as a formula, not hidden by the legend."""
    text = "".join(c if c.isprintable() else " " for c in str(text))
    text = text if len(text) <= width else text[: width - 1] + "…"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def _separated(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The lines of several variants as one, with gaps between them."""
    steps, means = [], []
    for _, line in points.groupby("variant"):
        steps += [*line["step"], np.nan]
        means += [*line["mean"], np.nan]
    return np.array(steps, dtype=float), np.array(means, dtype=float)


def _by_epoch(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, nbins=8))


def _is_wide(values: ArrayLike, ratio: float = LOG_FROM) -> bool:
    values = np.asarray(values, dtype=float)
    return values.size > 0 and values.min() > 0 and values.max() > ratio * values.min()


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Ends of a colour scale; never equal."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _log_if_wide(axes: Axes, which: str, values: pd.Series, ratio: float = LOG_FROM) -> None:
    if _is_wide(values.dropna(), ratio):
        axes.set(**{f"{which}scale": "log"})
        _plain_numbers(getattr(axes, f"{which}axis"))


def _plain_numbers(axis: Axis) -> None:
    """On a logarithmic axis: 1, 2, 5, 10 instead of powers."""
    if axis.get_scale() != "log":
        return
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def _percent(fraction: float, _: float) -> str:
    return f"{100 * fraction:.6g}"


def _log_note(axis: Axis) -> str:
    return ", logarithmic" if axis.get_scale() == "log" else ""
