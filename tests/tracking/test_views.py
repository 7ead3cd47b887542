"""The views of a sweep in the MLflow UI: what they show, and how they are packed."""

import base64
import json
import urllib.parse
import urllib.request
import zlib

import pytest
from mlflow import MlflowClient

from ablations.comparison.selection import belonging
from ablations.errors import InputError
from ablations.report.compile import compiled_from
from ablations.report.request import Request, asked
from ablations.tracking import Reader, Store, Tracker
from ablations.tracking.study import Study, tag_of
from ablations.tracking.views import SweepViews, View, run_page, share_views, sweep_views


def views_of(store: Store, name: str | None = None) -> SweepViews:
    return sweep_views(Reader(store), name, belonging)


def unpacked(view: View) -> dict:
    """What MLflow's page makes of the tag."""
    key, value = view.tag()
    assert key == f"mlflow.sharedViewState.{view.key}"
    packed = json.loads(value)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_last_sweep_with_what_was_swept(swept):
    last = views_of(swept)
    assert (last.name, last.runs) == ("activation-pool", 2)
    assert (last.params, last.seed) == (("activation", "pool"), "seed")
    assert last.variants == (("relu", "max"),)
    assert last.metrics == ("test/error_pct", "val/accuracy")
    older = views_of(swept, "older")
    assert (older.runs, older.params, older.seed) == (1, ("pool",), None)
    assert {view.key for view in older.views}.isdisjoint(view.key for view in last.views)


