"""The command `python -m ablations.ui`, and the MLflow server behind it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence

import pytest
from mlflow import MlflowClient
from project import PATIENCE_S

from ablations.ground.paths import ROOT
from ablations.tracking import Store
from ablations.tracking.views import SweepViews
from ablations.ui import _announce


def ui(*arguments: str, before: Sequence[str] = (), **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-m", "ablations.ui", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_means_of_more_runs_than_the_page_loads_come_with_a_word_of_warning(monkeypatch, capsys):
    monkeypatch.setattr("ablations.tracking.views.SweepViews.share", lambda *_: True)
    for runs, warned in ((100, False), (101, True)):
        many = SweepViews("seed", "1", runs, (), ((),), "seed", ("test/error_pct",), ("train/loss",))
        _announce(Store("sqlite:///none.db"), "http://127.0.0.1:5000", many)
        assert ("Load more" in capsys.readouterr().out) == warned


def test_a_taken_port_is_named_with_one_to_try(swept):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = ui("--tracking-uri", swept.uri, "--port", str(port))
        out, error = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (2, "")
    assert re.fullmatch(rf"error: port {port} is taken: try --port \d+\n", error)


@pytest.mark.parametrize("port", ["-1", "70000"])
def test_a_port_that_cannot_be(swept, port):
    process = ui("--tracking-uri", swept.uri, "--port", port)
    out, error = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, out) == (2, "")
    assert "0 to 65535" in error.splitlines()[-1]


def test_help_has_examples():
    out, _ = ui("--help").communicate(timeout=PATIENCE_S)
    assert "python -m ablations.ui activation-pool" in out


@pytest.mark.slow  # many seconds; .ci/run has it
def test_the_server_answers_at_the_printed_address_until_ctrl_c(swept, tmp_path):
    process = ui("--tracking-uri", swept.uri, "--port", "0", cwd=tmp_path)
    try:
        lines = [process.stdout.readline() for _ in range(5)]
        assert lines[0] == "sweep activation-pool, 2 runs:\n"
        addresses = dict(line.split() for line in lines[1:4])
        assert list(addresses) == ["runs", "variants", "charts"]
        server = addresses["runs"].partition("/#/")[0]
        assert server.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(server, timeout=PATIENCE_S) as page:
            assert b"<title>MLflow</title>" in page.read()
        tags = MlflowClient(swept.uri).get_experiment_by_name("lenet5").tags
        for address in addresses.values():
            fragment = dict(urllib.parse.parse_qsl(address.partition("?")[2]))
            assert f"mlflow.sharedViewState.{fragment['viewStateShareKey']}" in tags
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, rest) == (0, ("", ""))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(server, timeout=5)


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL], ids=lambda number: number.name)
def test_the_server_ends_with_the_command_however_that_ends(number, swept, tmp_path):
    """SIGHUP as of a terminal that is closed. The store cannot be written to: a copy of it is shown."""
    store = tmp_path / "store"
    shutil.copytree(swept.path.parent, store)
    read_only = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", read_only, str(store)]
    can = shutil.which("unshare") and subprocess.run([*command, "true"], capture_output=True).returncode == 0
    process = ui(
        "--tracking-uri", f"sqlite:///{store}/mlflow.db", "--port", "0", before=command if can else []
    )
    shown = ""
    while not shown.endswith("Ctrl-C ends the server\n"):
        line = process.stdout.readline()
        assert line, process.stderr.read()
        shown += line
    assert "sweep activation-pool, 2 runs" in shown
    assert ("this is a copy" in shown) == bool(can)
    server = re.search(r"http://([0-9.]+):([0-9]+)/", shown)
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (0 if number == signal.SIGHUP else -number)
    for _ in range(100):
        try:
            socket.create_connection((server[1], int(server[2])), timeout=5).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.1)
    pytest.fail("the server answers still")
