"""The command line as a user types it."""

import hashlib
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from project import PATIENCE_S, Project

from ablations.ground.paths import ROOT
from ablations.tracking.secondary import SECONDARY

ACTIVATIONS = sorted(path.stem for path in (ROOT / "conf" / "activation").glob("*.yaml"))
CARD = ["activation=relu,tanh", "pool=max,avg"]
ARTIFACTS = {
    "config.yaml",
    "features.npz",
    "model",
    "model.npz",
    "predictions.npz",
    "classification_report.txt",
}
MOST_BYTES = 400_000
QUICK = "trainer.epochs=2"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def card(project):
    """The card's command, as it stands in README."""
    done = project.run("-m", *CARD)
    assert done.returncode == 0, done.stderr
    return done


def test_card_tracks_four_finished_runs(project, card):
    runs = project.runs("activation-pool")
    assert list(runs["status"]) == ["FINISHED"] * 4
    assert set(zip(runs["params.activation"], runs["params.pool"], strict=True)) == {
        ("relu", "max"),
        ("relu", "avg"),
        ("tanh", "max"),
        ("tanh", "avg"),
    }
    assert set(runs["run_name"]) == {
        f"activation={a} pool={p} seed=0" for a in ("relu", "tanh") for p in ("max", "avg")
    }
    assert (runs["params.trainer.epochs"] == "20").all()
    assert (runs["params.optimizer.lr"] == "0.001").all()
    assert runs["tags.stream"].nunique() == 1
    assert runs["tags.config_hash"].nunique() == 4
    assert (runs["metrics.test/accuracy"] > 0.94).all()
    np.testing.assert_allclose(
        runs["metrics.test/error_pct"], 100 * (1 - runs["metrics.test/accuracy"]), atol=1e-9
    )


def test_card_logs_every_metric_for_every_epoch(project, card):
    histories = project.reader.histories(list(project.runs("activation-pool")["run_id"]))
    by_metric = histories.groupby("metric")["step"]
    per_epoch = {"train/loss", "train/accuracy", "train/grad_max_abs", "val/loss", "val/accuracy"}
    per_epoch |= {"time/epoch_s", "time/images_per_s"}
    once = {"test/loss", "test/accuracy", "test/error_pct", "test/confidence", *SECONDARY}
    single = {name for name in by_metric.groups if name.count("/") == 2} - {*SECONDARY}
    assert per_epoch | once == set(by_metric.groups) - single
    assert {"shift/rotation_15/error_pct", "rejection/letters/auroc"} <= single
    for metric in once | single:
        assert by_metric.get_group(metric).tolist() == [20] * 4
    for metric in per_epoch:
        assert sorted(by_metric.get_group(metric)) == sorted([*range(1, 21)] * 4)


def test_card_keeps_artifacts_that_agree_with_the_metrics(project, card):
    for run in project.runs("activation-pool").itertuples():
        folder = project.reader.artifact(run.run_id, "config.yaml").parent
        assert {path.name for path in folder.iterdir()} == ARTIFACTS
        files = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        assert sum(files.values()) < MOST_BYTES
        with np.load(folder / "predictions.npz", allow_pickle=False) as saved:
            accuracy = np.mean(saved["labels"] == saved["predictions"])
            assert saved["confidences"].shape == saved["labels"].shape == (360,)
            wrong = np.flatnonzero(saved["labels"] != saved["predictions"])
            np.testing.assert_array_equal(saved["misread"], wrong)
            assert saved["misread_images"].shape == (len(wrong), 28, 28)
        logged = project.reader.runs().set_index("run_id").loc[run.run_id]
        assert accuracy == logged["metrics.test/accuracy"]
        weights = project.reader.artifact(run.run_id, "model.npz")
        with np.load(weights, allow_pickle=False) as saved:
            assert sum(array.size for array in saved.values()) == 61_706
        assert f"{accuracy:.4f}" in (folder / "classification_report.txt").read_text()


def test_card_writes_a_report_and_ends_with_where_to_look(project, card):
    report = project.root / "reports" / "activation-pool"
    text = (report / "README.md").read_text()
    for image in re.findall(r"\]\((figures/.+?)\)", text):
        assert (report / image).stat().st_size > 1000
    table = pd.read_csv(report / "runs.csv")
    assert {"run_id", "run_name", "status", "activation", "pool", "seed", "seconds"} <= set(table)
    assert {"test_error_pct", "val_accuracy", "train_loss"} <= set(table)
    assert list(table["status"]) == ["FINISHED"] * 4

    *_, where, look = card.stdout.rstrip().splitlines()
    assert where == f"report: {report / 'README.md'}"
    assert look == "look at the runs: python -m ablations.ui activation-pool"
    for run in project.runs("activation-pool").itertuples():
        assert run.run_id in text
    assert "python run.py -m activation=relu,tanh pool=max,avg" in text


