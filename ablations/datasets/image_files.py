"""Data sets in folders of image files."""

import hashlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ablations import ground
from ablations.datasets.download import cache_folder
from ablations.datasets.idx import idx_header
from ablations.datasets.source import Dataset, Source, assemble, split
from ablations.errors import InputError, printable
from ablations.ground.paths import draft_folder

log = logging.getLogger(__name__)

DIGITS = tuple("0123456789")
NOT_IMAGES = ("Thumbs.db", "desktop.ini", "__MACOSX")  # systems write them; others' begin with a dot
TEST_FRACTION = 0.2
MIXED = 0.1  # of all images on another ground than the rest: more is worth a warning
LEAST_CONTRAST = 8  # of 255, between the lightest and the darkest pixel: an image with less is blank
CACHE_VERSION = 2  # to be raised when ablations.datasets.images decodes to other pixels
SIDE, SMALLEST = 28, 8
PARTS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "val": ("val", "valid", "validation"),
}
"""What the folders of parts are called, in capitals or small."""
LAYOUTS = "a folder for each class (7/any.png) or names like idx-12-label-7.png"


@dataclass(frozen=True)
class ImageFile:
    """A file of a data set that is not decoded yet: whose class its place gives, and which `stamp` it bears.

    The stamp changes with the content: size and the times of the last change of content and of inode, in ns.
    """

    path: str  # with a Path each, listing MNIST takes twice as long
    label: str
    stamp: tuple[int, int, int]


@dataclass(frozen=True)
class ImageFiles(Source):
    """Images in a folder tree.

    They become light on dark, 28×28 pixels, as MNIST's are: other sizes are scaled, and where the data set as a whole
    is dark on light, all of it is inverted.

    `root` holds `train` and `test` (`PARTS`: other names for them; a `val` joins the training part, or is the test
    part where there is no other), or else one part of which a fifth is split off for testing, stratified and the same
    for every run. A part holds a folder for each class (`7/any.png`), or files with names like `idx-12-label-7.png`;
    their order is natural, 2 before 10. `classes`: the names of labels 0, 1, …; null = from the labels found: the ten
    digits where all of them are digits, else these labels in natural order.
    """

    classes: Sequence[str] | None

    def load(self) -> Dataset:
        """Raises InputError that names the file that is no image, is blank, or has no label."""
        if self.root is None:
            raise InputError(f"dataset.root: not set; accepted: a folder of images, with {LAYOUTS}")
        from ablations.datasets.images import have_light_ground, is_dark_on_light

        root = Path(str(self.root)).expanduser().absolute()
        parts, joined = list_images(root)
        files = [file for part in parts for file in part]
        classes, labels = self._classes(files, parts)
        images, shape, scaled = self._pixels(root, files)
        require_content(files, images, len(parts[0]))
        inverted = ""
        if is_dark_on_light(images):
            images, inverted = 255 - images, "dark on light, inverted to light on dark"
        changes = [change for change in (joined, scaled, inverted) if change]
        if changes:
            log.warning("%s: %s", printable(root), "; ".join(changes))
        other = np.flatnonzero(have_light_ground(images))
        if len(other) > MIXED * len(images):
            first = printable(files[other[0]].path)
            most = "are on another ground, light or dark, than the rest, and stay so"
            log.warning(
                "%s: %d of %d images %s, from %s on", printable(root), len(other), len(images), most, first
            )
        if len(parts) == 2:
            at = len(parts[0])
            arrays = (images[:at], labels[:at], images[at:], labels[at:])
        else:
            arrays = self._split(root, images, labels)
        pictures = (*shape, bool(inverted))
        return replace(assemble(self.name, arrays, classes), changes=tuple(changes), pictures=pictures)

    def _split(self, root: Path, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, ...]:
        try:
            train, test = split(labels, TEST_FRACTION, np.random.default_rng(0))
        except InputError:
            raise InputError(
                f"{printable(root)}: {len(labels)} images are too few to split off a test part by class; "
                "accepted: folders train and test, or at least 2 images of each class and 5 times as many "
                "images as classes"
            ) from None
        return images[train], labels[train], images[test], labels[test]

    def _classes(
        self, files: Sequence[ImageFile], parts: Sequence[Sequence[ImageFile]]
    ) -> tuple[tuple[str, ...], np.ndarray]:
        """The classes' names and every file's label."""
        found = dict.fromkeys(file.label for file in parts[0])
        if len(found) == 1:
            folder = os.path.dirname(parts[0][0].path)
            raise InputError(
                f"{printable(folder)}: all training images are of class {printable(parts[0][0].label)}; "
                "accepted: at least two classes"
            )
        if self.classes is not None:
            names = tuple(map(str, self.classes))
        elif all(file.label in DIGITS for file in files):
            names = DIGITS
        else:
            names = tuple(sorted(found, key=natural))
        if len(names) > 256:
            raise InputError(f"{printable(self.root)}: {len(names)} classes; accepted: at most 256")
        numbers = {str(number): number for number in range(len(names))} if self.classes is not None else {}
        numbers |= {name: number for number, name in enumerate(names)}
        for file in files:
            if file.label not in numbers:
                source = "dataset.classes" if self.classes is not None else "the training images' classes"
                raise InputError(
                    f"{printable(file.path)}: its class {printable(file.label)} is none of {source}; "
                    f"accepted: {', '.join(map(printable, names))}"
                )
        labels = np.array([numbers[file.label] for file in files], np.uint8)
        return tuple(map(printable, names)), labels

    def _pixels(self, root: Path, files: Sequence[ImageFile]) -> tuple[np.ndarray, tuple[int, int], str]:
        """`decode_images`, from the cache where that is up to date and whole.

        There is one cache file for each root. It is up to date when names, sizes and times of all files are those
        that it was made of: comparing contents instead would cost nearly as much as decoding them. It is whole
        when its pixels have the hash that it names.
        """
        path = cache_folder(self.name) / f"{hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:32]}.npz"
        key = cache_key(root, files)
        if path.exists():
            try:
                cached = read_cache(path, key, len(files))
            except Exception as error:  # a damaged zip file may raise nearly anything
                log.warning("%s: damaged (%s); reading the images again", path, printable(str(error)))
            else:
                if cached is not None:
                    return cached
        images, shape, scaled = decode_images(files)
        if cache_key(root, [file for part in list_images(root)[0] for file in part]) != key:
            raise InputError(f"{printable(root)}: changed while it was read; try again")
        try:
            write_cache(path, key, images, shape, scaled)
        except OSError as error:
            log.warning("%s: %s; the images are not cached", printable(path), error.strerror)
        return images, shape, scaled


