"""Shared fixtures.

A test that takes an argument named as a group of components (`activation`, `pool`, …) runs once for each choice
found in that group's folder of conf/: a new YAML is tested without being registered anywhere. A test that gives
choices of its own by `parametrize` keeps to them.
"""

import gc
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path

import hydra
import numpy as np
import pytest
from omegaconf import DictConfig
from threadpoolctl import threadpool_limits

from ablations.model import build_network
from ablations.nn.network import Network
from ablations.paths import CONF, ROOT
from ablations.streams import Streams
from ablations.tracking import prepare

COMPONENTS = ("activation", "pool", "c3", "head", "init", "optimizer")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = {str(marker.args[0]) for marker in metafunc.definition.iter_markers("parametrize")}
    for group in COMPONENTS:
        if group in metafunc.fixturenames and not any(group in names for names in own):
            metafunc.parametrize(group, sorted(path.stem for path in (CONF / group).glob("*.yaml")))


@pytest.fixture(scope="session", autouse=True)
def _outbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a test leaves undelivered is not delivered by the project's next run."""
    os.environ["ABLATIONS_OUTBOX"] = str(tmp_path_factory.mktemp("outbox"))


@pytest.fixture(scope="session")
def blank_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that was made once and is copied for each test, with the experiment `lenet5`."""
    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    prepare(f"sqlite:///{path}", "lenet5")
    return path


@pytest.fixture(scope="session")
def copy_store(blank_store: Path) -> Callable[[Path], str]:
    """copy_store(path): a store of one's own there; returns its URI."""

    def copy_store(path: Path) -> str:
        path.parent.mkdir(exist_ok=True)
        with closing(sqlite3.connect(blank_store)) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
            artifacts = (path.parent / "artifacts").as_uri()
            copy.execute("UPDATE experiments SET artifact_location = ?", [artifacts])
            copy.commit()
            copy.execute("PRAGMA journal_mode = WAL")
        return f"sqlite:///{path}"

    return copy_store


@pytest.fixture
def uri(copy_store: Callable[[Path], str], tmp_path: Path) -> str:
    return copy_store(tmp_path / "a store" / "mlflow.db")


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
def compose() -> Callable[..., DictConfig]:
    """compose("pool=avg", …): the configuration of run.py with these overrides."""

    @cache
    def compose(*overrides: str) -> DictConfig:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose("config", overrides=list(overrides))

    return compose


@pytest.fixture(scope="session")
def build(compose: Callable[..., DictConfig]) -> Callable[..., Network]:
    """build("pool=avg", …, seed=0): the network of run.py with these overrides, in float64 unless told."""

    def build(*overrides: str, seed: int = 0) -> Network:
        return build_network(compose("trainer.dtype=float64", *overrides), Streams(seed))

    return build


@pytest.fixture(scope="session")
def expected() -> Callable[..., object]:
    """expected(table, group, choice, how): the table's row of hand-computed numbers, or what to add to it."""

    def expected(table: Mapping[str, object], group: str, choice: str, how: str) -> object:
        if choice not in table:
            pytest.fail(
                f"conf/{group}/{choice}.yaml has no row of expected numbers: add {how}", pytrace=False
            )
        return table[choice]

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
