"""Activation functions, from the simplest to the 1998 one, and the layer that applies one.

Each is a pair of pure functions: y = f(a), and f'(a), of which most are written as a function of y. Those that are
monotone commute with max pooling (see `network`); GELU and SiLU, which dip below 0 before they rise, do not.
"""

from abc import ABC, abstractmethod
from math import pi, sqrt
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Shape, Summary


class Activation(ABC):
    """An elementwise function."""

    is_monotone: ClassVar[bool] = True
    """Whether it never falls: then it may come after max pooling, where there are fewer values."""

    @abstractmethod
    def apply(self, a: np.ndarray, out: np.ndarray) -> None:
        """Write f(a) into `out`, which may be `a` itself."""

    @abstractmethod
    def derivative(self, a: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        """Write f'(a) into `out`, another array, given a and y = f(a)."""


class ReLU(Activation):
    """f(a) = max(a, 0); f' = 1 where a > 0, else 0 (also at 0)."""

    def apply(self, a: np.ndarray, out: np.ndarray) -> None:
        np.maximum(a, 0, out=out)

    def derivative(self, a: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        np.greater(y, 0, out=out)


class Sigmoid(Activation):
    """f(a) = 1 / (1 + e^(−a)) = (1 + tanh(a/2)) / 2; f' = y (1 − y)."""

    def apply(self, a: np.ndarray, out: np.ndarray) -> None:
        np.multiply(a, 0.5, out=out)
        np.tanh(out, out=out)
        out *= 0.5
        out += 0.5

    def derivative(self, a: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        np.subtract(1, y, out=out)
        out *= y


class Tanh(Activation):
    """f(a) = tanh(a); f' = 1 − y²."""

    def apply(self, a: np.ndarray, out: np.ndarray) -> None:
        np.tanh(a, out=out)

    def derivative(self, a: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        np.multiply(y, y, out=out)
        np.subtract(1, out, out=out)


class ScaledTanh(Activation):
    """f(a) = A tanh(S a); f' = S (A − y²/A).

    With A = 1.7159 and S = 2/3 (LeCun et al. 1998, eq. 6 and appendix A), f(±1) = ±1.
    """

    def __init__(self, amplitude: float, slope: float) -> None:
        self.amplitude, self.slope = amplitude, slope

    def apply(self, a: np.ndarray, out: np.ndarray) -> None:
        np.multiply(a, self.slope, out=out)
        np.tanh(out, out=out)
        out *= self.amplitude

    def derivative(self, a: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        np.multiply(y, y, out=out)
        out *= -self.slope / self.amplitude
        out += self.slope * self.amplitude


class GELU(Activation):
    """f(a) = a Φ(a), Φ the normal distribution function; f' = Φ(a) + a φ(a) (Hendrycks and Gimpel 2016, exactly).

    It falls to −0.17 at a = −0.75 and rises from there.
    """

    is_monotone = False

    def __init__(self) -> None:
        from scipy.special import ndtr

        self.phi = ndtr

    def apply(self, a: np.ndarray, out: np.ndarray) -> None:
        np.multiply(a, self.phi(a), out=out)

    def derivative(self, a: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        np.multiply(a, a, out=out)
        out *= -0.5
        np.exp(out, out=out)
        out *= a
        out *= 1 / sqrt(2 * pi)
        out += np.divide(y, a, out=np.full_like(a, 0.5), where=a != 0)  # Φ(a), which takes long to compute


class SiLU(Activation):
    """f(a) = a σ(a), σ the sigmoid; f' = σ(a) + y (1 − σ(a)) (Hendrycks and Gimpel 2016; Elfwing et al. 2018).

    It falls to −0.28 at a = −1.28 and rises from there.
    """

    is_monotone = False

    def __init__(self) -> None:
        from scipy.special import expit  # exact where it is small, too, which the tanh of Sigmoid is not

        self.sigma = expit

    def apply(self, a: np.ndarray, out: np.ndarray) -> None:
        np.multiply(a, self.sigma(a), out=out)

    def derivative(self, a: np.ndarray, y: np.ndarray, out: np.ndarray) -> None:
        self.sigma(a, out=out)
        rest = 1 - out
        rest *= y  # not y less σ(a) y: that takes away nearly all of a large y
        out += rest


class Activate(Layer):
    """y = f(a), elementwise on inputs of any shape. dE/da = dE/dy · f'(a)."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        self.shape = in_shape
        return in_shape

    def allocate(self, n: int) -> SimpleNamespace:
        return SimpleNamespace(y=self.zeros(*self.shape, n), slope=self.zeros(*self.shape, n))

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x
        self.activation.apply(x, out=self.buffers.y)
        return self.buffers.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        b = self.buffers
        self.activation.derivative(self.x, b.y, out=b.slope)
        dy *= b.slope
        return dy

    def curvature(self, h: np.ndarray) -> np.ndarray:
        b = self.buffers
        self.activation.derivative(self.x, b.y, out=b.slope)
        h *= b.slope**2
        return h

    def summary(self) -> Summary:
        return Summary(type(self.activation).__name__, self.shape, connections=0, macs=0)
