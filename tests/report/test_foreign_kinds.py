"""Reports on the awkward runs of others: confounded, nested, unseeded, over data sets, with several values.

Every report is recomputed from the store and from its own runs.csv.
"""

import re
import sqlite3
from contextlib import closing
from itertools import product
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from test_report import IN_FULL, answer_of, rows_of

from ablations.report.__main__ import main
from ablations.report.check import check
from ablations.tracking import Reader, Store

SEEDS = range(8)
GAIN = 1 / 64


class Logger:
    """Runs of one experiment, written into the tables of the store: that is many times as fast as MLflow's client."""

    def __init__(self, uri: str, experiment: str) -> None:
        self.path = uri.removeprefix("sqlite:///")
        self.id = int(MlflowClient(uri).create_experiment(experiment))
        self.rows: dict[str, list[dict]] = {}

    def run(
        self, params: dict, value: object, metric: str = "acc", digest: str | None = None, **tags: str
    ) -> str:
        at = len(self.rows.get("runs", ()))
        run_id, start = f"{self.id:04x}{at:028x}", 1_700_000_000_000 + at
        add = self._add
        ended = {
            "status": "FINISHED",
            "start_time": start,
            "end_time": start + 1,
            "lifecycle_stage": "active",
        }
        add(
            "runs",
            run_uuid=run_id,
            name=f"run {at}",
            user_id="",
            artifact_uri="",
            experiment_id=self.id,
            **ended,
        )
        values = value if isinstance(value, list) else [value]
        for step, each in enumerate(values):
            add("metrics", run_uuid=run_id, key=metric, value=each, timestamp=start, step=step, is_nan=0)
        add("latest_metrics", run_uuid=run_id, key=metric, value=each, timestamp=start, step=step, is_nan=0)
        for key, level in params.items():
            add("params", run_uuid=run_id, key=key, value=str(level))
        for key, text in tags.items():
            add("tags", run_uuid=run_id, key=key.replace("__", "."), value=text)
        if digest is not None:
            add("datasets", dataset_uuid=f"d{run_id}", experiment_id=self.id, name=run_id, digest=digest,
                dataset_source_type="local", dataset_source="s")  # fmt: skip
            add("inputs", input_uuid=f"i{run_id}", source_type="DATASET", source_id=f"d{run_id}",
                destination_type="RUN", destination_id=run_id)  # fmt: skip
            add("input_tags", input_uuid=f"i{run_id}", name="mlflow.data.context", value="train")
        return run_id

    def _add(self, table: str, **row: object) -> None:
        self.rows.setdefault(table, []).append(row)

    def close(self) -> None:
        with closing(sqlite3.connect(self.path)) as db, db:
            for table, rows in self.rows.items():
                names = ", ".join(rows[0])
                marks = ", ".join(f":{name}" for name in rows[0])
                db.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)


def made(uri: str) -> None:
    names = ("clean", "confounded", "data", "spelled", "twice", "steps", "sets", "nested", "groups", "levels")
    names += ("uneven", "apart")
    loggers = [Logger(uri, name) for name in names]
    clean, confounded, data, spelled, twice, steps, sets, nested, groups, levels, uneven, apart = loggers
    search = nested.run({"arch": "x"}, 0.999)
    for k in SEEDS:
        for arch, gain in (("x", 0.0), ("y", GAIN)):
            value = 0.5 + k / 256 + gain
            run = {"arch": arch, "seed": k}
            clean.run(run, value)
            nested.run(run, value, mlflow__parentRunId=search)
            confounded.run(run | {"batch_size": 32 if arch == "x" or k else 64, "host": arch}, value)
            data.run(run, value, digest=f"digest of {arch}", mlflow__source__git__commit="abc")
            spelled.run({"arch": {"x": "0.10", "y": 1}[arch], "seed": float(k) if k % 2 else k}, value)
            for lr in (0.1, 0.01):
                twice.run(run | {"lr": lr}, value + lr)
            steps.run(run, [0.25, value + 0.25, value - GAIN * 2 * (arch == "y")])
            uneven.run(run, [0.25, value, value + 0.125][: 3 if arch == "y" else 2])
            if (k < 4) == (arch == "x"):
                apart.run(run, value)
            groups.run({"arch": arch, "lr": 0.1}, value)
            levels.run({"arch": {"x": "a=1,b=2", "y": "y"}[arch], "seed": k}, value)
    for k, (name, rank) in product(range(9), (("d1", 1), ("d2", 3), ("d3", 2))):  # six comparisons take nine
        for arch, gain in (("x", 0), ("y", GAIN), ("z", -GAIN)):
            sets.run({"arch": arch, "seed": k, "dataset": name}, rank * (0.5 + k / 256 + gain))
    clean.run({"arch": "x", "seed": 3}, 0.25)
    for logger in loggers:
        logger.close()


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    uri = f"sqlite:///{tmp_path_factory.mktemp('kinds') / 'mlflow.db'}"
    made(uri)
    return uri


