"""What earlier versions of this project left behind is read by this one: a store, a checkpoint.

`tests/golden/before/` was made by the version before the rooms (`python run.py -m activation=relu,tanh
'seed=range(2)'` with a network of 428 parameters, and a training that was killed); paths and the host's name were
replaced. A model of that time is in the tests of `predict`.
"""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
from project import Project

from ablations.experiment.checkpoints import read
from ablations.ground.paths import ROOT
from ablations.tracking import Reader, Store

BEFORE = ROOT / "tests" / "golden" / "before"
TINY = [f"network.layers.{size}" for size in ("C1.maps=2", "C3.maps=2", "C5.units=4", "F6.units=4")]
ERRORS = {"relu": (85.56, 90.83), "tanh": (76.11, 73.06)}  # % of the seeds 0 and 1, as logged then


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old" / "m.db"
    path.parent.mkdir()
    sql = (BEFORE / "store.sql").read_text("utf-8").replace("/PLACE", path.parent.as_posix())
    with closing(sqlite3.connect(path)) as db:
        db.executescript(sql)
    return Store(f"sqlite:///{path}")


def test_a_store_from_before_is_compiled(old, tmp_path):
    from ablations.report import compile_report

    report = compile_report("before", old, tmp_path)
    runs = pd.read_csv(report.path.with_name("runs.csv"))
    for activation, errors in ERRORS.items():
        found = runs[runs["activation"] == activation].sort_values("seed")["test_error_pct"]
        assert tuple(found.round(2)) == errors
    (effect,) = pd.read_csv(report.path.with_name("effects.csv")).to_dict("records")
    assert (effect["variant"], effect["baseline"], effect["n"]) == ("tanh", "relu", 2)
    assert effect["mean_diff"] == pytest.approx(-13.61, abs=0.01)
    assert report.failed == 0


def test_the_same_command_counts_its_new_runs_once(old, tmp_path):
    """Its class names and its code are others now, so all is trained again, beside what was there."""
    project = Project(tmp_path)
    again = project.run(
        "-m", "activation=relu,tanh", "seed=range(2)", *TINY, "trainer.epochs=2", f"tracking.uri={old.uri}",
        "name=before",
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert len(Reader(old).runs(tags={"sweep": "before"})) == 8
    (effect,) = pd.read_csv(project.root / "reports" / "before" / "effects.csv").to_dict("records")
    assert effect["n"] == 2


def test_a_checkpoint_from_before_is_read():
    path = BEFORE / "checkpoint.npz"
    with np.load(path) as arrays:
        header = json.loads(arrays["header"].tobytes())
    checkpoint = read(path, header["identity"])
    assert checkpoint.state.epoch == header["epoch"] > 0
    assert checkpoint.state.values.shape == (428,)
    assert sorted(checkpoint.state.memory) == ["mean", "mean_square"]
    assert len([each for each in checkpoint.measured if "train/loss" in each.metrics]) == header["epoch"]
