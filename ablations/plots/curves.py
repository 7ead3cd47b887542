"""Learning curves of a sweep: a line for each variant, a band over its seeds."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.plots.axes import Look, by_epoch, fitted, legend, log_if_wide, log_note, percent
from ablations.plots.style import DPI, HIGHLIGHTED, OTHERS, PALETTE, look
from ablations.tracking.columns import numbers

PANELS = 4
PARTS = {"train": "training", "val": "validation"}


def curves(histories: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Learning curves over the seeds: `variant`, `metric`, `step`, `mean`, `low`, `high`, `n`.

    Low and high are the extremes over the finished runs. Values that are not finite are left out.
    """
    done = runs[runs["finished"]].set_index("run_id")["variant"]
    points = histories[["metric", "step", "value"]].assign(variant=histories["run_id"].map(done))
    points = points[points["variant"].notna() & numbers(points, "value").notna()]
    summary = points.groupby(["metric", "variant", "step"])["value"].agg(["mean", "min", "max", "count"])
    summary = summary.set_axis(["mean", "low", "high", "n"], axis=1).reset_index()
    return summary.astype({"variant": int})


def sweep_curves(curves: pd.DataFrame, names: Sequence[str], title: str = "") -> Figure:
    """Metrics by epoch: a line per variant (its mean), a band where it has several runs.

    Loss and accuracy of training and validation stand in two rows and two columns. Where none of these was
    measured, each metric has a panel under its own name, at most `PANELS`.

    Args:
        curves: as `curves` gives them; variants are numbered by rank, the best is 0.
        names: those of the variants by number.
        title: what the names are, over the legend.
    """
    placed = _placed(sorted(set(curves["metric"])))
    down, across = len(placed), len(placed[0])
    own = any(name.partition("/")[0] in PARTS for row in placed for name in row)
    alike = own and all(len({name.partition("/")[2] for name in row if name}) == 1 for row in placed)
    figure = Figure(figsize=(9, 3.4 if down == 1 else 6.2), dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey="row" if alike else False)
    drawn = partial(look, marked=curves["step"].nunique() <= 12)
    for (i, j), axes in np.ndenumerate(panels):
        metric = placed[i][j]
        if not metric:
            axes.set_visible(False)
            continue
        _lines(axes, curves[curves["metric"] == metric], drawn)
        part, _, quantity = metric.partition("/") if own else ("", "", "")
        axes.set_title(PARTS.get(part) or fitted(metric, 50 // across), fontsize="medium")
        means = curves.loc[curves["metric"].isin(placed[i] if alike else [metric]), "mean"]
        if quantity != "accuracy":
            log_if_wide(axes, "y", means, 20)
        elif means.max() <= 1:
            axes.yaxis.set_major_formatter(percent)
            quantity = "accuracy (%)"
        first = not alike or not any(placed[i][:j])
        axes.set_ylabel((quantity + log_note(axes.yaxis)).removeprefix(", ") if first else "")
        lowest = i == down - 1 or not placed[i + 1][j]
        axes.set_xlabel(("epoch" if own else "step") if lowest else "")
        axes.tick_params(labelleft=first, labelbottom=lowest)
        for axis in (axes.xaxis, axes.yaxis):
            axis.label.set_visible(True)  # shared axes hide those of inner panels
    if len(names) > 1:
        legend(figure, names, curves["variant"], title, drawn)
    return figure


def _lines(axes: Axes, points: pd.DataFrame, look: Look) -> None:
    """The curves of one metric: the best variants in colour with their bands, the others in grey."""
    import seaborn as sns

    others = points[points["variant"] >= HIGHLIGHTED]
    if not others.empty:
        axes.plot(*_separated(others), color=OTHERS, linewidth=0.7, alpha=0.7, zorder=1)
    for variant, line in points[points["variant"] < HIGHLIGHTED].groupby("variant"):
        sns.lineplot(data=line, x="step", y="mean", ax=axes, estimator=None, zorder=3, **look(variant))
        if (line["n"] > 1).any():
            band = {"color": PALETTE[variant], "alpha": 0.15, "lw": 0}
            axes.fill_between(line["step"], line["low"], line["high"], **band)
    by_epoch(axes)
    axes.grid(alpha=0.3)


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


def _separated(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The lines of several variants as one, with gaps between them."""
    steps, means = [], []
    for _, line in points.groupby("variant"):
        steps += [*line["step"], np.nan]
        means += [*line["mean"], np.nan]
    return np.array(steps, dtype=float), np.array(means, dtype=float)
