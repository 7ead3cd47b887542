"""Tuning: how the best value of each variant moves with its trials, and the verdicts after so many of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import SymmetricalLogLocator

from ablations.comparison.verdicts import Verdict
from ablations.plots import style
from ablations.plots.axes import by_epoch, fitted, is_wide, legend, log_if_wide, log_note, plain_numbers
from ablations.plots.style import DPI, look

PANELS = 12
ACROSS = 3
LOOKS = {verdict: getattr(style, verdict.name) for verdict in Verdict}
FEWEST_MISTAKES = 1e-4
"""At which a share of mistakes of 0 is drawn where the axis is logarithmic."""


def best_by_trial(
    trials: pd.DataFrame, names: Sequence[str], label: str, title: str, most: int, accuracy: bool
) -> Figure:
    """The best value so far of each variant, a line, over its trials, the points; a cross is one that was pruned.

    Of an accuracy what is missing to 100 % is on a logarithmic axis, which parts 98 from 99 % as it parts 80 from 90.

    Args:
        trials: `variant` (number), `trial` (from 1), `state`, `value` (NaN unless complete), `best`.
        names: those of the variants by number.
        label: what the value is, with its unit.
        title: what the names are.
        most: how many trials each variant had.
        accuracy: whether the value is one, as a fraction.
    """
    figure = Figure(figsize=(9, 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    drawn = trials.assign(**{name: _shown(trials[name], accuracy) for name in ("value", "best")})
    for variant, own in drawn.groupby("variant"):
        colour = look(variant)["color"]
        complete = own[own["value"].notna()]
        reached = own[own["best"].notna()]
        if reached.empty:
            continue
        steps = {
            "where": "post",
            "color": colour,
            "linestyle": look(variant)["linestyle"],
            "lw": 1.8,
            "zorder": 3,
        }
        ends = [*reached["trial"], max(most, reached["trial"].iloc[-1]) + 0.3]
        axes.step(ends, [*reached["best"], reached["best"].iloc[-1]], **steps)
        marker = {"marker": look(variant)["marker"], "s": 26, "alpha": 0.75, "zorder": 4, "color": colour}
        axes.scatter(complete["trial"], complete["value"], **marker)
    if accuracy:
        axes.set_yscale("log")
        axes.invert_yaxis()
        plain_numbers(axes.yaxis)
        axes.yaxis.set_major_formatter(lambda missing, _: f"{100 - missing:g}")
        axes.set_ylabel(f"{fitted(label, 36)} (%)")
    else:
        log_if_wide(axes, "y", drawn["value"])
        axes.set_ylabel(fitted(label, 40) + log_note(axes.yaxis))
    axes.set_xlim(0.7, most + 0.5)
    by_epoch(axes)
    axes.set_xlabel("trial")
    axes.grid(alpha=0.3, which="both" if accuracy else "major")
    _stopped(axes, drawn)
    legend(figure, names, trials["variant"], title, look)
    return figure


def _shown(values: pd.Series, accuracy: bool) -> pd.Series:
    """Values as they are drawn: of accuracies the per cent that are missing."""
    return 100 * (1 - values).clip(lower=FEWEST_MISTAKES) if accuracy else values


def _stopped(axes: Axes, trials: pd.DataFrame) -> None:
    """A cross below for each trial without a value, in its variant's colour; those of one trial side by side."""
    without = trials[trials["value"].isna()]
    if without.empty:
        return
    place = without.groupby("trial").cumcount()
    for (_, row), beside in zip(without.iterrows(), place, strict=True):
        variant = int(row["variant"])
        axes.plot(
            row["trial"] + 0.13 * beside,
            0.03,
            marker="x",
            color=look(variant)["color"],
            markersize=6,
            mew=1.6,
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )
    handle = Line2D([], [], marker="x", linestyle="", color="black", label="pruned or diverged")
    axes.legend(handles=[handle], loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=9)


