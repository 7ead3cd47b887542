"""What is written without MLflow is what MLflow would have written; it is asked for all else."""

import math
import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager, nullcontext

import mlflow
import pytest
import schema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from project import PATIENCE_S
from schema import dumped, migrated, settled

from ablations import ground
from ablations.errors import InputError
from ablations.ground.paths import ROOT
from ablations.tracking import Store, Tracker, directly
from ablations.tracking import store as stores
from ablations.tracking.sending import create, find_created, is_deleted, send
from ablations.tracking.store import AwayError

NO_PROFILE = {"profile": None}


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


def test_large_files_that_are_the_same_are_kept_once(store, run_id, tmp_path):
    folder = tmp_path / "folder"
    for _ in range(2):
        for name in ("model.npz", "model/weights.npz", "other.npz"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"o" * directly.WORTH_SHARING if name == "other.npz" else bytes(2**17))
        assert directly.add_files(store, run_id, folder)
        home = store.artifacts / run_id / "artifacts"
        one, same, other = (home / name for name in ("model.npz", "model/weights.npz", "other.npz"))
        assert one.samefile(same)
        assert not one.samefile(other)
        assert one.read_bytes() == bytes(2**17)
        assert other.read_bytes() == (folder / "other.npz").read_bytes()
        assert len([path for path in home.rglob("*") if path.is_file()]) == 3


def test_where_files_have_no_second_name_they_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"b")
    ground.link(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "c").read_bytes() == b"b"


def test_a_store_that_is_locked_is_away(store, run_id, monkeypatch):
    monkeypatch.setattr(stores, "LOCK_SECONDS", 0.05)
    with closing(store.connect("rw")) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(AwayError, match="locked"):
            send(store, run_id, {"do": "tags", "tags": {"command": "later"}})


DIGITS = {"name": "digits", "digest": "d" * 36, "source_type": "code", "source": "{}", "profile": '{"n": 1}'}
RECORDS = (
    {"do": "params", "params": {"lr": "0.1", "a/b.c-d": "ß" * 6000, "empty": ""}},
    {"do": "params", "params": {"lr": "0.1", "more": "1"}},
    {"do": "tags", "tags": {"machine": "this", "mlflow.log-model.history": "[]"}},
    {
        "do": "metrics",
        "metrics": [["train/loss", 0.5, 1000, 1], ["train/loss", 0.4, 2000, 2], ["n", 3, 5, 0]],
    },
    {"do": "metrics", "metrics": [["train/loss", 0.4, 2000, 2], ["train/loss", 9.0, 3000, 1]]},
    {"do": "metrics", "metrics": [["x", math.nan, 1, 1], ["y", math.inf, 1, 1], ["z", -math.inf, 1, -1]]},
    {"do": "metrics", "metrics": [["x", -1.0, 1, 1], ["x", math.nan, 1, 1], ["x", 0.0, 1, 1]]},
    {
        "do": "metrics",
        "metrics": [["test/acc", 0.9, 7, 3], ["test/acc", 0.8, 6, 3], ["test/n", math.nan, 7, 3]],
    },
    {"do": "metrics", "metrics": []},
    {"do": "dataset", "context": "train", "dataset": DIGITS},
    {"do": "dataset", "context": "test", "dataset": {**DIGITS, "profile": '{"n": 2}'}},
    {"do": "dataset", "context": "test", "dataset": {**DIGITS, "name": "others", "profile": None}},
    {"do": "models", "paths": ["model"]},
    {"do": "models", "paths": ["model", "another"]},
    {"do": "models", "paths": ["model"]},
    {"do": "tags", "tags": {"failure": "interrupted", "failure_reason": "a signal"}},
    {"do": "end", "status": "FAILED", "time_ms": 8000},
    {"do": "resume"},
    {"do": "end", "status": "FINISHED", "time_ms": 9000},
)
CREATE = {
    "do": "create",
    "experiment": "of its own",
    "name": "a run: ä/ö",
    "tags": {
        "mlflow.user": "me",
        "mlflow.source.name": "run.py",
        "mlflow.source.type": "LOCAL",
        "local_id": "l",
    },
    "time_ms": 500,
}
STAMPS = ("creation_time", "last_update_time", "creation_timestamp_ms", "last_updated_timestamp_ms")


