"""The runs in an MLflow store, as tables: this project's or anybody's.

A local SQLite store is read by SQL, which is many times faster than MLflow's API and needs no import of it;
every other store is read through the API. Both give the same tables.
"""

import json
import math
import os
import sqlite3
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ablations.errors import InputError, masked
from ablations.ground import local_path
from ablations.ground.paths import draft_folder
from ablations.tracking.columns import (
    CONTEXT,
    INFINITY,
    KIND,
    METRIC,
    PARAM,
    REPORT,
    REPORT_OF,
    TAG,
    column,
    tag,
)
from ablations.tracking.moved import Move, move, settle
from ablations.tracking.store import AwayError, Store, pages
from ablations.tracking.table import RUN_COLUMNS, Table

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities import Run

    from ablations.tracking.points import Point

HISTORY_COLUMNS = ("run_id", "metric", "step", "value")

RUNS_PER_QUERY = 500
PASSING = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_IOERR)
"""SQLite's answers to what may be read later."""


class Reader:
    """The runs in an MLflow store.

    Raises InputError where the store does not exist, is none, or does not answer.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._source: _Sqlite | _Api = _Sqlite(store) if store.path else _Api(store)
        self._downloads: Path | None = None
        self.out_of_reach: set[str] = set()
        """The runs whose artifacts were asked for and have a place that cannot be seen from here, or never was."""

    def experiments(self) -> list[str]:
        """Return the names of the experiments, sorted; deleted ones are left out."""
        return sorted(self._source.experiments().values())

    def experiment_tags(self, experiment_id: str) -> dict[str, str]:
        """Return the tags of an experiment, none for an unknown one."""
        return {key: masked(text) for key, text in self._source.experiment_tags(experiment_id).items()}

    def runs(
        self,
        experiment: str | Sequence[str] | None = None,
        tags: Mapping[str, str] | None = None,
        where: str | None = None,
    ) -> "pd.DataFrame":
        """Return one row per run that is not deleted, the oldest first, named as in `mlflow.search_runs`.

        Columns: `run_id`, `run_name`, `experiment_id`, `experiment`, `status`, `start_time`, `end_time`
        (UTC), `seconds`, `artifact_uri`, then `params.<key>` (text), `metrics.<name>` (the last value),
        `tags.<key>` (text) and `inputs.<context>` (the digests of data sets logged as inputs, sorted, parted by
        commas), each kind sorted by name; missing where a run has none. Only runs of `experiment`,
        one or several, with all of `tags`, and that the filter `where` finds (in the grammar of
        `mlflow.search_runs`), where given. Those that keep the report of a sweep are no runs, unless `tags` ask for
        them.

        Raises InputError, with the names that exist, for an unknown experiment, and for a filter that is none.
        """
        table, experiments = self._table(experiment, tags)
        frame = table.frame()
        if KIND not in (tags or {}):
            frame = _without_reports(frame)
        if where is None:
            return frame
        found = frame[frame["run_id"].isin(self._found(experiments, where))].reset_index(drop=True)
        empty = [name for name in found if name not in RUN_COLUMNS and found[name].isna().all()]
        return found.drop(columns=empty)

    def records(
        self, experiment: str | None = None, tags: Mapping[str, str] | None = None
    ) -> list[dict[str, str | float | None]]:
        """The same runs in the same order, each as a row of what it has, by the names of the columns; times in
        milliseconds since 1970. For this pandas is not imported, which takes longer than reading them.

        Raises InputError for an unknown experiment.
        """
        rows = self._table(experiment, tags)[0].records()
        if KIND in (tags or {}):
            return rows
        return [row for row in rows if row.get(tag(KIND)) != REPORT or tag(REPORT_OF) not in row]

    def _table(
        self, experiment: str | Sequence[str] | None, tags: Mapping[str, str] | None
    ) -> "tuple[Table, dict[str, str]]":
        """The runs of some experiments, and these by id."""
        experiments = self._source.experiments()
        if experiment is not None:
            wanted = (experiment,) if isinstance(experiment, str) else experiment
            if unknown := [name for name in wanted if name not in experiments.values()]:
                known = ", ".join(self.experiments()) or "none"
                raise InputError(f"no experiment {unknown[0]!r} in {self._store.shown}; there are: {known}")
            experiments = {key: name for key, name in experiments.items() if name in wanted}
        table = Table()
        self._source.fill(table, experiments, dict(tags or {}))
        return table, experiments

    def _found(self, experiments: Iterable[str], where: str) -> set[str]:
        """The ids of the runs that a filter finds, by MLflow itself."""
        from mlflow.exceptions import MlflowException

        query = {"experiment_ids": list(experiments), "filter_string": where, "max_results": 1000}
        with self._store.client() as api:
            try:
                return {run.info.run_id for run in pages(api.search_runs, **query)}
            except MlflowException as error:
                if error.error_code != "INVALID_PARAMETER_VALUE":
                    raise
                raise InputError(f"the filter {where!r} is none of MLflow's: {_first_line(error)}") from None

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str] | None = None) -> "pd.DataFrame":
        """Return every logged value: columns `run_id`, `metric`, `step`, `value`, sorted by the first three.

        Values of the same step come in the order of their time stamps. Unknown runs and metrics have no rows.
        """
        from ablations.tracking.points import Points

        points = Points()
        wanted = None if metrics is None else sorted(set(metrics))
        for block in self._source.histories(sorted(set(run_ids)), wanted):
            points.add(block)
        return points.frame()

    def artifact(self, run_id: str, path: str) -> Path | None:
        """Return a local file or folder with the artifact `path` of a run, None where there is none.

        An artifact kept elsewhere is downloaded to a temporary folder that lives as long as this reader. One
        that only a tracking server can reach is missed (None) when its database is read directly.
        """
        if ".." in PurePosixPath(path).parts or PurePosixPath(path).is_absolute():
            return None
        location = self._source.artifact_uri(run_id)
        if location is None:
            return None
        folder = local_path(location)
        if folder is not None:
            file = folder / path
            if not folder.exists():
                self.out_of_reach.add(run_id)
            return file if file.exists() else None
        if location.startswith("mlflow-artifacts:") and self._store.path:
            self.out_of_reach.add(run_id)
            return None
        if self._downloads is None:
            stack = ExitStack()
            weakref.finalize(self, stack.close)
            self._downloads = stack.enter_context(draft_folder())
        return _download(self._store, run_id, path, self._downloads)

    def copied(self, folder: Path) -> Store:
        """Copy a store in a SQLite file to a folder. The artifacts stay where they are."""
        return self._source.copied(folder / self._store.path.name)


class _Sqlite:
    """A local SQLite store, read by SQL and never written to."""

    def __init__(self, store: Store) -> None:
        self._store, path = store, store.path
        if not path.exists():
            raise InputError(f"there is no MLflow store at {path} yet: `python run.py` makes one")
        self._mode = "ro"
        self._move: Move | None = None
        try:
            self.experiments()
        except InputError:
            # A folder that cannot be written to has no room for the files that WAL mode wants beside the
            # database; reading does without them as long as its log is empty.
            log = path.with_name(path.name + "-wal")
            if os.access(path.parent, os.W_OK) or (log.exists() and log.stat().st_size > 0):
                raise
            self._mode = "ro&immutable=1"
            self.experiments()
        with self._open() as db:
            self._move = move(db, store.artifacts)

    def experiments(self) -> dict[str, str]:
        with self._open() as db:
            rows = db.execute("SELECT experiment_id, name FROM experiments WHERE lifecycle_stage = 'active'")
            return {str(key): name for key, name in rows}

    def experiment_tags(self, experiment_id: str) -> dict[str, str]:
        with self._open() as db:
            query = "SELECT key, CAST(value AS TEXT) FROM experiment_tags WHERE experiment_id = ?"
            return dict(db.execute(query, [int(experiment_id)]))

    def fill(self, table: Table, experiments: Mapping[str, str], tags: Mapping[str, str]) -> None:
        with self._open() as db:
            db.execute("BEGIN")  # one moment of the store for all that follows
            ids = json.dumps(self._chosen(db, experiments, tags))
            among = "run_uuid IN (SELECT value FROM json_each(?))"
            runs = db.execute(
                f"SELECT run_uuid, name, experiment_id, status, {_TIMES}, artifact_uri,"
                " (SELECT value FROM tags t WHERE t.run_uuid = runs.run_uuid AND t.key = 'mlflow.runName')"
                f" FROM runs WHERE {among}",
                [ids],
            )
            for run_id, name, experiment, *others, tag_name in runs:
                key = str(experiment)
                table.add_run(run_id, name or tag_name, key, experiments[key], *others)
            for kind, name in ((PARAM, "params"), (TAG, "tags")):
                for run_id, key, text in db.execute(
                    f"SELECT run_uuid, key, CAST(value AS TEXT) FROM {name} WHERE {among}", [ids]
                ):
                    table.add_value(kind, run_id, key, text)
            for run_id, key, value, is_nan in db.execute(
                f"SELECT run_uuid, key, value, is_nan FROM latest_metrics WHERE {among}", [ids]
            ):
                table.add_value(METRIC, run_id, key, math.nan if is_nan else _number(value))
            for run_id, digests in _digests(db, ids).items():
                table.add_data(run_id, digests)

    def _chosen(
        self, db: sqlite3.Connection, experiments: Mapping[str, str], tags: Mapping[str, str]
    ) -> list[str]:
        """The ids of the runs of some experiments that have all of these tags.

        The tags are gone through by key and not run by run, so that one run is found among many in short time.
        """
        having = " AND run_uuid IN (SELECT run_uuid FROM tags WHERE key = ? AND value = ?)" * len(tags)
        query = "SELECT run_uuid FROM runs WHERE lifecycle_stage = 'active'"
        query += f" AND experiment_id IN (SELECT value FROM json_each(?)){having}"
        values = [_json_integers(experiments), *(text for pair in tags.items() for text in pair)]
        return [run_id for (run_id,) in db.execute(query, values)]

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str] | None) -> "Iterator[list[Point]]":
        # Without the + SQLite would go through all that the store has of a metric, for each block anew.
        only = "" if metrics is None else f" AND +key IN ({_marks(metrics)})"
        with self._open() as db:
            db.text_factory = bytes
            for start in range(0, len(run_ids), RUNS_PER_QUERY):
                block = run_ids[start : start + RUNS_PER_QUERY]
                yield db.execute(
                    "SELECT run_uuid, key, step,"
                    " CASE WHEN is_nan THEN NULL WHEN typeof(value) IN ('real', 'integer') THEN value END, timestamp"
                    f" FROM metrics WHERE run_uuid IN ({_marks(block)}){only}"
                    " AND typeof(step) = 'integer' AND typeof(timestamp) = 'integer'",
                    [*block, *(metrics or ())],
                ).fetchall()

    def artifact_uri(self, run_id: str) -> str | None:
        with self._open() as db:
            row = db.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id]).fetchone()
        return self._moved(row[0]) if row else None

    def _moved(self, location: str | None) -> str | None:
        return location if location is None or self._move is None else self._move.of(location)

    def copied(self, path: Path) -> Store:
        with self._open() as db, closing(sqlite3.connect(path)) as copy:
            db.backup(copy)
        settle(path, self._store.artifacts)
        return Store(f"sqlite:///{path}")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(self._store.connect(self._mode)) as db:
                db.text_factory = _text
                yield db
        except sqlite3.Error as error:
            kind = AwayError if getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING else InputError
            raise kind(f"cannot read an MLflow store from {self._store.path}: {error}") from error


class _Api:
    """Any other store, read through MLflow's client."""

    def __init__(self, store: Store) -> None:
        self._store = store
        store.require_answer()
        with store.client() as api:
            self._client: MlflowClient = api

    def experiments(self) -> dict[str, str]:
        with self._store.errors():
            return {
                item.experiment_id: item.name
                for item in pages(self._client.search_experiments, max_results=1000)
            }

    def experiment_tags(self, experiment_id: str) -> dict[str, str]:
        with self._store.errors():
            return dict(self._client.get_experiment(experiment_id).tags)

    def fill(self, table: Table, experiments: Mapping[str, str], tags: Mapping[str, str]) -> None:
        if not experiments:
            return
        with self._store.errors():
            for run in pages(
                self._client.search_runs,
                experiment_ids=list(experiments),
                filter_string=_filter(tags),
                max_results=1000,
            ):
                info, data = run.info, run.data
                if any(data.tags.get(key) != value for key, value in tags.items()):
                    continue
                name, key = info.run_name or data.tags.get("mlflow.runName"), info.experiment_id
                times = info.start_time, info.end_time or None
                table.add_run(
                    info.run_id, name, key, experiments[key], info.status, *times, info.artifact_uri
                )
                for kind, cells in ((PARAM, data.params), (TAG, data.tags)):
                    for key, text in cells.items():
                        table.add_value(kind, info.run_id, key, text)
                for key, value in data.metrics.items():
                    table.add_value(METRIC, info.run_id, key, _number(value))
                digests: dict[str, list[str]] = {}
                for given in run.inputs.dataset_inputs if run.inputs else ():
                    contexts = [each.value for each in given.tags if each.key == CONTEXT]
                    digests.setdefault(next(iter(contexts), ""), []).append(given.dataset.digest)
                table.add_data(info.run_id, digests)

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str] | None) -> "Iterator[list[Point]]":
        with self._store.errors(), ThreadPoolExecutor(8) as pool:
            for start in range(0, len(run_ids), RUNS_PER_QUERY):
                block = run_ids[start : start + RUNS_PER_QUERY]
                yield [
                    row
                    for rows in pool.map(lambda run_id: self._history(run_id, metrics), block)
                    for row in rows
                ]

    def _history(self, run_id: str, metrics: Sequence[str] | None) -> "list[Point]":
        run = _existing(self._client, run_id)
        if run is None:
            return []
        names = [name for name in run.data.metrics if metrics is None or name in metrics]
        return [
            (run_id.encode(), name.encode(), point.step, _number(point.value), point.timestamp)
            for name in names
            for point in self._client.get_metric_history(run_id, name)
        ]

    def artifact_uri(self, run_id: str) -> str | None:
        with self._store.errors():
            run = _existing(self._client, run_id)
        return run.info.artifact_uri if run else None


