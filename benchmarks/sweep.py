"""Wall time of a whole sweep command against its bare training: what Hydra, MLflow, artifacts and reports cost.

`python run.py -m 'seed=range(8)' …` runs as a user types it, in a copy of the project in a temporary folder,
once with Hydra's basic launcher (1 worker) and once with joblib (2 workers). The parts come from the clock
around the command and from the time stamps in its store:

  start-up   from typing the command to the start of its first run
  bare       the training epochs (`time/epoch_s`), their validation, and the test at the end
  overhead   of a run: what passes from the end of the first run to the end of the last, less the bare parts, by
             run; that is Hydra, reading the data, building, MLflow's records, figures and other artifacts
  the end    from the end of the last run to the end of the command: the report
"""

import argparse
import os
import shlex
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from measuring import judged, mnist_folder, options, print_machine, print_table, versions, write_json

from ablations.ground.paths import ROOT

EXAMPLES = """examples:
  python benchmarks/sweep.py                          8 runs of about 10 s on MNIST, some minutes
  python benchmarks/sweep.py --runs 4 --seconds 5 --root ~/mnist
  python benchmarks/sweep.py --quick                  4 short runs on the embedded digits
"""


@dataclass(frozen=True)
class Run:
    """Seconds of the parts of one run; `start` and `end` are times since 1970."""

    start: float
    end: float
    to_training: float
    training: float
    validation: float
    test: float
    artifacts: float

    @property
    def bare(self) -> float:
        return self.training + self.validation + self.test


@dataclass(frozen=True)
class Sweep:
    """Seconds of the parts of one command."""

    workers: int
    wall: float
    start_up: float
    runs: list[Run]
    end: float

    @property
    def bare(self) -> float:
        return sum(run.bare for run in self.runs)

    @property
    def overhead(self) -> float:
        """Of each run after the first, where they come one after the other."""
        first, *others = self.runs
        return (others[-1].end - first.end - sum(run.bare for run in others)) / len(others)


