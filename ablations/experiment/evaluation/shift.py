"""Shift: images as they come from elsewhere, moved, turned, drawn with another pen or seen through a worse camera.

Each shift has its strength in its name, so that a name never means two things. What comes in from outside an image is
background. Directions and noise are drawn once, from a stream that a shift's name alone seeds: the same for all runs.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

MOST_IMAGES = 1000
"""Of larger test parts so many are shifted, always the same."""

Shift = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Makes other images of uint8 images (n, 28, 28)."""


def translated(images: np.ndarray, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Moved up, down, left or right by so many pixels."""
    n, side = len(images), images.shape[1]
    padded = np.pad(images, ((0, 0), (pixels, pixels), (pixels, pixels)))
    moves = pixels * np.array([(0, 1), (2, 1), (1, 0), (1, 2)])[rng.integers(4, size=n)]
    rows, columns = (moves[:, at, None] + np.arange(side) for at in (0, 1))
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def rotated(images: np.ndarray, rng: np.random.Generator, degrees: float) -> np.ndarray:
    """Turned about the centre, one way or the other."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return _mapped(images, [np.array([[c, sign * s], [-sign * s, c]]) for sign in _signs(images, rng)])


def scaled(images: np.ndarray, rng: np.random.Generator, factor: float) -> np.ndarray:
    """Enlarged about the centre, or made smaller."""
    return _mapped(images, [np.eye(2) / factor] * len(images))


def sheared(images: np.ndarray, rng: np.random.Generator, slant: float) -> np.ndarray:
    """Slanted to the left or the right: a row moves by so many columns for each row that it is from the centre."""
    return _mapped(images, [np.array([[1, 0], [sign * slant, 1]]) for sign in _signs(images, rng)])


def thicker(images: np.ndarray, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Strokes so many pixels thicker: each pixel is the brightest of a square."""
    from scipy.ndimage import grey_dilation

    return grey_dilation(images, size=(1, pixels + 1, pixels + 1))


def thinner(images: np.ndarray, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Strokes so many pixels thinner: each pixel is the darkest of a square."""
    from scipy.ndimage import grey_erosion

    return grey_erosion(images, size=(1, pixels + 1, pixels + 1))


def blurred(images: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Out of focus: a Gaussian of so many pixels."""
    from scipy.ndimage import gaussian_filter

    return _bytes(gaussian_filter(images.astype(np.float32), (0, sigma, sigma), mode="constant"))


def noisy(images: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """With Gaussian noise, its standard deviation a share of the range from background to ink."""
    return _bytes(images + 255 * share * rng.standard_normal(images.shape, np.float32))


def salted(images: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    """With a share of the pixels replaced, half of them by ink, half by background."""
    drawn = rng.random(images.shape, np.float32)
    return np.where(drawn < share, np.where(drawn < share / 2, 255, 0), images).astype(np.uint8)


def inverted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark on light."""
    return 255 - images


SHIFTS: Mapping[str, Mapping[str, Shift]] = {
    "geometry": {
        "translation_2": partial(translated, pixels=2),
        "translation_4": partial(translated, pixels=4),
        "rotation_15": partial(rotated, degrees=15),
        "rotation_30": partial(rotated, degrees=30),
        "scaling_80": partial(scaled, factor=0.8),
        "scaling_120": partial(scaled, factor=1.2),
        "shear_20": partial(sheared, slant=0.2),
        "shear_40": partial(sheared, slant=0.4),
    },
    "stroke": {
        "thicker_1": partial(thicker, pixels=1),
        "thicker_2": partial(thicker, pixels=2),
        "thinner_1": partial(thinner, pixels=1),
    },
    "blur_noise": {
        "blur_1": partial(blurred, sigma=1),
        "blur_2": partial(blurred, sigma=2),
        "gaussian_20": partial(noisy, share=0.2),
        "gaussian_40": partial(noisy, share=0.4),
        "salt_pepper_10": partial(salted, share=0.1),
        "salt_pepper_20": partial(salted, share=0.2),
    },
    "inverted": {"inverted": inverted},
}
"""By group the shifts of one kind: pixels, degrees, per cent of the size, per cent of a row, pixels, pixels, per cent
of the range, per cent of the pixels."""


def chosen(count: int) -> np.ndarray:
    """Which of so many test images are shifted: sorted indices, all of them up to `MOST_IMAGES`."""
    everything = np.arange(count)
    if count <= MOST_IMAGES:
        return everything
    return np.sort(stream("shift").choice(count, MOST_IMAGES, replace=False))


def shifted(images: np.ndarray) -> dict[str, np.ndarray]:
    """By name of the shift what becomes of images (n, 28, 28)."""
    return {name: make(images, stream(name)) for group in SHIFTS.values() for name, make in group.items()}


def error_metrics(right: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The error in % under each shift, and for a group of several their mean; from whether each answer is right."""
    errors = {name: 100 * float(np.mean(~each)) for name, each in right.items()}
    for group, of in SHIFTS.items():
        errors[group] = float(np.mean([errors[name] for name in of]))
    return {f"shift/{name}/error_pct": error for name, error in errors.items()}


def stream(name: str) -> np.random.Generator:
    """The random stream of this name, the same in every process."""
    return np.random.default_rng([*name.encode()])


def _signs(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.choice([-1, 1], len(images))


def _mapped(images: np.ndarray, back: list[np.ndarray]) -> np.ndarray:
    """Images whose pixel at (y, x) from the centre comes from A (y, x), A (2, 2) one for each; bilinear."""
    from scipy.ndimage import affine_transform

    centre = (np.array(images.shape[1:]) - 1) / 2
    out = np.empty_like(images)
    for image, matrix, made in zip(images, back, out, strict=True):
        affine_transform(image, matrix, centre - matrix @ centre, output=made, order=1)
    return out


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