@pytest.fixture(autouse=True)
def _reports(tmp_path, monkeypatch, without_figures):
    monkeypatch.setattr("ablations.ground.paths.REPORTS", tmp_path / "reports")


def reported(uri: str, tmp_path: Path, experiment: str, *more: str, metric: str = "acc") -> str:
    """The report, after both checks of it."""
    words = ["--tracking-uri", uri, "--experiment", experiment, "--factors", "arch", "--metric", metric]
    main([*words, *more, "--out", str(tmp_path / "r")])
    for store in (uri, "sqlite:////nowhere/mlflow.db"):
        assert "README.md, runs.csv" in check("r", Store(store), home=tmp_path / "r")
    return (tmp_path / "r" / "README.md").read_text(encoding="utf-8")


def refused(capsys, uri: str, experiment: str, *more: str, metric: str = "acc") -> str:
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                "--tracking-uri",
                uri,
                "--experiment",
                experiment,
                "--factors",
                "arch",
                "--metric",
                metric,
                *more,
            ]
        )
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_batch_size_that_differs_in_one_seed(uri, tmp_path, capsys):
    text = reported(uri, tmp_path, "confounded")
    assert rows_of(text, IN_FULL)[0][3:5] == ["confounded", "8"]
    assert (
        "**arch: y** against x is confounded: the two sides also differ in batch_size (64 against 32), in seed 0 of 8, "
        "so there is no verdict."
    ) in answer_of(text)
    assert "Differ, and only name or place the runs: host." in text
    assert "## Add the seeds" not in text
    console = capsys.readouterr().out
    assert (
        "arch: y against x is confounded: the two sides also differ in batch_size (64 against 32)" in console
    )
    text = reported(uri, tmp_path, "confounded", "--ignore", "batch_size")
    assert rows_of(text, "## Verdicts")[0][3] == "better"
    text = reported(uri, tmp_path, "confounded", "--where", "params.seed != '0'")
    assert rows_of(text, IN_FULL)[0][3:5] == ["better", "7"]


def test_other_data_and_what_was_recorded(uri, tmp_path):
    text = reported(uri, tmp_path, "data")
    assert "**arch: y against x**: data set (train) (digest of y against digest of x)" in text
    assert "Not recorded, so unknown whether equal on both sides: versions of packages." in text


@pytest.mark.slow  # many seconds; .ci/run has it
def test_a_server_tells_of_the_data_sets_and_filters_alike(uri, serve):
    server = Reader(Store(serve(Store(uri)).uri))
    for query in ({}, {"where": "params.arch = 'x'"}, {"where": "metrics.acc > 0.75"}):
        found = [
            reader.runs(["data", "groups"], **query).drop(columns="artifact_uri")
            for reader in (Reader(Store(uri)), server)
        ]
        pd.testing.assert_frame_equal(*found)
        assert len(found[0]) == {0: 32, 1: 16}.get(len(query) and ("arch" in query["where"] or 2), 0)
    assert set(found[0].columns) >= {"run_id"}
    assert Reader(Store(uri)).runs("data")["inputs.train"].unique().tolist() == ["digest of x", "digest of y"]