def test_a_study_says_what_tells_its_variants_apart_and_stands_for_its_newest_sweep(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    rates = {"adam": ["0.001", "0.01"], "sgd": ["0.1"]}
    for sweep in ("first", "tuned"):
        for optimizer, rate in ((name, rate) for name, rates in rates.items() for rate in rates):
            params = {"optimizer": optimizer, "optimizer.lr": rate, "start": 7}
            tags = {"sweep": sweep, "study": "learning_rate", "factors": "optimizer"}
            tracker = Tracker.start(store, "lenet5", optimizer, params, tags)
            tracker.log_metrics({"test/error_pct": 2.0, "test/loss": 0.1}, 1)
            tracker.finish()
    study = Study(
        "tuned",
        ("optimizer",),
        {},
        "test/loss",
        0.1,
        seed_param="start",
        nuisance=("optimizer.lr",),
        design="grid",
        tuned_on="val/accuracy",
    )
    store.tag_experiment("1", tag_of("tuned"), study.to_json())
    found = views_of(store, "learning_rate")
    assert (found.name, found.runs) == ("tuned", 3)
    assert found.params == ("optimizer", "optimizer.lr")
    assert found.variants == (("adam", "0.001"), ("adam", "0.01"), ("sgd", "0.1"))
    assert found.seed is None
    assert found.metrics == ("test/error_pct", "test/loss")

    share_views(store, "tuned", belonging)
    kept = Reader(store).experiment_tags("1")
    assert {view.tag()[0] for view in found.views} <= set(kept)

    store.tag_experiment("1", tag_of("tuned"), "of another version")
    assert views_of(store, "tuned").params == ("optimizer",)


def test_a_sweep_whose_views_cannot_be_kept_does_not_fail(tmp_path, swept, monkeypatch):
    share_views(Store(f"sqlite:///{tmp_path}/none.db"), "activation-pool", belonging)
    assert not (tmp_path / "none.db").exists()

    def refuse(*_):
        raise InputError("read-only")

    monkeypatch.setattr("ablations.tracking.store.Store.tag_experiment", refuse)
    share_views(swept, "activation-pool", belonging)


def test_the_views_are_packed_as_mlflows_page_reads_them(swept):
    runs, variants, charts = views_of(swept).views
    state = unpacked(runs)
    assert state["selectedColumns"] == [
        "params.`activation`",
        "params.`pool`",
        "params.`seed`",
        "metrics.`test/error_pct`",
        "metrics.`val/accuracy`",
    ]
    assert state["searchFilter"] == 'tags.sweep = "activation-pool"'
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test/error_pct`", True)
    assert state["groupBy"] is None
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == ["val/accuracy", "train/loss"]
    assert (charts.key, unpacked(charts)) == (variants.key, unpacked(variants))

    grouped = unpacked(variants)
    assert grouped["groupBy"] == {
        "aggregateFunction": "average",
        "groupByKeys": [
            {"mode": "param", "groupByData": "activation"},
            {"mode": "param", "groupByData": "pool"},
        ],
    }
    assert grouped["groupsExpanded"] == {"param.activation.relu,param.pool.max": False}
    assert "params.`seed`" not in grouped["selectedColumns"]


def test_where_nothing_but_the_seed_was_swept_its_runs_are_one_group():
    only = SweepViews("seed", "1", 3, (), ((),), "seed", ("test/error_pct",), ("train/loss",))
    grouped = unpacked(only.views[1])
    assert grouped["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "sweep"}]
    assert grouped["groupsExpanded"] == {"tag.sweep.seed": False}


def test_the_addresses_with_and_without_a_shared_view(swept):
    for view in views_of(swept).views:
        page, _, query = view.address("http://127.0.0.1:5000", shared=True).partition("?")
        assert page == "http://127.0.0.1:5000/#/experiments/1/runs"
        shared = dict(urllib.parse.parse_qsl(query))
        assert shared["viewStateShareKey"] == view.key
        assert "searchFilter" not in shared  # or the view would be ignored
        plain = view.address("http://127.0.0.1:5000", shared=False).partition("?")[2]
        plain = dict(urllib.parse.parse_qsl(plain))
        assert plain["searchFilter"] == 'tags.sweep = "activation-pool"'
        assert plain["orderByKey"] == "metrics.`test/error_pct`"
        assert plain["orderByAsc"] == "true"
        for each in (shared, plain):
            assert each["workflowType"] == "machine_learning"
            assert each.get("compareRunsMode") == ("CHART" if view.title == "charts" else None)


def test_the_views_are_of_the_runs_that_the_report_covers(tmp_path):
    """Of one name, but of other settings: five epochs first, then one, and one of these twice."""
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    ids = []
    for invocation, epochs, seed in (("1", 5, 0), ("2", 1, 0), ("2", 1, 1), ("3", 1, 1)):
        params = {"optimizer": "adam", "seed": seed, "trainer.epochs": epochs}
        tags = {"sweep": "optimizer", "sweep_id": invocation, "factors": "optimizer"}
        tags |= {"config_hash": f"{epochs} {seed}", "code_hash": "c"}
        tracker = Tracker.start(store, "lenet5", "a run", params, tags)
        tracker.log_metrics({"test/error_pct": 2.0}, 1)
        tracker.finish()
        ids.append(tracker.run_id)
    found = views_of(store)
    assert (found.runs, found.left_out) == (2, tuple(sorted((ids[0], ids[2]))))
    assert compiled_from(Reader(store), None, Request()).analysis.everything["run_id"].tolist() == [
        ids[1],
        ids[3],
    ]
    wanted = unpacked(found.views[0])["searchFilter"]
    assert wanted.startswith('tags.sweep = "optimizer" AND attributes.run_id NOT IN (')
    runs = MlflowClient(store.uri).search_runs(["1"], wanted)
    assert {run.info.run_id for run in runs} == {ids[1], ids[3]}


def test_the_last_sweep_is_the_one_that_was_asked_for_last(tmp_path):
    """Though all its runs were there already, and another sweep's are newer."""
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    for sweep, invocation in (("asked again", "3"), ("newer", "2")):
        tags = {"sweep": sweep, "sweep_id": invocation, "factors": ""}
        Tracker.start(store, "lenet5", "a run", {"seed": 0}, tags).finish()
    assert views_of(store).name == "asked again"
    assert asked(Reader(store), None, Request())[0].name == "asked again"


def test_the_page_of_a_run(swept):
    runs = Reader(swept).runs()
    run = runs[runs["tags.sweep"] == "older"].iloc[0]
    page = f"/#/experiments/{run['experiment_id']}/runs/{run['run_id']}"
    assert run_page(Reader(swept), run["run_id"]) == run_page(Reader(swept), run["run_id"][:12]) == page
    assert run_page(Reader(swept), "older") is None
    assert run_page(Reader(swept), "") is None  # more than one begins so


def test_no_sweep_and_an_unknown_one(swept, tmp_path):
    with pytest.raises(InputError, match="no sweep 'pol'; the latest: activation-pool, older"):
        views_of(swept, "pol")
    empty = Store(f"sqlite:///{tmp_path}/mlflow.db")
    Tracker.start(empty, "lenet5", "of no sweep", {}, {}).finish()
    assert views_of(empty) is None
    with pytest.raises(InputError, match="none yet"):
        views_of(empty, "pool")
