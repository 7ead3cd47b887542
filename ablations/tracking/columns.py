"""What the columns of a table of runs are called, what stands in a cell that no run filled, and how levels are ordered.

`Reader.runs` names its columns as `mlflow.search_runs` does: `params.<key>`, `metrics.<name>`, `tags.<key>`; and
`inputs.<context>` for data sets. Nobody else spells these prefixes.
"""

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

PARAM, METRIC, TAG = "params.", "metrics.", "tags."
KINDS = (PARAM, METRIC, TAG)
GIVEN = "inputs."
"""Before the context of a data set that was logged as an input (`train`): its digest."""

NOT_LOGGED = "(not logged)"
"""The level of a run that did not log the param."""

KIND, REPORT, REPORT_OF = "kind", "report", "report_of"
"""The tags of a run that is no run but keeps the report of a sweep: what it is, and of which sweep."""

TUNING, TRIAL, OFFERED = "tuning", "trial", "offered"
"""The tags of a run of a trial: the id of the tuning of its variant, the trial's number, and what was to be chosen."""

CONTEXT = "mlflow.data.context"
"""MLflow's tag of an input that says what the data set is for."""

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


def given(context: str) -> str:
    """The column of the digests of the data sets that were logged as inputs for something."""
    return GIVEN + context


def inputs_in(columns: Iterable[str]) -> list[str]:
    """What the data sets among these columns were for, in their order."""
    return [name.removeprefix(GIVEN) for name in columns if name.startswith(GIVEN)]


def params_in(columns: Iterable[str]) -> list[str]:
    """The keys of the params among these columns, in their order."""
    return [name.removeprefix(PARAM) for name in columns if name.startswith(PARAM)]


def metrics_in(columns: Iterable[str]) -> list[str]:
    """The names of the metrics among these columns, in their order."""
    return [name.removeprefix(METRIC) for name in columns if name.startswith(METRIC)]


def text(value: object) -> str | None:
    """A param or a tag as text; None where it is missing or was not logged."""
    missing = value is None or str(value) in (NOT_LOGGED, "<NA>") or value != value
    return None if missing else str(value)


def number(text: object) -> float:
    """A level as a number; NaN where it is none."""
    try:
        return float(str(text))
    except ValueError:
        return math.nan


def natural(text: object) -> tuple[tuple[int, float, str], ...]:
    """Sort key: numbers first, in numeric order (`2`, `1e1`), then words, their digits as numbers (`v2`, `v10`)."""
    text = str(text)
    if not math.isnan(number(text)):
        return ((0, number(text), text),)
    parts = [
        (0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", text)
    ]
    return ((1, 0.0, ""), *parts, (-1, 0.0, text))


def column(runs: "pd.DataFrame", name: str) -> "pd.Series":
    """The named column, or one of missing values where no run logged it."""
    import pandas as pd

    return runs[name] if name in runs else pd.Series(math.nan, index=runs.index, dtype=object)


def newest_first(runs: "pd.DataFrame") -> "pd.DataFrame":
    """Runs by the time of the command that asked for them last, in reverse."""
    order = runs.assign(invocation=column(runs, tag("sweep_id")).fillna(""))
    order = order.sort_values(["invocation", "start_time", "run_id"], ascending=False)
    return order.drop(columns="invocation")


def numbers(runs: "pd.DataFrame", name: str) -> "pd.Series":
    """The named column as floats; what is absent, not a number or infinite is NaN."""
    import pandas as pd

    values = pd.to_numeric(column(runs, name), errors="coerce").astype(float)
    return values.where(values.abs() < INFINITY)


def is_finite(value: float) -> bool:
    """Whether a metric is a number, and not what a database holds for an infinity."""
    return math.isfinite(value) and abs(value) < INFINITY
