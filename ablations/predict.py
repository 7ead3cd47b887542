"""`python -m ablations.predict`: digits in image files, read with a tracked run's network."""

import argparse
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablations.errors import InputError, one_line, one_line_errors, printable
from ablations.tracking.reader import Reader
from ablations.tracking.store import tracking_uri

if TYPE_CHECKING:
    import pandas as pd

    from ablations.model import Model

BEST = "best"
JUDGED_BY = "val/accuracy"
SHOWN = 8  # names or ids in an error message

EXAMPLES = """RUN is one of:
  best                    the finished run with the highest validation accuracy
  best:NAME               the best one of a sweep or a study
  3f2a9c…                 a run's id, or as much of its beginning as no other run has
  'pool=avg seed=0'       a run's name, where no other run has it

examples:
  python -m ablations.predict best seven.png
  python -m ablations.predict best:activation-pool scans/*.jpg --json
  python -m ablations.predict 3f2a9c seven.png --plot what_it_saw.png
  python -m ablations.predict best --register digits

A file holds one digit, dark on light or light on dark, of any size, anywhere in the picture.
"""


def choose(runs: "pd.DataFrame", wanted: str) -> "pd.Series":
    """The run that `wanted` means, a row of `Reader.runs()`; see EXAMPLES for what it may be.

    Of several best ones, the one with the lower validation loss, then the older one, is taken. Raises InputError
    for none, with the names that come nearest, and for several.
    """
    if wanted == BEST or wanted.startswith(f"{BEST}:"):
        return _best(runs, wanted.partition(":")[2] if ":" in wanted else None)
    for found in (
        runs[runs["run_id"] == wanted],
        runs[runs["run_name"] == wanted],
        runs[runs["run_id"].str.startswith(wanted)],
    ):
        if len(found) == 1:
            return found.iloc[0]
        if len(found) > 1:
            ids = _some(found["run_id"].tolist()[::-1])
            raise InputError(f"{len(found)} runs are meant by {wanted!r}; give the id of one: {ids}")
    near = difflib.get_close_matches(wanted, [BEST, *runs["run_name"].unique()], n=SHOWN, cutoff=0.5)
    near = near or runs["run_name"].drop_duplicates(keep="last").tolist()[::-1]
    raise InputError(f"no run {wanted!r}; there are, for example: {_some(near) or 'none yet'}")


def _best(runs: "pd.DataFrame", group: str | None) -> "pd.Series":
    metric, loss = f"metrics.{JUDGED_BY}", "metrics.val/loss"
    if group is not None:
        tags = [f"tags.{kind}" for kind in ("sweep", "study") if f"tags.{kind}" in runs]
        known = {name for tag in tags for name in runs[tag].dropna()}
        if group not in known:
            near = difflib.get_close_matches(group, known, n=SHOWN, cutoff=0.5) or sorted(known)
            raise InputError(f"no sweep or study {group!r}; there are: {_some(near) or 'none yet'}")
        runs = runs[(runs[tags] == group).any(axis=1)]
    runs = runs[runs["status"] == "FINISHED"]
    runs = runs.dropna(subset=metric) if metric in runs else runs.iloc[:0]
    if runs.empty:
        raise InputError(f"no finished run with the metric {JUDGED_BY}{f' in {group}' if group else ''}")
    order = [column for column in (metric, loss) if column in runs]
    ascending = [column != metric for column in order]
    return runs.sort_values(order, ascending=ascending, kind="stable").iloc[0]


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(map(printable, names[:SHOWN])) + (f" and {more} more" if more > 0 else "")


def load(reader: Reader, run: "pd.Series") -> "Model":
    """The network of a run. Raises InputError where it has none, or a damaged one."""
    from ablations.artifacts import NETWORK
    from ablations.model import Model

    folder = reader.artifact(run["run_id"], NETWORK)
    if folder is None:
        why = "" if run["status"] == "FINISHED" else f", it is {run['status']}"
        raise InputError(f"the run {printable(run['run_name'])} ({run['run_id']}) has no model{why}")
    return Model.load(folder)


