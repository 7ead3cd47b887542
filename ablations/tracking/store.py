"""The MLflow store: where it is, and making it ready before anything is logged."""

import base64
import http.client
import os
import re
import sqlite3
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablations import ground
from ablations.commands import say_doing
from ablations.errors import HIDDEN, InputError, printable
from ablations.ground.lock import Lock
from ablations.ground.paths import MLRUNS, draft_folder, remove_drafts
from ablations.tracking import directly
from ablations.tracking.address import hide, whole
from ablations.tracking.moved import settle

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 20.0
"""How long to wait for another process that writes to the same SQLite file, as MLflow itself does."""

REQUEST_SECONDS = 20
"""How long to wait for a server's answer, unless MLFLOW_HTTP_REQUEST_TIMEOUT says otherwise."""

PROBE_SECONDS = 2.0
"""How long to wait for a store that was away before, to see whether it is back."""

PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds before a server that did not answer is asked again: it is not away because a line drops now and then."""

SOON_SECONDS = 1.0
"""What took longer to fail is not asked again at once."""

REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
"""MLflow's answers to what it will refuse the next time, too. All else may be over later."""


SCHEMAS = Path(__file__).parent
"""Where the schemas are that MLflow's migrations make (`mlflow-VERSION.sql`), for versions that were tried."""

CREATING = ".creating-"
"""How the folder begins, beside a store, in which it is made."""


class AwayError(InputError):
    """The store cannot be reached or written to now; it may be later, with the same request."""


