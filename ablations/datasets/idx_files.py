"""Data sets in MNIST's four files."""

import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path

import numpy as np

from ablations import ground
from ablations.datasets import download
from ablations.datasets.idx import idx_header, read_idx
from ablations.datasets.source import Dataset, Source, assemble
from ablations.errors import InputError, printable
from ablations.ground.paths import draft_folder

log = logging.getLogger(__name__)

IDX_PARTS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


BELOW = ("", "MNIST/raw", "FashionMNIST/raw", "raw")
"""Where below a root the files may be; torchvision's root has them in the second or third."""


def find(root: Path, part: str) -> Path | None:
    """The file of a part, plain or `.gz`, or None.

    Its name may have a dot before `idx` (as it is in some archives), and it may lie in a folder of the file's name
    (as some unpackers make them).
    """
    names = [f"{name}{suffix}" for suffix in ("", ".gz") for name in (part, part.replace("-idx", ".idx"))]
    for folder in (root / below for below in BELOW):
        paths = [folder / name for name in names]
        paths = [inner for path in paths for inner in (path, *(path / name for name in names))]
        for path in paths:
            if os.path.exists(path) and not os.path.isdir(path):
                return path
    return None


def unpacked(path: Path) -> np.ndarray:
    """What `read_idx` has of a file, to be read only, and not unpacked again for each run of a sweep while it is the
    same file."""
    try:
        now = path.stat()
    except OSError:
        return read_idx(path)  # it says what is wrong
    return _unpacked(path, (now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns))


@lru_cache(maxsize=len(IDX_PARTS))
def _unpacked(path: Path, _stamp: tuple[int, ...]) -> np.ndarray:
    array = read_idx(path)
    array.setflags(write=False)
    return array


def _instead(root: Path) -> str:
    """What to do with what is in a folder that has no such files."""
    try:
        with os.scandir(root) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError:
        return ""
    for entry in entries:
        name = printable(entry.name)
        if entry.name.lower().endswith(".csv"):
            return (
                f"; {name} is a table, as Kaggle has it: leave dataset.root out, and MNIST is downloaded, "
                "or convert the table (docs/faq.md)"
            )
        if entry.name.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")):
            return f"; {name} is an archive: unpack it first"
    if {entry.name.lower() for entry in entries if entry.is_dir()} & {
        "train",
        "training",
        "test",
        "testing",
        "0",
    }:
        return "; for folders of image files: dataset=images"
    return ""


@dataclass(frozen=True)
class IdxFiles(Source):
    """Four IDX files in MNIST's layout, from a folder, the per-user cache or a mirror.

    `root`: a folder that holds them, plain or `.gz`, also as unpackers and torchvision leave them (`find`); null =
    the cache, filled by download. `mirrors`: https
    addresses of folders with the `.gz` files. `checksums`: by file name, "algorithm:hexdigest" of the
    uncompressed content, checked on each load wherever the file came from; null = not checked.
    """

    classes: Sequence[str]
    mirrors: Sequence[str]
    checksums: Mapping[str, str | None] | None

    def load(self) -> Dataset:
        """Raises InputError for a file that is missing, corrupt, of another shape or another content."""
        parts = [self._part(part) for part in IDX_PARTS]
        for kind, images, labels in (("training", *parts[:2]), ("test", *parts[2:])):
            if len(images) != len(labels):
                where = "" if self.root is None else f" in {printable(self.root)}"
                raise InputError(
                    f"{self.name}{where}: {len(images)} {kind} images but {len(labels)} labels; "
                    "accepted: one label for each image"
                )
        return assemble(self.name, parts, self.classes)

    def _part(self, part: str) -> np.ndarray:
        if self.root is not None:
            root = Path(str(self.root)).expanduser()
            path = find(root, part)
            if path is None:
                accepted = f"dataset.root must hold {part} or {part}.gz"
                raise InputError(f"{printable(root / part)}: no such file; {accepted}{_instead(root)}")
            return self._read(path, part)
        cached = download.cache_folder(self.name) / f"{part}.gz"
        if cached.exists():
            try:
                return self._read(cached, part)
            except InputError as error:
                log.warning("%s; downloading it again", error)
        return self._download(part, cached)

    def _read(self, path: Path, part: str) -> np.ndarray:
        array = unpacked(path)
        self._check_content(path, part, array)
        if "images" in part:
            if array.ndim != 3 or array.shape[1:] != (28, 28):
                raise InputError(
                    f"{printable(path)}: shape {array.shape}; accepted: images of shape (N, 28, 28)"
                )
        elif array.ndim != 1:
            raise InputError(f"{printable(path)}: shape {array.shape}; accepted: labels of shape (N,)")
        elif array.max() >= len(self.classes):
            raise InputError(
                f"{printable(path)}: label {array.max()}; accepted: labels from 0 to {len(self.classes) - 1}"
            )
        return array

    def _check_content(self, path: Path, part: str, array: np.ndarray) -> None:
        checksum = (self.checksums or {}).get(part)
        if checksum is None:
            return
        algorithm, _, expected = checksum.partition(":")
        try:
            digest = hashlib.new(algorithm, usedforsecurity=False)
        except ValueError:
            raise InputError(
                f"dataset.checksums.{part}: {checksum!r}; accepted: sha256:<hexdigest> or md5:<hexdigest>"
            ) from None
        digest.update(idx_header(array))
        digest.update(array)
        if digest.hexdigest() != expected:
            raise InputError(
                f"{printable(path)}: not the {part} of {self.name}; {algorithm} of the uncompressed content "
                f"is {digest.hexdigest()}, expected {expected}"
                + ("" if self.root is None else "; for data of your own: dataset.checksums=null")
            )

    def _download(self, part: str, target: Path) -> np.ndarray:
        for mirror in self.mirrors:
            if not mirror.startswith("https://"):
                raise InputError(f"dataset.mirrors: {mirror}; accepted: addresses that begin with https://")
        failures = []
        with ExitStack() as stack:
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                partial = stack.enter_context(draft_folder(target.parent, ".downloading-")) / target.name
            except OSError as error:
                raise InputError(
                    f"{printable(target.parent)}: {error.strerror}; set XDG_CACHE_HOME to a folder that can be "
                    "written, or dataset.root to one that holds the IDX files"
                ) from None
            for mirror in self.mirrors:
                url = f"{mirror.rstrip('/')}/{target.name}"
                try:
                    download.fetch(url, partial)
                    array = self._read(partial, part)
                    ground.replace(partial, target)
                    return array
                except (OSError, HTTPException, ValueError) as error:
                    failures.append(f"{url}: {str(error).removeprefix(f'{printable(partial)}: ')}")
                    log.warning(failures[-1])
        reasons = "; ".join(failures) or "dataset.mirrors is empty"
        raise InputError(
            f"{part} of {self.name} could not be downloaded ({reasons}); "
            f"set dataset.root to a folder that holds {', '.join(IDX_PARTS)}, plain or .gz"
        )