def test_numbers_in_several_spellings(uri, tmp_path):
    text = reported(uri, tmp_path, "spelled", "--baseline", "arch=.1")
    assert rows_of(text, IN_FULL)[0][:5] == ["arch", "1", "0.10", "better", "8"]
    text = reported(uri, tmp_path, "spelled", "--baseline", "arch=1e0")
    assert rows_of(text, IN_FULL)[0][:5] == ["arch", "0.10", "1", "worse", "8"]


def test_a_param_that_nobody_named(uri, tmp_path, capsys):
    line = refused(capsys, uri, "twice")
    assert line.startswith(
        "error: lr differs within each seed: add it to --factors, --average-over or --where"
    )
    assert "(lr: 0.01, 0.1)" in line
    text = reported(uri, tmp_path, "twice", "--average-over", "lr")
    assert rows_of(text, IN_FULL)[0][:6] == ["arch", "y", "x", "better", "8", "+0.016"]
    assert rows_of(text, "## Results")[0][:2] == ["y", "8"]
    assert "seed by seed, averaged over lr." in text
    assert "is better on average over lr" in answer_of(text)[1]
    line = refused(capsys, uri, "twice", "--average-over", "depth")
    assert line == "error: --average-over depth: no run has such a param; there are arch, lr, seed"


def test_parents_that_hold_their_childrens_best(uri, tmp_path):
    text = reported(uri, tmp_path, "nested")
    assert "Left out: 1 parent run that only hold what their children reached." in text
    assert rows_of(text, IN_FULL)[0][3:5] == ["better", "8"]
    assert "0.999" not in text


def test_runs_of_the_same_everything_that_disagree(uri, tmp_path):
    text = reported(uri, tmp_path, "clean")
    assert re.search(
        r"2 runs of the same params and seed 3, which disagree in acc: 0\.511719 \(\w+\), 0\.25 \(\w+\)", text
    )
    assert rows_of(text, IN_FULL)[0][3:5] == ["better", "7"]


@pytest.mark.parametrize(
    ("which", "verdict", "difference", "said"),
    [
        ("last", "worse", "-0.016", "of each run the last value counts"),
        ("best", "better", "+0.016", "of each run the best value counts"),
        (
            "mean-of-last-2",
            "no difference that matters",
            "+0.00",
            "of each run the mean of the last 2 counts",
        ),
        ("mean-of-last-1", "worse", "-0.016", "of each run the mean of the last 1 counts"),
    ],
)
def test_which_of_several_values_counts(uri, tmp_path, capsys, which, verdict, difference, said):
    text = reported(uri, tmp_path, "steps", "--value", which)
    assert rows_of(text, IN_FULL)[0][3:6] == [verdict, "8", difference]
    assert said in text
    assert said in capsys.readouterr().out.replace("\n  ", " ")


def test_the_last_value_counts_unless_it_is_said(uri, tmp_path, capsys):
    assert "of each run the last value counts" in reported(uri, tmp_path, "steps")
    assert "last value" not in reported(uri, tmp_path, "groups", "--unpaired")
    line = refused(capsys, uri, "steps", "--value", "first")
    assert line == "error: --value: best, last or mean-of-last-N is expected, got first"


def test_runs_that_logged_more_values_than_others_are_said(uri, tmp_path, capsys):
    said = "Some runs logged more values than others: 2 to 3, so that they may have been trained longer."
    assert said in reported(uri, tmp_path, "uneven")
    assert said in capsys.readouterr().out.replace("\n  ", " ")
    text = reported(uri, tmp_path, "uneven", "--value", "mean-of-last-3")
    assert "the mean of the last 3 counts, or of all where there are fewer." in text
    assert "Some runs logged more" not in reported(uri, tmp_path, "steps")


def test_sides_that_have_no_seed_in_common(uri, tmp_path):
    """Eight seeds were run; six more of them would settle nothing."""
    said = "Not settled: **arch: y** against x (no seed has a result on both sides)."
    assert said in reported(uri, tmp_path, "apart")


