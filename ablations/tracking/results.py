"""Anybody's table of results, as the reader of a store would give its runs: a data frame, or a CSV file.

A long table has one row per run, with a column for each setting, for the seed and for what was measured. A wide one
has a row per seed and a column for each level of the one factor, or a row per level and a column for each seed. Which
it is, is said and never guessed.
"""

import csv
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError, masked, printable
from ablations.tracking.columns import KINDS, METRIC, PARAM, metric, metrics_in, param
from ablations.tracking.reader import HISTORY_COLUMNS, RUN_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

SEPARATORS = (",", ";", "\t")
EMPTY = frozenset(["", "na", "n/a", "nan", "null", "none"])
"""What stands in a cell without a result, in small letters."""
STATUS = frozenset(["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"])
LEVELS, SEEDS = "levels", "seeds"
"""What the columns of a wide table may be."""
SHOWN = 8  # names in a message


@dataclass(frozen=True)
class Layout:
    """What the columns of a table are.

    Attributes:
        settings: those that are params for certain: factors, blocks and what else tells runs apart.
        measured: the outcome first, then what else was measured; all columns that are in neither are settings.
        seed: the column that pairs runs; it may be missing.
        wide: `levels` where the other columns are the levels of the one factor that has no column, `seeds` where they
            are seeds; None for one row per run.
        step: the column that counts epochs, of a table with several rows per run.
    """

    settings: Sequence[str]
    measured: Sequence[str]
    seed: str = "seed"
    wide: str | None = None
    step: str | None = None


class Results:
    """Runs in memory, with what a report asks a `Reader` for; nothing but numbers and texts is known of them."""

    def __init__(self, name: str, runs: "pd.DataFrame", histories: "pd.DataFrame") -> None:
        """`runs` and `histories` have the columns of `Reader.runs` and `Reader.histories`."""
        self._name, self._runs, self._histories = name, runs, histories
        self.out_of_reach: set[str] = set()  # of artifacts, which it has none of

    def experiments(self) -> list[str]:
        """The one that stands for the table."""
        return [self._name]

    def experiment_tags(self, experiment_id: str) -> dict[str, str]:
        """None: no study is kept with a table."""
        return {}

    def runs(
        self,
        experiment: str | Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        where: str | None = None,
    ) -> "pd.DataFrame":
        """All runs, in the order of the table. Raises InputError for a filter, which is for a store."""
        if where is not None:
            raise InputError("--where: for runs in an MLflow store; leave out the rows of the table instead")
        return self._runs.copy()

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str] | None = None) -> "pd.DataFrame":
        """The values by step of these runs and metrics."""
        found = self._histories["run_id"].isin(run_ids)
        if metrics is not None:
            found &= self._histories["metric"].isin(metrics)
        return self._histories[found].reset_index(drop=True)

    def artifact(self, run_id: str, path: str) -> None:
        """None: a table has no files."""