def list_images(root: Path) -> tuple[list[list[ImageFile]], str]:
    """The files of the training and the test part, or of a single part, in natural order; what becomes of others.

    Raises InputError for a folder that cannot be listed or is empty, and for files without a label or with an
    index that was there before.
    """
    found = entries(root)
    kinds = {name: kind for kind, names in PARTS.items() for name in names}
    folders = {entry.name: kinds.get(entry.name.lower()) for entry in found if is_folder(entry)}
    if not folders or None in folders.values():
        return [list_part(root)], ""
    names = {kind: name for name, kind in folders.items()}
    for entry in found:
        kind = folders.get(entry.name)
        if kind is None:
            known, many = (
                " or ".join(sorted(folders, reverse=True)),
                {2: "two ", 3: "three "}.get(len(folders), ""),
            )
            raise InputError(
                f"{printable(entry.path)}: not in {known}; accepted: all images in these {many}folders"
            )
        if names[kind] != entry.name:
            raise InputError(
                f"{printable(entry.path)}: is {names[kind]}, too; accepted: one folder for each part"
            )
    train = list_part(root / names.get("train", "train"))
    if "val" not in names:
        return [train, list_part(root / names.get("test", "test"))], ""
    validation = list_part(root / names["val"])
    if "test" not in names:
        return [train, validation], f"{names['val']} is the test part, since there is no other"
    joined = (
        f"{names['val']} joins the training part, of which dataset.val_fraction is split off for validation"
    )
    return [train + validation, list_part(root / names["test"])], joined


def list_part(folder: Path) -> list[ImageFile]:
    """As `list_images`, of one part."""
    files = []
    numbered: dict[int, str] = {}
    for entry in entries(folder):
        if is_folder(entry):
            for image in entries(Path(entry.path)):
                if is_folder(image):
                    raise InputError(
                        f"{printable(image.path)}: a folder in a class's folder; accepted: {LAYOUTS}"
                    )
                files.append(image_file(image, entry.name))
        elif named := re.fullmatch(r"idx-([0-9]+)-label-(.+)\.[A-Za-z]+", entry.name):
            number = int(named[1])
            if number in numbered:
                raise InputError(
                    f"{printable(entry.path)}: index {number} is that of {printable(numbered[number])}, too; "
                    "accepted: each index once"
                )
            numbered[number] = entry.name
            files.append(image_file(entry, named[2]))
        else:
            raise InputError(f"{printable(entry.path)}: no label; accepted: {LAYOUTS}")
    if numbered and len(numbered) < len(files):
        raise InputError(f"{printable(folder)}: both folders and numbered files; accepted: {LAYOUTS}")
    return files


def entries(folder: Path) -> list[os.DirEntry]:
    """What is in a folder and not hidden, in natural order. Raises InputError where there is nothing."""
    try:
        with os.scandir(folder) as listing:
            found = [e for e in listing if not e.name.startswith(".") and e.name not in NOT_IMAGES]
    except OSError as error:
        raise InputError(f"{printable(folder)}: {error.strerror}; accepted: a folder of images") from None
    if not found:
        raise InputError(f"{printable(folder)}: an empty folder; accepted: a folder of images")
    return sorted(found, key=lambda entry: natural(entry.name))


def is_folder(entry: os.DirEntry) -> bool:
    """Raises InputError for a link that leads to itself."""
    try:
        return entry.is_dir()
    except OSError as error:
        raise InputError(f"{printable(entry.path)}: {error.strerror}; accepted: {LAYOUTS}") from None


