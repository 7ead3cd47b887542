"""The runs of a store, filled in one value at a time, as a table or as plain rows."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from ablations.errors import masked
from ablations.tracking.columns import GIVEN, KINDS, METRIC

if TYPE_CHECKING:
    import pandas as pd

RUN_COLUMNS = (
    "run_id",
    "run_name",
    "experiment_id",
    "experiment",
    "status",
    "start_time",
    "end_time",
    "seconds",
    "artifact_uri",
)


class Table:
    """Runs as columns, filled one value at a time in any order."""

    def __init__(self) -> None:
        self._runs: list[tuple] = []
        self._rows: dict[str, int] = {}
        self._cells: dict[str, dict[str, dict[int, str | float]]] = {kind: {} for kind in (*KINDS, GIVEN)}

    def add_run(self, run_id: str, name: str | None, *others: str | int | None) -> None:
        """Add a run; `others` as in RUN_COLUMNS but for `seconds`, times in milliseconds since 1970."""
        self._rows[run_id] = len(self._runs)
        self._runs.append((run_id, masked(name or ""), *others))

    def add_value(self, kind: str, run_id: str, key: str, value: str | float) -> None:
        """Set a value of a run that was added; `kind` is one of KINDS. Passwords in texts are left out."""
        if isinstance(value, str):
            value = masked(value)
        self._cells[kind].setdefault(key, {})[self._rows[run_id]] = value

    def add_data(self, run_id: str, digests: Mapping[str, Iterable[str]]) -> None:
        """Set the digests of a run's data sets, by what they were logged for."""
        for context, found in digests.items():
            self.add_value(GIVEN, run_id, context or "data", ", ".join(sorted(set(found))))

    def records(self) -> list[dict[str, str | float | None]]:
        """A row for each run, of what it has, sorted as in `frame`."""
        names = [name for name in RUN_COLUMNS if name != "seconds"]
        rows: list[dict[str, str | float | None]] = [dict(zip(names, run, strict=True)) for run in self._runs]
        for kind, cells in self._cells.items():
            for key, values in sorted(cells.items()):
                for at, value in values.items():
                    rows[at][kind + key] = value
        return sorted(rows, key=lambda row: (row["start_time"] is None, row["start_time"], row["run_id"]))

    def frame(self) -> "pd.DataFrame":
        import pandas as pd

        names = [name for name in RUN_COLUMNS if name != "seconds"]
        fixed = pd.DataFrame(self._runs, columns=names).astype({"start_time": "Int64", "end_time": "Int64"})
        for name in ("start_time", "end_time"):
            fixed[name] = pd.to_datetime(fixed[name], unit="ms", utc=True, errors="coerce")
        texts = [name for name in names if not name.endswith("_time")]
        fixed = fixed.astype(dict.fromkeys(texts, "str"))
        seconds = (fixed["end_time"] - fixed["start_time"]).dt.total_seconds().astype("float64")
        fixed["seconds"] = seconds.mask(seconds < 0)  # the clock was set back meanwhile
        columns = {
            kind + key: pd.Series(
                [values.get(row) for row in range(len(self._runs))],
                dtype="float64" if kind == METRIC else "str",
            )
            for kind, cells in self._cells.items()
            for key, values in sorted(cells.items())
        }
        frame = pd.concat([fixed[list(RUN_COLUMNS)], pd.DataFrame(columns, index=fixed.index)], axis=1)
        return frame.sort_values(["start_time", "run_id"], ignore_index=True)
