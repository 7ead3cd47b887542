"""Runs written to real SQLite stores, and read back by SQL and by MLflow's API."""

import math
import sqlite3
from contextlib import closing

import pandas as pd
import pytest
from mlflow import MlflowClient
from test_store import EXPERIMENT, log_run, python

from ablations.errors import InputError
from ablations.tracking import Reader, Store, Tracker
from ablations.tracking import reader as reading


def through_the_api(store: Store) -> Reader:
    reader = Reader(store)
    reader._source = reading._Api(store)
    return reader


@pytest.fixture
def varied(store) -> dict[str, str]:
    """The ids of runs of every kind, by what they are."""
    ids = {"plain": log_run(store, "plain", sweep="s")}
    odd = Tracker.start(
        store, EXPERIMENT, "odd", {"lr": 0.1, "note": 'it\'s "quoted" | α\n2'}, {"sweep": "o'h"}
    )
    for step, value in enumerate([1.5, math.inf, -math.inf, math.nan], start=1):
        odd.log_metrics({"train/loss": value, f"only {step}": value}, step)
    odd.finish()
    ids["odd"] = odd.run_id
    failed = Tracker.start(store, EXPERIMENT, "failed", {}, {"sweep": "s"})
    failed.log_metrics({"train/loss": 3.0}, 1)
    failed.fail("diverged", "the loss\nwas nan " + "x" * 1000)
    ids["failed"] = failed.run_id
    ids["running"] = Tracker.start(store, EXPERIMENT, "running", {}, {}).run_id
    api = MlflowClient(store.uri)
    foreign = api.create_run(api.create_experiment("foreign"))  # no params, an invented name
    api.log_metric(foreign.info.run_id, "val_acc", 0.25)
    api.log_metric(foreign.info.run_id, "val_acc", 0.75, step=0)
    ids["foreign"] = foreign.info.run_id
    ids["deleted"] = log_run(store, "deleted", sweep="s")
    api.delete_run(ids["deleted"])
    gone = api.create_experiment("gone")
    ids["in a deleted experiment"] = api.create_run(gone).info.run_id
    api.delete_experiment(gone)
    return ids


# What is written is read back, equal by SQL and by the API.


def test_both_backends_give_the_same_tables(store, varied):
    sql, api = Reader(store), through_the_api(store)
    assert sql.experiments() == api.experiments() == ["Default", "foreign", EXPERIMENT]
    for query in ({}, {"experiment": EXPERIMENT}, {"tags": {"sweep": "s"}}, {"tags": {"sweep": "o'h"}}):
        pd.testing.assert_frame_equal(sql.runs(**query), api.runs(**query))
    ids = [*varied.values(), "0" * 32]
    for metrics in (None, ["train/loss"], [], ["unknown"]):
        pd.testing.assert_frame_equal(sql.histories(ids, metrics), api.histories(ids, metrics))


def test_runs_as_they_were_logged(store, varied):
    runs = Reader(store).runs().set_index("run_name")
    assert list(runs.run_id) == [varied[name] for name in ("plain", "odd", "failed", "running", "foreign")]
    assert list(runs.status) == ["FINISHED", "FINISHED", "FAILED", "RUNNING", "RUNNING"]
    assert runs.loc["plain", "params.activation"] == "relu"
    assert runs.loc["plain", "params.seed"] == "0"
    assert pd.isna(runs.loc["odd", "params.activation"])
    assert runs.loc["odd", "params.note"] == 'it\'s "quoted" | α\n2'
    assert math.isnan(runs.loc["odd", "metrics.train/loss"])  # the last value
    assert runs.loc["odd", "metrics.only 2"] == math.inf
    assert runs.loc["odd", "metrics.only 3"] == -math.inf
    assert runs.loc["failed", "tags.failure"] == "diverged"
    reason = runs.loc["failed", "tags.failure_reason"]
    assert reason.startswith("the loss was nan xxx")
    assert len(reason) == 500
    assert 0 <= runs.loc["plain", "seconds"] < 10
    assert pd.isna(runs.loc["running", "seconds"])
    assert str(runs.start_time.dt.tz) == "UTC"
    assert abs(pd.Timestamp.now("UTC") - runs.loc["plain", "start_time"]) < pd.Timedelta(minutes=1)