_TIMES = ", ".join(
    f"CASE typeof({name}) WHEN 'integer' THEN {name} END" for name in ("start_time", "end_time")
)
"""SQLite takes a text for a number, too, and so do the programs that write to it."""


def _digests(db: sqlite3.Connection, ids: str) -> dict[str, dict[str, list[str]]]:
    """By run (`ids` as JSON) and context the digests of data sets; none in a store of before MLflow 2.4."""
    tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables.issuperset(("inputs", "datasets", "input_tags")):
        return {}
    found: dict[str, dict[str, list[str]]] = {}
    for run_id, digest, context in db.execute(
        "SELECT destination_id, CAST(digest AS TEXT),"
        " (SELECT CAST(value AS TEXT) FROM input_tags t WHERE t.input_uuid = i.input_uuid AND t.name = ?)"
        " FROM inputs i JOIN datasets ON dataset_uuid = source_id"
        " WHERE source_type = 'DATASET' AND destination_type = 'RUN'"
        " AND destination_id IN (SELECT value FROM json_each(?))",
        [CONTEXT, ids],
    ):
        found.setdefault(run_id, {}).setdefault(context or "", []).append(digest)
    return found


def _text(stored: bytes) -> str:
    """A text of the database; what of it is not UTF-8 is shown as a question mark in a box."""
    return stored.decode("utf-8", "replace")