@dataclass(frozen=True, init=False)
class Store:
    """An MLflow store, by its address. Making one opens nothing and imports nothing; two of one address are equal.

    Attributes:
        shown: the address without user and password; that of a SQLite file is absolute, so that it means the same
            file in every worker. Stores are compared by it.
        path: the SQLite file, None for a server or another database.
    """

    shown: str
    path: Path | None = field(compare=False)

    def __init__(self, uri: str | None = None) -> None:
        """Without `uri`, the store is that of MLFLOW_TRACKING_URI, else the project's own SQLite file.

        Raises InputError for a SQLite store in memory, which no other process would see.
        """
        uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{MLRUNS / 'mlflow.db'}"
        path = _sqlite_path(uri)
        object.__setattr__(self, "shown", f"sqlite:///{path.as_posix()}" if path else hide(uri))
        object.__setattr__(self, "path", path)

    @property
    def uri(self) -> str:
        """The address with its user and password, for MLflow alone. Raises InputError where they are not known."""
        return whole(self.shown)

    @property
    def server(self) -> str | None:
        """The address of an HTTP server, to which `/…` can be appended, without user and password; None for a
        database."""
        if not self.shown.startswith(("http://", "https://")):
            return None
        return self.shown.replace(f"//{HIDDEN}@", "//").rstrip("/")

    @property
    def option(self) -> list[str]:
        """What a printed command needs to find it: nothing for the store that every command takes by itself."""
        if self == Store():
            return []
        return ["--tracking-uri", self.shown]

    @property
    def artifacts(self) -> Path | None:
        """Where the artifacts of a SQLite file go: beside it. None for a store that has its own place."""
        return self.path.parent / "artifacts" if self.path else None

    def prepare(self, experiment: str) -> str:
        """Make the store and the experiment where they do not exist yet, and return the experiment's id.

        Call it once before any worker starts; every later call is quick and harmless. A local SQLite store is
        built aside and moved into place under a lock, so that processes which start at the same moment share one
        whole store, and a creator that is killed leaves none.

        Raises InputError for a store that cannot be written, is locked, is no MLflow store, or does not answer;
        AwayError where that may pass.
        """
        if self.path is None:
            self.require_answer()
            return self._experiment_id(experiment)
        with self.file_errors():
            if not self._has_tables():
                self._create()
            remove_drafts(self.path.parent, CREATING)
            self._require_writable()
            settle(self.path, self.artifacts)
            known = self._known_experiment(experiment)
        return known or self._experiment_id(experiment)

    def settle(self) -> None:
        """Let the SQLite file of a project that was moved or copied name the artifacts that lie beside it."""
        if self.path is not None:
            with self.file_errors():
                settle(self.path, self.artifacts)

    def probe(self, patient: bool = False) -> None:
        """Raise AwayError, soon unless `patient`, where a store that existed does not answer or is locked."""
        wait = LOCK_SECONDS if patient else PROBE_SECONDS
        if self.path is None:
            self.require_answer(wait)
            return
        with self.file_errors():
            self._require_writable(wait)

    def require_answer(self, wait: float = 10.0) -> None:
        """Fail soon where an HTTP server does not answer: MLflow's own client retries for minutes."""
        if self.server is not None:
            persistently(self._ask, wait)

    def _ask(self, wait: float) -> None:
        try:
            request = urllib.request.Request(f"{self.server}/health", headers=self._authorization())
            urllib.request.urlopen(request, timeout=wait).close()
        except urllib.error.HTTPError as error:
            if error.code >= 500:
                raise AwayError(f"the MLflow server at {self.shown} is out of order: {error}") from error
            # Otherwise it answers, and what it answers is MLflow's to judge.
        except (OSError, http.client.HTTPException) as error:
            raise AwayError(f"no MLflow server answers at {self.shown}: {_line(error)}") from error

    def _authorization(self) -> dict[str, str]:
        """What MLflow's own client would send: of the address, else of its variables."""
        parts = urllib.parse.urlsplit(self.uri)
        user = urllib.parse.unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME")
        password = urllib.parse.unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD")
        if user:
            pair = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        return {"Authorization": f"Bearer {token}"} if token else {}

    @contextmanager
    def client(self) -> "Iterator[MlflowClient]":
        """Give MLflow's client, without its chatter and telemetry, and turn what it raises into InputErrors.

        An InputError is of one line, and an AwayError unless the store refused what it was given. What a server does
        not answer is asked again a few times, but for what would then be there twice.
        """
        tame()
        with self.errors():
            from mlflow import MlflowClient

            api = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
            yield api if self.server is None else _Persistent(api)

    def warm_up(self) -> None:
        """Import what writing to it takes, which may be seconds. Raises InputError as `client` does."""
        with self.file_errors():
            known = directly.knows(self)
        if not known:
            with self.client():
                pass

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what MLflow and the database under it raise into InputErrors, as `client` does."""
        from mlflow.exceptions import MlflowException
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, SQLAlchemyError, RequestException, OSError, ImportError) as error:
            refused = isinstance(error, ImportError) or getattr(error, "error_code", None) in REFUSALS
            kind = InputError if refused else AwayError
            raise kind(f"the MLflow store {self.shown} failed: {_line(error)}") from error

    def connect(self, mode: str = "ro", wait: float | None = None) -> sqlite3.Connection:
        """Open the SQLite file, which exists, read-only unless told otherwise; `wait` for a lock LOCK_SECONDS."""
        uri = f"{self.path.as_uri()}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=LOCK_SECONDS if wait is None else wait)

    def tag_experiment(self, experiment_id: str, key: str, value: str) -> None:
        """Set a tag of an experiment, such as a view prepared for the MLflow UI."""
        with self.file_errors():
            if directly.tag_experiment(self, experiment_id, key, value):
                return
        with self.client() as api:
            api.set_experiment_tag(experiment_id, key, value)

    def discard(self, run_id: str) -> None:
        """Delete a run as the MLflow UI does, out of sight, to be restored by `mlflow runs restore`; and its models."""
        from mlflow.exceptions import MlflowException

        with self.client() as api:
            try:
                experiment_id = api.get_run(run_id).info.experiment_id
                api.delete_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return
            with suppress(MlflowException):  # a server before MLflow 3 lists no models
                for model in api.search_logged_models([experiment_id], f"source_run_id = '{run_id}'"):
                    api.delete_logged_model(model.model_id)

    @contextmanager
    def file_errors(self) -> Iterator[None]:
        """Turn what writing to the SQLite file, or beside it, raises into AwayErrors."""
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise AwayError(f"cannot write to the MLflow store {self.shown}: {_line(error)}") from error

    def _has_tables(self) -> bool:
        """Whether there is an MLflow database. A file of another kind raises sqlite3.DatabaseError."""
        if not self.path.exists() or self.path.stat().st_size == 0:
            return False
        with closing(self.connect()) as db:
            found = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if found and "experiments" not in found:
            raise sqlite3.DatabaseError("it is a database of another program")
        return bool(found)

    def _create(self) -> None:
        path = self.path
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(Lock.take(path.with_name(path.name + ".lock"), wait=True)):
            if self._has_tables():
                return
            say_doing(f"making the store {path}, once")
            # Left beside a database that was deleted, these would be taken for the new one's.
            for ending in ("-wal", "-shm"):
                path.with_name(path.name + ending).unlink(missing_ok=True)
            with draft_folder(path.parent, CREATING) as folder:
                fresh = Store(f"sqlite:///{folder / path.name}")
                fresh._build(self.artifacts)
                self.artifacts.mkdir(exist_ok=True)  # by which a store that was moved is known
                ground.replace(fresh.path, path)

    def _build(self, artifacts: Path) -> None:
        """Write a new MLflow database in WAL mode, in which readers and a writer do not block each other."""
        schema = SCHEMAS / f"mlflow-{version('mlflow')}.sql"
        if schema.exists():
            directly.build(self.path, schema.read_text(encoding="utf-8"), artifacts.as_uri())
        else:
            self._migrate(artifacts)
        with closing(self.connect("rw")) as db:
            db.execute("PRAGMA journal_mode = WAL")

    def _migrate(self, artifacts: Path) -> None:
        """Have MLflow make its database, by some hundred migrations."""
        tame()
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with self.errors():
            SqlAlchemyStore(self.uri, artifacts.as_uri()).engine.dispose()
            SqlAlchemyStore._engine_map.pop(self.uri, None)

    def _require_writable(self, wait: float | None = None) -> None:
        with closing(self.connect("rw", wait)) as db:
            db.isolation_level = None
            db.execute("BEGIN IMMEDIATE")
            db.execute("ROLLBACK")

    def _known_experiment(self, experiment: str) -> str | None:
        with closing(self.connect()) as db:
            row = db.execute(
                "SELECT experiment_id FROM experiments WHERE name = ? AND lifecycle_stage = 'active'",
                [experiment],
            ).fetchone()
        return str(row[0]) if row else None

    def _experiment_id(self, experiment: str) -> str:
        if self.artifacts is not None:
            with self.file_errors():
                found = directly.create_experiment(self, experiment, self.artifacts.as_uri())
            if found is not None:
                return found
        with self.client() as api:
            from mlflow.exceptions import MlflowException

            for attempt in range(2):
                found = api.get_experiment_by_name(experiment)
                if found is not None and found.lifecycle_stage == "active":
                    return found.experiment_id
                if found is not None:
                    raise InputError(
                        f"the experiment {experiment!r} was deleted from {self.shown}: choose another name, or bring "
                        f"it back with `mlflow experiments restore --experiment-id {found.experiment_id}`"
                    )
                try:
                    return api.create_experiment(experiment, self.artifacts and self.artifacts.as_uri())
                except MlflowException as error:
                    # Another process may have created it a moment ago.
                    if attempt or error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
        raise AssertionError("unreachable")


def _sqlite_path(uri: str) -> Path | None:
    """The absolute path of a SQLite file, None where `uri` is of something else."""
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    path, _, query = rest.removeprefix("/").partition("?")
    if "/" in query or re.search("%[0-9a-fA-F]{2}", path):  # SQLAlchemy 2.1 decodes the latter, 2.0 does not
        raise InputError(
            f"the store {printable(uri)}: MLflow finds no SQLite file in a folder with ? or %20 or the like in its"
            " name; rename it, or give another place (tracking.uri=sqlite:///folder/mlflow.db)"
        )
    if path in ("", ":memory:"):
        raise InputError(f"the store {uri} names no file: use sqlite:///folder/mlflow.db")
    return Path(path).absolute()


class _Persistent:
    """MLflow's client, which asks again, but for what makes something new and for whole folders."""

    def __init__(self, api: "MlflowClient") -> None:
        self._api = api

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._api, name)
        once = name.startswith("create_") or name in ("log_artifacts", "download_artifacts")
        return call if once else partial(persistently, call)


def persistently(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call, and again where that failed soon and may pass, a few times."""
    for pause in PAUSES:
        started = time.monotonic()
        try:
            return call(*arguments, **options)
        except Exception as error:
            if not may_pass(error) or time.monotonic() - started > SOON_SECONDS:
                raise
        time.sleep(pause)
    return call(*arguments, **options)


def may_pass(error: Exception) -> bool:
    """Whether a server may answer the same request in a moment: it is there, and did not refuse it."""
    if "Connection refused" in str(error):
        return False
    if isinstance(error, AwayError):
        return True
    from mlflow.exceptions import MlflowException
    from requests.exceptions import HTTPError, RequestException

    if isinstance(error, MlflowException):
        return error.get_http_status_code() >= 500
    if isinstance(error, HTTPError):
        return error.response is None or error.response.status_code >= 500
    return isinstance(error, RequestException)


def pages(search: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """Yield everything that a paged search of MLflow's client finds."""
    token = None
    while True:
        page = search(**query, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def tame() -> None:
    """Keep MLflow from calling home, from talking on our stdout and stderr, and from retrying for minutes.

    MLflow sends each request once: it would send the one that creates a run again after an answer that was lost, too,
    and so make two.
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
    return lines[0][:1000] if lines else type(error).__name__