def test_histories_as_they_were_logged(store, varied):
    history = Reader(store).histories([varied["odd"], varied["plain"]], ["train/loss", "val/accuracy"])
    odd = history[history.run_id == varied["odd"]]
    assert list(odd.step) == [1, 2, 3, 4]
    assert list(odd.value[:3]) == [1.5, math.inf, -math.inf]
    assert math.isnan(odd.value.iloc[3])
    plain = history[history.run_id == varied["plain"]]
    assert plain[["metric", "step", "value"]].values.tolist() == [["val/accuracy", 1, 0.5]]


def test_nothing_found_is_an_empty_table_with_its_columns(store):
    for reader in (Reader(store), through_the_api(store)):
        assert tuple(reader.runs().columns) == reading.RUN_COLUMNS
        assert tuple(reader.runs(tags={"sweep": "none"}).columns) == reading.RUN_COLUMNS
        assert tuple(reader.histories([]).columns) == reading.HISTORY_COLUMNS


def test_an_unknown_experiment_is_answered_with_those_that_exist(store):
    with pytest.raises(InputError, match=r"no experiment 'other'.* Default, lenet5"):
        Reader(store).runs("other")


def test_more_params_than_fit_into_one_batch(store):
    params = {f"key.{number}": number for number in range(150)}
    long = {"a": "x" * 7000 + "a", "b": "x" * 7000 + "b"}
    tracker = Tracker.start(store, EXPERIMENT, "many", params | long, {"long": "t" * 9000})
    tracker.log_metrics({f"m{number}": number for number in range(2500)}, 1)
    tracker.finish()
    run = Reader(store).runs().iloc[0]
    assert all(run[f"params.{key}"] == str(value) for key, value in params.items())
    assert len(run["params.a"]) == 6000
    assert run["params.a"] != run["params.b"]
    assert "… sha256:" in run["params.a"]
    assert len(run["tags.long"]) == 8000
    assert all(run[f"metrics.m{number}"] == number for number in range(2500))


def test_flush_waits_where_told_to(store):
    tracker = Tracker.start(store, EXPERIMENT, "run", {}, {})
    steps = lambda: list(Reader(store).histories([tracker.run_id]).step)  # noqa: E731
    for step in (1, 2):
        tracker.log_metrics({"m": 0.0}, step)
        tracker.flush(every=60)
        assert steps() == [1]
    tracker.flush()
    assert steps() == [1, 2]


def test_a_run_that_failed_goes_on(store):
    first = Tracker.start(store, EXPERIMENT, "run", {"a": 1}, {"sweep": "s"})
    values = {"m": 0.25, "n": math.nan, "i": math.inf}
    first.log_metrics(values, 1, time_ms=1000)
    first.fail("interrupted", "SIGTERM")
    second = Tracker.resume(store, first.run_id)
    row = Reader(store).runs().iloc[0]
    assert row.status == "RUNNING"
    assert "tags.failure" not in row
    assert row["tags.sweep"] == "s"
    for step in (1, 2):  # the first again, as from a checkpoint
        second.log_metrics(values, step, time_ms=1000 * step)
        second.flush()
    second.finish()
    assert Reader(store).runs().iloc[0].status == "FINISHED"
    assert list(Reader(store).histories([first.run_id], ["m"]).step) == [1, 2]
    assert len(Reader(store).histories([first.run_id])) == 6
    with pytest.raises(InputError):
        Tracker.resume(store, "0" * 32)


