"""What the columns of a table of runs are called, and what stands in a cell that no run filled.

`Reader.runs` names its columns as `mlflow.search_runs` does: `params.<key>`, `metrics.<name>`, `tags.<key>`. Nobody
else spells these prefixes.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PARAM, METRIC, TAG = "params.", "metrics.", "tags."
KINDS = (PARAM, METRIC, TAG)

NOT_LOGGED = "(not logged)"
"""The level of a run that did not log the param."""

INFINITY = 1.7976931348623157e308
"""What MLflow's databases hold in place of an infinity."""


def param(key: str) -> str:
    """The column of a param."""
    return PARAM + key


def metric(name: str) -> str:
    """The column of a metric's last value."""
    return METRIC + name


def tag(key: str) -> str:
    """The column of a tag."""
    return TAG + key


def params_in(columns: Iterable[str]) -> list[str]:
    """The keys of the params among these columns, in their order."""
    return [name.removeprefix(PARAM) for name in columns if name.startswith(PARAM)]


def metrics_in(columns: Iterable[str]) -> list[str]:
    """The names of the metrics among these columns, in their order."""
    return [name.removeprefix(METRIC) for name in columns if name.startswith(METRIC)]


def text(value: object) -> str | None:
    """A param or a tag as text; None where it is missing or was not logged."""
    missing = value is None or value != value or str(value) in (NOT_LOGGED, "<NA>")
    return None if missing else str(value)


def is_finite(value: float) -> bool:
    """Whether a metric is a number, and not what a database holds for an infinity."""
    return math.isfinite(value) and abs(value) < INFINITY


def column(runs: "pd.DataFrame", name: str) -> "pd.Series":
    """The named column, or one of missing values where no run logged it."""
    import pandas as pd

    return runs[name] if name in runs else pd.Series(math.nan, index=runs.index, dtype=object)
