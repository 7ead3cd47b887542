"""Stores for the tests of this room."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ablations.tracking import Store


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