def test_what_mlflow_refuses_is_one_line(store):
    tracker = Tracker.start(store, EXPERIMENT, "run", {}, {})
    tracker.log_metrics({"error (%)": 1.0}, 1)
    with pytest.raises(InputError, match="error") as caught:
        tracker.flush()
    assert "\n" not in str(caught.value)
    tracker.fail("error", str(caught.value))
    with pytest.raises(InputError):
        Tracker.start(store, EXPERIMENT, "bad param", {"a@b": 1}, {})
    assert list(Reader(store).runs().status) == ["FAILED", "FAILED"]  # neither is left RUNNING


def test_artifacts_and_the_data_set(store, tmp_path):
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "deep" / "b.bin").write_bytes(bytes(range(256)))
    tracker = Tracker.start(store, EXPERIMENT, "run", {}, {})
    tracker.log_files(folder)
    tracker.log_text("grüße", "notes/hello.txt")
    tracker.log_dataset("digits", "f" * 64, "train", source="scikit-learn", profile={"images": 1437})
    tracker.log_dataset("digits", "e" * 64, "test")
    tracker.finish()
    for reader in (Reader(store), through_the_api(store)):
        assert reader.artifact(tracker.run_id, "a.txt").read_text() == "a"
        assert reader.artifact(tracker.run_id, "deep/b.bin").read_bytes() == bytes(range(256))
        assert reader.artifact(tracker.run_id, "notes/hello.txt").read_text() == "grüße"
        for missing in ("none.txt", "../../../mlflow.db", "/etc/passwd"):
            assert reader.artifact(tracker.run_id, missing) is None
        assert reader.artifact("0" * 32, "a.txt") is None
    inputs = MlflowClient(store.uri).get_run(tracker.run_id).inputs.dataset_inputs
    assert {(item.dataset.name, item.dataset.digest, item.tags[0].value) for item in inputs} == {
        ("digits", "f" * 36, "train"),
        ("digits", "e" * 36, "test"),
    }


def test_ten_thousand_runs_are_read_in_seconds(store):
    """Filled by SQL, for the time's sake: 10,000 runs × 5 epochs × 2 metrics."""
    path = store.path
    ids = [f"{number:032x}" for number in range(10_000)]
    with closing(sqlite3.connect(path)) as db:
        db.executemany(
            "INSERT INTO runs (run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri,"
            " experiment_id) VALUES (?, 'r', 'FINISHED', ?, ?, 'active', '', 1)",
            [(key, number, number + 1500) for number, key in enumerate(ids)],
        )
        db.executemany("INSERT INTO params VALUES ('seed', '1', ?)", [(key,) for key in ids])
        points = [(m, 0.5, s, key, s) for key in ids for m in ("a", "b") for s in range(5)]
        db.executemany(
            "INSERT INTO metrics (key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)",
            points,
        )
        db.executemany(
            "INSERT INTO latest_metrics (key, value, timestamp, step, is_nan, run_uuid)"
            " VALUES ('a', 0.5, 4, 4, 0, ?)",
            [(key,) for key in ids],
        )
        db.commit()
    runs = Reader(store).runs()
    history = Reader(store).histories(list(runs.run_id))
    assert list(runs.run_id) == ids
    assert len(history) == 100_000
    assert runs.seconds.eq(1.5).all()


