"""Shared fixtures.

A test that takes an argument named as a group of components (`activation`, `pool`, …) runs once for each choice
found in that group's folder of conf/: a new YAML is tested without being registered anywhere. A test that gives
choices of its own by `parametrize` keeps to them.
"""

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from expected import TABLES
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import HealthCheck, settings
from omegaconf import DictConfig
from project import PATIENCE_S
from threadpoolctl import threadpool_limits

from ablations.ground import WINDOWS
from ablations.ground.paths import CONF, ROOT
from ablations.nn.network import Network
from ablations.sweep.composing import Composer
from ablations.sweep.overrides import find_plugins
from ablations.tracking import AwayError, Store, Tracker
from ablations.training.recipe import build_network
from ablations.training.streams import Streams

# They send signals, mount, fork or ask the kernel in ways that Windows has not.
POSIX_ALONE = [
    "test_kills.py",
    "test_places.py",
    "test_signals.py",
    "test_ui.py",
    "test_ground.py",
    "as_windows",
]
POSIX_ALONE += ["tracking/test_outbox.py", "tracking/test_server.py", "report/test_terminal.py"]
collect_ignore = POSIX_ALONE if WINDOWS else []


def pytest_report_header() -> str | None:
    return f"left out on Windows: {', '.join(POSIX_ALONE)}" if WINDOWS else None


# No clock decides a test.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


LOSS_ALONE = {"rbf_ml"}
"""Heads that are another's but for the loss, which has tests of its own: whole networks with them have none."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = {str(marker.args[0]) for marker in metafunc.definition.iter_markers("parametrize")}
    whole = {"activation", "pool", "head"} <= {*metafunc.fixturenames}
    for group in TABLES:
        if group in metafunc.fixturenames and not any(group in names for names in own):
            choices = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
            metafunc.parametrize(group, [each for each in choices if not (whole and each in LOSS_ALONE)])


@pytest.fixture(scope="session", autouse=True)
def _outbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test leaves undelivered is not delivered by the project's next run."""
    os.environ["ABLATIONS_OUTBOX"] = str(tmp_path_factory.mktemp("outbox"))


@pytest.fixture(autouse=True)
def _loggers() -> None:
    """Alembic, which MLflow makes databases with, disables the loggers that it finds in a process."""
    for name, logger in logging.root.manager.loggerDict.items():
        if name.startswith("ablations") and isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> None:
    """statsmodels collects garbage at each correction: half a second among all that the tests import."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a run: one BLAS thread."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session")
def composer() -> Composer:
    """Of the runs of sweeps, whose compositions are Hydra's own (tests/sweep/test_naming.py) in less time."""
    find_plugins()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return Composer.of(GlobalHydra.instance().config_loader())


@pytest.fixture(scope="session")
def compose(composer: Composer) -> Callable[..., DictConfig]:
    """compose("pool=avg", …): the configuration of run.py with these overrides."""
    usual = composer.load_configuration("config", [], RunMode.RUN)
    return cache(lambda *overrides: composer.planned(usual, overrides).config)


@pytest.fixture(scope="session")
def build(compose: Callable[..., DictConfig]) -> Callable[..., Network]:
    """build("pool=avg", …, seed=0): the network of run.py with these overrides, in float64 unless told."""

    def build(*overrides: str, seed: int = 0) -> Network:
        return build_network(compose("trainer.dtype=float64", *overrides), Streams(seed))

    return build


@pytest.fixture(scope="session")
def expected() -> Callable[[str, str], Any]:
    """expected("pool", "avg"): its row in expected.py; a choice that has none fails and says what to add."""

    def expected(group: str, choice: str) -> Any:
        if choice not in TABLES[group]:
            pytest.fail(
                f"conf/{group}/{choice}.yaml has no row in tests/expected.py: add one to the others of {group}, "
                "its numbers worked out by hand (docs/extending.md shows how)",
                pytrace=False,
            )
        return TABLES[group][choice]

    return expected


@pytest.fixture(scope="session")
def numerical_gradient() -> Callable[..., object]:
    """numerical_gradient(f, x): df/dx by central differences, one element of x at a time, in place."""

    def numerical_gradient(f: Callable[[], float], x: np.ndarray, h: float = 1e-6) -> np.ndarray:
        gradient = np.empty_like(x)
        for at in np.ndindex(x.shape):
            kept = x[at]
            x[at] = kept + h
            above = f()
            x[at] = kept - h
            below = f()
            x[at] = kept
            gradient[at] = (above - below) / (2 * h)
        return gradient

    return numerical_gradient


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder of MNIST's four files; skips where it is absent."""
    folder = Path(os.environ.get("ABLATIONS_MNIST", ROOT.parent / "shared/data/mnist"))
    if not folder.is_dir():
        pytest.skip(f"no MNIST in {folder}; set ABLATIONS_MNIST to its folder")
    return folder


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with two sweeps, `older` and `activation-pool`, and a run of none."""
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('ui')}/mlflow.db")
    for sweep, factors, seeds in (("older", "pool", [0]), ("activation-pool", "activation,pool", [0, 1])):
        for seed in seeds:
            params = {"activation": "relu", "pool": "max", "seed": seed, "trainer.epochs": 3}
            tags = {"sweep": sweep, "factors": factors}
            tracker = Tracker.start(store, "lenet5", f"seed={seed}", params, tags)
            tracker.log_metrics({"test/error_pct": 2.0 + seed, "val/accuracy": 0.9, "train/loss": 0.1}, 1)
            tracker.finish()
    Tracker.start(store, "lenet5", "of no sweep", {}, {}).finish()
    return store


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Store]]:
    """serve(store, workers=1): a server on a database, as docs/server.md starts it; the store that it is to others."""
    servers = []

    def serve(store: Store, workers: int = 1) -> Store:
        folder = tmp_path_factory.mktemp("server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store.uri]
        command += ["--artifacts-destination", str(folder / "artifacts"), "--serve-artifacts"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
        environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(folder / "log", "w") as log:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        servers.append(process)
        server, until = Store(f"http://127.0.0.1:{port}"), time.monotonic() + PATIENCE_S
        while True:
            try:
                server.require_answer()
                return server
            except AwayError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, "the server does not answer"
                time.sleep(0.1)

    yield serve
    for process in servers:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
