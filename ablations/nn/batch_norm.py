"""Batch normalisation: each map, or each unit, to mean 0 and variance 1 over the images of a training step."""

from math import prod
from types import SimpleNamespace

import numpy as np

from ablations.errors import InputError
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Parameter, Shape, Summary, is_number


class BatchNorm(Layer):
    """y = w · x̂ + b, x̂ = (x − μ) / √(σ² + ε), a w and a b for each map or unit (Ioffe and Szegedy 2015, alg. 1).

    In a training step μ and σ² are mean and variance over the batch and the positions of a map, and the running ones
    move by a share of `momentum` towards them (the variance as estimated, with m − 1). Otherwise μ and σ² are the
    running ones. With m values of a map in the batch, sums over these, and dx̂ = w · dy:

        dw = Σ dy · x̂        db = Σ dy        dx = (dx̂ − Σ dx̂ / m − x̂ · Σ dx̂ · x̂ / m) / √(σ² + ε)

    Shapes: those of a convolution's phases, (4, maps, y, x, n), of maps, (maps, y, x, n), or of vectors, (units, n).
    """

    couples_images = True

    def __init__(self, momentum: float, eps: float) -> None:
        super().__init__()
        if not is_number(momentum) or not 0 < momentum <= 1:
            raise InputError(f"norm.momentum: must be above 0 and at most 1, got {momentum}")
        if not is_number(eps) or not 0 < eps < np.inf:
            raise InputError(f"norm.eps: must be positive, got {eps}")
        self.momentum, self.eps = momentum, eps

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        """Starts from w = 1 and b = 0, whatever the initializer."""
        self.shape = in_shape
        self.phases, self.maps = in_shape[:2] if len(in_shape) == 4 else (1, in_shape[0])
        one, zero = np.ones((self.maps, 1)), np.zeros((self.maps, 1))
        self.parameters = {"weight": Parameter(one), "bias": Parameter(zero)}
        return in_shape

    def bind(self, values: np.ndarray, grads: np.ndarray, curvatures: np.ndarray) -> None:
        super().bind(values, grads, curvatures)
        self.statistics = {"mean": self.zeros(self.maps, 1), "variance": self.zeros(self.maps, 1)}
        self.statistics["variance"].fill(1)

    def allocate(self, n: int) -> SimpleNamespace:
        y, normal, dx = (self.zeros(*self.shape, n) for _ in range(3))
        rows = (self.phases, self.maps, -1)
        return SimpleNamespace(
            y=y, y_rows=y.reshape(rows), normal=normal.reshape(rows), dx=dx, dx_rows=dx.reshape(rows)
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._is_training = False
        np.subtract(x.reshape(self.buffers.normal.shape), self.statistics["mean"], out=self.buffers.normal)
        return self._scaled(self.statistics["variance"])

    def forward_training(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        b, rows = self.buffers, x.reshape(self.buffers.normal.shape)
        count = rows.shape[0] * rows.shape[2]
        if count == 1:
            raise InputError("batch normalisation: needs two images to a training step, got 1")
        mean = self._sum(rows) / count
        np.subtract(rows, mean, out=b.normal)
        variance = self._sum(np.square(b.normal, out=b.y_rows)) / count
        for name, found in {"mean": mean, "variance": variance * (count / (count - 1))}.items():
            running = self.statistics[name]
            running += self.momentum * (found - running)
        self._is_training = True
        return self._scaled(variance)

    def _scaled(self, variance: np.ndarray) -> np.ndarray:
        """The outputs, from what is in `normal`: the inputs less their mean."""
        b = self.buffers
        self.inverse = 1 / np.sqrt(variance + self.eps)
        b.normal *= self.inverse
        np.multiply(b.normal, self.parameters["weight"].value, out=b.y_rows)
        b.y_rows += self.parameters["bias"].value
        return b.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        b, weight, bias = self.buffers, self.parameters["weight"], self.parameters["bias"]
        rows = dy.reshape(b.normal.shape)
        weight.grad[...] = self._sum(np.multiply(rows, b.normal, out=b.dx_rows))
        bias.grad[...] = self._sum(rows)
        if self._is_training:
            count = rows.shape[0] * rows.shape[2]
            rows -= bias.grad / count
            np.multiply(b.normal, weight.grad / count, out=b.dx_rows)
            rows -= b.dx_rows
        np.multiply(rows, weight.value * self.inverse, out=b.dx_rows)
        return b.dx

    def curvature(self, h: np.ndarray) -> np.ndarray:
        """Raises InputError: an image's own Jacobian is not all, each output depends on every image."""
        raise InputError("batch normalisation has no second derivatives of each image by itself")

    @staticmethod
    def _sum(rows: np.ndarray) -> np.ndarray:
        """(phases, maps, values) → (maps, 1)."""
        return np.add.reduce(np.add.reduce(rows, axis=2), axis=0)[:, None]

    def summary(self) -> Summary:
        shape = self.shape
        if len(shape) == 4:
            _, maps, height, width = shape
            shape = (maps, 2 * height, 2 * width)
        return Summary("batch normalisation", shape, connections=2 * prod(shape), macs=prod(shape))
