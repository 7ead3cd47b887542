"""The report, from runs in a store that is made here, to the files on disk."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ablations import report
from ablations.errors import InputError
from ablations.report import compile_report, folder_name

METRICS = ("train/loss", "train/accuracy", "val/loss", "val/accuracy", "time/epoch_s")


class Store:
    """Runs as the reader gives them, made one by one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict] = []
        self.points: list[tuple] = []

    def add(
        self,
        error: float | None = 5.0,
        *,
        sweep: str = "s",
        invocation: str = "1",
        factors: str = "activation",
        status: str = "FINISHED",
        seed: int = 0,
        epochs: int = 2,
        validation: bool = True,
        predictions: bool = False,
        tags: dict | None = None,
        **params: object,
    ) -> str:
        number = len(self.rows)
        run_id = f"{number:032x}"
        params = {
            "activation": "relu",
            "pool": "max",
            "dataset": "digits",
            "trainer.epochs": epochs,
            **params,
        }
        start = pd.Timestamp("2024-05-01", tz="UTC") + pd.Timedelta(minutes=number)
        ended = status != "RUNNING"
        row = {
            "run_id": run_id,
            "run_name": " ".join(f"{key}={params.get(key)}" for key in factors.split(",") if key)
            + f" seed={seed}",
            "experiment": "lenet5",
            "status": status,
            "start_time": start,
            "end_time": start + pd.Timedelta(seconds=8) if ended else pd.NaT,
            "seconds": 8.0 if ended else np.nan,
            "artifact_uri": f"file:///nowhere/{run_id}",
            **{f"params.{key}": str(value) for key, value in params.items()},
            "params.seed": str(seed),
            "params.network.parameters": "61706",
            "params.dataset.train_images": "1150",
            "params.dataset.test_images": "360",
            "tags.sweep": sweep,
            "tags.sweep_id": invocation,
            "tags.factors": factors,
            "tags.command": f"python run.py -m name={sweep}",
            "tags.config_hash": repr(sorted({**params, "seed": seed}.items())),
            "tags.code": "0123abc",
            "tags.machine": "2 cores, Linux",
        }
        row |= {f"tags.{key}": value for key, value in (tags or {}).items()}
        if error is not None and status == "FINISHED":
            row |= {"metrics.test/error_pct": error, "metrics.test/accuracy": 1 - error / 100}
            row |= {"metrics.test/loss": error / 20}
            row |= {"metrics.val/accuracy": 1 - error / 99} if validation else {}
        for epoch in range(1, epochs + 1):
            accuracy = 1 - (error or 50) / 100 - 0.5 * 0.4**epoch
            values = [1.4 * 0.5**epoch, accuracy, 1.5 * 0.52**epoch, accuracy - 0.01, 1.5]
            for name, value in zip(METRICS, values, strict=True):
                if validation or not name.startswith("val"):
                    self.points.append((run_id, name, epoch, value))
        if predictions:
            labels = np.arange(360) % 10
            read = np.where(np.arange(360) % 25 == 3, (labels + 1) % 10, labels)
            path = self.folder / run_id / "predictions.npz"
            path.parent.mkdir(parents=True)
            np.savez(path, labels=labels, predictions=read, confidences=np.ones(360))
        self.rows.append(row)
        return run_id

    # The reader's API

    def runs(self, experiment: str | None = None, tags: dict | None = None) -> pd.DataFrame:
        frame = pd.DataFrame(self.rows)
        for key, value in (tags or {}).items():
            frame = frame[frame[f"tags.{key}"] == value] if len(frame) else frame
        return frame.dropna(axis=1, how="all").reset_index(drop=True)

    def histories(self, run_ids: list[str], metrics: list[str] | None = None) -> pd.DataFrame:
        frame = pd.DataFrame(self.points, columns=["run_id", "metric", "step", "value"])
        keep = frame["run_id"].isin(run_ids) & (frame["metric"].isin(metrics) if metrics else True)
        return frame[keep].reset_index(drop=True)

    def artifact(self, run_id: str, path: str) -> Path | None:
        found = self.folder / run_id / path
        return found if found.exists() else None


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A store that the report reads in place of the one at the tracking address."""
    made = Store(tmp_path / "artifacts")
    monkeypatch.setattr("ablations.tracking.reader.Reader", lambda uri: made)
    return made


def compiled(tmp_path: Path, name: str | None = None) -> tuple[report.Report, str]:
    result = compile_report(name, folder=tmp_path / "reports")
    return result, result.path.read_text(encoding="utf-8")


def rows_of(text: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    table = re.search(r"^\|.*?\n\n", text[text.index(heading) :], re.MULTILINE | re.DOTALL).group()
    lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in table.strip().splitlines()]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def test_the_numbers_are_those_of_the_runs(store, tmp_path):
    for seed, (relu, tanh) in enumerate([(4.0, 2.0), (5.0, 3.0), (9.0, 4.0)]):
        store.add(relu, seed=seed, activation="relu")
        store.add(tanh, seed=seed, activation="tanh", predictions=True)
    result, text = compiled(tmp_path)

    assert rows_of(text, "## Results") == [
        ["tanh", "3", "97.00 ± 1.00", "3.00 ± 1.00", "2.00", "1.50", "61,706"],
        ["relu", "3", "94.00 ± 2.65", "6.00 ± 2.65", "4.00", "1.50", "61,706"],
    ]
    answer = text.split("\n\n")[1]
    assert "**activation=tanh** has the lowest mean test error: 3.00 ± 1.00 % (n = 3 runs)" in answer
    assert "3.00 percentage points behind" in answer
    assert "not yet a verdict" in answer
    assert "1,150 training, 360 test images" in text
    assert "| seeds | 0, 1, 2 |" in text
    assert "0123abc" in text
    assert "2 cores, Linux" in text
    assert result.failed == 0
    assert result.name == "s"
    assert result.path == tmp_path / "reports" / "s" / "README.md"


def test_the_console_table_is_the_same_table(store, tmp_path):
    store.add(2.0, activation="tanh")
    store.add(4.0, activation="relu")
    result, _ = compiled(tmp_path)
    assert [line.split() for line in result.summary.splitlines()] == [
        ["activation", "n", "accuracy", "(%)", "error", "(%)", "best", "(%)", "s/epoch", "parameters"],
        ["tanh", "1", "98.00", "–", "2.00", "–", "2.00", "1.50", "61,706"],
        ["relu", "1", "96.00", "–", "4.00", "–", "4.00", "1.50", "61,706"],
    ]


def test_the_console_table_fits(store, tmp_path):
    factors = ",".join(f"group{i}.some_long_setting" for i in range(5))
    for i in range(60):
        store.add(i + 1, factors=factors, **dict.fromkeys(factors.split(","), f"a long value {i}"))
    result, _ = compiled(tmp_path)
    lines = result.summary.splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[-1] == "… and 20 more variants in the report"
    assert lines[1].endswith("61,706")


def test_one_seed_claims_no_spread(store, tmp_path):
    store.add(2.0, activation="tanh")
    store.add(4.0, activation="relu")
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Results")[0][2:4] == ["98.00 –", "2.00 –"]
    assert "another seed may turn the order round" in text
    assert "with one seed there is no band" in text


def test_seeds_alone_are_one_variant(store, tmp_path):
    for seed, error in enumerate((2.0, 4.0)):
        store.add(error, seed=seed, factors="", predictions=True)
    result, text = compiled(tmp_path)
    assert rows_of(text, "## Results") == [["2", "97.00 ± 1.41", "3.00 ± 1.41", "2.00", "1.50", "61,706"]]
    assert "One variant was run; its test error is 3.00 ± 1.41 % (n = 2 runs)" in text
    assert (result.path.parent / "figures" / "learning_curves.png").exists()


@pytest.mark.parametrize("factors", ["", "activation", "activation,pool", "activation,pool,c3", "a,b,c,d"])
@pytest.mark.parametrize("validation", [True, False])
def test_every_figure_is_linked_and_every_link_leads_to_a_figure(store, tmp_path, factors, validation):
    keys = factors.split(",") if factors else []
    for i in range(6):
        levels = {key: f"level {i // 3 if place else i % 3}" for place, key in enumerate(keys)}
        store.add(2.0 + i, seed=i, factors=factors, validation=validation, predictions=True, **levels)
    result, text = compiled(tmp_path)
    linked = re.findall(r"!\[.*?\]\((.+?)\)", text)
    written = [str(path.relative_to(result.path.parent)) for path in result.path.parent.glob("figures/*")]
    assert sorted(linked) == sorted(written)
    assert len(linked) == (5 if len(keys) > 1 else 4)
    assert all((result.path.parent / path).stat().st_size < 300_000 for path in linked)
    assert ("highest validation accuracy" in text) == validation
    assert [path.name for path in result.path.parent.iterdir() if path.name.startswith(".")] == []


def test_failures_are_counted_and_named(store, tmp_path):
    for seed in range(3):
        store.add(3.0 + seed, seed=seed, activation="relu")
    store.add(2.0, seed=0, activation="tanh")
    diverged = {"failure": "diverged", "failure_reason": "loss is nan\nin epoch 2"}
    store.add(None, seed=1, activation="tanh", status="FAILED", tags=diverged)
    store.add(None, seed=2, activation="tanh", status="RUNNING")
    store.add(None, seed=0, activation="sigmoid", status="FAILED")
    result, text = compiled(tmp_path)

    assert result.failed == 3
    assert [row[:3] for row in rows_of(text, "## Results")] == [
        ["tanh", "1 of 3", "98.00 –"],
        ["relu", "3", "96.00 ± 1.00"],
        ["sigmoid", "0 of 1", "failed"],
    ]
    assert "1 of 3" in result.summary
    assert "3 of 7 runs gave no result" in text
    assert "Only 1 of its 3 runs finished." in text
    assert rows_of(text, "## Failed runs") == [
        ["activation=tanh seed=1", "1", "FAILED", "diverged: loss is nan in epoch 2"],
        ["activation=tanh seed=2", "2", "RUNNING", "still running, or killed before it could say why"],
        ["activation=sigmoid seed=0", "0", "FAILED", "no reason was logged"],
    ]
    assert "1 variant without a finished run cannot be shown" in text
    assert len(rows_of(text, "## Runs")) == 7


def test_a_sweep_that_failed_altogether_is_reported(store, tmp_path):
    store.add(None, status="FAILED", tags={"failure": "error", "failure_reason": "no space left"})
    result, text = compiled(tmp_path)
    assert "No run finished" in text
    assert "error: no space left" in text
    assert result.failed == 1
    assert not list((result.path.parent / "figures").iterdir())


def test_later_seeds_join_and_other_settings_do_not(store, tmp_path):
    store.add(90.0, seed=0, epochs=1, invocation="old")
    store.add(2.0, seed=0, invocation="first")
    store.add(4.0, seed=1, invocation="second")
    _, text = compiled(tmp_path)
    assert rows_of(text, "## Results")[0][:4] == ["relu", "2", "97.00 ± 1.41", "3.00 ± 1.41"]
    assert "Left out: 1 earlier run with other settings (trainer.epochs)." in text


def test_without_a_name_it_is_the_last_sweep(store, tmp_path):
    store.add(2.0, sweep="older")
    store.add(2.0, sweep="newer")
    assert compiled(tmp_path)[0].name == "newer"
    assert compiled(tmp_path, "older")[0].name == "older"


def test_an_unknown_name_lists_those_that_exist(store, tmp_path):
    store.add(sweep="b")
    store.add(sweep="a")
    with pytest.raises(InputError, match=r"no sweep is named 'c'; there are: a, b$"):
        compiled(tmp_path, "c")


@pytest.mark.parametrize("name", [None, "x"])
def test_no_runs_is_one_line(store, tmp_path, name):
    with pytest.raises(InputError, match="the store has no runs yet: try"):
        compiled(tmp_path, name)


def test_the_same_store_gives_the_same_bytes(store, tmp_path):
    for i, activation in enumerate(("relu", "tanh", "sigmoid")):
        for pool in ("max", "avg"):
            store.add(3.0 + i, factors="activation,pool", activation=activation, pool=pool, predictions=True)
    one = compile_report(folder=tmp_path / "one").path.parent
    store.rows.reverse()
    two = compile_report(folder=tmp_path / "two").path.parent
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) == 7
    for path in files:
        assert (one / path).read_bytes() == (two / path).read_bytes(), path


HOSTILE = (
    "a|b",
    "<script>alert(1)</script>",
    "../x",
    "two\nlines",
    "$x$ $y",
    "`**_[l](u)",
    "_",
    "\x1b[31mred",
    "ä" * 200,
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_names_stay_text(store, tmp_path, text):
    store.add(2.0, sweep=text, factors="activation,pool", activation=text, seed=0, predictions=True)
    store.add(3.0, sweep=text, factors="activation,pool", activation="relu", seed=1)
    failure = {"failure": "error", "failure_reason": text}
    store.add(None, sweep=text, factors="activation,pool", pool=text, status="FAILED", tags=failure)
    result, written = compiled(tmp_path, text)

    assert result.path.resolve().parent.parent == tmp_path / "reports"
    assert [path.name for path in tmp_path.iterdir() if path.name not in ("artifacts", "reports")] == []
    outside_code = re.sub(r"^(```+)sh\n.*?^\1$", "", written, flags=re.MULTILINE | re.DOTALL)
    assert "<script" not in outside_code
    assert "\x1b" not in written + result.summary
    assert [len(row) for row in rows_of(written, "## Results")] == [8, 8, 8]
    assert [len(row) for row in rows_of(written, "## Runs")] == [5, 5, 5]
    assert len(result.summary.splitlines()) == 4


def test_different_names_have_different_folders():
    names = ["a/b", "a-b", "a b", "..", ".", "", "../a", "A" * 300, "A" * 301]
    folders = [folder_name(name) for name in names]
    assert len(set(folders)) == len(names)
    assert all(re.fullmatch(r"[\w=,+-][\w.=,+-]*", folder) and len(folder) < 100 for folder in folders)
    assert folder_name("activation-pool") == "activation-pool"


def test_runs_csv_has_every_run_in_full_precision(store, tmp_path):
    error = 100 / 3
    store.add(error, factors="activation,optimizer.lr", **{"optimizer.lr": 1e-3})
    store.add(None, factors="activation,optimizer.lr", status="FAILED", seed=1, **{"optimizer.lr": 1e-3})
    result, _ = compiled(tmp_path)
    with open(result.path.parent / "runs.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("run_id", "run_name", "status", "activation", "optimizer.lr", "seed"),
        *("test_accuracy", "test_error_pct", "test_loss", "val_accuracy", "seconds"),
    ]
    assert float(rows[0]["test_error_pct"]) == error
    assert [row["status"] for row in rows] == ["FINISHED", "FAILED"]
    assert rows[1]["test_error_pct"] == ""


def test_a_new_report_replaces_its_own_files_only(store, tmp_path):
    store.add(2.0, factors="activation,pool", predictions=True)
    result, _ = compiled(tmp_path)
    home = result.path.parent
    (home / "notes.md").write_text("mine")
    (home / "figures" / "mine.png").write_bytes(b"mine")
    assert (home / "figures" / "error_grid.png").exists()
    store.add(2.0, factors="activation", invocation="2", activation="tanh")
    compiled(tmp_path)
    assert not (home / "figures" / "error_grid.png").exists()
    assert (home / "notes.md").read_text() == "mine"
    assert (home / "figures" / "mine.png").exists()


def test_a_report_that_fails_leaves_the_old_one(store, tmp_path, monkeypatch):
    store.add(2.0)
    result, text = compiled(tmp_path)
    store.add(4.0, seed=1)

    def full_disk(figure, path, colours):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ablations.plots.save", full_disk)
    with pytest.raises(InputError, match=r"cannot write the report to .*: No space left"):
        compiled(tmp_path)
    assert result.path.read_text(encoding="utf-8") == text
    assert [path.name for path in (tmp_path / "reports").iterdir()] == ["s"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04 cut off"])
def test_unreadable_predictions_are_said_to_be_so(store, tmp_path, content):
    run_id = store.add(2.0, predictions=True)
    (store.folder / run_id / "predictions.npz").write_bytes(content)
    _, text = compiled(tmp_path)
    assert "`predictions.npz` of the run" in text
    assert "confusion_matrix.png" not in text


def test_the_best_run_is_chosen_on_validation(store, tmp_path):
    store.add(2.0, activation="relu", predictions=True)
    store.add(3.0, activation="tanh", predictions=True)
    store.rows[1]["metrics.val/accuracy"] = 0.999
    _, text = compiled(tmp_path)
    assert "activation=tanh seed=0, chosen by the highest validation accuracy" in text


def test_a_thousand_runs_take_seconds(store, tmp_path):
    for i in range(1000):
        store.add(
            2 + i % 7,
            factors="activation,pool",
            activation=i % 10,
            pool=i // 10 % 10,
            seed=i // 100,
            epochs=3,
        )
    result, text = compiled(tmp_path)
    assert "<details>" in text
    assert len(result.summary.splitlines()) == 42


def run_command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ablations.report", *arguments]
    root = Path(report.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=60)


def test_help_needs_no_heavy_import(tmp_path):
    done = run_command("--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "examples:" in done.stdout
    code = (
        "import sys, ablations.report; print([m for m in ('pandas', 'numpy', 'mlflow') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_command_prints_table_path_and_next_step(store, tmp_path, monkeypatch, capsys):
    store.add(2.0, sweep="a b")
    store.add(None, sweep="a b", seed=1, status="FAILED")
    monkeypatch.setattr("ablations.paths.REPORTS", tmp_path / "reports")
    report.main(["a b"])
    printed = capsys.readouterr().out
    assert "1 of 2" in printed
    assert "1 run without a result" in printed
    assert f"report: {tmp_path / 'reports' / folder_name('a b') / 'README.md'}" in printed
    assert printed.endswith("python -m ablations.ui 'a b'\n")


def test_the_command_ends_with_one_line_on_bad_input(store, capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main(["nothing"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "error: the store has no runs yet: try `python run.py -m activation=relu,tanh`\n"
    )
