"""A whole study, from the command to the last run in its store: ours against a plain script of PyTorch and MLflow.

`python run.py -m +study=activation_x_pool` with 2 seeds and 1 epoch of MNIST (12 runs) as a user types it, in a copy of
the project in a temporary folder with a store of its own, and `rival_study.py`, which trains the same networks from the
same initial weights on the same batches in the same order, validates after each epoch, tests at the end, and logs
params, metrics and the weights to an MLflow store of its own. Both use two processes of one thread each. They take
turns, each repeat beginning with the other one; medians of the repeats.

  to the last run    from starting the command to the end of its last run, as the store has it
  to the first run   from starting the command to the start of its first run: imports, reading, a fresh store
  epochs             training alone (`time/epoch_s`), summed over the runs
  a run besides      median of what a run takes besides: data, validation, test, records, artifacts
  whole command      until the command is back; ours compiles the study's report meanwhile
  processor          what the whole command took of the processor, all its processes, start-up and report included

PyTorch's side is favoured where they differ: split, order and initial weights are handed to it in files written before
the clock starts, and it leaves behind the weights alone, ours also figures, predictions and a model that serves. Before
anything is timed, the loss of the first batch must agree to 1e-5 in every variant; afterwards ours must have used
the split and order that PyTorch was given (the tag `stream`), and the accuracies stand side by side.
"""

import argparse
import compileall
import importlib.util
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import instantiate
from measuring import judged, machine, mnist_folder, options, print_machine, print_table, versions, write_json
from omegaconf import DictConfig
from sweep import Project

from ablations.datasets import Dataset, split
from ablations.datasets.idx import idx_header
from ablations.datasets.idx_files import IDX_PARTS, find
from ablations.nn.feeder import Feeder
from ablations.nn.network import Network
from ablations.sweep.overrides import compose
from ablations.training.recipe import build_network
from ablations.training.streams import Streams

EXAMPLES = """examples:
  python benchmarks/study.py                                  3 repeats of each on MNIST: some minutes
  python benchmarks/study.py --root ~/mnist --repeats 5 --json study.json
  python benchmarks/study.py --fused                          PyTorch's Adam in its fused implementation
  python benchmarks/study.py --quick                          the embedded digits, once: shows that it works
"""
VARIANTS = [(activation, pool) for activation in ("relu", "tanh", "sigmoid") for pool in ("max", "avg")]
TARGET, LOSS_TOLERANCE, ACCURACY_TOLERANCE = 2.5, 1e-5, 0.01
RIVAL = Path(__file__).with_name("rival_study.py")


@dataclass(frozen=True)
class Run:
    """One run in a store: what it trained, when (seconds since 1970), its epochs' seconds, and how well."""

    variant: tuple[str, str]
    seed: int
    start: float
    end: float
    epochs_s: float
    val_accuracy: float
    test_accuracy: float
    stream: str | None


@dataclass(frozen=True)
class Times:
    """Seconds of one command, as the module's docstring names them."""

    last_run: float
    first_run: float
    epochs: float
    besides: float
    command: float
    processor: float

    @classmethod
    def of(cls, started: float, ended: float, processor: float, runs: Sequence[Run]) -> "Times":
        return cls(
            last_run=max(run.end for run in runs) - started,
            first_run=min(run.start for run in runs) - started,
            epochs=sum(run.epochs_s for run in runs),
            besides=statistics.median(run.end - run.start - run.epochs_s for run in runs),
            command=ended - started,
            processor=processor,
        )


ROWS = {
    "last_run": "to the last run",
    "first_run": "to the first run",
    "epochs": "epochs, summed over the runs",
    "besides": "a run besides its epochs",
    "command": "whole command",
    "processor": "processor",
}


