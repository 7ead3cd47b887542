"""Dropout: in a training step some units, drawn anew for each image, are 0."""

from types import SimpleNamespace

import numpy as np

from ablations.errors import InputError
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Shape, Summary, is_number


class Dropout(Layer):
    """y = x · m / (1 − rate), each m 0 with probability `rate`, else 1; dx = dy · m / (1 − rate).

    The rest is scaled up in training, so that evaluation, where y = x, has nothing to scale down ("inverted";
    Srivastava et al. 2014, section 10). The draws are float32 whatever the precision: both see the same m.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not is_number(rate) or not 0 <= rate < 1:
            raise InputError(f"dropout.rate: must be at least 0 and below 1, got {rate}")
        self.rate = rate

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        self.shape = in_shape
        return in_shape

    def allocate(self, n: int) -> SimpleNamespace:
        shape = (*self.shape, n)
        return SimpleNamespace(
            y=self.zeros(*shape), factor=self.zeros(*shape), draws=np.empty(shape, np.float32)
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.factor = None
        return x

    def forward_training(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        b = self.buffers
        rng.random(out=b.draws, dtype=np.float32)
        np.greater_equal(b.draws, self.rate, out=b.factor)
        b.factor *= 1 / (1 - self.rate)
        self.factor = b.factor
        return np.multiply(x, b.factor, out=b.y)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        if self.factor is not None:
            dy *= self.factor
        return dy

    def curvature(self, h: np.ndarray) -> np.ndarray:
        if self.factor is not None:
            h *= self.factor**2
        return h

    def summary(self) -> Summary:
        return Summary(f"dropout of {100 * self.rate:g}%", self.shape, connections=0, macs=0)