def test_groups_without_a_seed(uri, tmp_path, capsys):
    assert "or compare groups (--unpaired)" in refused(capsys, uri, "groups")
    text = reported(uri, tmp_path, "groups", "--unpaired")
    (row,) = rows_of(text, IN_FULL)
    assert row[:5] == ["arch", "y", "x", "better", "8"]
    assert "**Not paired**: the runs are compared group by group" in text
    assert "8 seeds" not in text
    line = refused(capsys, uri, "twice", "--unpaired")
    assert line.startswith("error: lr differs within each variant's runs: add it to --factors")


def test_data_sets_are_blocks(uri, tmp_path, capsys):
    line = refused(capsys, uri, "sets")
    assert (
        "dataset differs within each seed: add it to --factors, --average-over, --blocks or --where" in line
    )
    text = reported(uri, tmp_path, "sets", "--blocks", "dataset", "--baseline", "arch=x")
    assert [row[:5] for row in rows_of(text, IN_FULL)] == [
        ["arch (d1)", "y", "x", "better", "9"],
        ["arch (d1)", "z", "x", "worse", "9"],
        ["arch (d2)", "y", "x", "better", "9"],
        ["arch (d2)", "z", "x", "worse", "9"],
        ["arch (d3)", "y", "x", "better", "9"],
        ["arch (d3)", "z", "x", "worse", "9"],
    ]
    assert [(row[0], row[4]) for row in rows_of(text, "## Over dataset")] == [
        ("y", "1.00"),
        ("x", "2.00"),
        ("z", "3.00"),
    ]
    assert list(pd.read_csv(tmp_path / "r" / "effects.csv")["block"]) == ["d1", "d1", "d2", "d2", "d3", "d3"]
    table = (tmp_path / "r" / "blocks.tex").read_text(encoding="utf-8")
    assert table.splitlines()[1] == r"\begin{tabular}{lrrrr}"
    assert r"\textbf{0.531} {\scriptsize$\pm$\,0.011}" in table
    assert "mean rank over 3 values of dataset: y 1.00, x 2.00, z 3.00" in capsys.readouterr().out
    text = reported(uri, tmp_path, "sets", "--blocks", "dataset", "--where", "params.seed = '0'")
    assert "Each variant has one run for each dataset" in text
    assert "## Verdicts" not in text


@pytest.mark.parametrize("level", ["arch=a=1,b=2", 'arch="a=1,b=2"', '"arch"="a=1,b=2"', " arch = a=1,b=2 "])
def test_a_level_with_commas_and_equals_signs(uri, tmp_path, level):
    text = reported(uri, tmp_path, "levels", "--baseline", level)
    assert rows_of(text, IN_FULL)[0][:4] == ["arch", "y", "a=1,b=2", "better"]


@pytest.mark.parametrize(
    ("filter_", "message"),
    [
        (
            "lr = 0.1",
            "error: the filter 'lr = 0.1' is none of MLflow's: Invalid attribute key 'lr' specified",
        ),
        ("params.lr = ", "error: the filter 'params.lr = ' is none of MLflow's: "),
        ("params.arch = 'none'", "error: the experiment 'clean' has no runs where params.arch = 'none'"),
    ],
)
def test_a_filter_that_finds_nothing_or_is_none(uri, capsys, filter_, message):
    assert refused(capsys, uri, "clean", "--where", filter_).startswith(message)


def test_a_direction_that_must_be_said(tmp_path, capsys):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    log = Logger(uri, "e")
    for k in SEEDS:
        for arch, value in (("x", 1.0), ("y", 2.0)):
            log.run({"arch": arch, "seed": k}, value + k / 8, metric="my score")
    log.close()
    line = refused(capsys, uri, "e", metric="my score")
    assert "my score: its name does not tell whether smaller or larger values are better" in line
    assert "--better lower|higher" in line
    for better, verdict in (("lower", "worse"), ("higher", "better")):
        text = reported(uri, tmp_path, "e", "--better", better, metric="my score")
        assert rows_of(text, IN_FULL)[0][3] == verdict
        assert (
            f"{'Smaller' if better == 'lower' else 'Larger'} values of my score are better, as was said."
            in text
        )
        assert (
            f"my score: {'smaller' if better == 'lower' else 'larger'} is better (as was said)"
            in capsys.readouterr().out
        )