class Study:
    """The data, and what is random for each seed, in a folder of both sides' own."""

    def __init__(self, folder: Path, seeds: int, epochs: int, root: Path | None) -> None:
        """`root`: MNIST's folder; None: the embedded digits."""
        self.folder, self.seeds, self.epochs = folder, range(seeds), epochs
        self.data, self.starts = folder / "data", folder / "starts"
        for each in (self.data, self.starts):
            each.mkdir()
        self.settings = ["dataset=mnist", f"dataset.root='{self.data}'", f"trainer.epochs={epochs}"]
        if root is None:
            write_digits(self.data)
            self.settings.append("dataset.checksums=null")
        else:
            copy_mnist(root, self.data)
        self.dataset: Dataset = instantiate(self.config(*VARIANTS[0]).dataset).load()
        self.streams = {seed: self._write_start(seed) for seed in self.seeds}

    def config(self, activation: str, pool: str) -> DictConfig:
        return compose(*self.settings, f"activation={activation}", f"pool={pool}")

    def _write_start(self, seed: int) -> str:
        """Write the file of a seed (see rival_study.py) and return the tag `stream` of ours."""
        config, streams = self.config(*VARIANTS[0]), Streams(seed)
        network, draw = build_network(config, streams), streams.generator("order")
        train, validation = split(
            self.dataset.train_labels, config.dataset.val_fraction, streams.generator("split")
        )
        order = np.stack([draw.permutation(len(train)) for _ in range(self.epochs)])
        np.savez(
            self.starts / f"{seed}.npz", train=train, validation=validation, order=order, **in_torch(network)
        )
        return streams.fingerprint(train, validation, list(network.layers))

    def losses(self, variant: tuple[str, str], seed: int) -> tuple[float, float]:
        """The mean loss of the first batch before any step, ours and PyTorch's."""
        import torch
        from rival_study import BATCH_SIZE, LeNet5, images

        with np.load(self.starts / f"{seed}.npz") as arrays:
            start = {name: torch.from_numpy(array) for name, array in arrays.items()}
        train, _, order = (start.pop(name) for name in ("train", "validation", "order"))
        batch = train[order[0, :BATCH_SIZE]].numpy()
        pixels, labels = self.dataset.train_images[batch], self.dataset.train_labels[batch]

        config = self.config(*variant)
        network = build_network(config, Streams(seed))
        normalization = instantiate(config.normalization).fit(self.dataset.train_images)
        ours, _ = network.loss(network.forward(Feeder(network, normalization)(pixels)), labels)

        rival = LeNet5(*variant)
        rival.load_state_dict(start)
        with torch.inference_mode():
            wanted = torch.from_numpy(labels.astype(np.int64))
            theirs = torch.nn.functional.cross_entropy(rival(images(pixels)), wanted)
        return float(ours.mean()), theirs.item()


