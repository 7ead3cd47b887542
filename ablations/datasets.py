"""Data sets: reading, fetching, checking, splitting and normalising images of 28×28 pixels in ten classes.

A `Source` is a choice of `conf/dataset/` and loads a `Dataset`; a `Normalizer` is a choice of
`conf/normalization/` and fits a `Normalization`. Pixels stay uint8 until a batch is written into the
network's input buffer.
"""

import gzip
import hashlib
import logging
import math
import os
import struct
import time
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from numbers import Real
from pathlib import Path
from typing import Any, BinaryIO
from uuid import uuid4

import numpy as np

from ablations.errors import InputError

log = logging.getLogger(__name__)

IDX_PARTS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MAX_BYTES = 2**30  # MNIST's largest file has 47 MB; more than this is an accident or an attack
DEFLATE_LIMIT = 1032  # deflate never expands more than 1032:1
CHUNK = 2**18
TIMEOUT_S = 30


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one data set, in its own training and test parts.

    Images are uint8 (N, 28, 28), 0 = background, 255 = ink; labels are uint8 (N,), indices into `classes`.
    `sha256` is that of the four parts as uncompressed IDX files, one after the other: training images,
    training labels, test images, test labels.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    sha256: str
    classes: tuple[str, ...]


class Source(ABC):
    """Where a data set comes from. The constructor's arguments are the keys of its YAML.

    `val_fraction` is the part of the training images that validates; the split itself is `split`'s.
    """

    name: str
    root: str | None
    val_fraction: float

    @abstractmethod
    def load(self) -> Dataset:
        """The whole data set. Raises InputError where it cannot be had or is not what it should be."""


@dataclass(frozen=True)
class Digits(Source):
    """The 1,797 handwritten digits bundled with scikit-learn, enlarged to MNIST's format: no network needed.

    8×8 pixels of 0 … 16 become a box of 20×20, bilinearly, centred in 28×28; at the box's edge ink fades
    into the background over one pixel. All in integers, so that every machine gets the same bytes.
    `root` is not used.

    Source: UCI "Optical Recognition of Handwritten Digits", test part (Alpaydin and Kaynak, 1998).
    """

    name: str
    root: str | None
    val_fraction: float
    classes: Sequence[str]

    def load(self) -> Dataset:
        """1,437 training and 360 test images; the test part is stratified and the same for every run."""
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        images = enlarge(images.astype(np.int64).reshape(-1, 8, 8))
        labels = labels.astype(np.uint8)
        train, test = split(labels, 0.2, np.random.default_rng(0))
        return assemble(self.name, (images[train], labels[train], images[test], labels[test]), self.classes)