def test_nothing_is_left_in_the_working_directory(project, card):
    assert list(project.elsewhere.iterdir()) == []
    assert {path.name for path in project.root.iterdir()} == {
        "conf",
        "ablations",
        "hydra_plugins",
        "run.py",
        "mlruns",
        "reports",
    }


def test_the_best_of_the_card_reads_a_picture_of_a_test_image(project, card, tmp_path):
    runs = project.runs("activation-pool").sort_values("metrics.val/loss")
    best = runs.sort_values("metrics.val/accuracy", ascending=False, kind="stable").iloc[0]
    with np.load(project.reader.artifact(best["run_id"], "features.npz"), allow_pickle=False) as saved:
        image, answer = saved["image"], saved["probabilities"].argmax()
    sheet = np.full((64, 64), 255, np.uint8)
    sheet[20:48, 10:38] -= image
    Image.fromarray(sheet).save(tmp_path / "first.png")
    done = project.python("-m", "ablations.predict", "best:activation-pool", str(tmp_path / "first.png"))
    assert (done.returncode, done.stderr) == (0, "")
    _, row, last = done.stdout.splitlines()
    assert row.split()[1] == str(answer)
    assert last.startswith(f"read by {best['run_name']}, run {best['run_id']}, trained on digits (")


def test_report_again_is_the_same_to_the_byte(project, card):
    report = project.root / "reports" / "activation-pool"
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    again = project.python("-m", "ablations.report", "activation-pool")
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_same_numbers_to_the_last_bit_under_any_launcher(project, card):
    """The card's runs once more, by workers."""
    done = project.run("-m", *CARD, "name=parallel", "tracking.rerun=true", "hydra/launcher=joblib")
    assert done.returncode == 0, done.stderr
    digests = [
        {
            hashlib.sha256(project.reader.artifact(run_id, "model.npz").read_bytes()).hexdigest()
            for run_id in project.runs(sweep)["run_id"]
        }
        for sweep in ("activation-pool", "parallel")
    ]
    assert digests[0] == digests[1]
    assert len(digests[0]) == 4


def test_a_failed_run_is_reported_and_the_others_go_on(project):
    done = project.run("-m", "optimizer.lr=0.001,1e30,-1", QUICK)
    assert done.returncode == 1
    runs = project.runs("optimizer.lr,trainer.epochs=2").set_index("params.optimizer.lr")
    assert dict(runs["status"]) == {"0.001": "FINISHED", "1e+30": "FAILED", "-1": "FAILED"}
    assert runs.loc["1e+30", "tags.failure"] == "diverged"
    assert "not finite at step 2" in runs.loc["1e+30", "tags.failure_reason"]
    assert runs.loc["-1", "tags.failure"] == "error"
    assert "must be a positive number" in runs.loc["-1", "tags.failure_reason"]
    text = (project.root / "reports" / "optimizer.lr,trainer.epochs=2" / "README.md").read_text()
    assert "diverged" in text
    assert "optimizer.lr=-1 seed=0" in text


def test_a_single_run_with_everything_else(project):
    """float64, no validation, steps logged, clipping, replacement, a rate for each epoch."""
    done = project.run(
        "dataset.val_fraction=0",
        "trainer.dtype=float64",
        "trainer.clip_norm=1",
        "trainer.replacement=true",
        "tracking.every_steps=10",
        "optimizer=momentum",
        "optimizer.lr=[0.02,0.01]",
        "normalization=standard",
        "init=xavier",
        "head=mse",
        "tracking.experiment=single",
        QUICK,
    )
    assert done.returncode == 0, done.stderr
    (run,) = project.reader.runs("single").to_dict("records")
    assert run["params.dataset.train_images"] == "1437"
    assert run["params.dataset.val_images"] == "0"
    histories = project.reader.histories([run["run_id"]])
    assert not histories["metric"].str.startswith("val/").any()
    steps = histories[histories["metric"] == "step/loss"]["step"]
    assert list(steps) == [10, 20, 30, 40, 50, 60, 70, 80, 90]  # 45 steps of 32 images in each epoch
    with np.load(project.reader.artifact(run["run_id"], "model.npz")) as model:
        assert model["C1.weight"].dtype == np.float64
    assert f"{run['metrics.test/accuracy']:.2%}" in done.stdout


