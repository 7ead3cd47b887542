"""What the benchmarks share: the machine in words, interleaved timing, configurations, tables and JSON files."""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package beside it, installed or not

from ablations import ground
from ablations.ground.paths import ROOT

clock = time.perf_counter
"""What `seconds` reads. On a machine that others use, a benchmark of one thread may set it to `time.process_time`."""

PACKAGES = ("numpy", "torch", "jax", "hydra-core", "mlflow")


def options(about: str, examples: str, quick: str, mnist: bool = True) -> argparse.ArgumentParser:
    """A benchmark's parser, with the options that all have, and --root where it reads MNIST."""
    parser = argparse.ArgumentParser(
        description=about, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if mnist:
        parser.add_argument("--root", type=Path, help="MNIST's folder; default: ABLATIONS_MNIST")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to FILE")
    parser.add_argument("--quick", action="store_true", help=quick)
    return parser


def mnist_folder(root: Path | None) -> Path:
    """The folder of MNIST's four files: `root`, else ABLATIONS_MNIST, else beside the project.

    Ends the program with one line where it is absent.
    """
    folder = root or Path(os.environ.get("ABLATIONS_MNIST") or ROOT.parent / "shared/data/mnist")
    if not folder.is_dir():
        sys.exit(f"skipped: no MNIST in {folder}; give its folder with --root or ABLATIONS_MNIST")
    return folder.resolve()


def interleaved(
    functions: Mapping[str, Callable[[], object]], repeats: int, sample_s: float = 0.04
) -> dict[str, float]:
    """Median seconds per call of each function.

    After a warm-up, each repeat times a sample of every function in turn, so that whatever slows the machine
    down for a while slows all of them. A sample is as many calls as take about `sample_s`; a repeat begins
    with another function each time.
    """
    loops, samples = {}, {name: [] for name in functions}
    for name, function in functions.items():
        function()
        function()
        loops[name] = max(1, round(sample_s / min(seconds(function) for _ in range(3))))
    names = list(functions)
    for repeat in range(repeats):
        turn = repeat % len(names)
        for name in names[turn:] + names[:turn]:
            samples[name].append(seconds(functions[name], loops[name]))
    return {name: statistics.median(values) for name, values in samples.items()}


def seconds(function: Callable[[], object], calls: int = 1) -> float:
    """Seconds per call, over so many calls."""
    started = clock()
    for _ in range(calls):
        function()
    return (clock() - started) / calls


def sgemm_gflops(size: int = 1024) -> float:
    """The best rate of several float32 matrix products, size³, with the threads that are allowed just now."""
    import numpy as np

    a, b = np.random.default_rng(0).standard_normal((2, size, size), np.float32)
    out = np.empty_like(a)
    return max(2 * size**3 / seconds(lambda: np.matmul(a, b, out=out)) / 1e9 for _ in range(8))


def machine() -> dict[str, object]:
    """Processor, cores that this process may use, memory and system."""
    return {
        "cpu": ground.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(ground.load(), 2),
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter, where they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def print_machine() -> dict[str, object]:
    """Print and return what `machine` says before the benchmark itself adds to the load."""
    about = machine()
    print(
        f"{about['cpu']}, {about['cores']} cores, {about['memory_gb']} GB, {about['system']}, "
        f"load {about['load']} before it began"
    )
    print(", ".join(f"{name} {number}" for name, number in versions().items()))
    return about


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table in markdown, the first column to the left and the others to the right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *rest = (
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join([first, *rest])} |"

    print(line(cells[0]))
    print(f"| {'-' * widths[0]} | " + " | ".join("-" * (width - 1) + ":" for width in widths[1:]) + " |")
    for row in cells[1:]:
        print(line(row))


def judged(value: float, target: float, unit: str, at_most: bool = True) -> str:
    """A figure beside its target, and whether it is met."""
    met = value <= target if at_most else value >= target
    bound = "at most" if at_most else "at least"
    return f"{value:,.4g}{unit} (target {bound} {target:,.4g}{unit}: {'met' if met else 'NOT met'})"


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write the file beside its place first, so that it is never there by half."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)
