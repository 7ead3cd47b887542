"""What is written to a SQLite store without MLflow, whose import takes seconds and each of whose calls milliseconds.

Each function says whether it did all of what was asked. Where it did not it did nothing, and MLflow is to be asked,
which then does it or says what is wrong: of a server, of a run that was deleted, of what MLflow would not take. Tags
and files are written to the store of any MLflow, whose tables and columns for them are those of every one since 1.0;
all else only where the database has the schema whose rows are known here (`REVISION`).
"""

import hashlib
import math
import re
import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

from ablations import ground
from ablations.ground import local_path
from ablations.tracking.columns import CONTEXT, INFINITY

REVISION = "dc11669786a5"
"""Of the schema of MLflow 3.17."""

# MLflow's limits, the smallest where its versions differ.
KEY_CHARACTERS = 250
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 8000
EXPERIMENT_TAG_CHARACTERS = 20_000
DIGEST_CHARACTERS = 36
DATASET_CHARACTERS = {"name": 500, "digest": DIGEST_CHARACTERS, "source_type": 36, "source": 65_535}
PROFILE_CHARACTERS = 1_000_000
PLAIN_KEY = re.compile(r"\w[\w.-]*")
PLAIN_NAME = re.compile(r"\w[\w.-]*(/\w[\w.-]*)*")
WORTH_SHARING = 2**16
"""Bytes of a file from which on its equal is not written again: a run's weights, which its model has, too."""
UPLOADING = ".artifact.uploading."
"""How MLflow's names of files begin that are not whole yet."""
ARTIFACT = "artifact"
"""The tag of a listed model: where it is among the artifacts of its run."""
READY = 2
"""The status of a listed model that is whole."""

STATUSES = ("FINISHED", "FAILED", "KILLED")
LARGEST = 2**63


class Connecting(Protocol):
    """What is known of a store here: its SQLite file, None where it has none, and how that is opened."""

    @property
    def path(self) -> Path | None: ...

    def connect(self, mode: str = "ro") -> sqlite3.Connection: ...


class ForMlflow(Exception):
    """MLflow is to be asked instead."""


