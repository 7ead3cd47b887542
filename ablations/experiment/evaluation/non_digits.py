"""Pictures that are no digit: letters in print, digits turned over, digits taken apart, and noise.

All have the size and the ink of the digits that they are to be told from. What the digits' own pictures give depends on
nothing but these; letters are drawn by Pillow with the fonts that matplotlib brings, and other versions may draw other
pixels.
"""

from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablations.experiment.evaluation.shift import stream

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

EACH = 250
"""Pictures of each kind, or as many as the test images give."""

LETTERS = "ACEFHKLMNPRTUVWXYadefhkmnrtuvwx"
"""Those that do not look like a digit: not B, D, G, I, O, Q, S, Z, b, c, g, i, j, l, o, p, q, s, y, z."""
BOX = 20
"""The side of the square that a letter fills, as MNIST's digits do."""

MIRRORED, FLIPPED = (3, 4, 6, 7, 9), (4, 6, 7, 9)
"""Digits that are none when left and right are exchanged, or top and bottom: a 2 becomes a 5, a 3 on its head stays."""
PATCH = 7


def non_digits(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """By kind pictures uint8 (m, 28, 28), m up to `EACH`, made from images (n, 28, 28) of the digits `labels` (n,)."""
    few = min(EACH, len(images))
    made = {
        "letters": letters(EACH),
        "turned": turned(images, labels),
        "patches": patches(_some(images, few, "patches")),
        "noise": shuffled(_some(images, few, "noise")),
    }
    return {kind: pictures for kind, pictures in made.items() if len(pictures)}


def letters(count: int) -> np.ndarray:
    """Letters in print, centred, in all fonts alike, (count, 28, 28)."""
    from matplotlib import get_data_path
    from PIL import ImageFont

    found = sorted(Path(get_data_path(), "fonts/ttf").glob("DejaVu*.ttf"))
    fonts = [ImageFont.truetype(path, 4 * BOX) for path in found if "Display" not in path.name]
    every = list(product(fonts, LETTERS))
    which = stream("letters").permutation(len(every))[:count]
    return np.stack([_letter(*every[at]) for at in which])


def turned(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Digits with left and right, or top and bottom, exchanged, where that makes no digit."""
    sides = np.isin(labels, MIRRORED), np.isin(labels, FLIPPED)
    made = np.concatenate([images[sides[0]][:, :, ::-1], images[sides[1]][:, ::-1]])
    return _some(made, min(EACH, len(made)), "turned")


def patches(images: np.ndarray) -> np.ndarray:
    """The sixteen square patches of each image in another order: strokes, but no figure."""
    n, rng, each = len(images), stream("order of patches"), images.shape[1] // PATCH
    cut = images.reshape(n, each, PATCH, each, PATCH).swapaxes(2, 3).reshape(n, each * each, PATCH, PATCH)
    mixed = rng.permuted(np.tile(np.arange(each * each), (n, 1)), axis=1)
    laid = np.take_along_axis(cut, mixed[:, :, None, None], axis=1)
    return laid.reshape(n, each, each, PATCH, PATCH).swapaxes(2, 3).reshape(images.shape)


def shuffled(images: np.ndarray) -> np.ndarray:
    """The pixels of each image in another order."""
    flat = images.reshape(len(images), -1)
    return stream("order of pixels").permuted(flat, axis=1).reshape(images.shape)


def _some(images: np.ndarray, count: int, name: str) -> np.ndarray:
    return images[np.sort(stream(name).choice(len(images), count, replace=False))] if count else images[:0]


def _letter(font: "FreeTypeFont", letter: str) -> np.ndarray:
    """A letter, its longer side as long as the box, light on dark in the middle of 28×28."""
    from PIL import Image, ImageDraw

    drawn = Image.new("L", (8 * BOX, 8 * BOX))
    ImageDraw.Draw(drawn).text((2 * BOX, 2 * BOX), letter, fill=255, font=font)
    drawn = drawn.crop(drawn.getbbox())
    scale = BOX / max(drawn.size)
    width, height = (max(round(length * scale), 1) for length in drawn.size)
    small = np.asarray(drawn.resize((width, height), Image.Resampling.BOX))
    picture = np.zeros((28, 28), np.uint8)
    y, x = (28 - height) // 2, (28 - width) // 2
    picture[y : y + height, x : x + width] = small
    return picture
