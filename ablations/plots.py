"""Every figure, drawn from numbers that are ready: the only file that imports seaborn and matplotlib.

Figures are made without pyplot, so that nothing stays open and threads do not meet. Seaborn takes two seconds
to import; the two figures of a single run, which every training draws, do without it.
"""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT, CARETRIGHT
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike
from PIL import Image

from ablations.statistics import confusion
from ablations.verdicts import Verdict

# Seaborn's "colorblind", without its yellow (too light for a line) and its grey (which means: the others).
PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#56b4e9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":")
OTHERS = "#b8b8b8"
HIGHLIGHTED = len(PALETTE)
SHOWN_VARIANTS = 40
SHOWN_EFFECTS = 40
PANELS = 4
PAIRS = 12
PARTS = {"train": "training", "val": "validation"}
DPI = 130
# Colour, marker and whether it is filled: no verdict is told by its colour alone.
VERDICT_LOOKS = {
    Verdict.BETTER: ("#029e73", "^", True),
    Verdict.WORSE: ("#d55e00", "v", True),
    Verdict.NO_DIFFERENCE: ("#0173b2", "s", True),
    Verdict.INCONCLUSIVE: ("#6e6e6e", "o", True),
    Verdict.TOO_FEW: ("#6e6e6e", "o", False),
}
# Points from the right edge of a forest to its columns of text.
BESIDE = (12, 150, 186)
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