def build(path: Path, schema: str, artifacts: str) -> None:
    """Make a database of the statements of a schema, with its artifacts at that address. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(schema)
        now = _now_ms()
        db.execute(
            "UPDATE experiments SET artifact_location = ?, creation_time = ?, last_update_time = ?",
            [f"{artifacts}/0", now, now],
        )


def knows(store: Connecting) -> bool:
    """Whether all that a run writes is written directly. Raises sqlite3.Error where the file cannot be read now."""
    if store.path is None or not store.path.exists():
        return False
    with closing(store.connect()) as db:
        return _has_known_schema(db)


def create_experiment(store: Connecting, name: str, artifacts: str) -> str | None:
    """Make an experiment with its `artifacts` at that address, and return its id, or that of the active one that has
    the name already. Raises sqlite3.Error as `tag_run` does."""
    with _left_to_mlflow(), _transaction(store) as db:
        query = "SELECT experiment_id, lifecycle_stage FROM experiments WHERE name = ?"
        if (found := db.execute(query, [name]).fetchone()) is not None:
            _require(found[1] == "active")
            return str(found[0])
        _require(_is_plain(name, "", 0))
        now = _now_ms()
        return str(
            db.execute(
                "INSERT INTO experiments (name, artifact_location, lifecycle_stage, creation_time, last_update_time)"
                " VALUES (?, ?, 'active', ?, ?)",
                [name, artifacts, now, now],
            ).lastrowid
        )
    return None


def create_run(
    store: Connecting, experiment_id: str, name: str, tags: Mapping[str, str], time_ms: int
) -> str | None:
    """Create a run that is RUNNING and return its id. Raises sqlite3.Error as `tag_run` does."""
    with _left_to_mlflow(), _transaction(store) as db:
        query = (
            "SELECT artifact_location FROM experiments WHERE experiment_id = ? AND lifecycle_stage = 'active'"
        )
        place = db.execute(query, [int(experiment_id)]).fetchone()
        _require(place is not None and _is_plain_address(place[0]))
        _require(0 < len(name) <= KEY_CHARACTERS and _is_time(time_ms) and "mlflow.runName" not in tags)
        _require(all(_is_plain(key, value, TAG_CHARACTERS) for key, value in tags.items()))
        run_id = uuid.uuid4().hex
        db.execute(
            "INSERT INTO runs (run_uuid, name, source_type, source_name, entry_point_name, user_id, status,"
            " start_time, source_version, lifecycle_stage, artifact_uri, experiment_id)"
            " VALUES (?, ?, 'UNKNOWN', '', '', ?, 'RUNNING', ?, '', 'active', ?, ?)",
            [
                run_id,
                name,
                tags.get("mlflow.user", "unknown"),
                time_ms,
                f"{place[0]}/{run_id}/artifacts",
                int(experiment_id),
            ],
        )
        _set_tags(db, "tags", "run_uuid", run_id, {**tags, "mlflow.runName": name})
        return run_id
    return None


def find_runs(store: Connecting, key: str, value: str, deleted: bool) -> list[str] | None:
    """The ids of the runs with a tag in the experiments that are not deleted, or of those that are `deleted` there, the
    oldest first. Raises sqlite3.Error where the file cannot be read now."""
    if not knows(store):
        return None
    with closing(store.connect()) as db:
        rows = db.execute(
            "SELECT run_uuid FROM runs JOIN tags USING (run_uuid) JOIN experiments USING (experiment_id)"
            " WHERE key = ? AND value = ? AND runs.lifecycle_stage = ? AND experiments.lifecycle_stage = 'active'"
            " ORDER BY start_time, run_uuid",
            [key, value, "deleted" if deleted else "active"],
        )
        return [run_id for (run_id,) in rows]


def is_deleted(store: Connecting, run_id: str) -> bool | None:
    """Whether a run is in the store's bin. Raises sqlite3.Error where the file cannot be read now."""
    if not knows(store):
        return None
    with closing(store.connect()) as db:
        row = db.execute("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", [run_id]).fetchone()
    return None if row is None else row[0] == "deleted"


def write(store: Connecting, run_id: str, record: Mapping[str, Any], files: Path | None = None) -> bool:
    """Apply a record to a run, as `sending.send` does. Raises sqlite3.Error and OSError as `tag_run` and `add_files`
    do."""
    match record["do"]:
        case "tags":
            return tag_run(store, run_id, record["tags"])
        case "files":
            return files is not None and add_files(store, run_id, files)
        case kind if kind in WRITERS:
            with _left_to_mlflow(), _transaction(store) as db:
                _require_active(db, "run", run_id)
                WRITERS[kind](db, run_id, record)
                return True
    return False


def tag_run(store: Connecting, run_id: str, tags: Mapping[str, str]) -> bool:
    """Set or replace tags of a run. Raises sqlite3.Error where the file cannot be written to now."""
    # MLflow's own tags may be columns elsewhere, too, as a run's name; of its models it is told nowhere else.
    own = any(key.startswith("mlflow.") and key != "mlflow.log-model.history" for key in tags)
    if own or not all(_is_plain(key, value, TAG_CHARACTERS) for key, value in tags.items()):
        return False
    return _tagged(store, "run", run_id, tags)


def tag_experiment(store: Connecting, experiment_id: str, key: str, value: str) -> bool:
    """Set or replace a tag of an experiment. Raises sqlite3.Error as `tag_run` does."""
    if key.startswith("mlflow.trace") or not _is_plain(key, value, EXPERIMENT_TAG_CHARACTERS):
        return False
    return _tagged(store, "experiment", experiment_id, {key: value})


