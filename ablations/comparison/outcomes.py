"""How runs ended: a failure is an outcome, too."""

from enum import StrEnum

import numpy as np
import pandas as pd

from ablations.errors import InputError
from ablations.tracking.columns import column, metrics_in, numbers, tag
from ablations.tracking.columns import metric as metric_column


class Outcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    """By an error, or interrupted."""
    UNFINISHED = "unfinished"
    """Still running, as far as the store knows."""
    WITHOUT_RESULT = "without result"
    """Ended well, but with no finite value of the metric."""
    MISSING = "missing"
    """There is no run at all."""


def with_outcomes(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Runs with `value` (of the metric, NaN where it is absent or not finite) and `outcome`, an `Outcome`.

    Raises:
        InputError: no run has the metric.
    """
    if metric_column(metric) not in runs:
        there = ", ".join(sorted(metrics_in(runs))) or "none"
        raise InputError(f"metric {metric}: no run has it; there are {there}")
    value = numbers(runs, metric_column(metric))
    ended = runs["status"] == "FINISHED"
    first_of = {
        Outcome.DIVERGED: column(runs, tag("failure")) == "diverged",
        Outcome.FINISHED: ended & value.notna(),
        Outcome.WITHOUT_RESULT: ended,
        Outcome.UNFINISHED: runs["status"].isin(["RUNNING", "SCHEDULED"]),
    }
    outcome = np.select(list(first_of.values()), list(first_of), Outcome.CRASHED)
    return runs.assign(value=value, outcome=outcome)
