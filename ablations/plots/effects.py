"""What a choice changes: all comparisons of a study, and one of them seed by seed."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import CARETLEFT, CARETRIGHT

from ablations.comparison.pairs import Comparison
from ablations.comparison.verdicts import Verdict
from ablations.plots import style
from ablations.plots.axes import fitted, log_if_wide, log_note, number_form

SHOWN_EFFECTS = 40
LOOKS = {verdict: getattr(style, verdict.name) for verdict in Verdict}
BESIDE = (12, 150, 186)
"""Points from the right edge of a forest to its columns of text."""
HEADING = 44
"""Digits' widths for a factor and its baseline."""


def forest(
    effects: pd.DataFrame,
    label: str,
    unit: str,
    margin: float,
    smaller_is_better: bool,
    counted: str = "pairs",
) -> Figure:
    """The comparisons of a study: mean paired difference, 95 % interval, margin and verdict of each.

    Main effects come first, below each those at a level of another factor, then interactions, the first
    `SHOWN_EFFECTS` in all. An interval without ends is
    dashed. One huge effect does not squeeze the others: what lies ten times further out than the middle one is
    cut off with an arrow head, and the axis says so.

    Args:
        effects: as `tabulate` gives them, of one metric; `factor`, `variant` and `baseline` in words, and `at` which
            level of another factor a comparison was made, if any.
        label: what is compared, such as "test error".
        unit: of the differences, such as "percentage points"; '' for none.
        margin: largest difference that does not matter, in that unit.
        smaller_is_better: as for errors.
        counted: what `n` counts.
    """
    order = effects["factors"].map(len).sort_values(kind="stable").index
    shown = effects.loc[order[:SHOWN_EFFECTS]]
    groups = shown.groupby(["factors", "factor", "baseline"], sort=False)
    lines = len(shown) + groups.ngroups
    left, right, cut = reach(shown, margin)
    figure = Figure(figsize=(10, 1.7 + 0.25 * max(lines, 3)), dpi=style.DPI, layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(left, right)
    axes.set_ylim(lines - 0.4, -0.6)
    handles: list[Any] = [Line2D([], [], color="black", marker="o", lw=1.6, label="mean, 95 % interval")]
    if margin > 0:
        matter = f"±{margin:g} {fitted(unit, 24)}".rstrip() + ": does not matter"
        handles.append(axes.axvspan(-margin, margin, color=style.MARGIN, lw=0, zorder=0, label=matter))
    axes.axvline(0, color=style.BASELINE, lw=0.9, zorder=1)

    values = shown[["ci_low", "mean_diff", "ci_high"]].to_numpy(dtype=float)
    form = number_form(values[(values >= left) & (values <= right)], sign="+")
    for text, offset in zip(("mean [95 % interval]", counted, "verdict"), BESIDE, strict=True):
        _beside(axes, -0.9, text, offset, fontweight="bold", va="bottom")
    _lines(axes, groups, form)
    notes = _notes(label, unit, smaller_is_better, cut)
    if len(effects) > len(shown):
        notes.append(f"The first {len(shown)} of {len(effects)} comparisons.")
    axes.set_xlabel("\n".join(notes), fontsize=9)
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=9)
    return figure


def _lines(axes: Axes, groups: Iterable[tuple[Any, pd.DataFrame]], form: str) -> None:
    """A heading for each factor, below it its comparisons."""
    names = []
    for (_, factor, baseline), rows in groups:
        names.append((heading(factor, baseline), "bold"))
        for row in rows.to_dict("records"):
            _comparison(axes, len(names), row, form)
            names.append((fitted(_named(row["variant"], row.get("at")), 34), "normal"))
    axes.set_yticks(range(len(names)), [name for name, _ in names], fontsize=9)
    for tick, (_, weight) in zip(axes.get_yticklabels(), names, strict=True):
        tick.set_fontweight(weight)
    axes.tick_params(axis="y", length=0)


def _named(variant: str, at: str | None) -> str:
    """A variant, and at which level of another factor: `relu at train_images=1000`, without the key's section."""
    if not at:
        return variant
    key, equals, level = at.partition("=")
    return f"{variant} at {key.rpartition('.')[2]}{equals}{level}"


def heading(factor: str, baseline: str) -> str:
    """Of the comparisons of a factor; a long name has the room that the baseline leaves."""
    against = fitted(baseline, 20).lstrip()
    return f"{fitted(factor, HEADING - len(against))}, against {against}"


def _notes(label: str, unit: str, smaller_is_better: bool, cut: bool) -> list[str]:
    """What stands under a forest: what is drawn, which side is better, and whether something lies beyond."""
    sides = ("better", "worse") if smaller_is_better else ("worse", "better")
    notes = [f"difference in {fitted(label, 30)}" + (f" ({fitted(unit, 24)})" if unit else "")]
    notes.append(f"← {sides[0]}        {sides[1]} →")
    if cut:
        notes.append("The axis is cut: arrow heads mark what lies beyond it.")
    return notes


