"""Where the store is, making it, and what cannot be used as one."""

import os
import pickle
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from mlflow import MlflowClient
from project import PATIENCE_S

from ablations.errors import InputError
from ablations.ground.paths import MLRUNS, ROOT
from ablations.tracking import Reader, Store, Tracker

EXPERIMENT = "lenet5"


def python(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def log_run(store: Store, name: str = "run", **tags: str) -> str:
    tracker = Tracker.start(store, EXPERIMENT, name, {"activation": "relu", "seed": 0}, tags)
    tracker.log_metrics({"val/accuracy": 0.5}, 1)
    tracker.finish()
    return tracker.run_id


# Where the store is.


def test_the_configured_store_comes_first(monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert Store().uri == f"sqlite:///{MLRUNS}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:5000")
    assert Store().uri == "http://server:5000"
    monkeypatch.chdir(tmp_path)
    assert Store("sqlite:///runs.db").uri == f"sqlite:///{tmp_path}/runs.db"


def test_a_store_is_its_address(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite+pysqlite:///runs.db?timeout=3")
    assert store == Store(f"sqlite:///{tmp_path}/runs.db") == pickle.loads(pickle.dumps(store))
    assert len({store, Store("sqlite:///runs.db"), Store("http://server:5000/")}) == 2
    assert (store.path, store.artifacts, store.server) == (tmp_path / "runs.db", tmp_path / "artifacts", None)
    server = Store("http://server:5000/")
    assert (server.path, server.artifacts, server.server) == (None, None, "http://server:5000")
    with pytest.raises(FrozenInstanceError):
        store.uri = "sqlite:///another.db"
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_does_not_import_mlflow():
    done = python(
        "import sys, ablations.tracking; print([m for m in ('mlflow', 'pandas') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]"


def test_a_fresh_store_from_another_folder(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    store = Store(f"sqlite:///{tmp_path}/new/folder/mlflow.db")
    code = (
        "import sys; from ablations.tracking import *; store = Store(sys.argv[1])\n"
        "for name in 'ab':\n"
        "    tracker = Tracker.start(store, name, 'run', {'a': 1}, {'sweep': 's'})\n"
        "    tracker.log_text('hello', 'note.txt'); tracker.finish()\n"
        "reader = Reader(store); runs = reader.runs(); print(len(runs))\n"
        "print(reader.artifact(runs.run_id[0], 'note.txt').read_text())\n"
    )
    done = python(code, store.uri, cwd=elsewhere)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\nhello\n", "")
    assert list(elsewhere.iterdir()) == []
    with closing(sqlite3.connect(tmp_path / "new/folder/mlflow.db")) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        locations = {
            row[0] for row in db.execute("SELECT artifact_location FROM experiments WHERE name != 'Default'")
        }
        default = db.execute("SELECT artifact_location FROM experiments WHERE name = 'Default'").fetchone()[0]
    assert locations == {(tmp_path / "new/folder/artifacts").as_uri()}
    assert default.startswith(locations.pop())  # and not below whatever the working directory was


@pytest.mark.slow
def test_four_processes_make_one_store_at_once(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    code = (
        "import sys; from ablations.tracking import *; store = Store(sys.argv[1])\n"
        "for number in range(25):\n"
        "    tracker = Tracker.start(store, 'x', f'{sys.argv[2]}-{number}', {'n': number}, {})\n"
        "    for step in (1, 2):\n"
        "        tracker.log_metrics({'m': step}, step); tracker.flush()\n"
        "    tracker.finish()\n"
    )
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda who: python(code, store.uri, str(who)), range(4)))
    assert [(process.returncode, process.stderr) for process in done] == [(0, "")] * 4
    runs = Reader(store).runs("x")
    assert sorted(runs.run_name) == sorted(f"{who}-{number}" for who in range(4) for number in range(25))
    assert set(runs.status) == {"FINISHED"}
    assert len(Reader(store).histories(list(runs.run_id))) == 4 * 25 * 2
    assert {path.name for path in tmp_path.iterdir()} <= {
        "artifacts",
        *(f"mlflow.db{end}" for end in ("", ".lock", "-wal", "-shm")),
    }


def test_a_creator_that_was_killed_leaves_nothing_in_the_way(tmp_path):
    (tmp_path / "mlflow.db.lock").touch()
    (tmp_path / "mlflow.db-wal").write_bytes(b"of a database that was deleted" * 10)
    (tmp_path / "mlflow.db").touch()
    unfinished = tmp_path / ".creating-x"
    unfinished.mkdir()
    (unfinished / "mlflow.db").write_bytes(b"half")
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    assert log_run(store) == Reader(store).runs().run_id[0]


def test_prepare_does_without_mlflow_where_all_is_there(store):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "client", lambda _: pytest.fail("it takes seconds to import"))
        assert store.prepare(EXPERIMENT) == "1"
    assert store.prepare("another") == "2"


# What cannot be used.


@pytest.mark.parametrize("case", ["below a file", "a folder", "no database", "another program's"])
def test_a_store_that_cannot_be_written_is_one_line(tmp_path, case):
    path = tmp_path / "mlflow.db"
    match case:
        case "below a file":
            (tmp_path / "file").touch()
            path = tmp_path / "file" / "mlflow.db"
        case "a folder":
            path.mkdir()
        case "no database":
            path.write_text("not a database at all, whatever its name says\n" * 50)
        case "another program's":
            with closing(sqlite3.connect(path)) as db:
                db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError) as caught:
        Store(f"sqlite:///{path}").prepare(EXPERIMENT)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert before is None or path.read_bytes() == before


def test_a_locked_store_is_one_line(store, monkeypatch):
    monkeypatch.setattr("ablations.tracking.store.LOCK_SECONDS", 0.1)
    with closing(sqlite3.connect(store.path)) as db:
        db.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match="locked"):
            store.prepare(EXPERIMENT)


def test_a_deleted_experiment_is_named(store):
    MlflowClient(store.uri).delete_experiment(store.prepare("old"))
    with pytest.raises(InputError, match="was deleted"):
        store.prepare("old")


def test_a_server_that_does_not_answer_is_one_line():
    nobody = Store("http://127.0.0.1:9")
    for use in (lambda: nobody.prepare(EXPERIMENT), lambda: Reader(nobody)):
        with pytest.raises(InputError, match="no MLflow server answers") as caught:
            use()
        assert "\n" not in str(caught.value)


def test_a_store_that_is_not_there_yet(tmp_path):
    with pytest.raises(InputError, match="no MLflow store"):
        Reader(Store(f"sqlite:///{tmp_path}/mlflow.db"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["file://{}/mlruns", "{}/mlruns", "sqlite://", "sqlite:///:memory:", "ftp://a/b"]
)
def test_a_store_of_another_kind_is_refused_in_one_line(tmp_path, monkeypatch, uri):
    monkeypatch.chdir(tmp_path)
    for use in (lambda store: store.prepare(EXPERIMENT), Reader):
        with pytest.raises(InputError) as caught:
            use(Store(uri.format(tmp_path)))
        assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
