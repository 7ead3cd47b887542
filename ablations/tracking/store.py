"""The MLflow store: where it is, and making it ready before anything is logged."""

import http.client
import os
import sqlite3
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import InputError
from ablations.paths import MLRUNS

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 20.0
"""How long to wait for another process that writes to the same SQLite file, as MLflow itself does."""

REQUEST_SECONDS = 20
"""How long to wait for a server's answer, unless MLFLOW_HTTP_REQUEST_TIMEOUT says otherwise."""

PROBE_SECONDS = 2.0
"""How long to wait for a store that was away before, to see whether it is back."""

REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
"""MLflow's answers to what it will refuse the next time, too. All else may be over later."""


class AwayError(InputError):
    """The store cannot be reached or written to now; it may be later, with the same request."""


EXPERIMENT_TAG_CHARACTERS = 20_000
"""MLflow's limit for the value of an experiment's tag."""


def tracking_uri(configured: str | None) -> str:
    """Return the store to use: `configured`, else MLFLOW_TRACKING_URI, else the project's own SQLite file.

    A relative SQLite path is taken from the working directory and made absolute, so that it means the same
    file in every worker.
    """
    uri = configured or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLRUNS / 'mlflow.db'}"
    path = sqlite_path(uri)
    return f"sqlite:///{path}" if path else uri


def sqlite_path(uri: str) -> Path | None:
    """Return the absolute path of a local SQLite store, None where `uri` is something else.

    Raises InputError for a SQLite store in memory, which no other process would see.
    """
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    path = rest.partition("?")[0].removeprefix("/")
    if path in ("", ":memory:"):
        raise InputError(f"the store {uri} names no file: use sqlite:///folder/mlflow.db")
    return Path(path).absolute()


def prepare(uri: str, experiment: str) -> str:
    """Make the store and the experiment where they do not exist yet, and return the experiment's id.

    Call it once before any worker starts; every later call is quick and harmless. A local SQLite store is
    built aside and moved into place under a lock, so that processes which start at the same moment share one
    whole store, and a creator that is killed leaves none.

    Raises InputError for a store that cannot be written, is locked, is no MLflow store, or does not answer;
    AwayError where that may pass.
    """
    path = sqlite_path(uri)
    if path is None:
        require_answer(uri)
        return _experiment_id(uri, experiment, None)
    try:
        if not _has_tables(path):
            _create(path)
        _require_writable(path)
        known = _known_experiment(path, experiment)
    except (OSError, sqlite3.Error) as error:
        raise AwayError(f"cannot write to the MLflow store {uri}: {_line(error)}") from error
    return known or _experiment_id(uri, experiment, artifacts_folder(path))


def probe(uri: str, patient: bool = False) -> None:
    """Raise AwayError, soon unless `patient`, where a store that existed does not answer or is locked."""
    wait = LOCK_SECONDS if patient else PROBE_SECONDS
    path = sqlite_path(uri)
    if path is None:
        require_answer(uri, wait)
        return
    try:
        _require_writable(path, wait)
    except (OSError, sqlite3.Error) as error:
        raise AwayError(f"cannot write to the MLflow store {uri}: {_line(error)}") from error


def client(uri: str) -> "MlflowClient":
    """Return an MLflow client of the store, without MLflow's chatter and telemetry.

    Raises InputError where the store cannot be opened.
    """
    tame()
    with store_errors(uri):
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def connect(path: Path, mode: str = "ro", wait: float | None = None) -> sqlite3.Connection:
    """Open a SQLite file that exists, read-only unless told otherwise; `wait` for a lock LOCK_SECONDS."""
    uri = f"file:{urllib.parse.quote(str(path))}?mode={mode}"
    return sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS if wait is None else wait)