def reach(effects: pd.DataFrame, margin: float) -> tuple[float, float, bool]:
    """Where the axis of a forest begins and ends, and whether something finite lies beyond."""
    ends = effects[["ci_low", "mean_diff", "ci_high"]].to_numpy(dtype=float)
    ends = np.where(np.isfinite(ends), ends, 0)
    sizes = np.sort(np.abs(ends).max(axis=1, initial=0))
    sizes = sizes[sizes > 0]
    middle = sizes[len(sizes) // 2] if len(sizes) else 1.0
    furthest = 10 * max(middle, margin)
    ends = np.append(ends, [-1.3 * margin, 1.3 * margin])
    inside = ends[np.abs(ends) <= furthest]
    room = 0.2 * np.abs(inside).max() or 1.0
    left, right = inside.min() - room, inside.max() + room
    return left, right, bool(ends.min() < left or ends.max() > right)


def _comparison(axes: Axes, line: int, row: Mapping[str, Any], form: str) -> None:
    """One line of a forest: interval, mean, and beside them the same in numbers."""
    colour = LOOKS[row["verdict"]][0]
    mean, low, high = row["mean_diff"], row["ci_low"], row["ci_high"]
    numbers = f"{mean:{form}} [{low:{form}}, {high:{form}}]"
    if not (np.isfinite(low) or np.isfinite(high)):
        numbers = f"{mean:{form}} [no limits]"
    if not np.isfinite(mean):
        numbers = "no pairs"
    else:
        interval(axes, line, row)
    for text, offset in zip((numbers, str(row["n"]), row["verdict"]), BESIDE, strict=True):
        _beside(axes, line, text.replace("-", "−"), offset, color=colour if offset == BESIDE[-1] else "black")


def interval(axes: Axes, line: float, row: Mapping[str, Any]) -> None:
    """The mean of a comparison and its interval, in the look of its verdict; what lies beyond the axis is cut."""
    colour, marker, filled = LOOKS[row["verdict"]]
    mean, (left, right) = row["mean_diff"], axes.get_xlim()
    for end in (row["ci_low"], row["ci_high"]):
        start, stop = np.clip((mean, end), left, right)
        dash = "-" if np.isfinite(end) else (0, (2, 1.6))
        axes.plot([start, stop], [line, line], color=colour, ls=dash, lw=1.6, zorder=2)
        head: Any = "|" if stop == end else CARETLEFT if stop == left else CARETRIGHT
        axes.plot(stop, line, color=colour, marker=head, ms=6, mew=1.6, zorder=2, clip_on=False)
    if left <= mean <= right:
        face = colour if filled else "white"
        axes.plot(mean, line, color=colour, marker=marker, ms=7, mfc=face, mew=1.5, zorder=3)


def _beside(axes: Axes, line: float, text: str, offset: float, **other: Any) -> None:
    """Text at the right of the axes, so many points from its edge."""
    place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "annotation_clip": False}
    axes.annotate(text, (1, line), (offset, 0), **{"va": "center_baseline", "fontsize": 9} | place | other)


def seed_pairs(runs: pd.DataFrame, comparison: Comparison) -> pd.DataFrame:
    """The two values behind each difference of a main effect: `seed`, `baseline`, `variant`, in the seeds' order.

    Where other factors were varied, too, each value is the mean over their settings.

    Args:
        runs: with `run_id` and `value`.
        comparison: of one factor, as `comparisons` gives it for these runs.
    """
    runs = runs.set_index(runs["run_id"].astype(str))
    ours = np.array(comparison.signs) > 0
    rows = []
    for seed, run_ids in zip(comparison.seeds, comparison.run_ids, strict=True):
        own = pd.to_numeric(runs.loc[list(run_ids), "value"]).to_numpy()
        rows.append((seed, own[~ours].mean(), own[ours].mean()))
    return pd.DataFrame(rows, columns=["seed", "baseline", "variant"])


def seed_slopes(
    pairs: pd.DataFrame, baseline: str, variant: str, label: str, smaller_is_better: bool
) -> Figure:
    """Seed by seed from the baseline's outcome to the variant's, coloured by which is better.

    Args:
        pairs: as `seed_pairs` gives them, at least one.
        baseline: its name.
        variant: its name.
        label: what the value is, with its unit.
        smaller_is_better: as for errors.
    """
    gain = (pairs["variant"] - pairs["baseline"]) * (-1 if smaller_is_better else 1)
    figure = Figure(figsize=(7, 4.2), dpi=style.DPI, layout="constrained")
    axes = figure.subplots()
    log_if_wide(axes, "y", pairs[["baseline", "variant"]].stack())
    faint = 0.8 if len(pairs) <= 20 else 0.35
    for side, chosen, (colour, marker, _), dash in (
        ("better", gain > 0, style.BETTER, "-"),
        ("worse", gain < 0, style.WORSE, "--"),
        ("the same", gain == 0, style.INCONCLUSIVE, ":"),
    ):
        if chosen.any():
            drawn = {"color": colour, "marker": marker, "ls": dash, "lw": 1.3, "ms": 6, "alpha": faint}
            ends = pairs.loc[chosen, ["baseline", "variant"]].to_numpy(dtype=float).T
            lines = axes.plot([0, 1], ends, **drawn, zorder=2)
            lines[0].set_label(f"{side} in {chosen.sum()} of {len(pairs)} seeds")
    means = [pairs["baseline"].mean(), pairs["variant"].mean()]
    axes.plot([0, 1], means, color=style.MEAN, lw=3, marker="o", ms=8, zorder=3, label="mean")
    axes.set_xticks([0, 1], [fitted(baseline, 20), fitted(variant, 20)])
    axes.set_xlim(-0.25, 1.25)
    axes.set_ylabel(fitted(label, 30) + log_note(axes.yaxis))
    axes.grid(axis="y", which="both", alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    return figure
