"""What a sweep has already is used before anything is launched: by one reading of the store, whatever its size."""

import importlib
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hydra.utils import instantiate
from mlflow import MlflowClient

from ablations.datasets.digits import Digits
from ablations.errors import InputError
from ablations.experiment import finished
from ablations.experiment.job import checkpoints, determining, identity
from ablations.experiment.provenance import versions
from ablations.ground.paths import CONF
from ablations.tracking import Reader, Store, Tracker

of_sweep = importlib.import_module("ablations.sweep.sweep")


class Launcher:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.launched: list[str] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list:
        self.launched += [" ".join(each) for each in job_overrides]
        return []


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    made = Store(f"sqlite:///{tmp_path_factory.mktemp('empty')}/mlflow.db")
    made.prepare("lenet5")
    return made.path


@pytest.fixture
def store(empty, tmp_path) -> Store:
    shutil.copy(empty, tmp_path)
    return Store(f"sqlite:///{tmp_path}/mlflow.db")


@pytest.fixture
def sweep(store, monkeypatch) -> Callable[..., list[str]]:
    """sweep("seed=0,1", …): the overrides of the runs that are launched."""
    monkeypatch.setattr(of_sweep, "_report", lambda *_: 0)

    def sweep(*arguments: str) -> list[str]:
        launcher = Launcher()
        words = ["name=s", f"tracking.uri={store.uri}", *arguments]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            config = loader.load_configuration("config", words, RunMode.MULTIRUN)
            of_sweep.sweep(config, loader, launcher, config.hydra.overrides.task)
        return launcher.launched

    return sweep


@pytest.fixture
def have(store, compose) -> Callable[..., str]:
    """have(seed, …): a run in the store, FINISHED unless told; its id."""
    data = instantiate(compose().dataset).load().sha256

    def have(seed: int, status: str = "FINISHED", sweep: str = "s", **tags: str) -> str:
        config = compose(f"seed={seed}")
        known = {
            **identity(determining(config), data),
            "sweep": sweep,
            "sweep_id": "1",
            "factors": "",
            **tags,
        }
        tracker = Tracker.start(store, "lenet5", f"seed={seed}", {"seed": seed}, known)
        if status == "FINISHED":
            tracker.log_metrics({"test/accuracy": 0.9}, 1)
            tracker.finish()
        elif status == "FAILED":
            tracker.fail("diverged", "loss is nan")
        return tracker.run_id

    return have


def launched(*seeds: int) -> list[str]:
    return [f"name=s tracking.uri=… seed={seed}" for seed in seeds]


def short(found: list[str]) -> list[str]:
    return [re.sub("sqlite:[^ ]*", "…", each) for each in found]


def test_what_has_its_result_is_not_launched(sweep, have, store, capsys):
    ids = {seed: have(seed) for seed in (0, 2)}
    have(3, status="FAILED")
    capsys.readouterr()
    assert short(sweep("seed=0,1,2,3")) == launched(1)
    said = [re.sub(r"\d\.\d s", "… s", line) for line in capsys.readouterr().out.splitlines()]
    assert said[:2] == [
        f"seed={seed}: already finished (run {ids[seed]}), test error 10.00 %, … s" for seed in (0, 2)
    ]
    assert said[2].startswith("seed=3: FAILED: loss is nan, as before (run ")
    runs = Reader(store).runs().set_index("run_id")
    (invocation,) = set(runs["tags.sweep_id"])
    assert re.fullmatch(r"\d{8}T\d{12}", invocation)
    assert runs["tags.command"].notna().all()


def test_its_cost_does_not_grow_with_the_compositions_and_queries(sweep, have, monkeypatch):
    """However many runs there are, Hydra composes as often, the store is read as often, the data are loaded once."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    for seed in range(6):
        have(seed)
    calls = Counter()

    def counted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: object, **options: object) -> object:
            calls[name] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    counted(ConfigLoaderImpl, "_load_configuration_impl")
    counted(Reader, "records")
    counted(Digits, "load")
    counts = []
    for seeds in ("seed=0,1", "seed=range(6)"):
        finished._data_sha256.cache_clear()
        calls.clear()
        assert sweep(seeds) == []
        counts.append(dict(calls))
    assert counts[0] == counts[1]
    assert counts[0]["load"] == 1
    assert counts[0]["records"] <= 3


@pytest.mark.parametrize(
    ("tags", "loaded"),
    [
        ({"versions": versions()}, 0),
        ({"versions": f"{versions()}, another 1.0"}, 1),
        ({"versions": versions(), "code_hash": "0" * 64}, 1),
        ({}, 1),
    ],
)
def test_data_of_a_package_are_those_of_runs_of_its_version(sweep, have, monkeypatch, tags, loaded):
    have(0, **tags)
    have(1, **tags)
    loads, load = [], Digits.load
    monkeypatch.setattr(Digits, "load", lambda self: loads.append(self) or load(self))
    finished._data_sha256.cache_clear()
    assert len(sweep("seed=0,1")) == (2 if "code_hash" in tags else 0)
    assert len(loads) == loaded


def test_data_of_a_package_that_runs_disagree_about_are_loaded(sweep, have, store):
    have(0, versions=versions())
    have(0, versions=versions(), data_sha256="0" * 64)
    assert short(sweep("seed=0")) == []


def test_what_is_in_work_is_left_to_the_launcher(sweep, have, store, compose):
    have(0)
    have(1)
    config_hash = identity(determining(compose("seed=1")), None)["config_hash"]
    (checkpoints(store) / f"{config_hash}-0123").mkdir(parents=True)
    assert short(sweep("seed=0,1")) == launched(1)


def test_what_was_asked_for_again_is_launched(sweep, have):
    have(0)
    assert len(sweep("seed=0,1", "tracking.rerun=true")) == 2


@pytest.mark.parametrize(
    "there",
    [
        {"sweep": "another"},  # to be copied
        {"data_sha256": "0" * 64},
        {"code_hash": "0" * 64},
        {"status": "RUNNING"},
    ],
)
def test_what_takes_more_than_that_is_left_to_the_launcher(sweep, have, there):
    have(0, **there)
    assert short(sweep("seed=0,1")) == launched(0, 1)


@pytest.mark.parametrize("status", ["RUNNING", "FINISHED"])
def test_where_something_is_to_be_cleared_away_it_is_launched(sweep, have, status):
    """A run that another process has left RUNNING, a second result."""
    have(0)
    have(0, status=status)
    assert short(sweep("seed=0,1")) == launched(0, 1)


def test_a_run_that_is_deleted_just_now_is_launched(sweep, have, store, monkeypatch):
    run_id = have(0)
    known = finished.Known

    class Outdated(known):
        def __init__(self, *of: object) -> None:
            super().__init__(*of)
            MlflowClient(store.uri).delete_run(run_id)

    monkeypatch.setattr(finished, "Known", Outdated)
    assert short(sweep("seed=0,1")) == launched(0, 1)


def test_without_the_data_nothing_is_taken_for_finished(sweep, have, monkeypatch):
    have(0)

    def missing(_: Digits) -> None:
        raise InputError("no data")

    monkeypatch.setattr(Digits, "load", missing)
    finished._data_sha256.cache_clear()
    assert short(sweep("seed=0,1")) == launched(0, 1)
    finished._data_sha256.cache_clear()