def add_files(store: Connecting, run_id: str, folder: Path) -> bool:
    """Copy what is in a folder to the artifacts of a run, each file whole, large ones that are the same once, under
    all their names. Raises sqlite3.Error as `tag_run` does, OSError where a file cannot be written."""
    if store.path is None:
        return False
    with closing(store.connect()) as db:
        row = db.execute("SELECT artifact_uri FROM runs WHERE run_uuid = ?", [run_id]).fetchone()
    home = local_path(row[0]) if row and isinstance(row[0], str) else None
    if home is None:
        return False
    there: dict[str, Path] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        to = home / path.relative_to(folder)
        large = path.stat().st_size >= WORTH_SHARING
        first = there.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), to) if large else to
        _put(path if first == to else first, to, shutil.copy2 if first == to else ground.link)
    return True


def _log_params(db: sqlite3.Connection, run_id: str, record: Mapping[str, Any]) -> None:
    params = record["params"]
    _require(all(_is_plain(key, value, PARAM_CHARACTERS, PLAIN_NAME) for key, value in params.items()))
    known = dict(db.execute("SELECT key, value FROM params WHERE run_uuid = ?", [run_id]))
    _require(all(known.get(key, value) == value for key, value in params.items()))
    rows = [(key, value, run_id) for key, value in params.items() if key not in known]
    db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", rows)


def _log_metrics(db: sqlite3.Connection, run_id: str, record: Mapping[str, Any]) -> None:
    rows = []
    for key, value, time_ms, step in record["metrics"]:
        plain = _is_plain(key, "", 0, PLAIN_NAME) and type(value) in (int, float)
        _require(plain and _is_time(time_ms) and type(step) is int and -LARGEST <= step < LARGEST)
        rows.append((key, *_number(value), time_ms, step, run_id))
    values = "(key, value, is_nan, timestamp, step, run_uuid) VALUES (?, ?, ?, ?, ?, ?)"
    db.executemany(f"INSERT OR IGNORE INTO metrics {values}", rows)
    db.executemany(
        f"INSERT INTO latest_metrics {values} ON CONFLICT (key, run_uuid) DO UPDATE SET value = excluded.value,"
        " is_nan = excluded.is_nan, timestamp = excluded.timestamp, step = excluded.step WHERE"
        " (excluded.step, excluded.timestamp, excluded.value)"
        " > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)",
        rows,
    )


def _log_dataset(db: sqlite3.Connection, run_id: str, record: Mapping[str, Any]) -> None:
    """An input of the run; of several with one name and digest there is the first."""
    data, context = record["dataset"], record["context"]
    _require(all(0 < len(data[name]) <= most for name, most in DATASET_CHARACTERS.items()))
    _require(0 < len(context) <= KEY_CHARACTERS and len(data["profile"] or "") <= PROFILE_CHARACTERS)
    (experiment,) = db.execute("SELECT experiment_id FROM runs WHERE run_uuid = ?", [run_id]).fetchone()
    named = [experiment, data["name"], data["digest"]]
    found = db.execute(
        "SELECT dataset_uuid FROM datasets WHERE experiment_id = ? AND name = ? AND digest = ?", named
    ).fetchone()
    dataset = found[0] if found else uuid.uuid4().hex
    if found is None:
        db.execute(
            "INSERT INTO datasets (dataset_uuid, experiment_id, name, digest, dataset_source_type, dataset_source,"
            " dataset_profile) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [dataset, *named, data["source_type"], data["source"], data["profile"]],
        )
    is_there = (
        "SELECT 1 FROM inputs WHERE source_type = 'DATASET' AND source_id = ? AND destination_type = 'RUN'"
    )
    if db.execute(f"{is_there} AND destination_id = ?", [dataset, run_id]).fetchone() is None:
        given = _link(db, "DATASET", dataset, "RUN", run_id)
        db.execute(
            "INSERT INTO input_tags (input_uuid, name, value) VALUES (?, ?, ?)", [given, CONTEXT, context]
        )


