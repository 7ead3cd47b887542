"""A ladder: the outcome step by step, each on top of those before it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ablations.comparison import exact, tests
from ablations.plots.axes import fitted, log_if_wide, log_note
from ablations.plots.style import DPI, OTHERS, PALETTE
from ablations.tracking.columns import param

START = "start"


def rungs(runs: pd.DataFrame, steps: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """What each step of a ladder reaches.

    Args:
        runs: those of the study, with params, `value` and `finished`.
        steps: by factor its levels in the order in which they are added, first the one that the ladder starts from.

    Returns:
        One row per step: `factor` and `level` that it adds (`START` and '' for the first), `values` (over its seeds),
        `mean`, `low` and `high` (the 95 % interval of the mean, by the sign-flip test; the lowest and the highest seed
        where there are fewer than six), `n`; missing where no run finished.
    """
    at = {factor: levels[0] for factor, levels in steps.items()}
    rows = [(START, "", *_reached(runs, at))]
    for factor, levels in steps.items():
        for level in levels[1:]:
            at[factor] = level
            rows.append((factor, level, *_reached(runs, at)))
    return pd.DataFrame(rows, columns=["factor", "level", "values", "mean", "low", "high", "n"])


def _reached(
    runs: pd.DataFrame, setting: Mapping[str, str]
) -> tuple[tuple[float, ...], float, float, float, int]:
    here = runs["finished"].astype(bool)
    for key, level in setting.items():
        here &= runs[param(key)].astype(str) == level
    values = pd.to_numeric(runs.loc[here, "value"]).astype(float).to_numpy()
    return tuple(values), *mean_with_bar(values)


def mean_with_bar(values: np.ndarray) -> tuple[float, float, float, int]:
    """The mean over seeds, the ends of its bar as `rungs` has them, and the number of seeds."""
    if not len(values):
        return np.nan, np.nan, np.nan, 0
    test = tests.sign_flip(values)
    ends = (test.low, test.high) if np.isfinite(test.low) else (values.min(), values.max())
    return exact.mean(values), *ends, len(values)


def ladder(steps: pd.DataFrame, label: str) -> Figure:
    """The outcome along the steps: every seed, the mean and its interval.

    Args:
        steps: as `rungs` gives them.
        label: what the value is, with its unit.
    """
    figure = Figure(figsize=(max(6.0, 1.8 + 1.05 * len(steps)), 4.2), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    log_if_wide(axes, "y", steps["mean"])
    place = np.arange(len(steps))
    axes.plot(place, steps["mean"], color=OTHERS, lw=1.4, zorder=1)
    for i, values in enumerate(steps["values"]):
        aside = np.full(len(values), i - 0.16)
        axes.plot(
            aside, values, ls="", marker="o", ms=4, color=OTHERS, zorder=2, label="a seed" if not i else None
        )
    axes.vlines(place, steps["low"], steps["high"], color=PALETTE[0], lw=2, zorder=3)
    axes.plot(place, steps["mean"], ls="", marker="D", ms=7, color=PALETTE[0], zorder=4, label="mean")
    names = [fitted(START)] + [
        f"+ {fitted(level, 12).lstrip()}\n{fitted(factor, 14)}"
        for factor, level in zip(steps["factor"][1:], steps["level"][1:], strict=True)
    ]
    axes.set_xticks(place, names, fontsize=9 if len(names) <= 9 else 7.5)
    axes.set_xlim(-0.5, len(steps) - 0.5)
    axes.set_ylabel(fitted(label, 30) + log_note(axes.yaxis))
    axes.grid(axis="y", which="both", alpha=0.3)
    figure.legend(loc="outside upper right", ncols=2, frameon=False)
    return figure
