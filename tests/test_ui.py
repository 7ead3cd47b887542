"""The address of a sweep's comparison, and the MLflow server behind it."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
import zlib

import pytest

from ablations.errors import InputError
from ablations.paths import ROOT
from ablations.tracking import Reader, Tracker
from ablations.tracking.store import client, tag_experiment
from ablations.tracking.study import Study, tag_of
from ablations.ui import _announce
from ablations.views import Comparison, View, compare, share_views


def ui(*arguments: str, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ablations.ui", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('ui')}/mlflow.db"
    for sweep, factors, seeds in (("older", "pool", [0]), ("activation-pool", "activation,pool", [0, 1])):
        for seed in seeds:
            params = {"activation": "relu", "pool": "max", "seed": seed, "trainer.epochs": 3}
            tags = {"sweep": sweep, "factors": factors}
            tracker = Tracker.start(uri, "lenet5", f"seed={seed}", params, tags)
            tracker.log_metrics({"test/error_pct": 2.0 + seed, "val/accuracy": 0.9, "train/loss": 0.1}, 1)
            tracker.finish()
    Tracker.start(uri, "lenet5", "of no sweep", {}, {}).finish()
    return uri


def comparison(uri: str, name: str | None = None) -> Comparison:
    return compare(Reader(uri), name)


def unpacked(view: View) -> dict:
    """What MLflow's page makes of the tag."""
    key, value = view.tag()
    assert key == f"mlflow.sharedViewState.{view.key}"
    packed = json.loads(value)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_last_sweep_with_what_was_swept(uri):
    last = comparison(uri)
    assert (last.name, last.runs) == ("activation-pool", 2)
    assert (last.params, last.seed) == (("activation", "pool"), "seed")
    assert last.variants == (("relu", "max"),)
    assert last.metrics == ("test/error_pct", "val/accuracy")
    older = comparison(uri, "older")
    assert (older.runs, older.params, older.seed) == (1, ("pool",), None)
    assert {view.key for view in older.views}.isdisjoint(view.key for view in last.views)


def test_a_study_says_what_tells_its_variants_apart_and_stands_for_its_newest_sweep(tmp_path):
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    rates = {"adam": ["0.001", "0.01"], "sgd": ["0.1"]}
    for sweep in ("first", "tuned"):
        for optimizer, rate in ((name, rate) for name, rates in rates.items() for rate in rates):
            params = {"optimizer": optimizer, "optimizer.lr": rate, "start": 7}
            tags = {"sweep": sweep, "study": "learning_rate", "factors": "optimizer"}
            tracker = Tracker.start(uri, "lenet5", optimizer, params, tags)
            tracker.log_metrics({"test/error_pct": 2.0, "test/loss": 0.1}, 1)
            tracker.finish()
    study = Study(
        "tuned", ("optimizer",), {}, "test/loss", 0.1, seed_param="start", nuisance=("optimizer.lr",)
    )
    tag_experiment(uri, "1", tag_of("tuned"), study.to_json())
    found = comparison(uri, "learning_rate")
    assert (found.name, found.runs) == ("tuned", 3)
    assert found.params == ("optimizer", "optimizer.lr")
    assert found.variants == (("adam", "0.001"), ("adam", "0.01"), ("sgd", "0.1"))
    assert found.seed is None
    assert found.metrics == ("test/error_pct", "test/loss")

    share_views(uri, "tuned")
    kept = Reader(uri).experiment_tags("1")
    assert {view.tag()[0] for view in found.views} <= set(kept)

    tag_experiment(uri, "1", tag_of("tuned"), "of another version")
    assert comparison(uri, "tuned").params == ("optimizer",)


def test_a_sweep_whose_views_cannot_be_kept_does_not_fail(tmp_path, uri, monkeypatch):
    share_views(f"sqlite:///{tmp_path}/none.db", "activation-pool")
    assert not (tmp_path / "none.db").exists()

    def refuse(*_):
        raise InputError("read-only")

    monkeypatch.setattr("ablations.views.tag_experiment", refuse)
    share_views(uri, "activation-pool")


def test_the_views_are_packed_as_mlflows_page_reads_them(uri):
    runs, variants, charts = comparison(uri).views
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
    assert (charts.key, unpacked(charts)) == (runs.key, state)

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
    only = Comparison("seed", "1", 3, (), ((),), "seed", ("test/error_pct",), ("train/loss",))
    grouped = unpacked(only.views[1])
    assert grouped["groupBy"]["groupByKeys"] == [{"mode": "tag", "groupByData": "sweep"}]
    assert grouped["groupsExpanded"] == {"tag.sweep.seed": False}


def test_the_addresses_with_and_without_a_shared_view(uri):
    for view in comparison(uri).views:
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


def test_no_sweep_and_an_unknown_one(uri, tmp_path):
    with pytest.raises(InputError, match="no sweep 'pol'; the latest: activation-pool, older"):
        comparison(uri, "pol")
    empty = f"sqlite:///{tmp_path}/mlflow.db"
    Tracker.start(empty, "lenet5", "of no sweep", {}, {}).finish()
    assert comparison(empty) is None
    with pytest.raises(InputError, match="none yet"):
        comparison(empty, "pool")


def test_means_of_more_runs_than_the_page_loads_come_with_a_word_of_warning(monkeypatch, capsys):
    monkeypatch.setattr("ablations.ui.share", lambda *_: True)
    for runs, warned in ((100, False), (101, True)):
        many = Comparison("seed", "1", runs, (), ((),), "seed", ("test/error_pct",), ("train/loss",))
        _announce("sqlite:///none.db", "http://127.0.0.1:5000", many)
        assert ("Load more" in capsys.readouterr().out) == warned


def test_a_taken_port_is_named_with_one_to_try(uri):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = ui("--tracking-uri", uri, "--port", str(port))
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(rf"error: port {port} is taken: try --port \d+\n", error)


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_a_port_that_cannot_be(uri, port):
    process = ui("--tracking-uri", uri, "--port", port)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "0 to 65535" in error.splitlines()[-1]


def test_help_has_examples():
    start = time.perf_counter()
    out, _ = ui("--help").communicate(timeout=60)
    assert "python -m ablations.ui activation-pool" in out
    assert time.perf_counter() - start < 1.5


def test_the_server_answers_at_the_printed_address_until_ctrl_c(uri, tmp_path):
    process = ui("--tracking-uri", uri, "--port", "0", cwd=tmp_path)
    try:
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[0] == "sweep activation-pool, 2 runs:\n"
        addresses = dict(line.split() for line in lines[1:4])
        assert list(addresses) == ["runs", "variants", "charts"]
        server = addresses["runs"].partition("/#/")[0]
        assert server.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(server, timeout=30) as page:
            assert b"<title>MLflow</title>" in page.read()
        tags = client(uri).get_experiment_by_name("lenet5").tags
        for address in addresses.values():
            fragment = dict(urllib.parse.parse_qsl(address.partition("?")[2]))
            assert f"mlflow.sharedViewState.{fragment['viewStateShareKey']}" in tags
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, ("", ""))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server, timeout=5)