def enlarge(images: np.ndarray) -> np.ndarray:
    """Bilinear interpolation of int (N, 8, 8), 0 … 16, to uint8 (N, 28, 28), 0 … 255: 2.5 for one, centred.

    Output pixel i lies at (4(i − 4) − 3)/10 of the input, so its two weights are whole tenths.
    """
    position = 4 * (np.arange(28)[:, None] - 4) - 3
    tenths = np.maximum(0, 10 - abs(position - 10 * np.arange(8)))
    hundredths = tenths @ images @ tenths.T
    return ((255 * hundredths + 800) // 1600).astype(np.uint8)


@dataclass(frozen=True)
class IdxFiles(Source):
    """Four IDX files in MNIST's layout, from a folder, the per-user cache or a mirror.

    `root`: a folder that holds them, plain or `.gz`; null = the cache, filled by download. `mirrors`: https
    addresses of folders with the `.gz` files. `checksums`: by file name, "algorithm:hexdigest" of the
    uncompressed content, checked on each load wherever the file came from; null = not checked.
    """

    name: str
    root: str | None
    val_fraction: float
    classes: Sequence[str]
    mirrors: Sequence[str]
    checksums: Mapping[str, str | None] | None

    def load(self) -> Dataset:
        """Raises InputError for a file that is missing, corrupt, of another shape or another content."""
        parts = [self._part(part) for part in IDX_PARTS]
        for kind, images, labels in (("training", *parts[:2]), ("test", *parts[2:])):
            if len(images) != len(labels):
                where = "" if self.root is None else f" in {self.root}"
                raise InputError(
                    f"{self.name}{where}: {len(images)} {kind} images but {len(labels)} labels; "
                    "accepted: one label for each image"
                )
        return assemble(self.name, parts, self.classes)

    def _part(self, part: str) -> np.ndarray:
        if self.root is not None:
            plain = Path(str(self.root)).expanduser() / part
            packed = plain.with_name(f"{part}.gz")
            for path in (plain, packed):
                if os.path.exists(path):
                    return self._read(path, part)
            raise InputError(f"{plain}: no such file; dataset.root must hold {part} or {packed.name}")
        cached = cache_folder(self.name) / f"{part}.gz"
        if cached.exists():
            try:
                return self._read(cached, part)
            except InputError as error:
                log.warning("%s; downloading it again", error)
        return self._download(part, cached)

    def _read(self, path: Path, part: str) -> np.ndarray:
        array = read_idx(path)
        self._check_content(path, part, array)
        if "images" in part:
            if array.ndim != 3 or array.shape[1:] != (28, 28):
                raise InputError(f"{path}: shape {array.shape}; accepted: images of shape (N, 28, 28)")
        elif array.ndim != 1:
            raise InputError(f"{path}: shape {array.shape}; accepted: labels of shape (N,)")
        elif array.max() >= len(self.classes):
            raise InputError(
                f"{path}: label {array.max()}; accepted: labels from 0 to {len(self.classes) - 1}"
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
                f"{path}: not the {part} of {self.name}; {algorithm} of the uncompressed content "
                f"is {digest.hexdigest()}, expected {expected}"
            )

    def _download(self, part: str, target: Path) -> np.ndarray:
        for mirror in self.mirrors:
            if not mirror.startswith("https://"):
                raise InputError(f"dataset.mirrors: {mirror}; accepted: addresses that begin with https://")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = claim_partial(target)
        except OSError as error:
            raise InputError(
                f"{target.parent}: {error.strerror}; set XDG_CACHE_HOME to a folder that can be written, "
                "or dataset.root to one that holds the IDX files"
            ) from None
        failures = []
        try:
            for mirror in self.mirrors:
                url = f"{mirror.rstrip('/')}/{target.name}"
                try:
                    array = self._fetch(url, part, partial)
                    os.replace(partial, target)
                    return array
                except (OSError, HTTPException, ValueError) as error:
                    failures.append(f"{url}: {str(error).removeprefix(f'{partial}: ')}")
                    log.warning(failures[-1])
        finally:
            if partial.exists():
                os.replace(partial, target.with_suffix(".part"))
        reasons = "; ".join(failures) or "dataset.mirrors is empty"
        raise InputError(
            f"{part} of {self.name} could not be downloaded ({reasons}); "
            f"set dataset.root to a folder that holds {', '.join(IDX_PARTS)}, plain or .gz"
        )

    def _fetch(self, url: str, part: str, partial: Path) -> np.ndarray:
        resumed = fetch(url, partial)
        try:
            return self._read(partial, part)
        except InputError:
            partial.unlink()
            if not resumed:
                raise
        return self._fetch(url, part, partial)  # what was left came from another file: from the start


def assemble(name: str, parts: Sequence[np.ndarray], classes: Sequence[str]) -> Dataset:
    """Put together training images, training labels, test images and test labels, and hash them."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(idx_header(part))
        digest.update(part)
    return Dataset(name, *parts, sha256=digest.hexdigest(), classes=tuple(classes))


# The IDX format: two zero bytes, the element type (8 = unsigned byte), the number of dimensions, each
# dimension as a big-endian 32-bit number, the elements. An array has exactly one encoding, so that hashing
# header and array is hashing the uncompressed file.


def idx_header(array: np.ndarray) -> bytes:
    """The first bytes of the IDX file of a uint8 array."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes with 1 to 3 dimensions, plain or gzip-compressed, to a uint8 array.

    The header is believed only as far as the file's size allows. Raises InputError for anything else than one
    whole such file.
    Source: "The IDX file format", in LeCun, Cortes and Burges, The MNIST database.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise _IdxError("no such file")
        if not path.is_file():
            raise _IdxError("not a file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _read_idx(file, size)
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_idx(stream, min(size * DEFLATE_LIMIT, MAX_BYTES))
    except _IdxError as error:
        problem = str(error)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        problem = f"corrupt gzip ({error})"
    except OSError as error:
        problem = error.strerror or str(error)
    raise InputError(f"{path}: {problem}; accepted: an IDX file of unsigned bytes, plain or .gz")


class _IdxError(Exception):
    """What is wrong with the file; read_idx adds its name."""


def _read_idx(stream: BinaryIO | gzip.GzipFile, limit: int) -> np.ndarray:
    """`limit`: the most bytes that the stream can hold."""
    magic = stream.read(4)
    if not magic:
        raise _IdxError("empty file")
    if len(magic) < 4:
        raise _IdxError("truncated header")
    if magic[:2] != b"\0\0":
        raise _IdxError(f"magic number 0x{magic.hex()} does not begin with two zero bytes")
    if magic[2] != 8:
        raise _IdxError(f"element type 0x{magic[2]:02x} instead of 0x08, unsigned byte")
    ndim = magic[3]
    if not 1 <= ndim <= 3:
        raise _IdxError(f"{ndim} dimensions instead of 1 to 3")
    header = stream.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise _IdxError("truncated header")
    shape = struct.unpack(f">{ndim}I", header)
    expected = math.prod(shape)
    claim = f"its header claims {' × '.join(map(str, shape))} bytes"
    if expected == 0:
        raise _IdxError(claim)
    if 4 + len(header) + expected > min(limit, MAX_BYTES):
        raise _IdxError(f"{claim}, more than {'is there' if limit < MAX_BYTES else 'the 1 GiB allowed'}")
    array = np.empty(shape, np.uint8)
    view = memoryview(array).cast("B")
    done = 0
    while count := stream.readinto(view[done : done + CHUNK]):
        done += count
    if done < expected:
        raise _IdxError(f"{claim}, only {done} are there")
    if stream.read(1):  # in a gzip stream this checks its CRC as well
        raise _IdxError(f"{claim}, more are there")
    return array


def cache_folder(name: str) -> Path:
    """Where downloads of one data set are kept: under XDG_CACHE_HOME, else under ~/.cache."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():  # the XDG specification says to ignore it then
        base = Path.home() / ".cache"
    return base / "lenet5-ablations" / name


def claim_partial(target: Path) -> Path:
    """A file of this process alone to download into, holding what an earlier download left behind, if any.

    Renaming is atomic: of several processes one gets the left-over, the others begin anew. A download that
    failed leaves `NAME.part`; one that was killed leaves `NAME.ID.part`, which is free once nothing was
    written to it for two timeouts.
    """
    own = target.with_suffix(f".{uuid4().hex}.part")
    released = target.with_suffix(".part")
    abandoned = time.time() - 2 * TIMEOUT_S
    for left in target.parent.glob(f"{target.stem}*.part"):
        with suppress(OSError):
            if left == released or left.stat().st_mtime < abandoned:
                os.rename(left, own)
                os.utime(own)
                break
    return own


def open_url(url: str, start: int) -> Any:
    """The HTTP response to a request for the bytes from `start` on: status 206 for those, 200 for all."""
    from urllib.request import Request, urlopen

    headers = {"Range": f"bytes={start}-"} if start else {}
    response = urlopen(Request(url, headers=headers), timeout=TIMEOUT_S)
    if not response.url.startswith("https://"):
        response.close()
        raise OSError(f"redirected to {response.url}, which is not https")
    return response


def fetch(url: str, partial: Path) -> bool:
    """Download into `partial`, after what it already holds; true if that was kept.

    Raises OSError or HTTPException; what has arrived by then stays in the file.
    """
    from urllib.error import HTTPError

    from tqdm import tqdm

    start = partial.stat().st_size if partial.exists() else 0
    try:
        response = open_url(url, start)
    except HTTPError as error:
        if error.code != 416:  # 416: there is nothing from `start` on, so what is there is not a beginning
            raise
        start = 0
        response = open_url(url, start)
    with response:
        resumed = start > 0 and response.status == 206
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        done = start
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(
                desc=partial.name.partition(".")[0],
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                disable=None,  # unless stderr is a terminal
            ) as bar,
        ):
            while chunk := response.read(CHUNK):
                done += len(chunk)
                if done > MAX_BYTES:
                    raise OSError("sends more than the 1 GiB allowed")
                file.write(chunk)
                bar.update(len(chunk))
    if total is not None and done < total:
        raise OSError(f"the connection broke after {done} of {total} bytes")
    return resumed


def split(labels: np.ndarray, val_fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sorted indices of a training and a validation part, each class in proportion (to within one image).

    A `val_fraction` of 0 trains on everything. Raises InputError for a fraction outside [0, 1), or one that
    leaves a part with fewer images than classes.
    """
    if not isinstance(val_fraction, Real) or not 0 <= val_fraction < 1:
        raise InputError(f"dataset.val_fraction is {val_fraction}; accepted: 0 ≤ val_fraction < 1")
    everything = np.arange(len(labels))
    if val_fraction == 0:
        return everything, everything[:0]
    from sklearn.model_selection import train_test_split

    try:
        train, validation = train_test_split(
            everything, test_size=float(val_fraction), stratify=labels, random_state=int(rng.integers(2**32))
        )
    except ValueError as error:
        raise InputError(
            f"dataset.val_fraction is {val_fraction}, which does not split {len(labels)} images by class: "
            f"{' '.join(str(error).split())}"
        ) from None
    return np.sort(train), np.sort(validation)


@dataclass(frozen=True)
class Normalization:
    """The affine map of a pixel, 0 … 255, to the network's input: value = offset + scale · pixel."""

    offset: float
    scale: float

    @property
    def background(self) -> float:
        """The value of pixel 0."""
        return self.offset

    def fill(self, pixels: np.ndarray, out: np.ndarray) -> None:
        """Write uint8 (n, 28, 28) into the centre of float (1, 32, 32, n), batch last, in its precision.

        The border is left alone: it is the caller's, who fills it once with `background`.
        """
        real = out.dtype.type
        values = pixels * real(self.scale)  # contiguous arithmetic first, one transposing copy last
        values += real(self.offset)
        out[0, 2:30, 2:30] = values.transpose(1, 2, 0)


class Normalizer(ABC):
    """A rule for a Normalization, which may depend on the training images.

    The constructor's arguments are the keys of its YAML.
    """

    @abstractmethod
    def fit(self, images: np.ndarray) -> Normalization:
        """The map for these training images, uint8 (N, 28, 28). Raises InputError where there is none."""


@dataclass(frozen=True)
class Rescaling(Normalizer):
    """Pixel 0 becomes `background`, pixel 255 becomes `foreground`."""

    background: float
    foreground: float

    def fit(self, images: np.ndarray) -> Normalization:
        """The images do not matter."""
        ends = (self.background, self.foreground)
        if not all(map(is_finite, ends)) or ends[0] == ends[1]:
            raise InputError(
                f"normalization.background and normalization.foreground are {ends[0]} and {ends[1]}; "
                "accepted: two different finite numbers"
            )
        return Normalization(self.background, (self.foreground - self.background) / 255)


@dataclass(frozen=True)
class Standardization(Normalizer):
    """value = (pixel/255 − mean) / std, both in units of pixel/255; null = measured on training images."""

    mean: float | None
    std: float | None

    def fit(self, images: np.ndarray) -> Normalization:
        """Measures what is not given; raises InputError for a standard deviation that is not positive."""
        mean, std = self.mean, self.std
        if mean is None or std is None:
            measured_mean, measured_std = pixel_statistics(images)
            mean = measured_mean if mean is None else mean
            std = measured_std if std is None else std
        if not (is_finite(mean) and is_finite(std) and std > 0):
            raise InputError(
                f"normalization.mean and normalization.std are {mean} and {std}; "
                "accepted: a finite mean and a finite std > 0"
            )
        return Normalization(-mean / std, 1 / (255 * std))


def is_finite(value: object) -> bool:
    """Whether a config value is a number, and a finite one."""
    return isinstance(value, Real) and math.isfinite(value)


def pixel_statistics(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of uint8 images, in units of pixel/255, by exact counts."""
    chunks = np.split(images, range(1000, len(images), 1000))  # bincount copies to 8 bytes a pixel
    counts = sum(np.bincount(chunk.ravel(), minlength=256) for chunk in chunks)
    values = np.arange(256) / 255
    mean = np.average(values, weights=counts)
    return float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))
