"""How time and peak memory grow with training images (1k to 60k), epochs, and runs in the store (10 to 10,000).

Everything is measured in a process of its own. Memory is the peak (`ru_maxrss`) less that of the interpreter once
it has imported all that the work needs; time is that of the work after those imports.

  images   `run.py` on MNIST cut to so many training images, one epoch
  epochs   `run.py` on the embedded digits
  runs     `ablations.report` of a sweep of so many runs, each with 20 epochs of 5 metrics, written by SQL into a store
           that MLflow made; and one more run of `run.py` tracked in that store

Growth is judged in CPU time, which neighbours on the machine disturb less than wall time. With the smallest size
as origin, it is the slope of log(cost − first cost) against log(size − first size), over all sizes by least squares
or over the last two, whichever is steeper: a fixed part, however large, drops out, and linear growth gives 1. Peak
memory is the larger of several phases, not their sum, so nothing is taken off beyond the imports: it is the slope
of log(memory) against log(size) over the last two sizes. Both pass up to 1.15, which leaves room for noise, and
where the largest size costs less than half as much again as the smallest.
"""

import argparse
import json
import math
import os
import random
import runpy
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path

from measuring import judged, mnist_folder, options, print_machine, print_table, versions, write_json

from ablations.ground.paths import ROOT
from ablations.sweep.overrides import compose

EXAMPLES = """examples:
  python benchmarks/scaling.py                       everything, several minutes
  python benchmarks/scaling.py --only runs           the report and the store alone
  python benchmarks/scaling.py --only images --root ~/mnist
  python benchmarks/scaling.py --quick --json scaling.json
"""
SIZES = {"images": (1000, 5000, 20_000, 60_000), "epochs": (10, 40, 160), "runs": (10, 100, 1000, 10_000)}
QUICK = {"images": (1000, 4000, 16_000), "epochs": (5, 20, 80), "runs": (10, 100, 1000)}
STEEPEST = 1.15
EPOCHS_OF_A_RUN = 20
LEVELS = {
    "activation": ("relu", "tanh", "sigmoid", "scaled_tanh"),
    "pool": ("max", "avg"),
    "optimizer": ("sgd", "momentum", "adagrad", "rmsprop", "adam"),
}
# What each imports sooner or later.
IMPORTS = {
    "run": (
        "ablations.plots.run",
        "ablations.report.analysis",
        "ablations.report.drawings",
        "hydra._internal.hydra",
        "mlflow.store.tracking.sqlalchemy_store",
        "mlflow.tracking.client",
        "scipy.special",
        "scipy.stats",
        "sklearn.datasets",
        "sklearn.metrics",
        "sklearn.model_selection",
        "tqdm",
    ),
    "report": ("ablations.report.analysis", "ablations.report.drawings", "scipy.stats", "seaborn"),
}


@dataclass(frozen=True)
class Cost:
    """Of one piece of work: its size, its CPU and wall seconds and its peak memory in MB, beyond the imports and
    in whole."""

    what: str
    size: int
    cpu_seconds: float
    seconds: float
    memory_mb: float
    whole_seconds: float
    whole_mb: float


def main() -> None:
    args = arguments()
    about = print_machine()
    costs: list[Cost] = []
    with tempfile.TemporaryDirectory(prefix="scaling-benchmark-") as folder:
        for what in args.only:
            measure = {"images": by_images, "epochs": by_epochs, "runs": by_runs}[what]
            costs += measure((QUICK if args.quick else SIZES)[what], Path(folder), args)
    slopes = {}
    for what in dict.fromkeys(cost.what for cost in costs):
        print()
        slopes[what] = tell(what, [cost for cost in costs if cost.what == what])
    print()
    hold_against_targets(costs)
    if args.json:
        content = {"machine": about, "versions": versions(), "slopes": slopes}
        write_json(args.json, content | {"costs": [asdict(cost) for cost in costs]})


def arguments() -> argparse.Namespace:
    parser = options(__doc__, EXAMPLES, quick="smaller sizes, about a minute")
    parser.add_argument("--only", nargs="+", choices=SIZES, default=list(SIZES))
    return parser.parse_args()


# The work, each piece in a process of its own


def in_a_process(what: str, size: int, kind: str, arguments: Sequence[str]) -> Cost:
    """Run `kind` ("run" or "report") of this file with these arguments, and ask it what that cost."""
    environment = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, CHILD, kind, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    whole = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"error: {kind} {' '.join(arguments)} failed:\n{done.stderr}{done.stdout}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return Cost(what=what, size=size, whole_seconds=whole, **answer)


CHILD = "--in-a-process-of-its-own"


def child(kind: str, *arguments: str) -> None:
    """What `in_a_process` starts."""
    for module in IMPORTS[kind]:
        import_module(module)
    before, started, cpu = peak_mb(), time.perf_counter(), time.process_time()
    if kind == "run":
        sys.argv = ["run.py", *arguments]
        runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
    else:
        from ablations.report import compile_report
        from ablations.tracking import Store

        uri, folder = arguments
        compile_report(store=Store(uri), folder=Path(folder))
    seconds, cpu, peak = time.perf_counter() - started, time.process_time() - cpu, peak_mb()
    cost = {"cpu_seconds": cpu, "seconds": seconds, "memory_mb": peak - before, "whole_mb": peak}
    print(json.dumps(cost))