class Project:
    """A copy of the project with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder
        for name in ("conf", "ablations", "hydra_plugins"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "run.py", folder)

    def run(self, *arguments: str) -> float:
        """Wall seconds of `python run.py …`; ends the program where that fails."""
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(self.root / "run.py"), *arguments],
            cwd=self.root,
            env=environment | {"PYTHONPATH": str(self.root)},
            capture_output=True,
            text=True,
            check=False,
        )
        wall = time.perf_counter() - started
        if done.returncode:
            sys.exit(f"error: run.py {shlex.join(arguments)} failed:\n{done.stderr}")
        return wall

    def runs(self) -> list[Run]:
        """The trained runs in the store, the first to end first; what a report leaves there is none."""
        with closing(sqlite3.connect(self.root / "mlruns" / "mlflow.db")) as db:
            rows = db.execute("SELECT run_uuid, start_time, end_time FROM runs ORDER BY end_time").fetchall()
            metrics = [
                db.execute(
                    "SELECT key, step, value, timestamp FROM metrics WHERE run_uuid = ? ORDER BY step",
                    [row[0]],
                ).fetchall()
                for row in rows
            ]
        return [
            _run(start / 1000, end / 1000, logged)
            for (_, start, end), logged in zip(rows, metrics, strict=True)
            if logged
        ]


def _run(start: float, end: float, metrics: list[tuple[str, int, float, int]]) -> Run:
    """An epoch's metrics are stamped after its validation, the test's after the test."""
    epochs = [(value, stamp / 1000) for key, _, value, stamp in metrics if key == "time/epoch_s"]
    tested = next(stamp / 1000 for key, _, _, stamp in metrics if key == "test/loss")
    gaps = [after - before - length for (_, before), (length, after) in pairwise(epochs)]
    validation = max(0.0, statistics.median(gaps)) if gaps else 0.0
    return Run(
        start=start,
        end=end,
        to_training=epochs[0][1] - epochs[0][0] - validation - start,
        training=sum(length for length, _ in epochs),
        validation=len(epochs) * validation,
        test=tested - epochs[-1][1],
        artifacts=end - tested,
    )


def main() -> None:
    args = arguments()
    data = (
        ["dataset=digits"] if args.quick else ["dataset=mnist", f"dataset.root='{mnist_folder(args.root)}'"]
    )
    about = print_machine()
    with tempfile.TemporaryDirectory(prefix="sweep-benchmark-") as folder:
        help_s = start_of_help(Project(Path(folder) / "help"), 3 if args.quick else 7)
        epochs = args.epochs or epochs_for(args.seconds, Project(Path(folder) / "trial"), data)
        override = [*data, f"trainer.epochs={epochs}", f"seed=range({args.runs})"]
        print(f"\n`python run.py -m {' '.join(override)}`\n")
        sweeps = [
            measure(Project(Path(folder) / f"workers-{workers}"), workers, override)
            for workers in args.workers
        ]
    tell(sweeps, epochs, help_s, judge=not args.quick)
    if args.json:
        content = {"machine": about, "versions": versions(), "epochs": epochs, "help_s": help_s}
        write_json(args.json, content | {"sweeps": [asdict(sweep) for sweep in sweeps]})


def arguments() -> argparse.Namespace:
    parser = options(__doc__, EXAMPLES, quick="4 runs of 5 epochs on the embedded digits")
    parser.add_argument("--runs", type=int, default=8, help="runs in the sweep, at least 2")
    parser.add_argument("--seconds", type=float, default=10.0, help="about how long a run trains")
    parser.add_argument("--epochs", type=int, help="instead of --seconds: epochs of a run, at least 2")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2], help="default: 1 2")
    args = parser.parse_args()
    if args.quick:
        args.runs, args.epochs = 4, args.epochs or 5
    if args.runs < 2 or args.epochs == 1 or args.seconds <= 0 or min(args.workers) < 1:
        parser.error("at least 2 runs, 2 epochs (validation is timed between epochs) and 1 worker")
    return args


def start_of_help(project: Project, repeats: int) -> float:
    return statistics.median(project.run("--help") for _ in range(repeats + 1))


def epochs_for(seconds: float, project: Project, data: list[str]) -> int:
    """As many epochs as take about so long, two at least."""
    project.run(*data, "trainer.epochs=2")
    (run,) = project.runs()
    return max(2, round((seconds - run.test) / ((run.training + run.validation) / 2)))


def measure(project: Project, workers: int, overrides: list[str]) -> Sweep:
    launcher = [] if workers == 1 else ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={workers}"]
    started = time.time()
    wall = project.run("-m", *overrides, *launcher)
    runs = project.runs()
    return Sweep(
        workers=workers,
        wall=wall,
        start_up=min(run.start for run in runs) - started,
        runs=runs,
        end=started + wall - runs[-1].end,
    )


def tell(sweeps: list[Sweep], epochs: int, help_s: float, judge: bool) -> None:
    """Everything in seconds; `judge` whether the runs are long enough to be held against the targets."""
    columns: list[tuple[str, list[float]]] = [
        ("wall time of the command", [sweep.wall for sweep in sweeps]),
        ("sum of the bare training times", [sweep.bare for sweep in sweeps]),
        ("start-up to the first run", [sweep.start_up for sweep in sweeps]),
        ("after the last run: report, end", [sweep.end for sweep in sweeps]),
    ]
    for name in ("to_training", "training", "validation", "test", "artifacts"):
        values = [statistics.median(getattr(run, name) for run in sweep.runs) for sweep in sweeps]
        columns.append((f"a run: {name.replace('_', ' ')}", values))
    header = ("seconds", *(f"{sweep.workers} worker{'s'[: sweep.workers > 1]}" for sweep in sweeps))
    print_table(header, [(name, *(f"{value:.2f}" for value in values)) for name, values in columns])
    print(
        "\n(a run: medians; `to training` is from its record in MLflow to the first step, `artifacts` from the end of "
        "the test to the end of the run)\n"
    )
    by_workers = {sweep.workers: sweep for sweep in sweeps}
    alone = by_workers.get(1)
    if alone:
        run = alone.runs[len(alone.runs) // 2]
        five_epochs = 5 * (run.training + run.validation) / epochs + run.test
        share, everything = 100 * alone.overhead / five_epochs, (alone.wall - alone.bare) / len(alone.runs)
        print(f"overhead per run after the first: {judged(alone.overhead, 0.8, ' s')}")
        print(f"wall time less bare training, per run, start-up and report included: {everything:.2f} s")
        said = judged(share, 5, " %") if judge else f"{share:.0f} %"
        print(f"overhead as a share of 5 such epochs ({five_epochs:.1f} s): {said}")
        for workers, sweep in by_workers.items():
            ratio = sweep.wall / alone.wall
            said = judged(ratio, 0.6, " ×") if workers == 2 and judge else f"{ratio:.2f} ×"
            if workers > 1:
                print(f"wall time with {workers} workers to that with 1: {said}")
    if not judge:
        print("(these short runs are not what the targets for shares and workers are about)")
    print(f"start of `run.py --help`: {judged(help_s, 1.5, ' s')}")


if __name__ == "__main__":
    main()
