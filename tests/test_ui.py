"""The address of a sweep's comparison, and the MLflow server behind it."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
import zlib

import pytest

from ablations.errors import InputError
from ablations.paths import ROOT
from ablations.study import Study, tag_of
from ablations.tracking import Reader, Tracker
from ablations.tracking.store import client
from ablations.views import View, compare


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


def test_the_last_sweep_with_its_factors_and_metrics(uri):
    found = compare(Reader(uri))
    assert (found.name, found.runs) == ("activation-pool", 2)
    assert found.params == ("activation", "pool")
    assert found.seed == "seed"
    assert found.variants == (("relu", "max"),)
    assert found.metrics == ("test/error_pct", "val/accuracy")
    older = compare(Reader(uri), "older")
    assert (older.runs, older.params, older.seed) == (1, ("pool",), None)
    assert {view.key for view in older.views}.isdisjoint(view.key for view in found.views)


def test_a_study_says_what_it_compares_and_stands_for_its_newest_sweep(uri_of_a_study):
    found = compare(Reader(uri_of_a_study), "written")
    assert (found.name, found.params, found.metrics) == ("thinned", ("c3",), ("test/error_pct", "test/loss"))


@pytest.fixture(scope="module")
def uri_of_a_study(tmp_path_factory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('study')}/mlflow.db"
    tags = {"sweep": "thinned", "study": "written", "factors": "c3,pool"}
    tracker = Tracker.start(uri, "lenet5", "c3=full", {"c3": "full", "pool": "max", "seed": 0}, tags)
    tracker.log_metrics({"test/error_pct": 2.0, "test/loss": 0.1}, 1)
    tracker.finish()
    study = Study("thinned", ("c3",), {"c3": "full"}, metric="test/loss", margin=0.0)
    experiment = client(uri).get_experiment_by_name("lenet5")
    client(uri).set_experiment_tag(experiment.experiment_id, tag_of("thinned"), study.to_json())
    return uri


def state_of(view: View) -> dict:
    """What MLflow's page unpacks."""
    key, value = view.tag()
    assert key == f"mlflow.sharedViewState.{view.key}"
    packed = json.loads(value)["state"].removeprefix("deflate;")
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_shared_views_are_packed_as_mlflows_page_reads_them(uri):
    runs, variants, charts = compare(Reader(uri)).views
    state = state_of(runs)
    metrics = ["metrics.`test/error_pct`", "metrics.`val/accuracy`"]
    assert state["selectedColumns"] == ["params.`activation`", "params.`pool`", "params.`seed`", *metrics]
    assert state["searchFilter"] == 'tags.sweep = "activation-pool"'
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`test/error_pct`", True)
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == ["val/accuracy", "train/loss"]

    grouped = state_of(variants)
    assert grouped["selectedColumns"] == ["params.`activation`", "params.`pool`", *metrics]
    keys = [{"mode": "param", "groupByData": name} for name in ("activation", "pool")]
    assert grouped["groupBy"] == {"aggregateFunction": "average", "groupByKeys": keys}
    assert charts.key == runs.key


def test_the_address_without_a_shared_view(uri):
    address = compare(Reader(uri)).views[0].address("http://127.0.0.1:5000", shared=False)
    query = dict(urllib.parse.parse_qsl(address.partition("?")[2]))
    assert query["searchFilter"] == 'tags.sweep = "activation-pool"'
    assert query["workflowType"] == "machine_learning"


def test_no_sweep_and_an_unknown_one(uri, tmp_path):
    with pytest.raises(InputError, match="no sweep 'pol'; the latest: activation-pool, older"):
        compare(Reader(uri), "pol")
    empty = f"sqlite:///{tmp_path}/mlflow.db"
    Tracker.start(empty, "lenet5", "of no sweep", {}, {}).finish()
    assert compare(Reader(empty)) is None
    with pytest.raises(InputError, match="none yet"):
        compare(Reader(empty), "pool")


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
    out, _ = ui("--help").communicate(timeout=60)
    assert "python -m ablations.ui activation-pool" in out


def test_the_server_answers_at_the_printed_address_until_ctrl_c(uri, tmp_path):
    process = ui("--tracking-uri", uri, "--port", "0", cwd=tmp_path)
    try:
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[0] == "sweep activation-pool, 2 runs:\n"
        titles, addresses = zip(*(line.split() for line in lines[1:4]), strict=True)
        assert titles == ("runs", "variants", "charts")
        address = addresses[0]
        server = address.partition("/#/")[0]
        assert server.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(server, timeout=30) as page:
            assert b"<title>MLflow</title>" in page.read()
        fragment = dict(urllib.parse.parse_qsl(address.partition("?")[2]))
        tags = client(uri).get_experiment_by_name("lenet5").tags
        assert f"mlflow.sharedViewState.{fragment['viewStateShareKey']}" in tags
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)
    assert (process.returncode, rest) == (0, ("", ""))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server, timeout=5)
