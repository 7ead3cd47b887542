"""Stores for the tests of this room."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from line import Line
from mlflow import MlflowClient

from ablations.tracking import Reader, Store, outbox


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that was made once and is copied for each test, with the experiment `lenet5`."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('blank') / 'mlflow.db'}")
    store.prepare("lenet5")
    return store


@pytest.fixture(scope="session")
def copy_store(blank_store: Store) -> Callable[[Path], Store]:
    """copy_store(path): a store of one's own there."""

    def copy_store(path: Path) -> Store:
        path.parent.mkdir(exist_ok=True)
        store = Store(f"sqlite:///{path}")
        with closing(blank_store.connect()) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
            copy.execute("UPDATE experiments SET artifact_location = ?", [store.artifacts.as_uri()])
            copy.commit()
            copy.execute("PRAGMA journal_mode = WAL")
        return store

    return copy_store


@pytest.fixture
def store(copy_store: Callable[[Path], Store], tmp_path: Path) -> Store:
    return copy_store(tmp_path / "a store" / "mlflow.db")


@pytest.fixture(scope="module")
def served(tmp_path_factory, copy_store, serve) -> Iterator[tuple[Line, Store]]:
    """A line to a real server, and the database below it."""
    database = copy_store(tmp_path_factory.mktemp("database") / "mlflow.db")
    with closing(database.connect("rw")) as db:
        db.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/1'")
        db.commit()
    line = Line(int(serve(database).uri.rpartition(":")[2]))
    yield line, database
    line.server.shutdown()


@pytest.fixture
def line(served, monkeypatch) -> Iterator[Line]:
    """The line, good at first; the runs of an earlier test are gone."""
    line, database = served
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setattr("ablations.tracking.store.PROBE_SECONDS", 1.0)
    line.set("good")
    api = MlflowClient(database.uri)
    for run_id in Reader(database).runs().run_id:
        api.delete_run(run_id)
    yield line
    line.set("good")


@pytest.fixture
def impatient(monkeypatch, tmp_path):
    """An outbox of its own, and no patience: the tests, not the clock, say when a store is tried again."""
    monkeypatch.setenv("ABLATIONS_OUTBOX", str(tmp_path / "outbox"))
    monkeypatch.setattr(outbox, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(outbox, "WAIT_PER_ATTEMPT", 0.0)
    monkeypatch.setattr("ablations.tracking.store.LOCK_SECONDS", 0.05)
    monkeypatch.setattr("ablations.tracking.store.PROBE_SECONDS", 0.02)
    outbox.patience_with.cache_clear()
