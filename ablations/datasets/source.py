"""What every data set is, whatever it comes from: its content, its hash, its split."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from ablations.datasets.idx import idx_header
from ablations.errors import InputError


@dataclass(frozen=True)
class Dataset:
    """Images and labels of one data set, in its own training and test parts.

    Images are uint8 (N, 28, 28), 0 = background, 255 = ink; labels are uint8 (N,), indices into `classes`.
    `sha256` is that of the four parts as uncompressed IDX files, one after the other: training images,
    training labels, test images, test labels. `changes`: what was done to the images that came in, in words.
    `pictures`: height and width of the image files that they were, 0 where these differ, and whether they were
    inverted; None for what never was image files.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    sha256: str
    classes: tuple[str, ...]
    changes: tuple[str, ...] = ()
    pictures: tuple[int, int, bool] | None = None


@dataclass(frozen=True)
class Source(ABC):
    """Where a data set comes from. The constructor's arguments are the keys of its YAML.

    `val_fraction` is the part of the training images that validates; the split itself is `split`'s. `train_images` is
    how many of the others are trained on, None for all (as where a YAML does not say it); which ones says `subset`.
    """

    name: str
    root: str | None
    val_fraction: float
    train_images: int | None = field(default=None, kw_only=True)

    @abstractmethod
    def load(self) -> Dataset:
        """The whole data set. Raises InputError where it cannot be had or is not what it should be."""


def assemble(name: str, parts: Sequence[np.ndarray], classes: Sequence[str]) -> Dataset:
    """Put together training images, training labels, test images and test labels, and hash them."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(idx_header(part))
        digest.update(part)
    return Dataset(name, *parts, sha256=digest.hexdigest(), classes=tuple(classes))


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


def subset(labels: np.ndarray, among: np.ndarray, count: int) -> np.ndarray:
    """So many of the images whose sorted indices are `among`, sorted: fewer are always part of more.

    Each class has its share in `among`, rounded up or down. All images, those that `among` leaves out, too, stand in
    one order, which is the same for every seed, and of each class its first ones are taken: where all images are
    trained on all seeds have the same subset, elsewhere those of two seeds differ in what validates in either.

    Args:
        labels: of all images, (N,).
        among: those that may be taken, (M,).
        count: how many are taken.

    Raises:
        InputError: `count` is above M, or below the number of classes.
    """
    classes, sizes = np.unique(labels[among], return_counts=True)
    if not len(classes) <= count <= len(among):
        raise InputError(
            f"dataset.train_images is {count}; accepted: from {len(classes)}, the number of classes, to {len(among)}, "
            "what dataset.val_fraction leaves to train on"
        )
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.isin(order, among)]
    taken = [
        order[labels[order] == one][:n] for one, n in zip(classes, in_proportion(sizes, count), strict=True)
    ]
    return np.sort(np.concatenate(taken))


def in_proportion(sizes: np.ndarray, count: int) -> np.ndarray:
    """How many of `count` fall to each class: its share of all, rounded up or down, and no fewer of a larger `count`.

    One after the other goes to one of the classes that are below their share, to that with the most images for each
    that it would then have. (The largest remainders would give a class fewer of more now and then.)

    Source: M. L. Balinski and H. P. Young (1975), The quota method of apportionment, Am. Math. Monthly 82(7), 701–730.

    Args:
        sizes: of the classes, whole numbers.
        count: at most their sum.
    """
    taken, total = np.zeros_like(sizes), sizes.sum()
    for given in range(1, count + 1):
        below = taken * total < given * sizes
        taken[np.argmax(np.where(below, sizes / (taken + 1), -1))] += 1
    return taken