def sweep_curves(
    curves: pd.DataFrame, labels: Sequence[str], title: str = "", metrics: Sequence[str] | None = None
) -> Figure:
    """Metrics by epoch: a line per variant (its mean), a band where it has several runs.

    Loss and accuracy of training and validation stand in two rows and two columns. Where none of these was
    measured, each metric has a panel under its own name.

    Args:
        curves: as `statistics.curves` gives them; variants are numbered by rank, the best is 0.
        labels: the variants' names by number.
        title: what the labels are, over the legend.
        metrics: which ones to draw, in this order; all there are by default, and at most `PANELS`.
    """
    import seaborn as sns

    measured = set(curves["metric"])
    placed = _placed([name for name in metrics or sorted(measured) if name in measured])
    down, across = len(placed), len(placed[0])
    own = any(name.partition("/")[0] in PARTS for row in placed for name in row)
    alike = own and all(len({name.partition("/")[2] for name in row if name}) == 1 for row in placed)
    figure = Figure(figsize=(9, 3.4 if down == 1 else 6.2), dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey="row" if alike else False)
    few_epochs = curves["step"].nunique() <= 12
    for (i, j), axes in np.ndenumerate(panels):
        metric = placed[i][j]
        points = curves[curves["metric"] == metric]
        if points.empty:
            axes.set_visible(False)
            continue
        others = points[points["variant"] >= HIGHLIGHTED]
        if not others.empty:
            axes.plot(*_separated(others), color=OTHERS, linewidth=0.7, alpha=0.7, zorder=1)
        for variant, line in points[points["variant"] < HIGHLIGHTED].groupby("variant"):
            sns.lineplot(
                data=line, x="step", y="mean", ax=axes, estimator=None, zorder=3, **_look(variant, few_epochs)
            )
            if (line["n"] > 1).any():
                colour = PALETTE[variant]
                axes.fill_between(line["step"], line["low"], line["high"], color=colour, alpha=0.15, lw=0)
        _by_epoch(axes)
        axes.grid(alpha=0.3)
        part, _, quantity = metric.partition("/") if own else ("", "", "")
        axes.set_title(PARTS.get(part) or _text(metric, 50 // across), fontsize="medium")
        means = curves.loc[curves["metric"].isin(placed[i] if alike else [metric]), "mean"]
        if quantity != "accuracy":
            _log_if_wide(axes, "y", means, 20)
        elif means.max() <= 1:
            axes.yaxis.set_major_formatter(_percent)
            quantity = "accuracy (%)"
        first = not alike or not any(placed[i][:j])
        axes.set_ylabel((quantity + _log_note(axes.yaxis)).removeprefix(", ") if first else "")
        lowest = i == down - 1 or not placed[i + 1][j]
        axes.set_xlabel(("epoch" if own else "step") if lowest else "")
        axes.tick_params(labelleft=first, labelbottom=lowest)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_visible(True)  # shared axes hide those of inner panels
    if len(labels) > 1:
        shown = sorted(set(curves["variant"]))
        _legend(figure, labels, shown, title, lambda variant: _look(variant, few_epochs))
    return figure


def _placed(metrics: Sequence[str]) -> list[list[str]]:
    """Names of metrics by row and column of a figure, '' for an empty place."""
    table = [[f"{part}/{quantity}" for part in PARTS] for quantity in ("loss", "accuracy")]
    table = [[name if name in metrics else "" for name in row] for row in table]
    rows = [row for row in table if any(row)]
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    if len(columns) == 1:  # what is left stands side by side
        return [list(columns[0])]
    if columns:
        return [list(row) for row in zip(*columns, strict=True)]
    shown = list(metrics[:PANELS])
    return [shown] if len(shown) <= 2 else [shown[:2], [*shown[2:], ""][:2]]


def values_by_variant(runs: pd.DataFrame, labels: Sequence[str], label: str, title: str = "") -> Figure:
    """The outcome of every run, one line per variant, best on top, the mean as a bar.

    Args:
        runs: finished runs with `variant` (number) and `value`.
        labels: the variants' names by number.
        label: what the value is, with its unit.
        title: what the labels are, beside the axis.
    """
    import seaborn as sns

    runs = runs[runs["variant"] < SHOWN_VARIANTS]
    shown = sorted(set(runs["variant"]))
    place = runs["variant"].map({variant: i for i, variant in enumerate(shown)})
    means = runs.groupby("variant")["value"].mean()
    figure = Figure(figsize=(9, 1.1 + 0.32 * max(len(shown), 3)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _log_if_wide(axes, "x", runs["value"])
    sns.stripplot(
        x=runs["value"].to_numpy(),
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
    axes.set(
        xlabel=_text(label, 44) + _log_note(axes.xaxis), ylabel=_text(title, int(8 * figure.get_figheight()))
    )
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


def value_grids(
    grids: Mapping[str, pd.DataFrame], label: str, rows: str, columns: str, facet: str = ""
) -> Figure:
    """Mean outcome over two factors, one panel per level of a third.

    Args:
        grids: frames by level of the third factor, as `statistics.grids` gives them.
        label: what the numbers are, with their unit, such as "mean test error (%)".
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
            fmt=_number_format(values),
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
        axes.set(xlabel=_text(columns, 30), ylabel=_text(rows, int(8 * height)))
        axes.tick_params(left=False, bottom=False)
        axes.set_yticks(axes.get_yticks(), axes.get_yticklabels(), rotation=0)
        if max(len(str(name)) for name in grid.columns) > 7 or grid.shape[1] > 12:
            axes.set_xticks(axes.get_xticks(), axes.get_xticklabels(), rotation=45, ha="right")
        axes.set_facecolor("#e4e4e4")
        if facet:
            axes.set_title(_text(f"{facet} = {level}", int(10 * width)), fontsize="medium")
    for axes in panels[len(grids) :]:
        axes.set_visible(False)
    lines = textwrap.wrap(label, 20, max_lines=2, placeholder="…")
    label = "\n".join(_text(line, 20) for line in lines)
    bar = figure.colorbar(panels[0].collections[0], ax=list(panels), label=label, aspect=15)
    _plain_numbers(bar.ax.yaxis)
    return figure


def value_against_time(runs: pd.DataFrame, labels: Sequence[str], label: str, title: str = "") -> Figure:
    """The outcome of every run against the time its training took.

    Args:
        runs: finished runs with `variant` (number), `value` and `train_s` (seconds).
        labels: the variants' names by number.
        label: what the value is, with its unit.
        title: what the labels are, over the legend.
    """
    import seaborn as sns

    figure = Figure(figsize=(9, 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _log_if_wide(axes, "x", runs["train_s"])
    _log_if_wide(axes, "y", runs["value"])
    for variant, points in sorted(runs.groupby("variant"), reverse=True):
        look = _look(variant)
        sns.scatterplot(
            data=points,
            x="train_s",
            y="value",
            ax=axes,
            color=look["color"],
            marker=look["marker"],
            s=45,
            alpha=0.8,
            zorder=3 if variant < HIGHLIGHTED else 2,
        )
    axes.set(
        xlabel="training time of the run (s)" + _log_note(axes.xaxis),
        ylabel=_text(label, 26) + _log_note(axes.yaxis),
    )
    axes.grid(which="both", alpha=0.3)
    if len(labels) > 1:
        _legend(figure, labels, sorted(set(runs["variant"])), title, lambda v: {**_look(v), "linestyle": ""})
    return figure


def forest(effects: pd.DataFrame, label: str, unit: str, margin: float, smaller_is_better: bool) -> Figure:
    """The comparisons of a study: mean paired difference, 95 % interval, margin and verdict of each.

    Main effects come first, then interactions, the first `SHOWN_EFFECTS` in all. An interval without ends is
    dashed. One huge effect does not squeeze the others: what lies ten times further out than the middle one is
    cut off with an arrow head, and the axis says so.

    Args:
        effects: as `verdicts.tabulate` gives them, of one metric; `factor`, `variant` and `baseline` in words.
        label: what is compared, such as "test error".
        unit: of the differences, such as "percentage points"; '' for none.
        margin: largest difference that does not matter, in that unit.
        smaller_is_better: as for errors.
    """
    order = effects["factors"].map(len).sort_values(kind="stable").index
    shown = effects.loc[order[:SHOWN_EFFECTS]]
    groups = shown.groupby(["factors", "factor", "baseline"], sort=False)
    lines = len(shown) + groups.ngroups
    left, right, cut = _reach(shown, margin)
    figure = Figure(figsize=(10, 1.7 + 0.25 * max(lines, 3)), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(left, right)
    axes.set_ylim(lines - 0.4, -0.6)
    handles: list[Any] = [Line2D([], [], color="black", marker="o", lw=1.6, label="mean, 95 % interval")]
    if margin > 0:
        matter = f"±{margin:g} {_text(unit, 24)}".rstrip() + ": does not matter"
        handles.append(axes.axvspan(-margin, margin, color="#d9e6f2", lw=0, zorder=0, label=matter))
    axes.axvline(0, color="black", lw=0.9, zorder=1)

    values = shown[["ci_low", "mean_diff", "ci_high"]].to_numpy(dtype=float)
    form = _number_format(values[(values >= left) & (values <= right)], sign="+")
    for text, offset in zip(("mean [95 % interval]", "pairs", "verdict"), BESIDE, strict=True):
        _beside(axes, -0.9, text, offset, fontweight="bold", va="bottom")
    names = []
    for (_, factor, baseline), rows in groups:
        names.append((f"{_text(factor, 22)}, against {_text(baseline, 20).lstrip()}", "bold"))
        for row in rows.to_dict("records"):
            _comparison(axes, len(names), row, form)
            names.append((_text(row["variant"], 30), "normal"))
    axes.set_yticks(range(lines), [name for name, _ in names], fontsize=9)
    for tick, (_, weight) in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight(weight)
    axes.tick_params(axis="y", length=0)

    sides = ("better", "worse") if smaller_is_better else ("worse", "better")
    notes = [f"difference in {_text(label, 30)}" + (f" ({_text(unit, 24)})" if unit else "")]
    notes.append(f"← {sides[0]}        {sides[1]} →")
    if cut:
        notes.append("The axis is cut: arrow heads mark what lies beyond it.")
    if len(effects) > len(shown):
        notes.append(f"The first {len(shown)} of {len(effects)} comparisons.")
    axes.set_xlabel("\n".join(notes), fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return figure


def _reach(effects: pd.DataFrame, margin: float) -> tuple[float, float, bool]:
    """Where the axis of a forest begins and ends, and whether something finite lies beyond."""
    ends = effects[["ci_low", "mean_diff", "ci_high"]].to_numpy(dtype=float)
    ends = np.where(np.isfinite(ends), ends, 0)
    sizes = np.sort(np.abs(ends).max(axis=1, initial=0))
    sizes = sizes[sizes > 0]
    middle = sizes[(len(sizes) - 1) // 2] if len(sizes) else 1.0
    furthest = 10 * max(middle, margin)
    ends = np.append(ends, [-1.3 * margin, 1.3 * margin])
    inside = ends[np.abs(ends) <= furthest]
    room = 0.2 * np.abs(inside).max() or 1.0
    return inside.min() - room, inside.max() + room, bool(np.abs(ends).max() > furthest)


def _comparison(axes: Axes, line: int, row: Mapping[str, Any], form: str) -> None:
    """One line of a forest: interval, mean, and beside them the same in numbers."""
    colour, marker, filled = VERDICT_LOOKS[row["verdict"]]
    mean, low, high = row["mean_diff"], row["ci_low"], row["ci_high"]
    numbers = f"{mean:{form}} [{low:{form}}, {high:{form}}]"
    if not (np.isfinite(low) or np.isfinite(high)):
        numbers = f"{mean:{form}} [no limits]"
    if not np.isfinite(mean):
        numbers = "no pairs"
    else:
        left, right = axes.get_xlim()
        for end in (low, high):
            start, stop = np.clip((mean, end), left, right)
            dash = "-" if np.isfinite(end) else (0, (2, 1.6))
            axes.plot([start, stop], [line, line], color=colour, ls=dash, lw=1.6, zorder=2)
            head: Any = "|" if stop == end else CARETLEFT if stop == left else CARETRIGHT
            axes.plot(stop, line, color=colour, marker=head, ms=6, mew=1.6, zorder=2)
        if left <= mean <= right:
            face = colour if filled else "white"
            axes.plot(mean, line, color=colour, marker=marker, ms=7, mfc=face, mew=1.5, zorder=3)
    for text, offset in zip((numbers, str(row["n"]), row["verdict"]), BESIDE, strict=True):
        _beside(axes, line, text.replace("-", "−"), offset, color=colour if offset == BESIDE[-1] else "black")


def _beside(axes: Axes, line: float, text: str, offset: float, **style: Any) -> None:
    """Text at the right of the axes, so many points from its edge."""
    place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "fontsize": 9}
    axes.annotate(
        text, (1, line), (offset, 0), annotation_clip=False, **{"va": "center_baseline"} | place | style
    )


def main_effects(means: pd.DataFrame, label: str) -> Figure:
    """The mean outcome at each level of each factor, one panel per factor, all on one axis.

    Args:
        means: as `figure_data.marginal_means` gives them; the bars reach from `low` to `high`.
        label: what the value is, with its unit.
    """
    factors = list(dict.fromkeys(means["factor"]))
    panels, figure = _factor_panels(len(factors), across=4, height=2.9)
    panels[0].margins(y=0.1)
    _log_if_wide(panels[0], "y", means["mean"])
    for axes, factor in zip(panels, factors, strict=False):
        own = means[means["factor"] == factor].reset_index(drop=True)
        place = range(len(own))
        axes.plot(place, own["mean"], color=OTHERS, lw=1.2, zorder=2)
        axes.vlines(place, own["low"], own["high"], color=PALETTE[0], lw=1.6, alpha=0.55, zorder=3)
        axes.plot(place, own["mean"], ls="", marker="o", ms=6, color=PALETTE[0], zorder=4)
        most = own["n"].max()
        names = [
            _text(level, 14) + ("" if n == most else f" (n = {n})")
            for level, n in zip(own["level"], own["n"], strict=True)
        ]
        _levels(axes, names)
        axes.set_title(_text(factor, 26), fontsize="medium")
    figure.supylabel(_text(label, 28) + _log_note(panels[0].yaxis).replace(", ", "\n"), fontsize="medium")
    return figure


def interactions(means: pd.DataFrame, label: str) -> Figure:
    """The mean outcome over the levels of one factor, a line for each level of another, one panel per pair.

    Where the lines are parallel the two factors act independently of each other.

    Args:
        means: as `figure_data.interaction_means` gives them, at least one pair; the first `PAIRS` are drawn.
        label: what the value is, with its unit.
    """
    pairs = list(dict.fromkeys(zip(means["a"], means["b"], strict=True)))
    shown = pairs[:PAIRS]
    panels, figure = _factor_panels(len(shown), across=3, height=3.6)
    _log_if_wide(panels[0], "y", means["mean"])
    for axes, (a, b) in zip(panels, shown, strict=False):
        own = means[(means["a"] == a) & (means["b"] == b)]
        levels, lines = (list(dict.fromkeys(own[name])) for name in ("level_a", "level_b"))
        names = []
        for i, line in enumerate(lines):
            points = own[own["level_b"] == line]
            aside = 0.24 * ((i + 0.5) / len(lines) - 0.5)  # so that bars do not hide each other
            place = points["level_a"].map(levels.index) + aside
            look = _look(i)
            axes.vlines(
                place, points["low"], points["high"], color=look["color"], lw=1.2, alpha=0.5, zorder=2
            )
            names.append(_text(line, 14) if i < HIGHLIGHTED else "the others")
            axes.plot(place, points["mean"], lw=1.5, zorder=3, **look)
        _levels(axes, [_text(level, 14) for level in levels])
        axes.set_xlabel(_text(a, 26))
        axes.legend(
            axes.lines[: HIGHLIGHTED + 1],
            names[: HIGHLIGHTED + 1],
            title=_text(b, 26),
            title_fontsize=9,
            fontsize=8.5,
            loc="lower center",
            bbox_to_anchor=(0.5, 1),
            ncols=2,
            frameon=False,
            handlelength=3,
        )
    figure.supylabel(_text(label, 28) + _log_note(panels[0].yaxis).replace(", ", "\n"), fontsize="medium")
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


def _levels(axes: Axes, names: Sequence[str]) -> None:
    """A factor's levels along the horizontal axis."""
    upright = sum(map(len, names)) <= 22
    style = {} if upright else {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    size = 9 if len(names) <= 10 else 6.5
    axes.set_xticks(range(len(names)), names, fontsize=size, **style)
    axes.set_xlim(-0.5, len(names) - 0.5)


def seed_slopes(
    pairs: pd.DataFrame, baseline: str, variant: str, label: str, smaller_is_better: bool
) -> Figure:
    """Seed by seed from the baseline's outcome to the variant's, coloured by which is better.

    Args:
        pairs: as `figure_data.seed_pairs` gives them, at least one.
        baseline: its name.
        variant: its name.
        label: what the value is, with its unit.
        smaller_is_better: as for errors.
    """
    gain = (pairs["variant"] - pairs["baseline"]) * (-1 if smaller_is_better else 1)
    figure = Figure(figsize=(7, 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    _log_if_wide(axes, "y", pairs[["baseline", "variant"]].stack())
    faint = 0.8 if len(pairs) <= 20 else 0.35
    for side, chosen, (colour, marker, _), dash in (
        ("better", gain > 0, VERDICT_LOOKS[Verdict.BETTER], "-"),
        ("worse", gain < 0, VERDICT_LOOKS[Verdict.WORSE], "--"),
        ("the same", gain == 0, VERDICT_LOOKS[Verdict.INCONCLUSIVE], ":"),
    ):
        if chosen.any():
            style = {"color": colour, "marker": marker, "ls": dash, "lw": 1.3, "ms": 6, "alpha": faint}
            ends = pairs.loc[chosen, ["baseline", "variant"]].to_numpy(dtype=float).T
            lines = axes.plot([0, 1], ends, **style, zorder=2)
            lines[0].set_label(f"{side} in {chosen.sum()} of {len(pairs)} seeds")
    means = [pairs["baseline"].mean(), pairs["variant"].mean()]
    axes.plot([0, 1], means, color="black", lw=3, marker="o", ms=8, zorder=3, label="mean")
    axes.set_xticks([0, 1], [_text(baseline, 20), _text(variant, 20)])
    axes.set_xlim(-0.25, 1.25)
    axes.set_ylabel(_text(label, 30) + _log_note(axes.yaxis))
    axes.grid(axis="y", which="both", alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return figure


def disagreements(
    images: pd.DataFrame,
    pixels: np.ndarray,
    runs: tuple[int, int],
    better: tuple[int, int],
    names: tuple[str, str],
    classes: Sequence[str] | None = None,
) -> Figure:
    """Test images on which two variants, A and B, disagree: what each reads, and in how many of its runs rightly.

    Args:
        images: as `figure_data.disagreement` gives them, at least one.
        pixels: theirs, (images, y, x), bright on dark.
        runs: of A and of B.
        better: of how many images each reads more often rightly.
        names: of A and of B.
        classes: the classes' names; their numbers by default.
    """
    lead = images["first_right"] * runs[1] - images["second_right"] * runs[0]
    sides = [np.flatnonzero(lead > 0), np.flatnonzero(lead < 0)]
    short = classes is None or max(map(len, classes)) <= 3
    across, cell = (8, 0.98) if short else (6, 1.3)
    caption, heading = 0.62, 0.42  # all lengths in inches
    rows = [-(-len(side) // across) for side in sides]
    top = 0.56
    width = across * cell + 0.5
    height = top + sum(heading + n * (cell + caption) for n in rows if n)
    figure = Figure(figsize=(width, height), dpi=DPI)

    def write(y: float, text: str, **style: Any) -> None:
        figure.text(0.25 / width, 1 - y / height, text, va="top", **style)

    def named(label: int) -> str:
        return _text(classes[label], 3 if short else 10) if classes is not None else str(label)

    for i, (letter, name) in enumerate(zip("AB", names, strict=True)):
        write(0.1 + 0.21 * i, f"{letter}: {_text(name, 60)}, {runs[i]} run{'s' * (runs[i] != 1)}", fontsize=9)
    y = top
    for side, count, letter in zip(sides, better, "AB", strict=True):
        if not len(side):
            continue
        which = "" if count == len(side) else f"; the clearest {len(side)}"
        write(
            y + 0.12,
            f"{letter} is right more often: {count:,} image{'s' * (count != 1)}{which}",
            fontsize=9,
            weight="bold",
        )
        y += heading
        for i, place in enumerate(side):
            row, column = divmod(i, across)
            left, down = 0.25 + column * cell, y + row * (cell + caption)
            size = 0.86 * cell
            at = left / width, 1 - (down + size) / height, size / width, size / height
            axes = figure.add_axes(at)
            axes.imshow(pixels[place], cmap="gray", vmin=0, vmax=255)
            axes.set(xticks=[], yticks=[])
            image = images.iloc[place]
            axes.set_xlabel(
                f"true {named(image['label'])}\n"
                f"A {named(image['first'])} · {image['first_right']}/{runs[0]}\n"
                f"B {named(image['second'])} · {image['second_right']}/{runs[1]}",
                fontsize=7.5,
                loc="left",
                labelpad=2,
            )
        y += -(-len(side) // across) * (cell + caption)
    return figure


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
    rows = [("input", np.asarray(image)[None], False), ("kernels", np.asarray(kernels), True)]
    rows += [(name, values, False) for name, values in hidden]
    across, most = 8, 64
    cell, strip, gap, left, edge, bars = 0.8, 0.36, 0.16, 1.75, 0.2, 1.5  # inches
    heights = [-(-min(len(x), most) // across) * cell if x.ndim == 3 else strip for _, x, _ in rows]
    width = left + across * cell + edge
    height = edge + sum(heights) + gap * len(rows) + bars
    figure = Figure(figsize=(width, height), dpi=DPI)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        axes = figure.add_axes((x / width, 1 - (y + h) / height, w / width, h / height))
        axes.set(xticks=[], yticks=[])
        return axes

    def beside(y: float, name: str, text: str) -> None:
        figure.text(0.15 / width, 1 - y / height, _text(name, 16), va="top", fontsize=9, weight="bold")
        figure.text(0.15 / width, 1 - (y + 0.17) / height, text, va="top", fontsize=7.5)

    y = edge
    for (name, values, signed), high in zip(rows, heights, strict=True):
        finite = values[np.isfinite(values)]
        low, top = _limits(finite) if finite.size else (0.0, 1.0)
        if signed:
            top = max(abs(low), abs(top))
            low = -top
        style = {"cmap": "RdBu_r" if signed else "gray", "vmin": low, "vmax": top, "interpolation": "nearest"}
        if values.ndim == 3:
            for i, one in enumerate(values[:most]):
                row, column = divmod(i, across)
                axes = place(left + column * cell, y + row * cell, 0.92 * cell, 0.92 * cell)
                axes.imshow(one, **style)
            size = "×".join(map(str, values.shape[1:]))
            size = f"{len(values)} of {size}" if len(values) > 1 else size
            size += f", {most} shown" if len(values) > most else ""
        else:
            place(left, y, (across - 0.08) * cell, high).imshow(values[None], aspect="auto", **style)
            size = f"{len(values)} units"
        scale = f"blue {low:.3g} … red {top:.3g}" if signed else f"black {low:.3g} … white {top:.3g}"
        beside(y, name, f"{size}\n{scale}".replace("-", "−"))
        y += high + gap

    axes = place(left, y, (across - 0.08) * cell, bars - 0.7)
    names = list(map(str, range(len(output)))) if classes is None else [_text(name, 12) for name in classes]
    i = int(output.argmax())
    axes.bar(range(len(output)), output, color=[PALETTE[0] if j == i else OTHERS for j in range(len(output))])
    axes.annotate(f"{100 * output[i]:.3g} %", (i, output[i]), (0, 1), textcoords="offset points", ha="center")
    axes.set_ylim(0, 1.25)
    axes.set_yticks([0, 0.5, 1], ["0", "50", "100"], fontsize=7.5)
    _levels(axes, names)
    axes.spines[["right", "top"]].set_visible(False)
    beside(y, last, f"{len(output)} probabilities (%)")
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
    """Text from outside as a label: cut to so many digits' width, not read as a formula, not hidden by the legend.

    Letters that the font lacks, which would all be drawn as the same box, are written as their numbers.
    """
    text = "".join(c if c.isprintable() else " " for c in str(text))
    text = "".join(c if _width(c) else f"\\u{ord(c):04x}" for c in text)
    ends = np.cumsum([_width(c) for c in text])
    if len(text) and ends[-1] > width:
        text = text[: np.searchsorted(ends, width - _width("…"), side="right")] + "…"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


@cache
def _width(character: str) -> float:
    """Of a letter, in digits; 0 where the font does not have it."""
    font = get_font(findfont(FontProperties()))
    if not font.get_char_index(ord(character)):
        return 0.0
    font.set_size(10, 72)
    one, digit = (font.load_char(ord(c)).linearHoriAdvance for c in (character, "0"))
    return one / digit or 0.1


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


def _number_format(values: np.ndarray, sign: str = "") -> str:
    """So many decimals that two digits of the values' spread are seen, and at least two below 100."""
    if not values.size:
        return f"{sign}z.2f"
    largest, spread = np.abs(values).max(), np.ptp(values) or np.abs(values).max() or 1.0
    if largest >= 1e6 or 0 < largest < 1e-4:
        return f"{sign}.3g"
    decimals = 1 - int(np.floor(np.log10(spread)))
    return f"{sign}z.{min(max(decimals, 2 if largest < 100 else 0), 6)}f"


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
