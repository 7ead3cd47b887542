"""What is written without MLflow is what MLflow would have written; it is asked for all else."""

import os
import subprocess
import sys
from contextlib import closing

import pytest
from mlflow import MlflowClient
from project import PATIENCE_S

from ablations.errors import InputError
from ablations.ground.paths import ROOT
from ablations.tracking import Tracker, directly
from ablations.tracking import store as stores
from ablations.tracking.sending import send
from ablations.tracking.store import AwayError


@pytest.fixture
def api(store):
    return MlflowClient(store.uri)


@pytest.fixture
def run_id(store):
    tracker = Tracker.start(store, "lenet5", "run", {}, {"command": "the first"})
    tracker.finish()
    return tracker.run_id


def test_tags_of_runs_are_set_and_replaced(store, api, run_id):
    assert directly.tag_run(store, run_id, {"command": "the 'last'; –", "new": "x" * 8000})
    tags = api.get_run(run_id).data.tags
    assert tags["command"] == "the 'last'; –"
    assert tags["new"] == "x" * 8000


@pytest.mark.parametrize(
    "tags",
    [{"mlflow.runName": "a"}, {"long": "x" * 8001}, {"..": "a"}, {"k" * 251: "a"}, {"good": "a", "/": "b"}],
)
def test_what_mlflow_judges_is_left_to_it_whole(store, api, run_id, tags):
    before = api.get_run(run_id).data.tags
    assert not directly.tag_run(store, run_id, tags)
    assert api.get_run(run_id).data.tags == before


def test_a_run_that_was_deleted_takes_no_tags(store, api, run_id):
    api.delete_run(run_id)
    assert not directly.tag_run(store, run_id, {"command": "later"})
    with closing(Tracker.of(store, run_id)) as tracker, pytest.raises(InputError, match="active"):
        tracker.set_tags({"command": "later"})


def test_tags_of_experiments(store, api):
    experiment = api.get_experiment_by_name("lenet5").experiment_id
    for value in ("x" * directly.EXPERIMENT_TAG_CHARACTERS, "short"):
        assert directly.tag_experiment(store, experiment, "mlflow.note.content", value)
        assert api.get_experiment(experiment).tags["mlflow.note.content"] == value
    assert not directly.tag_experiment(
        store, experiment, "long", "x" * (directly.EXPERIMENT_TAG_CHARACTERS + 1)
    )
    assert not directly.tag_experiment(store, "4711", "key", "value")


def test_files_are_what_mlflow_makes_of_them(store, api, run_id, tmp_path):
    folder = tmp_path / "folder"
    (folder / "below" / "deep").mkdir(parents=True)
    (folder / "page.html").write_text("<p>")
    (folder / "below" / "deep" / "bytes").write_bytes(bytes(range(256)))
    theirs = api.create_run(api.get_run(run_id).info.experiment_id).info.run_id
    api.log_artifacts(theirs, str(folder))
    for _ in range(2):  # a second time replaces
        assert directly.add_files(store, run_id, folder)

    def content(of):
        home = store.artifacts / of / "artifacts"
        files = (path for path in home.rglob("*") if path.is_file())
        return {path.relative_to(home): (path.read_bytes(), path.stat().st_mode) for path in files}

    assert len(content(run_id)) == 2
    assert content(run_id) == content(theirs)
    assert not directly.add_files(store, "4711", folder)


def test_a_store_that_is_locked_is_away(store, run_id, monkeypatch):
    monkeypatch.setattr(stores, "LOCK_SECONDS", 0.05)
    with closing(store.connect("rw")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AwayError, match="locked"):
            send(store, run_id, {"do": "tags", "tags": {"command": "later"}})


def test_mlflow_is_not_even_imported(store, run_id):
    code = """if True:
        import sys
        from ablations.tracking import Store, Tracker
        tracker = Tracker.of(Store(sys.argv[1]), sys.argv[2])
        tracker.set_tags({"command": "the last"})
        tracker.log_text("a", "a.txt")
        sys.exit("mlflow" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", code, store.uri, run_id],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