def write_digits(folder: Path) -> None:
    """The embedded digits as MNIST's four files."""
    digits = instantiate(compose().dataset).load()
    arrays = (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    for part, array in zip(IDX_PARTS, arrays, strict=True):
        (folder / part).write_bytes(idx_header(array) + array.tobytes())


def copy_mnist(root: Path, folder: Path) -> None:
    """MNIST's files from where they are below `root`; ends the program where one is not."""
    for part in IDX_PARTS:
        path = find(root, part)
        if path is None:
            sys.exit(f"skipped: no {part} in {root}; give MNIST's folder with --root or ABLATIONS_MNIST")
        shutil.copy(path, folder / (f"{part}.gz" if path.suffix == ".gz" else part))


def in_torch(network: Network) -> dict[str, np.ndarray]:
    """The parameters in the shapes that PyTorch gives them."""
    shapes = {"C1.weight": (6, 1, 5, 5), "C3.weight": (16, 6, 5, 5)}
    return {
        name: array.ravel() if name.endswith(".bias") else array.reshape(shapes.get(name, array.shape))
        for name, array in network.state().items()
    }


def main() -> None:
    args = arguments()
    if importlib.util.find_spec("torch") is None:
        sys.exit("error: this compares with PyTorch: pip install torch")
    root = None if args.quick else mnist_folder(args.root)
    about = print_machine()
    with tempfile.TemporaryDirectory(prefix="study-benchmark-") as folder:
        study = Study(Path(folder), args.seeds, args.epochs, root)
        require_equal_losses(study)
        sides = {"ours": Ours(study), "torch": Theirs(study, args.fused)}
        times: dict[str, list[Times]] = {name: [] for name in sides}
        runs: dict[str, list[Run]] = {}
        loads = []
        for repeat in range(args.repeats):
            loads.append(machine()["load"])
            for name in list(sides)[:: 1 if repeat % 2 == 0 else -1]:
                found, runs[name] = measured(sides[name])
                times[name].append(found)
                seconds = ", ".join(f"{words} {getattr(found, key):.2f}" for key, words in ROWS.items())
                print(f"repeat {repeat + 1}, {name}: {seconds}", flush=True)
        require_equal_streams(study, runs["ours"])
    accuracies = by_variant(runs)
    tell(times, accuracies, loads, judge=not args.quick)
    if args.json:
        content = {"machine": about, "versions": versions(), "loads": loads, "seeds": args.seeds}
        content |= {"epochs": args.epochs, "fused": args.fused, "ratio": ratio(times)}
        content |= {"times": {name: [asdict(each) for each in found] for name, found in times.items()}}
        write_json(args.json, content | {"accuracies": accuracies})


def arguments() -> argparse.Namespace:
    parser = options(__doc__, EXAMPLES, quick="the embedded digits, 1 seed, once")
    parser.add_argument("--seeds", type=int, default=2, help="of each of the six variants; default: 2")
    parser.add_argument("--epochs", type=int, default=1, help="of each run; default: 1")
    parser.add_argument("--repeats", type=int, default=3, help="of which the medians are told; default: 3")
    parser.add_argument("--fused", action="store_true", help="torch.optim.Adam(fused=True)")
    args = parser.parse_args()
    if args.quick:
        args.seeds = args.repeats = 1
    if min(args.seeds, args.epochs, args.repeats) < 1:
        parser.error("seeds, epochs and repeats must be at least 1")
    return args


class Ours:
    """`run.py -m +study=activation_x_pool` with two workers."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def prepare(self, folder: Path) -> None:
        """What is not timed: a compiled copy of the project, as an installed one is."""
        self.project = Project(folder)
        compileall.compile_dir(folder, quiet=1)

    def command(self) -> None:
        seeds = f"study.seeds={len(self.study.seeds)}"
        launcher = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
        same = "evaluation=none"  # the other side measures no calibration, shift and rejection
        self.project.run("-m", "+study=activation_x_pool", seeds, same, *self.study.settings, *launcher)

    @property
    def store(self) -> Path:
        return self.project.root / "mlruns" / "mlflow.db"


class Theirs:
    """`rival_study.py`, which has two processes."""

    def __init__(self, study: Study, fused: bool) -> None:
        self.study, self.fused = study, fused

    def prepare(self, folder: Path) -> None:
        self.folder = folder

    def command(self) -> None:
        """Ends the program where it fails."""
        words = [RIVAL, self.study.data, self.study.starts, self.store, *["fused"][: self.fused]]
        environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: {RIVAL.name} failed:\n{done.stderr}")

    @property
    def store(self) -> Path:
        return self.folder / "mlflow.db"


def measured(side: Ours | Theirs) -> tuple[Times, list[Run]]:
    """One command with a fresh store, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="study-benchmark-") as folder:
        side.prepare(Path(folder))
        started, before = time.time(), os.times()
        side.command()
        ended, after = time.time(), os.times()
        runs = runs_in(side.store)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Times.of(started, ended, used, runs), runs


def runs_in(store: Path) -> list[Run]:
    """The trained runs in an SQLite store of MLflow."""
    with closing(sqlite3.connect(store)) as db:
        rows = db.execute(
            "SELECT run_uuid, start_time, end_time FROM runs WHERE status = 'FINISHED'"
        ).fetchall()
        params, metrics, tags = (by_run(db, table) for table in ("params", "latest_metrics", "tags"))
        epochs = "SELECT run_uuid, SUM(value) FROM metrics WHERE key = 'time/epoch_s' GROUP BY run_uuid"
        epochs_s = dict(db.execute(epochs).fetchall())
    return [
        Run(
            variant=(params[run]["activation"], params[run]["pool"]),
            seed=int(params[run]["seed"]),
            start=start / 1000,
            end=end / 1000,
            epochs_s=epochs_s[run],
            val_accuracy=metrics[run]["val/accuracy"],
            test_accuracy=metrics[run]["test/accuracy"],
            stream=tags.get(run, {}).get("stream"),
        )
        for run, start, end in rows
        if run in epochs_s
    ]