@pytest.mark.slow
def test_a_server_with_artifacts_of_its_own(tmp_path, serve):
    """The real thing, over HTTP: the same tables as from the database below it, and artifacts downloaded."""
    database = Store(f"sqlite:///{tmp_path}/mlflow.db")
    database.prepare("unused")
    server = serve(database)
    run_id = log_run(server, "over http", sweep="it's")
    code = (
        "import sys; from ablations.tracking import *; store = Store(sys.argv[1])\n"
        "tracker = Tracker.start(store, sys.argv[2], 'second', {}, {})\n"
        "tracker.log_metrics({'m': float('inf'), 'n': float('nan')}, 1)\n"
        "tracker.log_text('hello', 'deep/note.txt'); tracker.finish()\n"
        "reader = Reader(store)\n"
        "print(reader.artifact(tracker.run_id, 'deep/note.txt').read_text())\n"
        "print(reader.artifact(tracker.run_id, 'none.txt'))\n"
    )
    done = python(code, server.uri, EXPERIMENT)
    assert (done.stdout, done.stderr) == ("hello\nNone\n", "")
    served, below = Reader(server), Reader(database)
    runs = served.runs(EXPERIMENT)
    assert list(runs.run_name) == ["over http", "second"]
    pd.testing.assert_frame_equal(runs, below.runs(EXPERIMENT))
    assert list(served.runs(tags={"sweep": "it's"}).run_id) == [run_id]
    pd.testing.assert_frame_equal(served.histories(runs.run_id), below.histories(runs.run_id))
    assert below.artifact(runs.run_id[1], "deep/note.txt") is None  # only the server knows where it is


def test_what_a_database_has_in_place_of_a_number_is_none(store, varied):
    """SQLite takes any: such a value is missing, and all others are read."""
    run_id = varied["plain"]
    with closing(sqlite3.connect(store.path)) as db, db:
        for table in ("metrics", "latest_metrics"):
            db.execute(f"UPDATE {table} SET value = 'word' WHERE run_uuid = ?", [run_id])
        db.execute("UPDATE metrics SET step = 'word' WHERE rowid IN (SELECT max(rowid) FROM metrics)")
        db.execute("UPDATE runs SET start_time = 'word' WHERE run_uuid = ?", [run_id])
        db.execute("UPDATE params SET value = x'41' WHERE run_uuid = ?", [run_id])
        db.execute("UPDATE tags SET value = 5 WHERE run_uuid = ? AND key = 'sweep'", [run_id])
    reader = Reader(store)
    runs = reader.runs().set_index("run_id")
    assert runs.loc[run_id].filter(like="metrics.").isna().all()
    assert set(runs.loc[run_id].filter(like="params.").dropna()) <= {"A"}
    assert pd.isna(runs.loc[run_id, "start_time"])
    assert runs.drop(run_id).filter(like="metrics.").notna().any(axis=None)
    assert reader.histories([run_id])["value"].isna().all()


def test_texts_of_a_database_that_are_not_utf8_are_read_all_the_same(store, varied):
    run_id = varied["plain"]
    with closing(sqlite3.connect(store.path)) as db, db:
        for table in ("params", "tags"):
            db.execute(f"UPDATE {table} SET value = CAST(x'41ff42' AS TEXT) WHERE run_uuid = ?", [run_id])
        db.execute("UPDATE runs SET name = CAST(x'ff' AS TEXT) WHERE run_uuid = ?", [run_id])
    reader = Reader(store)
    runs = reader.runs().set_index("run_id")
    assert runs.loc[run_id, "run_name"] == "\ufffd"
    assert set(runs.loc[run_id].filter(regex=r"^(params|tags)\.").dropna()) == {"A\ufffdB"}
    assert len(runs) > 1
    assert len(reader.histories([run_id]))


def test_weights_are_found_by_their_name_wherever_they_lie(store, tmp_path):
    for place in ("model.npz", "model/artifacts/network/weights.npz"):
        folder = tmp_path / place.partition("/")[0].partition(".")[0] / str(len(place))
        (folder / place).parent.mkdir(parents=True)
        (folder / place).write_bytes(place.encode())
        tracker = Tracker.start(store, EXPERIMENT, "a run", {}, {})
        tracker.log_files(folder)
        tracker.finish()
        for reader in (Reader(store), through_the_api(store)):
            assert reader.artifact(tracker.run_id, "model.npz").read_bytes() == place.encode()
            assert reader.artifact(tracker.run_id, "weights.npz") is None
