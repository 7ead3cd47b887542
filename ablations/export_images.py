"""A data set as image files: `python -m ablations.export_images DATASET FOLDER [overrides]`."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ablations.commands import command_parser, one_line_errors, run_command
from ablations.datasets import DIGITS, Dataset
from ablations.errors import InputError, printable
from ablations.ground.paths import draft_folder
from ablations.sweep.overrides import compose

EXAMPLES = """\
examples:
  python -m ablations.export_images digits /tmp/digits
  python -m ablations.export_images mnist /tmp/mnist --limit 100
  python -m ablations.export_images mnist /tmp/mnist dataset.root=/data/mnist
  python run.py dataset=images dataset.root=/tmp/digits
"""


def load(choice: str, overrides: Sequence[str]) -> Dataset:
    """The data set of run.py's configuration with `dataset=choice` and these overrides."""
    from hydra.utils import instantiate

    return instantiate(compose(f"dataset={choice}", *overrides).dataset).load()


def export(dataset: Dataset, folder: Path, limit: int | None = None) -> int:
    """Write train/idx-0-label-5.png and so on into `folder`, the first `limit` images of each part; how many.

    The folder appears when all of it is written. Raises InputError where it holds something already, or cannot
    be written.
    """
    from PIL import Image
    from tqdm import tqdm

    require_free(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with draft_folder(folder.parent, f".{folder.name}.") as draft:
            for part, images, labels in (
                ("train", dataset.train_images[:limit], dataset.train_labels[:limit]),
                ("test", dataset.test_images[:limit], dataset.test_labels[:limit]),
            ):
                (draft / "data" / part).mkdir(parents=True)
                numbered = enumerate(zip(images, labels, strict=True))
                bar = tqdm(numbered, part, len(labels), unit="image", leave=False, disable=None)
                for index, (image, label) in bar:
                    Image.fromarray(image).save(draft / "data" / part / f"idx-{index}-label-{label}.png")
                written += len(labels)
            if folder.exists():
                folder.rmdir()  # it is empty; Windows moves nothing onto it
            (draft / "data").rename(folder)
    except OSError as error:
        raise _unusable(folder, error) from None
    return written


def require_free(folder: Path) -> None:
    """Raises InputError where `folder` is no folder or holds something."""
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{printable(folder)}: is there already; accepted: a new or an empty folder")
    except OSError as error:
        raise _unusable(folder, error) from None


def _unusable(folder: Path, error: OSError) -> InputError:
    where = printable(error.filename or folder)
    return InputError(f"{where}: {error.strerror}; accepted: a folder that can be written")


def parser() -> argparse.ArgumentParser:
    """What the command takes."""
    found = command_parser(
        "export_images",
        "Write a data set as PNG files that dataset=images reads: FOLDER/train/idx-0-label-5.png, …, "
        "FOLDER/test/…, the original order and pixels kept.",
        EXAMPLES,
    )
    found.add_argument("dataset", help="a choice of conf/dataset: digits, mnist, …")
    found.add_argument("folder", type=Path, help="where to; must be new or empty")
    found.add_argument("overrides", nargs="*", help="as for run.py: dataset.root=/data/mnist …")
    found.add_argument("--limit", type=int, metavar="N", help="only the first N images of each part")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    options = parser().parse_intermixed_args(arguments)
    if options.limit is not None and options.limit < 1:
        raise InputError(f"--limit: {options.limit}; accepted: a number from 1")
    folder = options.folder.expanduser()
    require_free(folder)  # before a download, perhaps
    dataset = load(options.dataset, options.overrides)
    written = export(dataset, folder, options.limit)
    root = json.dumps(str(folder.absolute()), ensure_ascii=False)
    words = ["dataset=images", f"dataset.root={root}"]
    if dataset.classes != DIGITS:
        words.append(f"dataset.classes={json.dumps(dataset.classes, ensure_ascii=False)}")
    print(f"{written:,} images written to {printable(folder)}")
    print(f"train on them: {run_command(words)}")


if __name__ == "__main__":
    with one_line_errors():
        sys.exit(main())
