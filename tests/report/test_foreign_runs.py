"""Reports on MLflow runs that this project never made: other params and metrics, repetitions, gaps and failures.

The store is made with MLflow's own client, and read by SQL and through a server.
"""

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from project import PATIENCE_S
from test_report import answer_of, rows_of

from ablations.ground.paths import ROOT
from ablations.report.__main__ import main
from ablations.report.check import check
from ablations.tracking import Store

SEEDS = range(9)


class Logger:
    """Runs as somebody's training script logs them."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.client = MlflowClient(tracking_uri=uri)
        self.experiment_id = self.client.create_experiment(experiment)

    def run(self, params: dict, metrics: dict, status: str = "FINISHED") -> str:
        run = self.client.create_run(self.experiment_id)
        self.client.log_batch(
            run.info.run_id,
            [
                Metric(name, value, 1_700_000_000_000, step)
                for name, value in metrics.items()
                for step in (0, 1)
            ],
            [Param(key, str(value)) for key, value in params.items()],
        )
        if status != "RUNNING":
            self.client.set_terminated(run.info.run_id, status)
        return run.info.run_id


def tuning(uri: str) -> None:
    """lr=0.01 costs (k + 4)/64 of accuracy with seed k, arch=large brings (2k - 7)/128, whatever the other is."""
    log = Logger(uri, "tuning")
    log.run({"lr": 0.1, "arch": "small", "seed": 3}, {"val_acc": 0.75})  # repeated below
    for k in SEEDS:
        for arch, gain in (("small", 0), ("large", (2 * k - 7) / 128)):
            for lr, cost in ((0.1, 0), (0.01, (k + 4) / 64)):
                lost = (k, arch, lr) == (8, "large", 0.1)
                metrics = {} if lost else {"val_acc": 0.75 + gain - cost, "lr": lr}
                log.run({"lr": lr, "arch": arch, "seed": k}, metrics, "FAILED" if lost else "FINISHED")
    for _ in range(2):
        log.run({}, {"val_acc": 0.99})
    log.run({"lr": 0.1, "arch": "small"}, {"val_acc": 0.8}, "KILLED")
    log.run({"lr": 0.1}, {}, "RUNNING")


def losses(uri: str) -> None:
    """One seed, and a metric that is better small."""
    log = Logger(uri, "losses")
    for lr, loss in ((0.1, 0.5), (0.01, 0.25), (1, 2.0)):
        log.run({"lr": lr, "seed": 11, "model": "mlp"}, {"loss": loss})


def folds(uri: str) -> None:
    """Pairs by fold; of one fold there is no partner, and two runs of another disagree."""
    log = Logger(uri, "folds")
    for fold in range(7):
        log.run({"opt": "a", "fold": fold}, {"loss": 1.0})
        if fold < 6:
            log.run({"opt": "b", "fold": fold}, {"loss": 0.5 + fold / 8})
    log.run({"opt": "b", "fold": 5, "note": "again"}, {"loss": 0.5})


def unseeded(uri: str) -> None:
    log = Logger(uri, "unseeded")
    for lr in (0.1, 0.01):
        for _ in range(3):
            log.run({"lr": lr}, {"loss": 1.0})


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('somebody') / 'mlflow.db'}"
    for make in (tuning, losses, folds, unseeded):
        make(uri)
    Logger(uri, "empty")
    return uri


@pytest.fixture
def reports(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")
    return tmp_path / "reports"


def arguments(uri: str, **options: str) -> list[str]:
    return ["--tracking-uri", uri, *(word for key, value in options.items() for word in (f"--{key}", value))]


TUNING = {"experiment": "tuning", "factors": "lr,arch", "metric": "val_acc", "baseline": "lr=0.1"}


SENTENCES = [
    "A tie: **lr=0.1 arch=large** and **lr=0.1 arch=small** have the highest mean val_acc, 0.75.",
    # eight paired seeds: the interval is from the second difference to the last but one
    "**lr: 0.01** against 0.1 is worse on average over arch: its val_acc is 0.12 lower (0.08 to 0.16).",
    "The effect of one factor does not depend on another.",
    # with a mean of 0 the next look's limit, t / √((N - 8)/8) of a t with 7 degrees of freedom, is passed as often as
    # not from 139 seeds on, four times of five from 925
    "Not settled: **arch: small** against large (about 139 to 925 seeds in all would settle it).",
]


@pytest.mark.usefixtures("without_figures")
def test_somebodys_grid_has_the_same_report(uri, reports, capsys):
    main([*arguments(uri, **TUNING), "--seed-param", "seed"])
    home = reports / "tuning"
    text = (home / "README.md").read_text(encoding="utf-8")
    assert answer_of(text) == SENTENCES
    assert "Paired by the number of the seed alone" in text
    assert "Left out: 1 run repeated by another of the same configuration and seed." in text
    assert [row[:5] for row in rows_of(text, "## Results")] == [
        ["0.1", "large", "8 of 9", "0.75 ± 0.04", "0.80"],
        ["0.1", "small", "9 of 10", "0.75 ± 0.00", "0.75"],
        ["0.01", "large", "9", "0.63 ± 0.00", "0.63"],
        ["0.01", "small", "9", "0.62 ± 0.04", "0.69"],
        ["(not logged)", "(not logged)", "2", "0.99 ± 0.00", "0.99"],
        ["0.1", "(not logged)", "0 of 1", "failed", "–"],
    ]
    assert "**3 of 40 runs gave no result**" in text
    assert sorted(row[1:] for row in rows_of(text, "## Failed runs")) == [
        ["8", "FAILED", "no reason was logged"],
        ["–", "KILLED", "no reason was logged"],
        ["–", "RUNNING", "still running, or killed before it could say why"],
    ]
    effects = pd.read_csv(home / "effects.csv")
    # lr: -(k + 4)/64 for k = 0 … 7, arch: -(2k - 7)/128; of that no sign pattern has a mean closer to 0
    assert list(effects["mean_diff"]) == [-7.5 / 64, 0.0, 0.0]
    assert list(effects["ci_low"]) == [-10 / 64, -5 / 128, 0.0]
    assert list(effects["ci_high"]) == [-5 / 64, 5 / 128, 0.0]
    assert list(effects["p_holm"]) == [3 * 2 / 256 / 0.8, 1.0, 1.0]
    assert list(effects["verdict"]) == ["worse", "inconclusive", "no difference that matters"]
    assert list(pd.read_csv(home / "runs.csv"))[:8] == [
        *("run_id", "run_name", "status", "lr", "arch", "seed", "metrics.lr", "val_acc")
    ]
    printed = capsys.readouterr().out
    assert printed.endswith(
        f"3 runs without a result: the report names them.\n\nreport: {home / 'README.md'}\n"
    )
    assert "--baseline lr=0.1 --seed-param seed" in text[text.index("## Again") :]
    assert check("tuning", Store(uri), reports).endswith("follow from the store: 40 runs, 3 comparisons")
    assert "follow from its runs.csv" in check("tuning", Store("sqlite:////nowhere/mlflow.db"), reports)


@pytest.mark.usefixtures("without_figures")
def test_a_single_seed_of_a_metric_that_is_better_small(uri, reports):
    main(arguments(uri, experiment="losses", factors="lr"))
    text = (reports / "losses" / "README.md").read_text(encoding="utf-8")
    assert answer_of(text)[0] == "**lr=0.01** has the lowest mean loss: 0.25 in its one run."
    assert rows_of(text, "## Verdicts") == [
        ["lr", "0.1", "0.01", "too few seeds", "+0.25", "1"],
        ["lr", "1", "0.01", "too few seeds", "+1.75", "1"],
    ]
    assert "Add runs with further seeds to the same experiment and compile this report again." in text


@pytest.mark.usefixtures("without_figures")
def test_missing_and_repeated_seeds_leave_no_pair_and_are_named(uri, reports):
    options = {"seed-param": "fold", "metric": "loss", "margin": "0.1", "better": "lower"}
    main(["mine", *arguments(uri, experiment="folds", factors="opt", **options)])
    text = (reports / "mine" / "README.md").read_text(encoding="utf-8")
    # 0.5 + fold/8 - 1 for folds 0 to 4
    assert rows_of(text, "## Verdicts") == [["opt", "b", "a", "too few seeds", "-0.25", "5"]]
    assert "- opt: b against a is without 2 seeds (seed 5: opt=b missing; seed 6: opt=b missing)" in text
    assert re.search(
        r"2 runs of the same params and seed 5, which disagree in loss: 1\.125 \(\w+\), 0\.5 \(", text
    )


@pytest.mark.usefixtures("without_figures")
def test_runs_of_several_experiments_are_compared(uri, reports, capsys):
    """Without --experiment those that have factors and metric: `tuning` has other metrics, `folds` no lr."""
    main(arguments(uri, factors="lr", metric="loss"))
    text = (reports / "lr" / "README.md").read_text(encoding="utf-8")
    assert {row[0] for row in rows_of(text, "## Results")} == {"0.01", "0.1", "1"}
    assert check("lr", Store(uri), reports).endswith("2 comparisons")
    assert json.loads((reports / "lr" / "report.json").read_text())["request"]["experiment"] == [
        *("losses", "unseeded")
    ]
    for experiments in (["losses,folds"], ["losses", "folds"]):
        words = [word for name in experiments for word in ("--experiment", name)]
        main([*arguments(uri, factors="lr", metric="loss"), *words])
        text = (reports / "losses,folds" / "README.md").read_text(encoding="utf-8")
        assert [row[0] for row in rows_of(text, "## Results")] == ["0.01", "0.1", "1", "(not logged)"]
    with pytest.raises(SystemExit):
        main(arguments(uri, experiment="losses,nope", factors="lr", metric="loss"))
    assert "no experiment 'nope' in" in capsys.readouterr().err


def test_a_store_of_files_has_all_of_mlflows_hint(tmp_path, capsys):
    (tmp_path / "mlruns").mkdir()
    with pytest.raises(SystemExit):
        main(arguments(str(tmp_path / "mlruns"), experiment="e", factors="lr"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "MLFLOW_ALLOW_FILE_STORE=true" in line


def test_the_command_as_somebody_types_it(uri, tmp_path):
    shutil.copytree(ROOT / "ablations", tmp_path / "ablations", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "ablations.report", *arguments(uri, **TUNING), "--seed-param", "seed"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    home = tmp_path / "reports" / "tuning"
    assert done.stdout.endswith(f"report: {home / 'README.md'}\n")
    text = (home / "README.md").read_text(encoding="utf-8")
    assert answer_of(text) == SENTENCES
    figures = {path.stem for path in (home / "figures").iterdir()}
    assert figures >= {
        "forest",
        "main_effects",
        "interactions",
        "seed_slopes",
        "value_by_variant",
        "value_grid",
    }
    assert figures == {Path(link).stem for link in re.findall(r"\]\((figures/.+?)\)", text)}


@pytest.mark.slow  # many seconds; .ci/run has it
@pytest.mark.usefixtures("without_figures")
def test_a_server_gives_the_same_bytes(uri, serve, reports):
    server, written = serve(Store(uri)).uri, []
    for address in (uri, server):
        main(arguments(address, **TUNING))
        files = {
            path.name: path.read_text("utf-8") for path in (reports / "tuning").iterdir() if path.is_file()
        }
        written.append({name: text.replace(address, "ADDRESS") for name, text in files.items()})
    assert set(written[0]) == {"README.md", "runs.csv", "effects.csv", "verdicts.tex", "report.json"}
    assert written[0] == written[1]
    assert check("tuning", Store(server), reports).endswith("follow from the store: 40 runs, 3 comparisons")


BAD = [
    (
        {"experiment": "nope"},
        r"no experiment 'nope' in sqlite:.*; there are: Default, empty, folds, losses, tuning, unseeded",
    ),
    ({"experiment": "empty"}, "the experiment 'empty' has no runs"),
    (
        {"experiment": "losses", "factors": "model", "metric": "loss", "baseline": "model=mlp"},
        r"nothing to compare: there is one variant only \(model=mlp\)",
    ),
    (
        {"experiment": "unseeded", "factors": "lr", "metric": "loss"},
        "seeds: no run has the param seed, so that nothing can be paired; there are lr; name .*--unpaired.*",
    ),
    ({"seed-param": "fold"}, "seeds: no run has the param fold, .*; there are arch, lr, seed; name .*"),
    ({"metric": "acc"}, "metric acc: no run has it; there are lr, val_acc"),
    ({"baseline": "lr=0.5"}, r"baseline lr=0\.5: no run has it; there are 0\.01, 0\.1"),
    ({"baseline": "depth=3"}, "baseline: depth is no factor; the factors are lr, arch"),
    ({"baseline": "lr"}, "--baseline: levels as factor=level,factor=level are expected, got 'lr'"),
    ({"factors": "lr,depth"}, "factor depth: no run has such a param; there are arch, lr, seed"),
    ({"margin": "-1"}, r"margin: must be a number of at least 0, in the metric's unit; got -1\.0"),
    ({"margin": "inf"}, r"margin: must be a number of at least 0, in the metric's unit; got inf"),
    ({"factors": "lr,seed"}, "seed is named by --factors and by --seed-param: one of them is expected"),
    ({"seed-param": "arch"}, "arch is named by --factors and by --seed-param: one of them is expected"),
    ({"blocks": "arch"}, "arch is named by --factors and by --blocks: one of them is expected"),
    ({"average-over": "lr"}, "lr is named by --factors and by --average-over: one of them is expected"),
    (
        {"average-over": "seed"},
        "seed is named by --average-over and by --seed-param: one of them is expected",
    ),
]


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    ("options", "message"), BAD, ids=[" ".join(map("=".join, options.items())) for options, _ in BAD]
)
def test_bad_input_is_one_clear_line(uri, reports, capsys, options, message):
    with pytest.raises(SystemExit) as stopped:
        main(arguments(uri, **TUNING | options))
    assert stopped.value.code == 2
    assert re.fullmatch(f"error: {message}\n", capsys.readouterr().err)
    assert not reports.exists()


def test_what_is_compared_must_be_said(uri, reports, capsys):
    for options, message in (
        (
            {"experiment": "tuning", "factors": "lr"},
            "metric: say which one is compared .*; the runs have lr, val_acc",
        ),
        (
            {"experiment": "tuning"},
            "the store has runs, but no sweep: say what to compare with --experiment .*",
        ),
        ({"metric": "val_acc"}, "--metric: say of which runs, with NAME, or with --experiment and --factors"),
    ):
        with pytest.raises(SystemExit):
            main(arguments(uri, **options))
        assert re.fullmatch(f"error: {message}\n", capsys.readouterr().err)


@pytest.mark.slow
def test_ten_thousand_runs(tmp_path, reports, capsys):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    experiment = int(Store(uri).prepare("many"))
    runs, params, metrics = [], [], []
    for number in range(10_000):
        run_id, seed, lr, arch = f"{number:032x}", number // 100, number % 10, number // 10 % 10
        value = 0.5 + lr / 64 + (number * 7919 % 101) / 4096
        start = 1_700_000_000_000 + number
        runs.append((run_id, f"run {number}", "FINISHED", start, start + 1000, "active", "", experiment))
        params += [(key, str(level), run_id) for key, level in (("lr", lr), ("arch", arch), ("seed", seed))]
        metrics.append(("val_acc", value, start, 0, 0, run_id))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as db, db:
        columns = "run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id"
        db.executemany(f"INSERT INTO runs ({columns}) VALUES ({', '.join('?' * 8)})", runs)
        db.executemany("INSERT INTO params (key, value, run_uuid) VALUES (?, ?, ?)", params)
        for table in ("metrics", "latest_metrics"):
            columns = "key, value, timestamp, step, is_nan, run_uuid"
            db.executemany(f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?)", metrics)
    started = time.perf_counter()
    main(arguments(uri, experiment="many", factors="lr,arch", metric="val_acc"))
    with capsys.disabled():
        print(f"\n10,000 runs: {time.perf_counter() - started:.1f} s")
    text = (reports / "many" / "README.md").read_text(encoding="utf-8")
    assert "10000, of which 10000 finished" in text
    rows = rows_of(text, "## Verdicts")
    assert len(rows) == 9 + 9
    assert [row[3] for row in rows[:9]] == ["better"] * 9  # each step of lr adds 1/64