def read_image(path: Path) -> np.ndarray:
    """The digit in an image file, as MNIST's are: uint8 (28, 28). Raises InputError, naming the file."""
    from ablations.digit_image import like_mnist
    from ablations.images import decode

    grey = decode(path)
    try:
        return like_mnist(grey)
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from None


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code, 2 where a file could not be read."""
    parser = argparse.ArgumentParser(
        prog="python -m ablations.predict",
        description="Read the digits in image files with the network of a tracked run.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", metavar="RUN", help="best, best:NAME, a run's id or its name")
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path, help="pictures of one digit each")
    parser.add_argument("--json", action="store_true", help="print JSON, with all ten probabilities")
    parser.add_argument(
        "--plot",
        metavar="PATH",
        type=Path,
        help="draw what the network saw and made of it: a .png, or a folder for several files",
    )
    parser.add_argument("--register", metavar="NAME", help="add the run's model to MLflow's model registry")
    parser.add_argument("--tracking-uri", metavar="URI", help="another MLflow store")
    options = parser.parse_args(arguments)
    if not options.files and options.register is None:
        parser.error("give at least one FILE, or --register NAME")
    if options.plot is not None and options.plot.suffix == ".png" and len(options.files) > 1:
        parser.error("--plot: give a folder, there are several files")

    uri = tracking_uri(options.tracking_uri)
    reader = Reader(uri)
    run = choose(reader.runs(), options.run)
    model = load(reader, run)
    images, failures = {}, []
    for path in options.files:
        try:
            images[path] = read_image(path)
        except InputError as error:  # the other files are read all the same
            failures.append(f"error: {one_line(error)}")
    if images:
        digits, probabilities = model.read(np.stack(list(images.values())))
        shown = _json if options.json else _table
        print(shown(run, list(images), digits, probabilities))
    if options.plot is not None:
        _plot(options.plot, images, model)
    if options.register is not None:
        _register(uri, run, options.register)
    for failure in failures:
        print(failure, file=sys.stderr)
    return 2 if failures else 0


def _table(run: "pd.Series", paths: list[Path], digits: np.ndarray, probabilities: np.ndarray) -> str:
    names = ["file", *map(printable, paths)]
    width = max(map(len, names))
    lines = [f"{names[0]:{width}}  digit  confidence"]
    for name, digit, each in zip(names[1:], digits, probabilities, strict=True):
        lines.append(f"{name:{width}}  {digit:5}  {each[digit]:10.2%}")
    return "\n".join([*lines, f"read by {printable(run['run_name'])}, run {run['run_id']}"])


def _json(run: "pd.Series", paths: list[Path], digits: np.ndarray, probabilities: np.ndarray) -> str:
    files = [
        {
            "file": str(path),
            "digit": int(digit),
            "confidence": float(each[digit]),
            "probabilities": each.astype(float).tolist(),
        }
        for path, digit, each in zip(paths, digits, probabilities, strict=True)
    ]
    return json.dumps({"run_id": run["run_id"], "run_name": run["run_name"], "files": files}, indent=2)


def _plot(target: Path, images: dict[Path, np.ndarray], model: "Model") -> None:
    """Draw each image with its feature maps: into the file `target`, or into a folder of that name."""
    from ablations.plots.run import kernels_and_maps
    from ablations.plots.style import save

    single = target.suffix == ".png"
    folder = target.parent if single else target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken: set[str] = set()
        for number, (path, image) in enumerate(images.items(), start=1):
            stem = path.stem if path.stem not in taken else f"{number}-{path.stem}"
            taken.add(stem)
            _, probabilities = model.read(image[None])
            layers = model.feature_maps(image) | {"output": probabilities[0]}
            figure = kernels_and_maps(image, model.first_kernels, layers)
            save(figure, target if single else folder / f"{stem}.png")
    except OSError as error:
        raise InputError(f"--plot {printable(target)}: {error.strerror or error}") from error


def _register(uri: str, run: "pd.Series", name: str) -> None:
    from ablations.artifacts import MODEL
    from ablations.tracking.models import register_model

    version = register_model(uri, run["run_id"], MODEL, name)
    print(f"registered {printable(name)} version {version}: models:/{printable(name)}/{version}")


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
