"""`python -m ablations.predict`: digits in image files, read with a tracked run's network."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablations.commands import command_parser, one_line_errors
from ablations.errors import InputError, foreseen, one_line, printable
from ablations.predict.choosing import choose, described, load
from ablations.predict.digit_image import read_image
from ablations.tracking import columns
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store

if TYPE_CHECKING:
    import pandas as pd

    from ablations.predict.model import Model

EXAMPLES = """RUN is one of:
  best                    the finished run with the highest validation accuracy: of those trained on MNIST, else of
                          those on images of your own, else of those on other data sets, digits and fashion_mnist last
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


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = command_parser(
        "predict",
        "Read the digits in image files with the network of a tracked run.",
        EXAMPLES,
    )
    found.add_argument("run", metavar="RUN", help="best, best:NAME, a run's id or its name")
    found.add_argument("files", metavar="FILE", nargs="*", type=Path, help="pictures of one digit each")
    found.add_argument("--json", action="store_true", help="print JSON, with the probability of each class")
    found.add_argument(
        "--plot",
        metavar="PATH",
        type=Path,
        help="draw what the network saw and made of it: a .png, or a folder for several files",
    )
    found.add_argument("--register", metavar="NAME", help="add the run's model to MLflow's model registry")
    found.add_argument("--tracking-uri", metavar="URI", help="another MLflow store")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code, 2 where a file could not be read."""
    command = parser()
    options = command.parse_intermixed_args(arguments)
    if not options.files and options.register is None:
        command.error("give at least one FILE, or --register NAME")
    if options.plot is not None and options.plot.suffix == ".png" and len(options.files) > 1:
        command.error("--plot: give a folder, there are several files")

    store = Store(options.tracking_uri)
    reader = Reader(store)
    run = choose(reader.runs(), options.run)
    model = load(reader, run)
    images, said, failed = _read(options.files, model)
    if images:
        shown = _json if options.json else _table
        print(shown(run, model, images))
    if options.plot is not None:
        _plot(options.plot, images, model)
    if options.register is not None:
        _register(store, run, options.register)
    for line in said:
        print(line, file=sys.stderr)
    return 2 if failed else 0


def _read(paths: Sequence[Path], model: "Model") -> tuple[dict[Path, np.ndarray], list[str], bool]:
    """The images of the files that can be read; what is to be said of the files, and whether any could not."""
    images, said, failed = {}, [], False
    for path in paths:
        try:
            images[path], several = read_image(path, model.pictures)
        except Exception as error:  # whatever is wrong with a file, the others are read all the same
            said.append(f"error: {one_line(error) if foreseen(error) else printable(f'{path}: {error!r}')}")
            failed = True
        else:
            if several:
                said.append(
                    f"warning: {printable(path)}: more than one digit, it seems; a picture is read as one"
                )
    return images, said, failed


def _table(run: "pd.Series", model: "Model", images: dict[Path, np.ndarray]) -> str:
    header = ["file", "digit", *(["class"] if model.has_names else []), "confidence"]
    rows = [
        [
            printable(path),
            str(digit),
            *([printable(model.classes[digit])] if model.has_names else []),
            f"{each[digit]:.2%}",
        ]
        for path, digit, each in _answers(model, images)
    ]
    file, *widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = [
        "  ".join(
            [f"{name:{file}}", *(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))]
        )
        for name, *cells in [header, *rows]
    ]
    return "\n".join([*lines, f"read by {described(run)}"])


def _json(run: "pd.Series", model: "Model", images: dict[Path, np.ndarray]) -> str:
    files = [
        {
            "file": str(path),
            "digit": int(digit),
            "class": model.classes[digit],
            "confidence": float(each[digit]),
            "probabilities": each.astype(float).tolist(),
        }
        for path, digit, each in _answers(model, images)
    ]
    about = {"run_id": run["run_id"], "run_name": run["run_name"]}
    about |= {"dataset": columns.text(run.get(columns.param("dataset"))), "classes": model.classes}
    return json.dumps(about | {"files": files}, indent=2)


def _answers(model: "Model", images: dict[Path, np.ndarray]) -> Iterable[tuple[Path, int, np.ndarray]]:
    """Each file, the number of its class, and the probability of each class."""
    digits, probabilities = model.read(np.stack(list(images.values())))
    return zip(images, digits, probabilities, strict=True)


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
            classes = model.classes if model.has_names else None
            figure = kernels_and_maps(image, model.first_kernels, layers, classes)
            save(figure, target if single else folder / f"{stem}.png")
    except OSError as error:
        raise InputError(f"--plot {printable(target)}: {error.strerror or error}") from error


def _register(store: Store, run: "pd.Series", name: str) -> None:
    from ablations.predict.model import MODEL
    from ablations.tracking.models import register_model

    version = register_model(store, run["run_id"], MODEL, name)
    print(f"registered {printable(name)} version {version}: models:/{printable(name)}/{version}")
    print(f"it is {described(run)}")


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