def _list_models(db: sqlite3.Connection, run_id: str, record: Mapping[str, Any]) -> None:
    """Entries of its models, with its params and test metrics; what `models.list_models` does."""
    experiment, run_name = db.execute(
        "SELECT experiment_id, name FROM runs WHERE run_uuid = ?", [run_id]
    ).fetchone()
    (place,) = db.execute(
        "SELECT artifact_location FROM experiments WHERE experiment_id = ?", [experiment]
    ).fetchone()
    _require(_is_plain_address(place))
    listed = db.execute(
        "SELECT status, (SELECT tag_value FROM logged_model_tags t WHERE t.model_id = m.model_id AND tag_key = ?)"
        " FROM logged_models m WHERE source_run_id = ? AND lifecycle_stage = 'active'",
        [ARTIFACT, run_id],
    ).fetchall()
    _require(all(status == READY and path is not None for status, path in listed))
    for path in sorted(set(record["paths"]) - {path for _, path in listed}):
        model_id, now = f"m-{uuid.uuid4().hex}", _now_ms()
        db.execute(
            "INSERT INTO logged_models (model_id, experiment_id, name, artifact_location, creation_timestamp_ms,"
            " last_updated_timestamp_ms, status, lifecycle_stage, source_run_id)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, 'active', ?)",
            [
                model_id,
                experiment,
                model_name(run_name),
                f"{place}/models/{model_id}/artifacts",
                now,
                now,
                READY,
                run_id,
            ],
        )
        db.execute(
            "INSERT INTO logged_model_params (model_id, experiment_id, param_key, param_value)"
            " SELECT ?, ?, key, value FROM params WHERE run_uuid = ?",
            [model_id, experiment, run_id],
        )
        db.executemany(
            "INSERT INTO logged_model_tags (model_id, experiment_id, tag_key, tag_value) VALUES (?, ?, ?, ?)",
            [(model_id, experiment, key, value) for key, value in tags_of_listed(run_id, path).items()],
        )
        _link(db, "RUN_OUTPUT", run_id, "MODEL_OUTPUT", model_id)
        db.execute(
            "INSERT INTO logged_model_metrics (model_id, metric_name, metric_timestamp_ms, metric_step, metric_value,"
            " experiment_id, run_id) SELECT ?, key, timestamp, step, value, ?, run_uuid FROM latest_metrics"
            " WHERE run_uuid = ? AND substr(key, 1, 5) = 'test/'",
            [model_id, experiment, run_id],
        )


def model_name(run_name: str) -> str:
    """What the models of a run are called, which may have fewer characters than runs."""
    return re.sub(r"[/:.%\"']", "_", run_name)


def tags_of_listed(run_id: str, path: str) -> dict[str, str]:
    """The tags of a listed model, whose files are the artifact `path` of its run."""
    about = (
        f"Its files are the artifact `{path}` of its source run, and its address is `runs:/{run_id}/{path}`."
    )
    return {ARTIFACT: path, "mlflow.note.content": about}


def _resume(db: sqlite3.Connection, run_id: str, record: Mapping[str, Any]) -> None:
    db.execute("UPDATE runs SET status = 'RUNNING' WHERE run_uuid = ?", [run_id])
    db.execute("DELETE FROM tags WHERE run_uuid = ? AND key IN ('failure', 'failure_reason')", [run_id])


def _end(db: sqlite3.Connection, run_id: str, record: Mapping[str, Any]) -> None:
    _require(record["status"] in STATUSES and _is_time(record["time_ms"]))
    db.execute(
        "UPDATE runs SET status = ?, end_time = ? WHERE run_uuid = ?",
        [record["status"], record["time_ms"], run_id],
    )


WRITERS: Mapping[str, Callable[[sqlite3.Connection, str, Mapping[str, Any]], None]] = {
    "params": _log_params,
    "metrics": _log_metrics,
    "dataset": _log_dataset,
    "models": _list_models,
    "resume": _resume,
    "end": _end,
}
"""By what a record asks for the function that writes its rows."""


