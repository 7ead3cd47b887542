"""Users and passwords in addresses reach MLflow alone: no report, tag, log, file or line on the console."""

import base64
import json
import logging
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from project import Project

from ablations.commands import MaskedFormatter, module_command, run_command
from ablations.errors import InputError, masked, one_line
from ablations.report.__main__ import main as report
from ablations.tracking import Reader, Store, Tracker, address
from ablations.tracking.journal import JOURNAL, Content, Journal

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://admin:hunter2@host:5000/a", "http://***@host:5000/a"),
        ("see https://hunter2@host, and", "see https://***@host, and"),
        ("https://a%40b:hun%2Fter2@host/x@y", "https://***@host/x@y"),
        ("http://a:hunter2@b@host", "http://***@host"),
        ("http://a:hun#hunter2@host/", "http://***@host/"),
        ("postgresql+psycopg2://u:hunter2@db:5432/m", "postgresql+psycopg2://***@db:5432/m"),
        ("postgresql://u:hun/ter?hunter2@db/m", "postgresql://***@db/m"),
        ("postgresql://db/m?user=u&password=hunter2&x=1", "postgresql://db/m?user=***&password=***&x=1"),
        (
            "tracking.uri='sqlite:///a b.db?password=hunter2' x=1",
            "tracking.uri='sqlite:///a b.db?password=***' x=1",
        ),
        ("http://127.0.0.1:5000/#/experiments/1?o=a@b", "http://127.0.0.1:5000/#/experiments/1?o=a@b"),
        ("sqlite:////data/a:b@c/mlflow.db", "sqlite:////data/a:b@c/mlflow.db"),
        ("file:///C:/a@b", "file:///C:/a@b"),
        ("password=x is no address", "password=x is no address"),
    ],
)
def test_what_is_shown_of_an_address(text, shown):
    assert masked(text) == shown == masked(shown)


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Nothing known of before."""
    monkeypatch.setattr(address, "_known", {})
    for name in (
        address.WHOLE,
        "MLFLOW_TRACKING_URI",
        "MLFLOW_TRACKING_USERNAME",
        "MLFLOW_TRACKING_PASSWORD",
    ):
        monkeypatch.delenv(name, raising=False)


def test_a_store_keeps_the_whole_address_for_mlflow_alone():
    store = Store("http://admin:hunter2@host:5000/")
    assert SECRET not in repr(store)
    assert (store.server, store.option) == ("http://host:5000", ["--tracking-uri", "http://***@host:5000/"])
    assert store.uri == "http://admin:hunter2@host:5000/"
    assert Store(store.shown) == store
    assert Store(store.shown).uri == store.uri


def test_a_store_that_is_only_shown_finds_its_address_in_the_environment(monkeypatch):
    shown = Store("http://***@host:5000")
    with pytest.raises(
        InputError, match=r"^the store http://\*\*\*@host:5000: its user and password are kept nowhere; acc"
    ):
        _ = shown.uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://admin:hunter2@host:5000")
    assert shown.uri == "http://admin:hunter2@host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://admin:hunter2@other:5000")
    with pytest.raises(InputError):
        _ = shown.uri


def test_lines_tracebacks_and_commands():
    error = InputError("no server at http://a:hunter2@host")
    assert one_line(error) == "no server at http://***@host"
    assert one_line(RuntimeError(str(error) + " http://a:hunter2@x")).endswith("http://***@x")
    record = logging.LogRecord(
        "x", 20, "", 0, "at %s", ("http://a:hunter2@host",), (OSError, OSError("z://q:hunter2@p"), None)
    )
    line = MaskedFormatter().format(record)
    assert SECRET not in line
    assert "at http://***@host\n" in line
    assert (
        module_command("ui", "--tracking-uri", "http://a:hunter2@h")
        == "python -m ablations.ui --tracking-uri 'http://***@h'"
    )
    assert SECRET not in run_command(["tracking.uri='http://a:hunter2@h'"])


def test_an_error_that_nobody_foresaw():
    code = "from ablations.commands import one_line_errors\nwith one_line_errors(): raise RuntimeError('at http://a:hunter2@h')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("RuntimeError: at http://***@h\n")


@pytest.fixture
def guarded():
    """The address of a server that answers its one user alone, and what it was asked."""
    asked = []
    wanted = "Basic " + base64.b64encode(b"ad min:hunter2").decode()

    class Guard(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization") == wanted))
            self.send_response(200 if asked[-1][1] else 503)
            self.end_headers()

        def log_message(self, *_):
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Guard)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()


def test_a_server_is_asked_with_user_and_password(guarded, monkeypatch):
    host, asked = guarded
    Store(f"http://ad%20min:hunter2@{host}").require_answer()
    assert asked == [("/health", True)]
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ad min")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter2")
    Store(f"http://{host}").require_answer()
    assert asked[1:] == [("/health", True)]
    with pytest.raises(
        InputError, match=r"^the MLflow server at http://\*\*\*@127.0.0.1:\d+ is out of order: "
    ):
        Store(f"http://ad%20min:wrong@{host}").require_answer()


def test_what_waits_knows_its_store_by_the_shown_address(tmp_path, monkeypatch):
    monkeypatch.setenv("ABLATIONS_OUTBOX", str(tmp_path))
    store = Store("http://admin:hunter2@127.0.0.1:9")
    journal = Journal.new(store, "local-1")
    journal.close()
    text = (journal.folder / JOURNAL).read_bytes()
    assert SECRET.encode() not in text
    assert Content.parse(text).store == store


def test_what_other_programs_logged(tmp_path, monkeypatch, capsys):
    """Params and tags with passwords, and the address with one."""
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    uri = f"postgresql://u:{SECRET}@db/m"
    for seed in (0, 1):
        for arch in "xy":
            params = {"arch": arch, "seed": seed}
            tracker = Tracker.start(store, "e", "run", params, {})
            with store.client() as api:
                api.log_param(tracker.run_id, "db", uri)
                api.set_tag(tracker.run_id, "source", uri)
            tracker.log_metrics({"acc": 0.9 + seed / 100}, 1)
            tracker.finish()
    assert set(Reader(store).runs()["params.db"]) == {"postgresql://***@db/m"}
    report(
        [
            "--tracking-uri",
            f"{store.uri}?password={SECRET}",
            "--experiment",
            "e",
            "--factors",
            "arch",
            "--metric",
            "acc",
        ]
    )
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    written = [path for path in (tmp_path / "reports").rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    again = json.loads((tmp_path / "reports" / "e" / "report.json").read_text())["again"]
    assert "?password=***" in again[0]


@pytest.mark.slow
def test_a_run_and_a_sweep(tmp_path):
    """Through the configuration: no file that they leave, and no line that they print, has the password."""
    project = Project(tmp_path)
    uri = f"tracking.uri='sqlite:///{tmp_path}/n.db?password={SECRET}'"
    for words in (["-m", "activation=relu,tanh", "hydra/launcher=joblib"], ["dry_run=true"]):
        done = project.run(*words, "trainer.epochs=1", uri)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
    left = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert left == []
    runs = Reader(Store(f"sqlite:///{tmp_path}/n.db")).runs()
    assert runs["tags.command"].str.contains("?password=***", regex=False).all()


def test_a_run_on_a_server_that_is_away(tmp_path):
    project = Project(tmp_path)
    words = ["trainer.epochs=1", f"tracking.uri='http://admin:{SECRET}@127.0.0.1:9'"]
    done = project.run(*words)
    assert SECRET not in done.stdout + done.stderr
    assert "http://***@127.0.0.1:9" in done.stdout + done.stderr
    assert not [p for p in tmp_path.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    assert os.environ.get(address.WHOLE) is None