def tag_experiment(uri: str, experiment_id: str, key: str, value: str) -> None:
    """Set a tag of an experiment, such as a view prepared for the MLflow UI."""
    with store_errors(uri):
        client(uri).set_experiment_tag(experiment_id, key, value)


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what MLflow and the database under it raise into an InputError of one line.

    It is an AwayError unless the store refused what it was given.
    """
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, RequestException, OSError, ImportError) as error:
        refused = isinstance(error, ImportError) or getattr(error, "error_code", None) in REFUSALS
        kind = InputError if refused else AwayError
        raise kind(f"the MLflow store {uri} failed: {_line(error)}") from error


def require_answer(uri: str, wait: float = 10.0) -> None:
    """Fail at once where an HTTP server does not answer: MLflow's own client retries for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=wait).close()
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise AwayError(f"the MLflow server at {uri} is out of order: {error}") from error
        # Otherwise it answers, and what it answers is MLflow's to judge.
    except (OSError, http.client.HTTPException) as error:
        raise AwayError(f"no MLflow server answers at {uri}: {_line(error)}") from error


def artifacts_folder(path: Path) -> Path:
    """Return where the artifacts of a local SQLite store go: beside it."""
    return path.parent / "artifacts"


def _has_tables(path: Path) -> bool:
    """Whether there is an MLflow database. A file of another kind raises sqlite3.DatabaseError."""
    if not path.exists() or path.stat().st_size == 0:
        return False
    with closing(connect(path)) as db:
        found = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if found and "experiments" not in found:
        raise sqlite3.DatabaseError("it is a database of another program")
    return bool(found)


def _create(path: Path) -> None:
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(path.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel releases it when this process ends, however it ends
        if _has_tables(path):
            return
        # Left beside a database that was deleted, these would be taken for the new one's.
        for ending in ("-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".creating-") as folder:
            fresh = Path(folder) / path.name
            _build(fresh, artifacts_folder(path))
            os.replace(fresh, path)


def _build(path: Path, artifacts: Path) -> None:
    """Write a new MLflow database in WAL mode, in which readers and a writer do not block each other."""
    tame()
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = f"sqlite:///{path}"
    with store_errors(uri):
        store = SqlAlchemyStore(uri, artifacts.as_uri())
        store.engine.dispose()
        SqlAlchemyStore._engine_map.pop(uri, None)
    with closing(connect(path, "rw")) as db:
        db.execute("PRAGMA journal_mode = WAL")


def _require_writable(path: Path, wait: float | None = None) -> None:
    with closing(connect(path, "rw", wait)) as db:
        db.isolation_level = None
        db.execute("BEGIN IMMEDIATE")
        db.execute("ROLLBACK")


def _known_experiment(path: Path, experiment: str) -> str | None:
    with closing(connect(path)) as db:
        row = db.execute(
            "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'",
            [experiment],
        ).fetchone()
    return str(row[0]) if row else None


def _experiment_id(uri: str, experiment: str, artifacts: Path | None) -> str:
    api = client(uri)
    from mlflow.exceptions import MlflowException

    with store_errors(uri):
        for attempt in range(2):
            found = api.get_experiment_by_name(experiment)
            if found is not None and found.lifecycle_stage == "active":
                return found.experiment_id
            if found is not None:
                raise InputError(
                    f"the experiment {experiment!r} was deleted from {uri}: choose another name, or bring it "
                    f"back with `mlflow experiments restore --experiment-id {found.experiment_id}`"
                )
            try:
                return api.create_experiment(experiment, artifacts.as_uri() if artifacts else None)
            except MlflowException as error:
                # Another process may have created it a moment ago.
                if attempt or error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
    raise AssertionError("unreachable")


def tame() -> None:
    """Keep MLflow from calling home, from talking on our stdout and stderr, and from retrying for minutes.

    Each request is sent once: MLflow would send the one that creates a run again after an answer that was
    lost, and so make two.
    """
    import logging

    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_SECONDS))

    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for chatty in ("alembic", "mlflow.pyfunc"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    # It logs the traceback of every error that it also raises.
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)


def _line(error: BaseException) -> str:
    """The first line of an error's message, without SQLAlchemy's addenda."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
