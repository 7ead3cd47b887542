"""From the picture of one digit, on whatever ground and of whatever size, to an image as MNIST's were made.

LeCun et al. 1998, III.A: the digit is scaled to fit a box of 20×20 pixels, keeping its proportions and
anti-aliased, and placed into 28×28 with its centre of mass in the middle.
"""

from pathlib import Path

import numpy as np

from ablations.errors import InputError, printable

BOX, SIDE = 20, 28
CENTRE = 14
"""The pixel, counted from 0, that MNIST's centres of mass fall on, to within half a pixel either way."""

ENOUGH = 800  # pixels: a digit may be small in its picture
LEAST_CONTRAST = 24  # of 255: less is paper alone, as cameras and scanners see it
FAINTEST = 0.25  # of the darkest ink: what is fainter does not count for the digit's extent
SPECK = 0.04  # of all ink: a separate spot that has less is none of the digit's strokes


def read_image(path: Path) -> np.ndarray:
    """The digit in an image file, as MNIST's are: uint8 (28, 28). Raises InputError, naming the file."""
    from ablations.datasets.images import decode

    grey = decode(path)
    try:
        return like_mnist(grey)
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from None


def like_mnist(grey: np.ndarray) -> np.ndarray:
    """An image uint8 (28, 28), 0 = background, 255 = ink, of the one digit in a picture.

    `grey`: uint8 (height, width), 0 = black, 255 = white, at least 1×1; dark on light or light on dark, with
    some of the ground around the digit. Raises InputError where there is nothing to be seen.
    """
    ink = _without_specks(_ink(_reduced(grey)))
    rows, columns = (np.flatnonzero((ink > FAINTEST).any(axis=axis)) for axis in (1, 0))
    digit = _into_box(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    image = np.zeros((SIDE, SIDE))
    top, left = (
        int(np.clip(round(CENTRE - centre), 0, SIDE - extent))
        for centre, extent in zip(_centre_of_mass(digit), digit.shape, strict=True)
    )
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return np.rint(255 * image).astype(np.uint8)


def _reduced(grey: np.ndarray) -> np.ndarray:
    """The picture with its larger side at most twice ENOUGH, which saves time and memory."""
    from PIL import Image

    factor = max(1, max(grey.shape) // ENOUGH)
    return np.asarray(Image.fromarray(grey).reduce(factor))


def _ink(grey: np.ndarray) -> np.ndarray:
    """How much ink there is, from 0 for the ground to 1 for the strongest.

    The ground is what the picture's edge mostly shows, and ink what differs from it most. What the edge itself
    varies by, as noise or shadow, is no ink.
    """
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]]).astype(float)
    ground = np.median(edge)
    sign = 1 if grey.max() - ground > ground - grey.min() else -1
    floor = max(0.0, np.percentile(sign * (edge - ground), 95))
    ink = np.maximum(sign * (grey - ground) - floor, 0)
    if ink.max() < LEAST_CONTRAST:
        raise InputError("nothing to be seen but the ground; accepted: a digit that stands out from it")
    return ink / ink.max()


def _without_specks(ink: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    spots, count = ndimage.label(ink > FAINTEST, structure=np.ones((3, 3)))
    amounts = ndimage.sum_labels(ink, spots, np.arange(count + 1))
    amounts[0] = np.inf  # the rest: ground, and the faint edges of strokes
    return np.where((amounts >= SPECK * amounts[1:].sum())[spots], ink, 0)


def _into_box(digit: np.ndarray) -> np.ndarray:
    """The digit, its larger side 20 pixels, its strongest ink 1 again."""
    from PIL import Image

    height, width = (max(1, round(BOX * side / max(digit.shape))) for side in digit.shape)
    scaled = Image.fromarray(digit.astype(np.float32)).resize((width, height), Image.Resampling.BICUBIC)
    scaled = np.clip(np.asarray(scaled, float), 0, None)  # bicubic interpolation overshoots at edges
    return scaled / scaled.max()


def _centre_of_mass(digit: np.ndarray) -> tuple[float, float]:
    rows, columns = digit.sum(axis=1), digit.sum(axis=0)
    return rows @ np.arange(rows.size) / rows.sum(), columns @ np.arange(columns.size) / columns.sum()
