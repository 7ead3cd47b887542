"""2×2 pooling at stride 2: reductions over the four phases of a convolution, `(4, maps, y, x, n)`."""

from math import prod
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Shape, Summary


class Pooling(Layer):
    """Reduces `(4, maps, y, x, n)` to `(maps, y, x, n)`."""

    commutes_with_monotone: ClassVar[bool]
    """Whether pooling f(a) gives the same as f of pooling a, for every monotone f."""

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        self.out_shape = in_shape[1:]
        return self.out_shape


class AveragePooling(Pooling):
    """y = (a₀ + a₁ + a₂ + a₃) / 4; dE/da_i = dE/dy / 4."""

    commutes_with_monotone = False

    def allocate(self, n: int) -> SimpleNamespace:
        y, dx = np.empty((*self.out_shape, n), self.dtype), np.empty((4, *self.out_shape, n), self.dtype)
        return SimpleNamespace(y=y, dx=dx)

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = np.add.reduce(x, axis=0, out=self.buffers.y)
        y *= 0.25
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return np.multiply(dy, 0.25, out=self.buffers.dx)

    def summary(self) -> Summary:
        return Summary("average pooling", self.out_shape, connections=4 * prod(self.out_shape), macs=0)


class MaxPooling(Pooling):
    """y = max_i a_i; dE/dy goes to the first phase that equals the maximum, and to no other.

    Blank background makes exact ties between all four; a gradient given to each of them would count four
    times.
    """

    commutes_with_monotone = True

    def allocate(self, n: int) -> SimpleNamespace:
        return SimpleNamespace(
            y=np.empty((*self.out_shape, n), self.dtype),
            is_max=np.empty((*self.out_shape, n), self.dtype),
            dx=np.empty((4, *self.out_shape, n), self.dtype),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.phases = x
        return np.maximum.reduce(x, axis=0, out=self.buffers.y)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        b = self.buffers
        for phase, dphase in zip(self.phases[:3], b.dx, strict=False):
            np.equal(phase, b.y, out=b.is_max)
            np.multiply(dy, b.is_max, out=dphase)
            dy -= dphase  # exact: what a phase takes is no longer there for the next
        b.dx[3] = dy
        return b.dx

    def summary(self) -> Summary:
        return Summary("max pooling", self.out_shape, connections=4 * prod(self.out_shape), macs=0)
