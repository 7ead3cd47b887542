"""`python -m ablations.ui`: the MLflow UI on the project's store, with a sweep's runs compared."""

import argparse
import base64
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from ablations.errors import InputError, one_line_errors
from ablations.tracking.reader import Reader
from ablations.tracking.store import artifacts_folder, sqlite_path, tag_experiment, tracking_uri

if TYPE_CHECKING:
    import pandas as pd

METRICS = ("test/error_pct", "val/accuracy", "test/accuracy", "time/epoch_s")
SORTED_BY = "test/error_pct"
START_SECONDS = 120.0

EXAMPLES = """examples:
  python -m ablations.ui                        the last sweep
  python -m ablations.ui activation-pool        a sweep by its name
  python -m ablations.ui --port 0               on any free port
  python -m ablations.ui --tracking-uri sqlite:////data/runs/mlflow.db
"""


@dataclass(frozen=True)
class View:
    """A comparison of one sweep's runs in MLflow's table."""

    sweep: str
    experiment_id: str
    runs: int
    params: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def key(self) -> str:
        """The name under which the experiment keeps this view."""
        return f"sweep-{hashlib.sha256(self.sweep.encode()).hexdigest()[:16]}"

    def state(self) -> dict[str, object]:
        """Return what MLflow's page remembers about its table: filter, order and columns."""
        return {
            **self._search(),
            "selectedColumns": [
                *(f"params.`{name}`" for name in self.params),
                *(f"metrics.`{name}`" for name in self.metrics),
            ],
            "runsHiddenMode": "SHOW_ALL",
            "groupBy": None,
        }

    def shared(self) -> tuple[str, str]:
        """Return the experiment tag, key and value, from which MLflow's page restores this view."""
        packed = base64.b64encode(zlib.compress(json.dumps(self.state()).encode())).decode()
        now = time.time_ns() // 1_000_000
        value = {"name": self.sweep, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
        return f"mlflow.sharedViewState.{self.key}", json.dumps(value)

    def address(self, server: str, shared: bool) -> str:
        """Return the page with this view; where not `shared`, filtered and sorted, with default columns.

        MLflow ignores a shared view when the address itself has a filter.
        """
        query = {"workflowType": "machine_learning"}
        query |= {"viewStateShareKey": self.key} if shared else self._search()
        return f"{server}/#/experiments/{self.experiment_id}/runs?{urllib.parse.urlencode(query)}"

    def _search(self) -> dict[str, str]:
        quote = "'" if '"' in self.sweep else '"'
        return {
            "searchFilter": f"tags.sweep = {quote}{self.sweep}{quote}",
            "orderByKey": f"metrics.`{SORTED_BY}`",
            "orderByAsc": "true",
        }


def sweep_view(runs: "pd.DataFrame", sweep: str | None = None) -> View | None:
    """Return the view of a sweep, by default the one of the newest run; None where there is no sweep at all.

    Raises InputError for an unknown sweep, with those that exist.
    """
    tagged = runs.dropna(subset="tags.sweep") if "tags.sweep" in runs else runs.iloc[:0]
    if tagged.empty and sweep is None:
        return None
    if sweep is None:
        sweep = tagged["tags.sweep"].iloc[-1]
    chosen = tagged[tagged["tags.sweep"] == sweep] if len(tagged) else tagged
    if chosen.empty:
        known = tagged["tags.sweep"].drop_duplicates(keep="last").tolist()[:-21:-1] if len(tagged) else []
        raise InputError(f"no sweep {sweep!r}; the latest: {', '.join(known) or 'none yet'}")
    experiment_id = chosen["experiment_id"].iloc[-1]
    chosen = chosen[chosen["experiment_id"] == experiment_id]
    logged = [name for name in METRICS if f"metrics.{name}" in chosen]
    return View(sweep, experiment_id, len(chosen), tuple(_factors(chosen)), tuple(logged or METRICS))


def _factors(runs: "pd.DataFrame") -> list[str]:
    """Return the swept params: those in the runs' tag `factors`, and the seed where it varies."""
    texts = runs["tags.factors"].dropna() if "tags.factors" in runs else []
    names = dict.fromkeys(name.strip() for text in texts for name in text.split(",") if name.strip())
    if "params.seed" in runs and runs["params.seed"].nunique() > 1:
        names["seed"] = None
    return list(names)


@contextmanager
def server(uri: str, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on a store for the duration of the block, once it answers.

    Raises InputError with the last thing it said where it does not start.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", uri, "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    path = sqlite_path(uri)
    if path is not None:
        command += ["--no-serve-artifacts", "--default-artifact-root", artifacts_folder(path).as_uri()]
    # Without its job runner it starts in half the time and takes half the memory.
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with tempfile.TemporaryDirectory(prefix="mlflow-ui-") as folder, tempfile.TemporaryFile() as log:
        # A session of its own: Ctrl-C reaches us alone, and its workers can be ended together.
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait(process, f"http://{_reachable(host)}:{port}", log)
            yield process
        finally:
            _end(process)


def _wait(process: subprocess.Popen[bytes], address: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"{address}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.1)
    log.seek(0)
    said = log.read().decode(errors="replace").strip().splitlines()
    raise InputError(f"the MLflow server did not start: {said[-1] if said else 'it said nothing'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _reachable(host: str) -> str:
    """Return a name under which this machine itself reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _port(host: str, wanted: int) -> int:
    """Return the port to listen on: the wanted one, or any free one for 0."""
    if not 0 <= wanted <= 65535:
        raise InputError(f"no port {wanted}: it is 0 to 65535")
    if _is_free(host, wanted):
        return wanted or _any_port(host)
    other = next((port for port in range(wanted + 1, min(wanted + 100, 65536)) if _is_free(host, port)), 0)
    raise InputError(f"port {wanted} is taken: try --port {other}")


def _is_free(host: str, port: int) -> bool:
    try:
        _bind(host, port).close()
    except OSError:
        return False
    return True


def _any_port(host: str) -> int:
    with _bind(host, 0) as listener:
        return listener.getsockname()[1]


def _bind(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)


def _share(uri: str, view: View) -> bool:
    """Keep the view in its experiment. False where that is refused: the runs can be looked at without it."""
    try:
        tag_experiment(uri, view.experiment_id, *view.shared())
    except InputError:
        return False
    return True


def _announce(uri: str, address: str, view: View | None) -> None:
    if view is None:
        print(f"no sweep yet; all experiments:\n  {address}/#/experiments?workflowType=machine_learning")
    else:
        print(f"sweep {view.sweep}, {view.runs} runs:\n  {view.address(address, _share(uri, view))}")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    """Show a sweep in MLflow's UI until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m ablations.ui",
        description="Start the MLflow UI and print the address at which the runs of a sweep are compared.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="the sweep (default: the last one)")
    parser.add_argument(
        "--port", type=int, default=5000, help="port to listen on; 0: any free one (default: 5000)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument(
        "--tracking-uri", metavar="URI", help="another MLflow store, or a server, which has its own UI"
    )
    options = parser.parse_args(arguments)
    with one_line_errors():
        uri = tracking_uri(options.tracking_uri)
        if uri.startswith(("http://", "https://")):
            view = sweep_view(Reader(uri).runs(), options.name)
            _announce(uri, uri.rstrip("/"), view)
            return
        port = _port(options.host, options.port)
        view = sweep_view(Reader(uri).runs(), options.name)
        _serve(uri, options.host, port, view)


def _serve(uri: str, host: str, port: int, view: View | None) -> None:
    for sign in (signal.SIGINT, signal.SIGTERM):  # however this ends, the server ends too
        signal.signal(sign, signal.default_int_handler)
    try:
        with server(uri, host, port) as process:
            _announce(uri, f"http://{_reachable(host)}:{port}", view)
            print("Ctrl-C ends the server", flush=True)
            process.wait()
            raise InputError("the MLflow server ended by itself")
    except KeyboardInterrupt:
        pass  # the usual way out


if __name__ == "__main__":
    main()
