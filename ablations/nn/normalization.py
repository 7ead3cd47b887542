"""The scale of the network's input: which number stands for which shade of grey."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from ablations.errors import InputError
from ablations.nn.layer import is_number


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
        """Write pixels (n, 28, 28) into the centre of float (1, 32, 32, n), batch last, in its precision.

        The border is left alone: it is the caller's, who fills it once with `background`.
        """
        real = out.dtype.type
        values = pixels.astype(real)  # contiguous arithmetic first, one transposing copy last
        values *= real(self.scale)
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
    return is_number(value) and math.isfinite(value)


def pixel_statistics(images: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of the pixels of uint8 images, in units of pixel/255, by exact counts."""
    chunks = np.split(images, range(1000, len(images), 1000))  # bincount copies to 8 bytes a pixel
    counts = sum(np.bincount(chunk.ravel(), minlength=256) for chunk in chunks)
    values = np.arange(256) / 255
    mean = np.average(values, weights=counts)
    return float(mean), float(np.sqrt(np.average((values - mean) ** 2, weights=counts)))
