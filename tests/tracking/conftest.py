"""Stores and servers for the tests of this room."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from project import PATIENCE_S

from ablations.tracking import AwayError, Store


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
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Store]]:
    """serve(store, workers=1): a server on a database, as docs/server.md starts it; the store that it is to others."""
    servers = []

    def serve(store: Store, workers: int = 1) -> Store:
        folder = tmp_path_factory.mktemp("server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
        command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(folder / "log", "w") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        servers.append(process)
        server, until = Store(f"http://127.0.0.1:{port}"), time.monotonic() + PATIENCE_S
        while True:
            try:
                server.require_answer()
                return server
            except AwayError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.1)

    yield serve
    for process in servers:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