def read_csv(path: Path) -> "pd.DataFrame":
    """A table of texts from a CSV file in UTF-8, its columns parted by commas, semicolons or tabs as its head is.

    Raises InputError for a file that cannot be read, and for a row that is longer or shorter than the head.
    """
    import pandas as pd

    shown = printable(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            separator = max(SEPARATORS, key=head.count)
            rows = [
                (reader.line_num, row) for reader in [csv.reader(file, delimiter=separator)] for row in reader
            ]
    except UnicodeDecodeError:
        raise InputError(f"{shown}: it is not in UTF-8; save it as “CSV UTF-8”") from None
    except (OSError, csv.Error) as error:
        raise InputError(f"{shown}: {getattr(error, 'strerror', None) or error}") from None
    rows = [(line, row) for line, row in rows if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise InputError(f"{shown}: a head and at least one row are expected")
    names = [name.strip() for name in rows[0][1]]
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise InputError(f"{shown}, line {line}: {len(row)} cells, but the head has {len(names)}")
    frame = pd.DataFrame([[cell.strip() for cell in row] for _, row in rows[1:]], columns=names, dtype=object)
    if "" in names[:1] and frame.iloc[:, 0].tolist() == [str(i) for i in range(len(frame))]:
        frame = frame.iloc[:, 1:]  # the index that pandas writes
    return frame if separator == "," else frame.map(_with_point)


def results(frame: "pd.DataFrame", name: str, layout: Layout) -> Results:
    """The table as runs, all of them FINISHED unless it has a column `status` with MLflow's words.

    Columns named as `mlflow.search_runs` names them (`params.…`, `metrics.…`, `tags.…`, `run_id`, `start_time`, …) are
    what they say.

    Args:
        frame: one row per run, or wide.
        name: stands for the experiment.
        layout: what its columns are.

    Raises:
        InputError: no rows, a column that is missing or there twice, a measurement that is no number, or a wide table
            that is not as was said.
    """
    frame = _with_names(frame).map(lambda cell: masked(cell) if isinstance(cell, str) else cell)
    if layout.wide is not None:
        frame = _long(frame, layout)
    _require_columns(frame, layout)
    measured = {*layout.measured, *metrics_in(frame)}
    runs = _columns(frame, measured, {layout.step} - {None})
    histories, runs = _by_step(frame, runs, layout.step)
    return Results(name, _completed(runs, name, layout), histories)


def _with_names(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The table with its index, where that has a name, as columns, and each column under one text."""
    if frame.columns.nlevels > 1:
        raise InputError("the table: one row of headings is expected, it has several")
    if any(name is not None for name in frame.index.names):
        frame = frame.reset_index()
    frame = frame.set_axis([masked(str(name)) for name in frame.columns], axis=1).reset_index(drop=True)
    if frame.empty:
        raise InputError("the table has no rows")
    if (twice := frame.columns[frame.columns.duplicated()]).size:
        raise InputError(f"the table: the column {printable(twice[0])} is there twice")
    return frame


def _require_columns(frame: "pd.DataFrame", layout: Layout) -> None:
    outcome = layout.measured[0]
    if both := {*layout.measured} & {*layout.settings, layout.seed}:
        raise InputError(
            f"{printable(min(both))}: it is what was measured, so that it cannot be a factor or the seed"
        )
    if not {outcome, metric(outcome)} & set(frame):
        wide = f"; of a wide table, say what its columns are: wide={LEVELS} or wide={SEEDS}"
        raise InputError(f"metric {outcome}: no such column; there are {_named(frame)}{wide}")
    for kind, names in ((PARAM, layout.settings), (METRIC, layout.measured), ("", [layout.step])):
        for name in names:
            if name is not None and not {name, kind + name} & set(frame):
                raise InputError(f"the table has no column {printable(name)}; there are {_named(frame)}")


def _long(frame: "pd.DataFrame", layout: Layout) -> "pd.DataFrame":
    """One row per run of a wide table; runs whose cell is empty never were."""
    if layout.wide not in (LEVELS, SEEDS):
        raise InputError(f"wide={layout.wide}: {LEVELS} or {SEEDS} is expected")
    outcome, there = layout.measured[0], set(frame)
    missing = [name for name in layout.settings if name not in there]
    if layout.wide == LEVELS and len(missing) != 1:
        found = ", ".join(missing) if missing else "each of them is a column"
        raise InputError(
            f"wide={LEVELS}: the columns are the levels of the one factor that is no column itself; {found}"
        )
    if layout.wide == SEEDS and missing:
        raise InputError(f"wide={SEEDS}: no column {missing[0]}; there are {_named(frame)}")
    kept = [name for name in frame if name in (*layout.settings, *([layout.seed] if missing else []))]
    cells = [name for name in frame if name not in kept]
    if len(cells) < 2:
        raise InputError(
            f"wide={layout.wide}: at least two columns of {layout.wide} are expected; got {_named(cells)}"
        )
    long = frame.melt(kept, cells, missing[0] if missing else layout.seed, outcome)
    try:
        filled = [_number(value) is not None for value in long[outcome]]
    except ValueError as error:
        column = long.iloc[next(i for i, value in enumerate(long[outcome]) if not _is_number(value))]
        name = column[missing[0] if missing else layout.seed]
        raise InputError(
            f"wide={layout.wide}: the column {printable(name)} has {error}; each column but {', '.join(kept) or 'none'}"
            f" is one of {layout.wide}: leave out the others, or name them among the factors"
        ) from None
    return long[filled].reset_index(drop=True)


def _columns(frame: "pd.DataFrame", measured: Collection[str], others: Collection[str]) -> "pd.DataFrame":
    """The columns as the reader names them: settings as texts, measurements as numbers."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name, cells in frame.items():
        if name in others:
            continue
        if name in measured or name.startswith(METRIC):
            columns[metric(name.removeprefix(METRIC))] = _numbers(cells, name)
        elif name in RUN_COLUMNS and _fits(name, cells):
            columns[name] = cells.tolist()
        elif name.startswith(KINDS):
            columns[name] = pd.Series(_texts(cells), frame.index, "str")
        else:
            columns[param(name)] = pd.Series(_texts(cells), frame.index, "str")
    return pd.DataFrame(columns, index=frame.index)


def _fits(name: str, cells: "pd.Series") -> bool:
    """Whether a column that is called as one of the reader's is one."""
    if name == "run_id":
        return bool(cells.notna().all() and cells.is_unique)
    if name == "status":
        return set(cells) <= STATUS
    return name in ("run_name", "start_time", "end_time", "seconds") and bool(cells.notna().any())


def _by_step(
    frame: "pd.DataFrame", runs: "pd.DataFrame", step: str | None
) -> tuple["pd.DataFrame", "pd.DataFrame"]:
    """The values by step, and one row per run with the last of each metric: rows of the same settings are one run."""
    import pandas as pd

    if step is None:
        return pd.DataFrame(columns=list(HISTORY_COLUMNS)), runs
    steps = pd.Series(_numbers(frame[step], step), frame.index)
    if steps.isna().any():
        raise InputError(f"the column {printable(step)}: each row needs a number")
    values = [metric(name) for name in metrics_in(runs)]
    settings = [name for name in runs if name not in values]
    runs = runs.assign(step=steps.astype(int)).sort_values("step", kind="stable")
    number = runs.groupby(settings, dropna=False, sort=False).ngroup()
    number = number.map({old: new for new, old in enumerate(number.sort_index().unique())})
    last = runs.groupby(number)[values].last()
    kept = runs[settings].groupby(number).head(1).set_axis(number[~number.duplicated()])
    ids = _ids(len(last))
    long = runs.assign(run_id=[ids[at] for at in number]).melt(["run_id", "step"], values, "metric")
    long = long.dropna(subset="value").assign(metric=lambda each: each["metric"].str.removeprefix(METRIC))
    order = ["run_id", "metric", "step"]
    history = long.sort_values(order, kind="stable", ignore_index=True)[list(HISTORY_COLUMNS)]
    return history, kept.join(last).sort_index().assign(run_id=ids)


def _completed(runs: "pd.DataFrame", name: str, layout: Layout) -> "pd.DataFrame":
    """The runs with all that the reader gives of each."""
    import pandas as pd

    runs = runs.reset_index(drop=True)
    told = [key for key in (*layout.settings, layout.seed) if param(key) in runs]
    names = runs[list(map(param, told))].to_dict("records")
    made = {
        "run_id": _ids(len(runs)),
        "run_name": [" ".join(f"{key}={row[param(key)]}" for key in told) for row in names],
        "experiment_id": "0",
        "experiment": name,
        "status": "FINISHED",
        "start_time": pd.NaT,
        "end_time": pd.NaT,
        "seconds": math.nan,
        "artifact_uri": None,
    }
    runs = runs.assign(
        **{key: value for key, value in made.items() if key not in runs or key == "experiment"}
    )
    for key in ("start_time", "end_time"):
        runs[key] = pd.to_datetime(runs[key], utc=True, errors="coerce")
    runs["seconds"] = pd.to_numeric(runs["seconds"], errors="coerce").astype(float)
    first = [*RUN_COLUMNS]
    others = [name for name in runs if name not in first and runs[name].notna().any()]
    return runs[[*first, *others]]


def _ids(count: int) -> list[str]:
    """An id for each row, which sorts as the rows do."""
    width = len(str(count))
    return [f"row-{number:0{width}}" for number in range(1, count + 1)]


def _texts(cells: "pd.Series") -> list[str | None]:
    """Settings as texts: whole numbers without a point, None where a cell is empty."""
    values = cells.tolist()
    floats = [value for value in values if isinstance(value, float) and not math.isnan(value)]
    whole = bool(floats) and all(value.is_integer() and abs(value) < 2**53 for value in floats)
    return [
        _text(int(value) if whole and isinstance(value, float) and value == value else value)
        for value in values
    ]


def _text(value: Any) -> str | None:
    return None if value is None or value != value or str(value) in ("", "<NA>", "NaT") else str(value)


def _numbers(cells: "pd.Series", name: str) -> list[float]:
    found = []
    for row, value in enumerate(cells.tolist(), 1):
        try:
            number = _number(value)
        except ValueError as error:
            raise InputError(
                f"row {row}: {printable(name)} is {error}; a cell without a result is empty"
            ) from None
        found.append(math.nan if number is None else number)
    return found


def _number(value: Any) -> float | None:
    """A measurement; None where a cell is empty. Raises ValueError, with what it is in words, for another."""
    if value is None or str(value).strip().lower() in (*EMPTY, "<na>"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{printable(repr(str(value)[:40]))}, which is no number") from None


def _is_number(value: Any) -> bool:
    try:
        _number(value)
    except ValueError:
        return False
    return True


def _with_point(cell: str) -> str:
    """A number with a decimal comma with a point."""
    pointed = cell.replace(",", ".", 1)
    try:
        float(pointed)
    except ValueError:
        return cell
    return pointed


def _named(columns: Collection[str]) -> str:
    names = [printable(name) for name in columns]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more or "none"
