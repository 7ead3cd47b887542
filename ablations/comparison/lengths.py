"""Whether runs were trained for long enough: what the validation accuracy still did at their end."""

import numpy as np
import pandas as pd

VALIDATION = "val/accuracy"

FEWEST = 5
"""Epochs of which the last fifth says something."""

LENGTHS = ("validated_epochs", "best_epoch", "late_gain")
"""The columns of `lengths`."""


def lengths(histories: pd.DataFrame) -> pd.DataFrame:
    """By run that validated: how many `validated_epochs` it had, the `best_epoch` of them (the first of equals), and
    `late_gain`, its mean validation accuracy in the last fifth of them less that in the fifth before (each rounded down
    to whole epochs); NaN with fewer than `FEWEST`, or where an accuracy of these is no finite number.

    The gain is that of a fraction: accuracies of which one is above 1 are taken for percentages.

    Args:
        histories: columns run_id, metric, step and value.
    """
    steps = histories[histories["metric"] == VALIDATION].sort_values(["run_id", "step"], kind="stable")
    values = steps["value"].astype(float)  # without any of them the column has no type
    steps = steps.assign(value=values.where(np.isfinite(values)))
    whole = 100 if steps["value"].max() > 1 else 1
    of = steps.groupby("run_id")["value"]
    number, count = of.cumcount() + 1, of.transform("size")
    fifth = count // 5
    late, before = number > count - fifth, number.between(count - 2 * fifth, count - fifth, inclusive="right")
    gain = (_means(steps[late]) - _means(steps[before])) / whole
    first = of.rank(method="first", ascending=False) == 1
    best = pd.Series(number[first].to_numpy(), index=steps["run_id"][first])
    told = of.size()
    return pd.DataFrame(
        {"validated_epochs": told, "best_epoch": best, "late_gain": gain.where(told >= FEWEST)}, dtype=float
    )


def _means(steps: pd.DataFrame) -> pd.Series:
    return steps.groupby("run_id")["value"].mean(skipna=False)