@contextmanager
def by_mlflow():
    """All that could be written directly is left to MLflow."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(directly, "REVISION", "another")
        patched.setattr(directly, "tag_run", lambda *_: False)
        yield


def rows(store):
    """All rows of all tables, with numbers in place of ids that were made up, and without the times of the clock."""
    ids = {}

    def without_ids(text):
        return re.sub(r"[0-9a-f]{32}", lambda found: ids.setdefault(found[0], f"id{len(ids)}"), text)

    with closing(store.connect()) as db:
        db.row_factory = sqlite3.Row
        tables = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY 1")
        ]
        tables.remove("inputs")  # whose ids are those of others
        order = ["runs", "datasets", "logged_models", *(name for name in tables if name not in ("runs",))]
        found = {}
        for name in dict.fromkeys(order):
            columns = [row["name"] for row in db.execute(f"PRAGMA table_info({name})")]
            named = next((each for each in ("name", "key") if each in columns), columns[0])
            table = db.execute(f"SELECT * FROM {name} ORDER BY {named}, rowid").fetchall()
            found[name] = sorted(
                (
                    {
                        key: without_ids(row[key]) if isinstance(row[key], str) else row[key]
                        for key in columns
                        if key not in STAMPS and key != "input_uuid"
                    }
                    for row in table
                ),
                key=repr,
            )
        query = (
            "SELECT source_type, source_id, destination_type, destination_id, step, name, value FROM inputs"
        )
        links = db.execute(
            f"{query} LEFT JOIN input_tags USING (input_uuid) ORDER BY source_type, name, value"
        )
        found["inputs"] = sorted(tuple(without_ids(str(each)) for each in row) for row in links)
    return found


def test_each_row_is_what_mlflow_writes(copy_store, tmp_path):
    ours, theirs = (copy_store(tmp_path / name / "mlflow.db") for name in ("the same", "the other"))
    ids = {}
    for store, way in ((ours, nullcontext), (theirs, by_mlflow)):
        with way():
            ids[store] = create(store, CREATE)
    for record in RECORDS:
        assert directly.write(ours, ids[ours], record), record
        with by_mlflow():
            assert not directly.write(theirs, ids[theirs], record), record
            send(theirs, ids[theirs], record)
        assert str(rows(ours)).replace("the%20same", "the%20other") == str(rows(theirs)), record
    assert find_created(ours, "l") == [ids[ours]]
    assert find_created(ours, "l", deleted=True) == []
    assert not is_deleted(ours, ids[ours])
    MlflowClient(ours.uri).delete_run(ids[ours])
    assert is_deleted(ours, ids[ours])
    assert find_created(ours, "l", deleted=True) == [ids[ours]]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["a", "b/c"]),
                st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf, -math.inf]),
                st.integers(0, 2),
                st.integers(-1, 1),
            ),
            min_size=1,
            max_size=6,
            unique_by=str,
        ),
        min_size=1,
        max_size=3,
    )
)
def test_any_metrics_leave_the_values_and_the_last_ones_that_mlflow_leaves(store, api, batches):
    experiment = api.get_experiment_by_name("lenet5").experiment_id
    ours, theirs = (api.create_run(experiment).info.run_id for _ in range(2))
    for batch in batches:
        record = {"do": "metrics", "metrics": batch}
        assert directly.write(store, ours, record)
        with by_mlflow():
            send(store, theirs, record)
    with closing(store.connect()) as db:
        for table in ("metrics", "latest_metrics"):
            query = f"SELECT key, value, timestamp, step, is_nan FROM {table} WHERE run_uuid = ? ORDER BY 1, 2, 3, 4, 5"
            assert db.execute(query, [ours]).fetchall() == db.execute(query, [theirs]).fetchall()


@pytest.mark.parametrize(
    "record",
    [
        {"do": "params", "params": {"new": "1", "lr": "0.2"}},  # was logged with another value
        {"do": "params", "params": {"new": "1", "k" * 251: "1"}},
        {"do": "params", "params": {"new": "1", "long": "x" * 6001}},
        {"do": "params", "params": {"new": "1", "../up": "1"}},
        {"do": "metrics", "metrics": [["new", 1.0, 1, 1], ["a@b", 1.0, 1, 1]]},
        {"do": "metrics", "metrics": [["new", 1.0, 1, 1], ["b", 1.0, -1, 1]]},
        {"do": "metrics", "metrics": [["new", 1.0, 1, 1], ["b", 1.0, 1, 2**63]]},
        {"do": "metrics", "metrics": [["new", 1.0, 1, 1], ["b", "1", 1, 1]]},
        {
            "do": "dataset",
            "context": "train",
            "dataset": dict.fromkeys(directly.DATASET_CHARACTERS, "") | NO_PROFILE,
        },
        {"do": "end", "status": "DONE", "time_ms": 1},
        {"do": "unheard of"},
    ],
)
def test_what_is_not_plain_is_left_to_mlflow_whole(store, run_id, record):
    assert directly.write(store, run_id, {"do": "params", "params": {"lr": "0.1"}})
    before = rows(store)
    assert not directly.write(store, run_id, record)
    assert rows(store) == before


def test_runs_and_experiments_that_mlflow_is_to_judge(store, api, run_id):
    experiment = api.get_experiment_by_name("lenet5").experiment_id
    for name, tags, time_ms in (("", {}, 1), ("x" * 251, {}, 1), ("x", {"/": "a"}, 1), ("x", {}, -1)):
        assert directly.create_run(store, experiment, name, tags, time_ms) is None
    assert directly.create_run(store, "4711", "x", {}, 1) is None
    assert directly.create_experiment(store, "lenet5", store.artifacts.as_uri()) == experiment
    assert directly.create_experiment(store, "a/b", store.artifacts.as_uri()) is None
    gone = api.create_experiment("gone", store.artifacts.as_uri())
    api.delete_experiment(gone)
    assert directly.create_experiment(store, "gone", store.artifacts.as_uri()) is None
    assert directly.create_run(store, gone, "x", {}, 1) is None
    with pytest.raises(InputError, match="deleted"):
        store.prepare("gone")
    api.delete_run(run_id)
    assert not directly.write(store, run_id, {"do": "params", "params": {"lr": "0.1"}})


def test_a_schema_that_is_not_known_is_left_to_mlflow(store, run_id):
    with closing(store.connect("rw")) as db, db:
        db.execute("UPDATE alembic_version SET version_num = 'later'")
    assert not directly.knows(store)
    assert directly.find_runs(store, "local_id", "l", False) is None
    assert directly.is_deleted(store, run_id) is None
    assert directly.create_experiment(store, "new", "file:///a") is None
    assert directly.create_run(store, "1", "x", {}, 1) is None
    assert not any(directly.write(store, run_id, record) for record in RECORDS if record["do"] != "tags")
    with closing(store.connect("rw")) as db, db:
        db.execute("DROP TABLE alembic_version")
    assert not directly.knows(store)


def test_a_store_of_several_workspaces_is_left_to_mlflow(store, run_id):
    with closing(store.connect("rw")) as db, db:
        db.execute("INSERT INTO experiments (name, workspace) VALUES ('lenet5', 'team')")
        (theirs,) = db.execute("SELECT experiment_id FROM experiments WHERE workspace = 'team'").fetchone()
    assert not directly.knows(store)
    assert directly.create_run(store, str(theirs), "x", {}, 1) is None
    with pytest.raises(InputError, match="workspace"):
        create(store, CREATE)


def test_places_of_artifacts_are_those_that_mlflow_gives(store, api, tmp_path):
    for name, written in (
        ("a", True),
        ("a b", True),
        ("a//b", True),
        ("ü", True),
        ("a/", False),
        ("a?b", False),
    ):
        experiment = api.create_experiment(name.replace("/", "-"), f"file://{tmp_path}/{name}")
        ours = directly.create_run(store, experiment, "run", {}, 1)
        assert (ours is not None) == written, name
        theirs = api.create_run(experiment)
        if written:
            place = api.get_run(ours).info.artifact_uri
            assert place == theirs.info.artifact_uri.replace(theirs.info.run_id, ours)
        else:
            assert not directly.write(store, theirs.info.run_id, {"do": "models", "paths": ["model"]})


def test_half_of_a_model_s_entry_is_left_to_mlflow(store, api, run_id):
    model = api.create_logged_model(
        api.get_run(run_id).info.experiment_id, "half", run_id, {"artifact": "model"}
    )
    assert not directly.write(store, run_id, {"do": "models", "paths": ["model"]})
    send(store, run_id, {"do": "models", "paths": ["model"]})
    (whole,) = api.search_logged_models([model.experiment_id], f"source_run_id = '{run_id}'")
    assert (whole.status, whole.model_id != model.model_id) == ("READY", True)
    assert directly.write(store, run_id, {"do": "models", "paths": ["model"]})


def test_the_schema_is_that_of_mlflow_s_migrations(tmp_path):
    kept = stores.SCHEMAS / f"mlflow-{mlflow.__version__}.sql"
    if not kept.exists():
        pytest.skip(f"MLflow {mlflow.__version__} makes its schema itself")
    made_now = dumped(migrated(tmp_path))
    assert settled(kept.read_text("utf-8")) == settled(made_now), f"python {schema.__file__} > {kept}"
    made = Store(f"sqlite:///{tmp_path / 'made' / 'mlflow.db'}")
    made.prepare("lenet5")
    assert directly.knows(made)
    default = MlflowClient(made.uri).get_experiment("0")
    assert (default.name, default.artifact_location) == ("Default", f"{made.artifacts.as_uri()}/0")
    assert default.creation_time == default.last_update_time > 0
    with closing(made.connect()) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_another_version_makes_its_schema_itself(tmp_path, monkeypatch):
    known = next(stores.SCHEMAS.glob("mlflow-*.sql")).read_text("utf-8")
    asked = []

    def migrate(self, artifacts):
        asked.append(self.path.name)
        directly.build(self.path, known, artifacts.as_uri())

    monkeypatch.setattr(Store, "_migrate", migrate)
    monkeypatch.setattr(stores, "version", lambda _: "another")
    made = Store(f"sqlite:///{tmp_path / 'made' / 'mlflow.db'}")
    assert (made.prepare("lenet5"), asked) == ("1", ["mlflow.db"])


def test_mlflow_is_not_even_imported(tmp_path):
    code = """if True:
        import sys
        from pathlib import Path
        from ablations.tracking import Store, Tracker
        (Path(sys.argv[2]) / "model").mkdir(parents=True)
        (Path(sys.argv[2]) / "model" / "MLmodel").write_text("flavors: {}")
        tracker = Tracker.start(Store(sys.argv[1]), "lenet5", "run", {"lr": 0.1}, {"command": "the first"})
        tracker.log_dataset("digits", "d", "train")
        tracker.log_metrics({"test/acc": 0.5}, 1)
        tracker.log_files(Path(sys.argv[2]))
        tracker.finish()
        tracker = Tracker.of(Store(sys.argv[1]), tracker.run_id)
        tracker.set_tags({"command": "the last"})
        tracker.log_text("a", "a.txt")
        sys.exit(" ".join({"mlflow", "sqlalchemy", "pandas"} & sys.modules.keys()) or 0)
    """
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    done = subprocess.run(
        [sys.executable, "-c", code, store.uri, str(tmp_path / "files")],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    api = MlflowClient(store.uri)
    (run,) = api.search_runs(["1"])
    assert (run.info.status, run.data.metrics, run.data.params) == (
        "FINISHED",
        {"test/acc": 0.5},
        {"lr": "0.1"},
    )
    (model,) = api.search_logged_models(["1"])
    assert model.source_run_id == run.info.run_id