def _without_reports(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The runs without those that keep reports, and without the columns that only these have."""
    reports = column(frame, tag(KIND)).eq(REPORT) & column(frame, tag(REPORT_OF)).notna()
    if not reports.any():
        return frame
    runs = frame[~reports].reset_index(drop=True)
    theirs = frame.columns[frame[reports].notna().any()].difference(RUN_COLUMNS)
    return runs.drop(columns=[name for name in theirs if runs[name].isna().all()])


def _number(value: object) -> float:
    """A metric's value; NaN where the database has something else for it."""
    if not isinstance(value, int | float):
        return math.nan
    return math.copysign(math.inf, value) if abs(value) >= INFINITY else value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "").strip()


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _json_integers(ids: Iterable[str]) -> str:
    return f"[{', '.join(str(int(key)) for key in ids)}]"


def _filter(tags: Mapping[str, str]) -> str:
    """Return the tags in MLflow's filter language, without those that its quoting cannot express."""
    return " AND ".join(
        tag(f"`{key}`") + f" = '{value}'"
        for key, value in tags.items()
        if "`" not in key and "'" not in value
    )


def _existing(api: "MlflowClient", run_id: str) -> "Run | None":
    from mlflow.exceptions import MlflowException

    try:
        return api.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _download(store: Store, run_id: str, path: str, folder: Path) -> Path | None:
    parent = str(PurePosixPath(path).parent)
    with store.client() as api:
        listed = api.list_artifacts(run_id, None if parent == "." else parent)
        if path not in {item.path for item in listed}:
            return None
        target = folder / run_id
        target.mkdir(exist_ok=True)
        return Path(api.download_artifacts(run_id, path, str(target)))
