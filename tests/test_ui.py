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

import pandas as pd
import pytest

from ablations.errors import InputError
from ablations.paths import ROOT
from ablations.tracking import Reader, Tracker
from ablations.tracking.store import client
from ablations.ui import sweep_view


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
    view = sweep_view(Reader(uri).runs())
    assert (view.sweep, view.runs) == ("activation-pool", 2)
    assert view.params == ("activation", "pool", "seed")
    assert view.metrics == ("test/error_pct", "val/accuracy")
    older = sweep_view(Reader(uri).runs(), "older")
    assert (older.runs, older.params) == (1, ("pool",))
    assert older.key != view.key


def test_the_shared_view_is_packed_as_mlflows_page_reads_it(uri):
    view = sweep_view(Reader(uri).runs())
    key, value = view.shared()
    assert key == f"mlflow.sharedViewState.{view.key}"
    packed = json.loads(value)["state"].removeprefix("deflate;")
    state = json.loads(zlib.decompress(base64.b64decode(packed)))
    assert state["selectedColumns"] == [
        "params.`activation`",
        "params.`pool`",
        "params.`seed`",
        "metrics.`test/error_pct`",
        "metrics.`val/accuracy`",
    ]
    assert state["searchFilter"] == 'tags.sweep = "activation-pool"'
    assert state["orderByKey"] == "metrics.`test/error_pct`"


def test_the_address_without_a_shared_view(uri):
    address = sweep_view(Reader(uri).runs()).address("http://127.0.0.1:5000", shared=False)
    query = dict(urllib.parse.parse_qsl(address.partition("?")[2]))
    assert query["searchFilter"] == 'tags.sweep = "activation-pool"'
    assert query["workflowType"] == "machine_learning"


def test_no_sweep_and_an_unknown_one(uri):
    runs = Reader(uri).runs()
    with pytest.raises(InputError, match="no sweep 'pol'; the latest: activation-pool, older"):
        sweep_view(runs, "pol")
    untagged = runs.drop(columns="tags.sweep")
    assert sweep_view(untagged) is None
    assert sweep_view(pd.DataFrame(columns=["run_id"])) is None
    with pytest.raises(InputError, match="none yet"):
        sweep_view(untagged, "pool")


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
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[0] == "sweep activation-pool, 2 runs:\n"
        address = lines[1].strip()
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