def verdicts_by_trials(
    table: pd.DataFrame, label: str, unit: str, margin: float, smaller_is_better: bool
) -> Figure:
    """Each comparison in a panel: its difference, interval and verdict if everybody had stopped after so many trials.

    Args:
        table: `after` (trials), `variant` and `baseline` in words, `n`, `mean_diff`, `ci_low`, `ci_high`, `verdict`.
        label: what is compared, such as "test error".
        unit: of the differences; '' for none.
        margin: largest difference that does not matter, in that unit.
        smaller_is_better: as for errors.
    """
    groups = list(table.groupby(["factor", "variant", "baseline"], sort=False))[:PANELS]
    counts = sorted(set(table["after"]))
    across = min(ACROSS, len(groups))
    down = -(-len(groups) // across)
    size = (1.6 + 3.2 * across, 1.7 + 2.5 * down)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    linear = _linear(table, margin)
    for axes, (levels, rows) in zip(panels.flat, groups, strict=False):
        if linear:
            axes.set_yscale("symlog", linthresh=linear)
            axes.yaxis.set_major_locator(SymmetricalLogLocator(linthresh=linear, base=10, subs=[1.0]))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:+g}" if value else "0")
        _panel(axes, rows, counts, margin)
        _, variant, baseline = levels
        title = f"{fitted(variant, 14)} against {fitted(baseline, 14).lstrip()}"
        axes.set_title(title, fontsize="medium")
    for axes in panels.flat[len(groups) :]:
        axes.set_visible(False)
    for axes in panels.flat[max(len(groups) - across, 0) : len(groups)]:
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("trials")
    sides = (
        "better  ←      →  worse" if smaller_is_better else "worse  ←      →  better"
    )  # the text is turned
    scale = ", symmetric logarithmic" if linear else ""
    of = f"{fitted(unit, 24)}{scale}".removeprefix(", ")
    lines = [f"difference in {fitted(label, 26)}", *([f"({of})"] if of else []), sides]
    for row in panels:
        row[0].set_ylabel("\n".join(lines), fontsize=8)
    there = [verdict for verdict in Verdict if verdict in set(table["verdict"])]
    handles: list[Any] = [
        Line2D([], [], linestyle="", label=str(verdict), **_mark(verdict)) for verdict in there
    ]
    if margin > 0:
        handles.append(Patch(color=style.MARGIN, label=f"±{margin:g}: does not matter"))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=min(len(handles), 2 * across + 1), frameon=False
    )
    return figure


def _linear(table: pd.DataFrame, margin: float) -> float:
    """Up to which power of ten the axis of differences is linear, and logarithmic beyond; 0: all of it is linear."""
    sizes = table[["mean_diff", "ci_low", "ci_high"]].abs().to_numpy(dtype=float)
    sizes = sizes[np.isfinite(sizes) & (sizes > 0)]
    if not sizes.size or not is_wide(sizes):
        return 0.0
    least = margin if margin > 0 else float(np.quantile(sizes, 0.25))
    linear = 10.0 ** np.ceil(np.log10(least))
    return linear if sizes.max() > 10 * linear else 0.0


def _panel(axes: Axes, rows: pd.DataFrame, counts: Sequence[int], margin: float) -> None:
    """One comparison by trials, from left to right."""
    if margin > 0:
        axes.axhspan(-margin, margin, color=style.MARGIN, lw=0, zorder=0)
    axes.axhline(0, color=style.BASELINE, lw=0.9, zorder=1)
    shown = rows[rows["n"] > 0]
    at = [counts.index(after) for after in shown["after"]]
    axes.plot(at, shown["mean_diff"], color=style.OTHERS, lw=1, zorder=2)
    for place, row in zip(at, shown.to_dict("records"), strict=True):
        mark = _mark(row["verdict"])
        if np.isfinite([row["ci_low"], row["ci_high"]]).all():
            axes.vlines(place, row["ci_low"], row["ci_high"], color=mark["color"], lw=1.8, zorder=3)
        axes.plot(place, row["mean_diff"], zorder=4, **mark)
    for place in set(range(len(counts))) - set(at):
        axes.text(
            place,
            0.5,
            "no choice",
            rotation=90,
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="center",
            fontsize=8,
        )
    axes.set_xticks(range(len(counts)), list(map(str, counts)))
    axes.set_xlim(-0.5, len(counts) - 0.5)
    axes.grid(axis="y", alpha=0.3)


def _mark(verdict: str) -> dict[str, Any]:
    colour, marker, filled = LOOKS[Verdict(verdict)]
    return {
        "color": colour,
        "marker": marker,
        "markerfacecolor": colour if filled else "white",
        "markersize": 7,
    }