def test_the_size_of_the_training_set_as_a_factor(project):
    done = project.run("-m", "dataset.train_images=100,400,200", "trainer.epochs=1", "name=sizes")
    assert done.returncode == 0, done.stderr
    runs = project.runs("sizes")
    assert sorted(runs["params.dataset.train_images"]) == ["100", "200", "400"]
    assert runs["tags.stream"].nunique() == 1
    report = project.root / "reports" / "sizes"
    text = (report / "README.md").read_text()
    assert (report / "figures" / "value_by_size.png").stat().st_size > 1000
    assert "Fitted seed by seed over the sizes drawn, a doubling changes the test error by " in text
    assert "varied: dataset.train_images | 100, 200, 400 |" in text


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("c3=dense", "c3=dense: there is no such choice; accepted: full, sparse"),
        ("trainer.epoch=3", "trainer.epoch: there is no such key"),
        (
            "optimizer.lr=-0.1",
            "optimizer.lr: must be a positive number, or a list of them by epoch; got -0.1",
        ),
        (
            "optimizer.lr=true",
            "optimizer.lr: must be a positive number, or a list of them by epoch; got True",
        ),
        ("+optimizer.nesterov=true", "optimizer.nesterov: there is no such key"),
        ("trainer.epochs=0", "trainer.epochs: must be at least 1, got 0"),
        ("trainer.epochs=many", "trainer.epochs: must be a whole number, got 'many'"),
        ("trainer.batch_size=2000", "trainer.batch_size: there are only 1149 training images, got 2000"),
        ("trainer.dtype=float16", "trainer.dtype: must be float32 or float64, got float16"),
        ("seed=-1", "seed: must be at least 0, got -1"),
        ("dataset.val_fraction=1.5", "dataset.val_fraction"),
        (
            "dataset.train_images=1150",
            "dataset.train_images is 1150; accepted: from 10, the number of classes, to 1149",
        ),
        ("tracking.uri=sqlite:////dev/null/store.db", "cannot write to the MLflow store"),
    ],
)
def test_bad_input_gets_one_line(project, override, said):
    done = project.run(override)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("error: ")
    assert said in done.stderr


def test_a_missing_data_file_is_named(project):
    done = project.run("dataset=mnist", f"dataset.root={project.elsewhere}")
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert str(project.elsewhere / "train-images-idx3-ubyte") in done.stderr


def test_a_sweep_over_an_unknown_choice_starts_nothing(project):
    done = project.run("-m", "pool=max,median", "name=never")
    assert done.returncode != 0
    assert done.stderr == "error: pool=median: there is no such choice; accepted: avg, max, subsample\n"
    assert project.runs("never").empty


def test_help_lists_choices_keys_and_examples(project):
    done = project.run("--help")
    assert done.returncode == 0
    assert f"activation: {', '.join(ACTIVATIONS)}" in done.stdout
    assert "batch_size: 32" in done.stdout
    assert done.stdout.count("python run.py ") >= 3
    assert "\nsweep:\n  at_once: null\ndataset:\n" in done.stdout  # not what the sweep tells its runs
    assert "    S2: ${pool}\n" in done.stdout


def test_tab_completion_knows_the_choices(project):
    environment = os.environ | {"COMP_LINE": "python run.py activation=", "COMP_POINT": "25"}
    done = subprocess.run(
        [sys.executable, str(project.root / "run.py"), "-sc", "query=bash"],
        env=environment | {"PYTHONPATH": str(project.root)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert set(done.stdout.split()) == {f"activation={a}" for a in ACTIVATIONS}


def test_unknown_report_names_those_that_exist(project, card):
    done = project.python("-m", "ablations.report", "nonsense")
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "activation-pool" in done.stderr


@pytest.mark.slow
def test_mnist_reaches_the_textbook_figure(project, mnist_root):
    """Adam 1e-3, batch 64, three epochs: 98.12 % is published for PyTorch."""
    done = project.run(
        "dataset=mnist",
        f"dataset.root={mnist_root}",
        "trainer.epochs=3",
        "optimizer=adam",
        "optimizer.lr=0.001",
        "trainer.batch_size=64",
        "tracking.experiment=mnist",
    )
    assert done.returncode == 0, done.stderr
    (run,) = project.reader.runs("mnist").to_dict("records")
    assert run["metrics.test/accuracy"] >= 0.981
    with np.load(project.reader.artifact(run["run_id"], "predictions.npz")) as saved:
        assert list(saved["labels"][:5]) == list(saved["predictions"][:5]) == [7, 2, 1, 0, 4]
