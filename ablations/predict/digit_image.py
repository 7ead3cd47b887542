"""From the picture of one digit, on whatever ground and of whatever size, to an image as MNIST's were made.

LeCun et al. 1998, III.A: the digit is scaled to fit a box of 20×20 pixels, keeping its proportions and
anti-aliased, and placed into 28×28 with its centre of mass in the middle. Which pixels are the digit is what
`ink.py` says.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from ablations.errors import InputError, printable
from ablations.predict.ink import FAINTEST, LEAST_CONTRAST, NOTHING, find_ink, side_by_side

BOX, SIDE = 20, 28
CENTRE = 14
"""The pixel, counted from 0, that MNIST's centres of mass fall on, to within half a pixel either way."""


class DigitImage(NamedTuple):
    """A digit as MNIST's are: uint8 (28, 28), 0 = background, 255 = ink; whether its picture shows more than one."""

    pixels: np.ndarray
    several: bool


def read_image(path: Path, trained_on: tuple[int, int, bool] | None = None) -> DigitImage:
    """The digit in an image file. Raises InputError, naming the file.

    `trained_on`: as `Model.pictures`. A file of the size of those is taken as they were, whole; of any other the
    digit is sought.
    """
    from ablations.datasets.images import decode

    grey = decode(path)
    try:
        if trained_on is not None and trained_on[:2] in (grey.shape, (0, 0)):
            return DigitImage(_as_trained(grey, inverted=trained_on[2]), several=False)
        return find_digit(grey)
    except InputError as error:
        raise InputError(f"{printable(path)}: {error}") from None


def _as_trained(grey: np.ndarray, inverted: bool) -> np.ndarray:
    """As `dataset=images` reads it, unless its own ground is clearly the other one."""
    from ablations.datasets.images import fit, is_dark_on_light

    if int(grey.max()) - grey.min() < LEAST_CONTRAST:
        raise InputError(NOTHING)
    pixels = grey if grey.shape == (SIDE, SIDE) else fit(grey, SIDE)
    pixels = 255 - pixels if inverted else pixels
    return 255 - pixels if is_dark_on_light(pixels[None]) else pixels


def like_mnist(grey: np.ndarray) -> np.ndarray:
    """The pixels of `find_digit`."""
    return find_digit(grey).pixels


def find_digit(grey: np.ndarray) -> DigitImage:
    """The one digit in a picture.

    `grey`: uint8 (height, width), 0 = black, 255 = white, at least 1×1; dark on light or light on dark. Raises
    InputError where there is nothing to be seen.
    """
    ink = find_ink(grey)
    rows, columns = (np.flatnonzero((ink > FAINTEST).any(axis=axis)) for axis in (1, 0))
    digit = _into_box(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    image = np.zeros((SIDE, SIDE))
    top, left = (
        int(np.clip(round(CENTRE - centre), 0, SIDE - extent))
        for centre, extent in zip(_centre_of_mass(digit), digit.shape, strict=True)
    )
    image[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return DigitImage(np.rint(255 * image).astype(np.uint8), side_by_side(ink))


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