@contextmanager
def _left_to_mlflow() -> Iterator[None]:
    """End the block where MLflow is to be asked; also where the database refuses a row, so that MLflow says why."""
    try:
        yield
    except (ForMlflow, sqlite3.IntegrityError):
        return


@contextmanager
def _transaction(store: Connecting, any_schema: bool = False) -> Iterator[sqlite3.Connection]:
    """A block that changes the file as a whole, or not at all. Raises ForMlflow for other schemas."""
    _require(store.path is not None)
    with closing(store.connect("rw")) as db:
        db.isolation_level = None
        db.execute("BEGIN IMMEDIATE")
        _require(any_schema or _has_known_schema(db))
        yield db
        db.execute("COMMIT")  # without it, closing rolls back


def _require(held: bool) -> None:
    if not held:
        raise ForMlflow


def _has_known_schema(db: sqlite3.Connection) -> bool:
    """Not of a store that several teams share (MLflow's workspaces), where a name of an experiment says too little."""
    try:
        known = db.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]
        return known and not db.execute("SELECT 1 FROM experiments WHERE workspace <> 'default'").fetchone()
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return False


def _require_active(db: sqlite3.Connection, kind: str, its_id: str) -> None:
    column = "run_uuid" if kind == "run" else "experiment_id"
    active = f"SELECT 1 FROM {kind}s WHERE {column} = ? AND lifecycle_stage = 'active'"
    _require(db.execute(active, [its_id]).fetchone() is not None)


def _tagged(store: Connecting, kind: str, its_id: str, tags: Mapping[str, str]) -> bool:
    with _left_to_mlflow(), _transaction(store, any_schema=True) as db:
        _require_active(db, kind, its_id)
        if kind == "run":
            _set_tags(db, "tags", "run_uuid", its_id, tags)
        else:
            _set_tags(db, "experiment_tags", "experiment_id", its_id, tags)
        return True
    return False


def _set_tags(db: sqlite3.Connection, table: str, column: str, its_id: str, tags: Mapping[str, str]) -> None:
    rows = [(key, value, its_id) for key, value in tags.items()]
    db.executemany(f"INSERT OR REPLACE INTO {table} (key, value, {column}) VALUES (?, ?, ?)", rows)


def _link(db: sqlite3.Connection, kind: str, source: str, to: str, target: str) -> str:
    """Tie what went into a run, or came out of it, to the other; the id of that."""
    its_id = uuid.uuid4().hex
    db.execute(
        "INSERT INTO inputs (input_uuid, source_type, source_id, destination_type, destination_id)"
        " VALUES (?, ?, ?, ?, ?)",
        [its_id, kind, source, to, target],
    )
    return its_id


def _is_plain(key: str, value: str, characters: int, form: re.Pattern[str] = PLAIN_KEY) -> bool:
    return len(key) <= KEY_CHARACTERS and len(value) <= characters and bool(form.fullmatch(key))


def _is_plain_address(place: object) -> bool:
    """Whether MLflow would append to the address of a folder as to a path."""
    plain = isinstance(place, str) and place.startswith("file:///") and not set(place) & set("?#;")
    return plain and not place.endswith("/")


def _is_time(milliseconds: object) -> bool:
    return type(milliseconds) is int and 0 <= milliseconds < LARGEST


def _number(value: float) -> tuple[float, bool]:
    """A value as MLflow's databases hold it, and whether it is none."""
    if math.isnan(value):
        return 0.0, True
    return max(-INFINITY, min(INFINITY, float(value))), False


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _put(path: Path, to: Path, how: Callable[[Path, Path], object]) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.parent / f"{UPLOADING}{uuid.uuid4().hex}"
    try:
        how(path, partial)
        ground.replace(partial, to)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