def peak_mb() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kibibytes elsewhere


def run(what: str, size: int, folder: Path, store: Path, *overrides: str) -> Cost:
    """`python run.py` with these overrides, keeping all that it writes within `folder`."""
    keep = [f"tracking.uri='sqlite:///{store}'", f"hydra.run.dir='{folder / 'hydra'}'"]
    return in_a_process(what, size, "run", [*keep, *overrides])


# The three things that grow


def by_images(sizes: Sequence[int], folder: Path, args: argparse.Namespace) -> Iterator[Cost]:
    root = mnist_folder(args.root)
    store = new_store(folder / "images")
    for size in sizes:
        data = cut(root, size, folder / f"mnist-{size}")
        overrides = ["dataset=mnist", f"dataset.root='{data}'", "dataset.checksums=null"]
        yield run("training images", size, folder, store, *overrides, "trainer.epochs=1")


def cut(root: Path, size: int, folder: Path) -> Path:
    """MNIST with its first `size` training images, in `folder`."""
    from ablations.datasets import IDX_PARTS, idx_header, read_idx

    folder.mkdir()
    for part in IDX_PARTS:
        source = root / part
        array = read_idx(source if source.exists() else source.with_name(f"{part}.gz"))
        array = array[:size] if part.startswith("train") else array
        (folder / part).write_bytes(idx_header(array) + array.tobytes())
    return folder


def by_epochs(sizes: Sequence[int], folder: Path, args: argparse.Namespace) -> Iterator[Cost]:
    store = new_store(folder / "epochs")
    for size in sizes:
        yield run("epochs", size, folder, store, "dataset=digits", f"trainer.epochs={size}")


def by_runs(sizes: Sequence[int], folder: Path, args: argparse.Namespace) -> Iterator[Cost]:
    for size in sizes:
        store = new_store(folder / f"runs-{size}")
        fill(store, size)
        uri = f"sqlite:///{store}"
        yield in_a_process("runs in a report", size, "report", [uri, str(folder / f"reports-{size}")])
        yield run("one more run, by runs in the store", size, folder, store, "trainer.epochs=1")


def new_store(folder: Path) -> Path:
    """An empty store, made by MLflow in another process: its imports are no concern of this one's memory."""
    path = folder / "mlflow.db"
    code = "import sys; from ablations.tracking import Store; Store(sys.argv[1]).prepare('lenet5')"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}"], env=environment, check=True)
    return path


def fill(store: Path, runs: int) -> None:
    """Write the rows of a sweep over activation, pool, optimizer and as many seeds as it takes."""
    import numpy as np
    from omegaconf import OmegaConf

    config = compose()
    shared = {
        key: str(value)
        for key, value in flat(OmegaConf.to_container(config, resolve=True))
        if not key.startswith(("sweep", "tracking", "name")) and not key.endswith("_target_")
    }
    shared |= {"dataset": "digits", "c3": "full", "head": "softmax", "init": "he", "normalization": "unit"}
    shared |= {"network": "lenet5", "network.parameters": "61706", "dataset.test_images": "360"}
    tags = {
        "sweep": "synthetic",
        "sweep_id": "1",
        "factors": ",".join(LEVELS),
        "command": "python run.py -m …",
        "data_sha256": "0" * 64,
    }
    rng, now = random.Random(0), 1_700_000_000_000
    artifacts = store.parent / "artifacts"
    rows: dict[str, list[tuple]] = {
        name: [] for name in ("runs", "params", "tags", "metrics", "latest_metrics")
    }
    best = (0.0, "")
    with closing(sqlite3.connect(store)) as db:
        (experiment,) = db.execute("SELECT experiment_id FROM experiments WHERE name = 'lenet5'").fetchone()
        for number in range(runs):
            key, start = f"{number:032x}", now + 1000 * number
            choice, left = {}, number
            for factor, levels in LEVELS.items():
                left, level = divmod(left, len(levels))
                choice[factor] = levels[level]
            name = " ".join(f"{factor}={level}" for factor, level in choice.items()) + f" seed={left}"
            folder = (artifacts / key / "artifacts").as_uri()
            rows["runs"].append((key, name, "FINISHED", start, start + 900, "active", folder, experiment))
            params = shared | choice | {"seed": str(left)}
            rows["params"] += [(param, value, key) for param, value in params.items()]
            own = tags | {"config_hash": key[-16:], "mlflow.runName": name}
            rows["tags"] += [(tag, value, key) for tag, value in own.items()]
            for step in range(1, EPOCHS_OF_A_RUN + 1):
                loss = rng.uniform(1, 1.5) / step
                accuracy = 1 - 0.1 * loss
                metrics = {
                    "train/loss": loss,
                    "train/accuracy": accuracy,
                    "time/epoch_s": rng.uniform(0.1, 0.2),
                }
                metrics |= {"val/loss": 1.1 * loss, "val/accuracy": accuracy - 0.001}
                logged = [(metric, value, start + step, key, step) for metric, value in metrics.items()]
                rows["metrics"] += logged
            error = 100 * (1 - accuracy)
            tested = {"test/accuracy": accuracy, "test/error_pct": error, "test/loss": loss}
            last = [(metric, value, start + 30, key, EPOCHS_OF_A_RUN) for metric, value in tested.items()]
            rows["metrics"] += last
            rows["latest_metrics"] += logged + last
            best = max(best, (accuracy, key))
            if number % 500 == 499 or number == runs - 1:
                insert(db, rows)
        db.commit()
    home = artifacts / best[1] / "artifacts"  # the report shows the confusion matrix of the best run
    home.mkdir(parents=True)
    labels = np.arange(360, dtype=np.uint8) % 10
    np.savez_compressed(home / "predictions.npz", labels=labels, predictions=labels, confidences=labels / 10)


