"""2×2 pooling at stride 2: reductions over the four phases of a convolution, `(4, maps, y, x, n)`."""

from math import prod
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Parameter, Shape, Summary, aligned


class Pooling(Layer):
    """Reduces `(4, maps, y, x, n)` to `(maps, y, x, n)`."""

    commutes_with_monotone: ClassVar[bool]
    """Whether pooling f(a) gives the same as f of pooling a, for every monotone f."""

    has_weights: ClassVar[bool] = False
    """Whether an activation follows, as it follows every layer with weights."""

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        self.out_shape = in_shape[1:]
        return self.out_shape


class AveragePooling(Pooling):
    """y = (a₀ + a₁ + a₂ + a₃) / 4; dE/da_i = dE/dy / 4."""

    commutes_with_monotone = False

    def allocate(self, n: int) -> SimpleNamespace:
        return SimpleNamespace(y=self.zeros(*self.out_shape, n), dx=self.zeros(4, *self.out_shape, n))

    def forward(self, x: np.ndarray) -> np.ndarray:
        y = np.add.reduce(x, axis=0, out=self.buffers.y)
        y *= 0.25
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        return np.multiply(dy, 0.25, out=self.buffers.dx)

    def curvature(self, h: np.ndarray) -> np.ndarray:
        return np.multiply(h, 0.25**2, out=self.buffers.dx)

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
            y=self.zeros(*self.out_shape, n),
            is_less=aligned((3, *self.out_shape, n), bool),
            dx=self.zeros(4, *self.out_shape, n),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.phases = x
        return np.maximum.reduce(x, axis=0, out=self.buffers.y)

    def backward(self, dy: np.ndarray) -> np.ndarray:
        b = self.buffers
        np.not_equal(self.phases[:3], b.y, out=b.is_less)
        for is_less, dphase, dnext in zip(b.is_less, b.dx, b.dx[1:], strict=False):
            np.multiply(dy, is_less, out=dnext)  # what the phase leaves to the ones after it
            np.subtract(dy, dnext, out=dphase)  # exact: all of dy or nothing
            dy = dnext
        return b.dx

    def curvature(self, h: np.ndarray) -> np.ndarray:
        return self.backward(h)  # a choice is its own square

    def summary(self) -> Summary:
        return Summary("max pooling", self.out_shape, connections=4 * prod(self.out_shape), macs=0)


class Subsampling(Pooling):
    """y = w · s + b with s the sum, or the average, of the four phases, w and b one each per map; then squashed.

    dw = Σ dy · s and db = Σ dy, over positions and batch; dE/da_i = w · dy, or a quarter of it. The curvature of
    w is Σ h · s²: all four inputs share the one weight (LeCun et al. 1998, II.B).

    The paper says "added" in one place and "average" in another: `average` chooses. `coefficient` and `bias` are
    the initial values for every map; None draws them like weights of fan-in 4.
    """

    commutes_with_monotone = False
    has_weights = True

    def __init__(self, average: bool, coefficient: float | None, bias: float | None) -> None:
        super().__init__()
        self.average, self.coefficient, self.bias = average, coefficient, bias

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        super().build(in_shape, init, rng)
        maps = self.out_shape[0]
        weight, bias = init.weights(rng.random((maps, 1)), 4, 1), init.biases(rng.random((maps, 1)), 4)
        if self.coefficient is not None:
            weight[...] = self.coefficient
        if self.bias is not None:
            bias[...] = self.bias
        self.parameters = {"weight": Parameter(weight), "bias": Parameter(bias)}
        return self.out_shape

    def allocate(self, n: int) -> SimpleNamespace:
        maps = self.out_shape[0]
        s, y, product = (self.zeros(*self.out_shape, n) for _ in range(3))
        return SimpleNamespace(
            s=s,
            s_rows=s.reshape(maps, -1),
            y=y,
            y_rows=y.reshape(maps, -1),
            product_rows=product.reshape(maps, -1),
            dx=self.zeros(4, *self.out_shape, n),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        b, weight, bias = self.buffers, self.parameters["weight"], self.parameters["bias"]
        np.add.reduce(x, axis=0, out=b.s)
        if self.average:
            b.s *= 0.25
        np.multiply(b.s_rows, weight.value, out=b.y_rows)
        b.y_rows += bias.value
        return b.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        b, weight, bias = self.buffers, self.parameters["weight"], self.parameters["bias"]
        dy_rows = dy.reshape(b.s_rows.shape)
        np.multiply(dy_rows, b.s_rows, out=b.product_rows)
        np.add.reduce(b.product_rows, axis=1, keepdims=True, out=weight.grad)
        np.add.reduce(dy_rows, axis=1, keepdims=True, out=bias.grad)
        dy_rows *= weight.value * 0.25 if self.average else weight.value
        b.dx[...] = dy
        return b.dx

    def curvature(self, h: np.ndarray) -> np.ndarray:
        b, weight, bias = self.buffers, self.parameters["weight"], self.parameters["bias"]
        h_rows = h.reshape(b.s_rows.shape)
        np.add.reduce(h_rows * b.s_rows**2, axis=1, keepdims=True, out=weight.curvature)
        np.add.reduce(h_rows, axis=1, keepdims=True, out=bias.curvature)
        h_rows *= (weight.value * 0.25 if self.average else weight.value) ** 2
        b.dx[...] = h
        return b.dx

    def summary(self) -> Summary:
        outputs = prod(self.out_shape)
        return Summary("trainable subsampling", self.out_shape, connections=5 * outputs, macs=outputs)
