"""`python -m ablations.ui`: the MLflow UI on the project's store, with a sweep's runs compared."""

import argparse
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO

from ablations.commands import command_parser, guard, one_line_errors, say_doing
from ablations.errors import InputError, printable
from ablations.ground import apart
from ablations.ground.paths import draft_folder
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.views import SweepViews, run_page, sweep_views

START_SECONDS = 600.0
UNTIL_WE_END = [sys.executable, guard.__file__]
"""Starts a command that ends when stdin does: when this process does, however it ends."""

TITLE_WIDTH = 10
PAGE = 100
"""How many runs MLflow's page loads at a time."""

EXAMPLES = """examples:
  python -m ablations.ui                        the last sweep
  python -m ablations.ui activation-pool        a sweep or a study by its name
  python -m ablations.ui 3f2a9c                 a run by its id, or the beginning of it
  python -m ablations.ui --port 0               on any free port
  python -m ablations.ui --tracking-uri sqlite:////data/runs/mlflow.db
"""


@contextmanager
def server(store: Store, host: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server on a store for the duration of the block, once it answers.

    Raises InputError with the last thing it said where it does not start.
    """
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    if store.artifacts is not None:
        command += ["--no-serve-artifacts", "--default-artifact-root", store.artifacts.as_uri()]
    # Without its job runner it starts in half the time and takes half the memory.
    environment = os.environ | {
        "MLFLOW_BACKEND_STORE_URI": store.uri,  # not among its arguments, which everybody on the machine sees
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with draft_folder() as folder, open(folder / "log", "w+b") as log:
        process = subprocess.Popen(
            [*UNTIL_WE_END, *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            **apart(),  # Ctrl-C reaches us alone
        )
        try:
            _wait(process, f"http://{_reachable(host)}:{port}", log)
            yield process
        finally:
            guard.end(process)


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
    lines = log.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
    raise InputError(f"the MLflow server did not start: {lines[-1]}")


def _reachable(host: str) -> str:
    """Return a name under which this machine itself reaches a server that listens on `host`."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def _port(host: str, wanted: int) -> int:
    """Return the port to listen on: the wanted one, or any free one for 0."""
    if not 0 <= wanted <= 65535:
        raise InputError(f"no port {wanted}: it is 0 to 65535")
    if port := _free(host, wanted):
        return port
    other = next((port for port in range(wanted + 1, min(wanted + 100, 65536)) if _free(host, port)), 0)
    raise InputError(f"port {wanted} is taken: try --port {other}")


def _free(host: str, port: int) -> int:
    """The port itself where it is free, any free one for 0; 0 where it is taken."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family) as listener:
            return listener.getsockname()[1]
    except OSError:
        return 0


def _announce(store: Store, address: str, sweep: SweepViews | str | None) -> None:
    if isinstance(sweep, str):
        print(f"the run:\n  {address}{sweep}")
    elif sweep is None:
        print(f"no sweep yet; all experiments:\n  {address}/#/experiments?workflowType=machine_learning")
    else:
        shared = sweep.share(store)
        print(f"sweep {printable(sweep.name)}, {sweep.runs} runs:")
        for view in sweep.views:
            print(f"  {view.title:<{TITLE_WIDTH}}{view.address(address, shared)}")
        if sweep.report is not None:
            print(f"  {'report':<{TITLE_WIDTH}}{address}/#{sweep.report}")
        if sweep.runs > PAGE:
            print(
                f"the page loads {PAGE} runs; means by variant are of all runs after “Load more” below them"
            )
    sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = command_parser(
        "ui",
        "Start the MLflow UI and print the addresses at which the runs of a sweep are compared.",
        EXAMPLES,
    )
    found.add_argument("name", nargs="?", help="a sweep, a study, or a run's id (default: the last sweep)")
    found.add_argument(
        "--port", type=int, default=5000, help="port to listen on; 0: any free one (default: 5000)"
    )
    found.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    found.add_argument(
        "--tracking-uri", metavar="URI", help="another MLflow store, or a server, which has its own UI"
    )
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Show a sweep in MLflow's UI until Ctrl-C."""
    options = parser().parse_args(arguments)
    with one_line_errors():
        store = Store(options.tracking_uri)
        port = 0 if store.server else _port(options.host, options.port)
        reader = Reader(store)
        sweep = _found(reader, options.name)
        if isinstance(sweep, str):
            _draw(store, reader, sweep.rpartition("/")[2])
        if store.server:
            _announce(store, store.server, sweep)
        else:
            _serve(store, options.host, port, reader, sweep)


def _found(reader: Reader, name: str | None) -> SweepViews | str | None:
    """What is asked for: the page of a run, or the views of a sweep."""
    from ablations.comparison.selection import belonging

    page = None if name is None else run_page(reader, name)
    return page or sweep_views(reader, name, belonging)


def _draw(store: Store, reader: Reader, run_id: str) -> None:
    """Have a run's own figures among its artifacts, which its page shows."""
    from ablations.report.pictures import add_pictures

    try:
        add_pictures(store, reader, run_id)
    except InputError as error:  # of a store that can be read alone
        print(f"the run's figures are not drawn: {error}")


def _serve(store: Store, host: str, port: int, reader: Reader, sweep: SweepViews | str | None) -> None:
    say_doing("starting the MLflow server, about ten seconds")
    try:
        with ExitStack() as stack:
            if store.path and not (os.access(store.path, os.W_OK) and os.access(store.path.parent, os.W_OK)):
                store = reader.copied(stack.enter_context(draft_folder()))  # the server wants to write
                print("the store cannot be written to: this is a copy, as it is now")
            else:
                store.settle()
            process = stack.enter_context(server(store, host, port))
            _announce(store, f"http://{_reachable(host)}:{port}", sweep)
            print("(the × of MLflow's assistant closes it for good) Ctrl-C ends the server", flush=True)
            process.wait()
            raise InputError("the MLflow server ended by itself")
    except KeyboardInterrupt:
        pass  # the usual way out


if __name__ == "__main__":
    main()
