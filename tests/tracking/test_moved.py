"""A project that was moved, copied or mounted elsewhere: its artifacts are those beside the store."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache

from ablations.errors import InputError
from ablations.report.compile import compile_report
from ablations.tracking import Reader, Store, Tracker
from ablations.tracking.models import register_model
from ablations.tracking.moved import PLACES, Move
from ablations.tracking.reports import log_report, report_run


def logged(store, name="first"):
    """A run with an artifact."""
    tracker = Tracker.start(store, "lenet5", name, {}, {})
    files = store.path.parent / "files"
    files.mkdir()
    (files / "note.txt").write_text(name)
    tracker.log_files(files)
    tracker.finish()
    shutil.rmtree(files)
    return tracker.run_id


def places(store):
    with closing(sqlite3.connect(store.path)) as db:
        return {place for table, column in PLACES for (place,) in db.execute(f"SELECT {column} FROM {table}")}


@pytest.fixture
def old(tmp_path):
    return Store(f"sqlite:///{tmp_path}/old ä/mlflow.db")


@pytest.fixture
def new(tmp_path):
    return Store(f"sqlite:///{tmp_path}/new/mlflow.db")


@pytest.mark.parametrize("way", [shutil.move, shutil.copytree])
def test_what_was_logged_is_read_beside_the_store_and_what_is_new_goes_there(way, old, new):
    run_id = logged(old)
    way(old.path.parent, new.path.parent)
    before = sorted(old.path.parent.rglob("*"))
    assert Reader(new).artifact(run_id, "note.txt") == new.artifacts / run_id / "artifacts" / "note.txt"
    second = logged(new, "second")
    assert (new.artifacts / second / "artifacts" / "note.txt").read_text() == "second"
    assert sorted(old.path.parent.rglob("*")) == before  # nothing, where it was moved
    assert not any(place and "old" in place for place in places(new))
    register_model(new, run_id, "model", "digits")
    assert any(place.endswith(f"{run_id}/artifacts/model") for place in places(new) if place)


@pytest.mark.parametrize("way", [shutil.move, shutil.copytree])
def test_the_report_of_a_moved_project_is_kept_beside_its_store(way, old, new, tmp_path):
    logged(old)
    page = tmp_path / "page"
    page.mkdir()
    (page / "report.html").write_text("before")
    log_report(old, "lenet5", "s", None, page)
    way(old.path.parent, new.path.parent)
    before = {path: path.is_file() and path.read_text("latin-1") for path in old.path.parent.rglob("*")}
    (page / "report.html").write_text("after")
    known = report_run(Reader(new), "lenet5", "s")
    _artifact_repos_cache.clear()  # MLflow remembers in each process where a run's artifacts are
    log_report(new, "lenet5", "s", known, page)
    assert (new.artifacts / known / "artifacts" / "report.html").read_text() == "after"
    assert {
        path: path.is_file() and path.read_text("latin-1") for path in old.path.parent.rglob("*")
    } == before


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(old, new, tmp_path):
    run_id = logged(old)
    shutil.move(old.path.parent, new.path.parent)
    reader = Reader(new)
    reader.copied(tmp_path)
    assert any("old" in place for place in places(new) if place)
    assert not any("old" in place for place in places(Store(f"sqlite:///{tmp_path}/mlflow.db")) if place)
    assert reader.artifact(run_id, "note.txt").exists()
    assert reader.out_of_reach == set()


def test_a_store_whose_artifacts_lie_elsewhere_on_purpose_is_left_alone(old, new):
    """As `mlflow server --default-artifact-root` makes it; or without what lies beside the store."""
    run_id = logged(old)
    before = places(old)
    new.path.parent.mkdir()
    for part in old.path.parent.glob("mlflow.db*"):
        shutil.copy(part, new.path.parent)
    for folder in (None, new.artifacts):  # somebody's folder of that name
        if folder is not None:
            folder.mkdir()
        new.settle()
        assert places(new) == before
        assert Reader(new).artifact(run_id, "note.txt") == old.artifacts / run_id / "artifacts" / "note.txt"


def test_a_store_seen_through_a_link_was_not_moved(old, new):
    logged(old)
    before = places(old)
    new.path.parent.symlink_to(old.path.parent)
    new.settle()
    assert places(old) == before


def test_only_what_lay_below_the_old_place_was_moved(tmp_path):
    found = Move("file:///a/artifacts", tmp_path.as_uri())
    assert found.of("file:///a/artifacts") == tmp_path.as_uri()
    assert found.of("file:///a/artifacts/r") == f"{tmp_path.as_uri()}/r"
    for other in ("file:///a/artifacts2/r", "s3://bucket/r", "mlflow-artifacts:/1/r"):
        assert found.of(other) == other


def test_a_report_whose_figures_need_what_is_out_of_reach_stays(old, tmp_path):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    for pool in ("max", "avg"):
        tags = {"sweep": "pool", "factors": "pool"}
        tracker = Tracker.start(store, "lenet5", pool, {"pool": pool, "seed": 0}, tags)
        tracker.log_metrics({"test/error_pct": 2.0}, 1)
        tracker.finish()
    home = compile_report("pool", store, tmp_path).path.parent
    about = json.loads((home / "report.json").read_text("utf-8"))
    about["figures"]["features_max"] = ["Feature maps", "What it saw.", True]
    (home / "report.json").write_text(json.dumps(about), "utf-8")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    shutil.rmtree(store.artifacts)
    report = compile_report("pool", store, tmp_path)
    assert report.path == tmp_path / "pool-2" / "README.md"
    assert report.remark.startswith(
        "(reports/pool has 1 figure from artifacts that are out of reach now, and stays"
    )
    with pytest.raises(
        InputError, match=r"^--out: .* has 1 figure from artifacts that are out of reach now; choose an"
    ):
        compile_report("pool", store, out=home)
    assert before == {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    assert compile_report("pool", store, tmp_path, replace=True).path.parent == home