def by_run(db: sqlite3.Connection, table: str) -> dict[str, dict[str, Any]]:
    """The values of a table of MLflow's by run and key."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for run, key, value in db.execute(f"SELECT run_uuid, key, value FROM {table}"):
        found[run][key] = value
    return found


def require_equal_losses(study: Study) -> None:
    """End the program where the two networks are not the same function."""
    worst = 0.0
    for variant in VARIANTS:
        ours, theirs = study.losses(variant, study.seeds[0])
        worst = max(worst, abs(ours - theirs))
        if worst > LOSS_TOLERANCE:
            sys.exit(
                f"error: {', '.join(variant)}: the first loss is {ours} with ours, {theirs} with PyTorch"
            )
    print(f"the first batch's loss differs by at most {worst:.1g}, over the variants\n", flush=True)


def require_equal_streams(study: Study, runs: Sequence[Run]) -> None:
    """End the program where PyTorch was given another split or order than ours used."""
    for run in runs:
        if run.stream != study.streams[run.seed]:
            sys.exit(f"error: seed {run.seed}: PyTorch was given another split or order of the images")


def by_variant(runs: Mapping[str, Sequence[Run]]) -> list[dict[str, object]]:
    """Accuracies of both sides as means over the seeds. Ends the program where a side lacks runs."""
    rows = []
    for variant in VARIANTS:
        row: dict[str, object] = {"variant": "/".join(variant)}
        for side, found in runs.items():
            mine = [run for run in found if run.variant == variant]
            if not mine:
                sys.exit(f"error: {side} left no run of {row['variant']}")
            for part in ("val", "test"):
                row[f"{side}_{part}"] = statistics.mean(getattr(run, f"{part}_accuracy") for run in mine)
        rows.append(row)
    return rows


def median(times: Sequence[Times], name: str) -> float:
    return statistics.median(getattr(each, name) for each in times)


def ratio(times: Mapping[str, Sequence[Times]]) -> float:
    """PyTorch's time to the last run by ours, medians."""
    return median(times["torch"], "last_run") / median(times["ours"], "last_run")


def tell(
    times: Mapping[str, Sequence[Times]],
    accuracies: Sequence[Mapping[str, Any]],
    loads: Sequence[float],
    judge: bool,
) -> None:
    """Both tables; `judge` whether the runs are long enough to be held against the target."""
    rows = []
    for name, words in ROWS.items():
        ours, theirs = (median(times[side], name) for side in ("ours", "torch"))
        rows.append((words, f"{ours:.2f}", f"{theirs:.2f}", f"{theirs / ours:.2f}"))
    print(f"\nload before each repeat: {', '.join(f'{load:.2f}' for load in loads)}\n")
    print_table(("seconds", "ours", "PyTorch", "ratio"), rows)
    print()
    columns = ("ours_val", "torch_val", "ours_test", "torch_test")
    print_table(
        ("accuracy, %", "ours, validation", "PyTorch, validation", "ours, test", "PyTorch, test"),
        [(row["variant"], *(f"{100 * row[column]:.2f}" for column in columns)) for row in accuracies],
    )
    each = [
        theirs.last_run / ours.last_run for ours, theirs in zip(times["ours"], times["torch"], strict=True)
    ]
    apart = 100 * max(abs(row["ours_test"] - row["torch_test"]) for row in accuracies)
    print(f"\nratio by repeat: {min(each):.2f} to {max(each):.2f}")
    if not judge:
        print(f"PyTorch's time to ours: {ratio(times):.2f} × (start-up, not what the target is about)")
        return
    print(f"PyTorch's time to ours: {judged(ratio(times), TARGET, ' ×', at_most=False)}")
    print(f"test accuracies, largest difference: {judged(apart, 100 * ACCURACY_TOLERANCE, ' points')}")


if __name__ == "__main__":
    main()