COLUMNS = {
    "runs": "run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id",
    "params": "key, value, run_uuid",
    "tags": "key, value, run_uuid",
    "metrics": "key, value, timestamp, run_uuid, step, is_nan",
    "latest_metrics": "key, value, timestamp, run_uuid, step, is_nan",
}


def insert(db: sqlite3.Connection, rows: dict[str, list[tuple]]) -> None:
    """Insert and forget the rows of each table."""
    for table, columns in COLUMNS.items():
        values = [(*row, 0) for row in rows[table]] if "is_nan" in columns else rows[table]
        marks = ", ".join("?" * len(columns.split(", ")))
        db.executemany(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
        rows[table].clear()


def flat(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and values of a nested dictionary."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


# The judgement


def tell(what: str, costs: list[Cost]) -> dict[str, float | None]:
    """A table of these costs, and how steeply they grow."""
    rows = []
    for cost in costs:
        times = (f"{value:.2f}" for value in (cost.cpu_seconds, cost.seconds, cost.whole_seconds))
        rows.append((f"{cost.size:,}", *times, f"{cost.memory_mb:,.0f}", f"{cost.whole_mb:,.0f}"))
    print_table((what, "CPU s", "wall s", "with imports", "MB beyond imports", "MB"), rows)
    sizes, memory = [cost.size for cost in costs], [cost.memory_mb for cost in costs]
    slopes = {
        "CPU time": slope(sizes, [cost.cpu_seconds for cost in costs]),
        "memory": plain_slope(sizes, memory) if grows(memory) else None,
    }
    for name, steepness in slopes.items():
        if steepness is None:
            print(f"{name}: pass, it hardly grows")
        else:
            verdict = "pass" if steepness <= STEEPEST else f"FAIL: more than {STEEPEST}"
            print(f"{name}: slope {steepness:.2f}, {verdict}")
    more = sizes[-1] - sizes[-2]
    print(
        f"the last step up: {1e3 * (costs[-1].cpu_seconds - costs[-2].cpu_seconds) / more:.2f} ms and "
        f"{1e3 * (memory[-1] - memory[-2]) / more:.1f} kB for each one more"
    )
    return slopes


def grows(costs: Sequence[float]) -> bool:
    return costs[-1] >= 1.5 * costs[0]


def plain_slope(sizes: Sequence[int], costs: Sequence[float]) -> float:
    """Of log(cost) against log(size), over the last two sizes."""
    return math.log(costs[-1] / costs[-2]) / math.log(sizes[-1] / sizes[-2])


def slope(sizes: Sequence[int], costs: Sequence[float]) -> float | None:
    """The steeper of the two log-log slopes of the growth beyond the first size; None where it hardly grows."""
    if not grows(costs):
        return None
    grown = [
        (math.log(size - sizes[0]), math.log(cost - costs[0]))
        for size, cost in zip(sizes[1:], costs[1:], strict=True)
        if cost > costs[0]
    ]
    if len(grown) < 2:  # all the growth is in the last step
        return plain_slope(sizes, costs)
    return max(
        statistics.linear_regression(*zip(*points, strict=True)).slope for points in (grown, grown[-2:])
    )


def hold_against_targets(costs: list[Cost]) -> None:
    """The targets apply to sizes that were measured."""
    by_size = {(cost.what, cost.size): cost for cost in costs}
    if full := by_size.get(("training images", 60_000)):
        print(f"memory of an MNIST run beyond the imports: {judged(full.memory_mb, 400, ' MB')}")
    for size, seconds in ((1000, 4), (10_000, 10)):
        if cost := by_size.get(("runs in a report", size)):
            print(f"report on {size:,} runs, imports included: {judged(cost.whole_seconds, seconds, ' s')}")
    if cost := by_size.get(("runs in a report", 10_000)):
        print(f"memory of a report on 10,000 runs, imports included: {judged(cost.whole_mb, 500, ' MB')}")


if __name__ == "__main__":
    if sys.argv[1:2] == [CHILD]:
        child(*sys.argv[2:])
    else:
        main()