def natural(name: str) -> tuple[object, ...]:
    """A key that sorts numbers in names by their value: 2 before 10."""
    pieces = re.split("([0-9]+)", name)
    return (*(int(piece) if at % 2 else piece for at, piece in enumerate(pieces)), name)


def image_file(entry: os.DirEntry, label: str) -> ImageFile:
    """Raises InputError for a file that is gone or cannot be looked at."""
    try:
        stat = entry.stat()
    except OSError as error:
        raise InputError(f"{printable(entry.path)}: {error.strerror}; accepted: an image file") from None
    return ImageFile(entry.path, label, (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


def decode_images(files: Sequence[ImageFile]) -> tuple[np.ndarray, tuple[int, int], str]:
    """Decode files to uint8 (N, 28, 28), with a bar where stderr is a terminal.

    Also: the height and width that all of them had, (0, 0) where these differ; which were scaled, in words.

    Raises InputError for one that is no image.
    """
    from tqdm import tqdm

    from ablations.datasets.images import decode, fit

    images = np.empty((len(files), SIDE, SIDE), np.uint8)
    scaled, shapes = [], set()
    bar = tqdm(files, desc="reading images", unit="image", leave=False, disable=None)
    for image, file in zip(images, bar, strict=True):
        pixels = decode(file.path)
        shapes.add(pixels.shape)
        if min(pixels.shape) < SMALLEST:
            height, width = pixels.shape
            raise InputError(
                f"{printable(file.path)}: {width} × {height} pixels; accepted: images of {SIDE} × {SIDE} pixels, "
                f"or of another size from {SMALLEST} × {SMALLEST}"
            )
        if pixels.shape != image.shape:
            scaled.append(
                f"{pixels.shape[1]} × {pixels.shape[0]} pixels, {printable(os.path.basename(file.path))}"
            )
            pixels = fit(pixels, SIDE)
        image[:] = pixels
    shape = shapes.pop() if len(shapes) == 1 else (0, 0)
    first = f"the first from {scaled[0]}" if scaled else ""
    said = f"{len(scaled)} of {len(files)} images scaled to {SIDE} × {SIDE} pixels, {first}" if scaled else ""
    return images, shape, said


def require_content(files: Sequence[ImageFile], images: np.ndarray, training: int) -> None:
    """Raises InputError for a blank image, and where a class of the `training` images is one image over and over."""
    flat = images.reshape(len(images), -1)
    blank = np.flatnonzero(flat.max(axis=1) - flat.min(axis=1) < LEAST_CONTRAST)
    if len(blank):
        others = f", and {len(blank) - 1} more" if len(blank) > 1 else ""
        where = printable(files[blank[0]].path)
        raise InputError(f"{where}: a blank image{others}; accepted: images that show something")
    of_class: dict[str, list[int]] = {}
    for at, file in enumerate(files[:training]):
        of_class.setdefault(file.label, []).append(at)
    for places in [*of_class.values(), range(training)]:
        if len(places) > 2 and all(np.array_equal(flat[at], flat[places[0]]) for at in places):
            raise InputError(
                f"{printable(files[places[0]].path)}: the other {len(places) - 1} training images "
                f"{'of its class ' if len(places) < training else ''}are the same; accepted: different images"
            )


def cache_key(root: Path, files: Sequence[ImageFile]) -> str:
    """Changes with any file's name or stamp, and with the library that decodes it."""
    import PIL

    digest = hashlib.sha256(f"{CACHE_VERSION} {PIL.__version__}\0".encode())
    for file in files:
        digest.update(os.fsencode(file.path.removeprefix(str(root))))
        digest.update(b"\0%d %d %d\0" % file.stamp)
    return digest.hexdigest()


def read_cache(path: Path, key: str, count: int) -> tuple[np.ndarray, tuple[int, int], str] | None:
    """What a cache file has of `decode_images`; None if it is of another key. Raises any exception if it is damaged."""
    with np.load(path, allow_pickle=False) as cache:
        if str(cache["key"]) != key:
            return None
        if path.stat().st_size < count * SIDE * SIDE:  # before it is believed how large it is
            raise ValueError("truncated")
        images = cache["images"]
        if images.dtype != np.uint8 or images.shape != (count, SIDE, SIDE):
            raise ValueError(f"{images.dtype} of shape {images.shape}")
        if content_hash(images) != str(cache["sha256"]):
            raise ValueError("its pixels do not have the hash that it names")
        height, width = cache["shape"].tolist()
        return images, (height, width), str(cache["scaled"])


def write_cache(path: Path, key: str, images: np.ndarray, shape: tuple[int, int], scaled: str) -> None:
    """Write a cache file aside, then move it into place. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with draft_folder(path.parent, ".writing-") as folder:
        digest = content_hash(images)
        np.savez(folder / path.name, key=key, sha256=digest, images=images, shape=shape, scaled=scaled)
        ground.replace(folder / path.name, path)


def content_hash(images: np.ndarray) -> str:
    """sha256 of the images as an IDX file."""
    digest = hashlib.sha256(idx_header(images))
    digest.update(images)
    return digest.hexdigest()
