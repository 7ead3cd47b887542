"""Fully connected layers. C5, a 5×5 convolution over 5×5 maps, is one too (LeCun et al. 1998, II.B)."""

from math import prod
from types import SimpleNamespace

import numpy as np

from ablations.nn.initializers import Initializer
from ablations.nn.layer import BYTES_OF_WEIGHT, Layer, Parameter, Shape, Summary, check_width


class Dense(Layer):
    """y = W x + b, with x the flattened input; dW = dy xᵀ, db = Σ_n dy, dx = Wᵀ dy.

    Shapes: W (units, inputs), b (units, 1), x (inputs, n), y (units, n).
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units = units

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        self.in_shape, self.inputs = in_shape, prod(in_shape)
        check_width("units", self.units, BYTES_OF_WEIGHT * self.inputs)
        weight = init.weights(rng.random((self.units, self.inputs)), self.inputs, self.units)
        bias = init.biases(rng.random((self.units, 1)), self.inputs)
        self.parameters = {"weight": Parameter(weight), "bias": Parameter(bias)}
        return (self.units,)

    def allocate(self, n: int) -> SimpleNamespace:
        dx = self.zeros(*self.in_shape, n)
        return SimpleNamespace(y=self.zeros(self.units, n), dx=dx, dx_columns=dx.reshape(self.inputs, n))

    def forward(self, x: np.ndarray) -> np.ndarray:
        self.x = x.reshape(self.inputs, -1)
        y = np.matmul(self.parameters["weight"].value, self.x, out=self.buffers.y)
        y += self.parameters["bias"].value
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        np.dot(dy, self.x.T, out=weight.grad)  # matmul leaves BLAS for the outer product of one image
        np.add.reduce(dy, axis=1, keepdims=True, out=bias.grad)
        np.matmul(weight.value.T, dy, out=self.buffers.dx_columns)
        return self.buffers.dx

    def curvature(self, h: np.ndarray) -> np.ndarray:
        weight, bias = self.parameters["weight"], self.parameters["bias"]
        np.dot(h, (self.x**2).T, out=weight.curvature)
        np.add.reduce(h, axis=1, keepdims=True, out=bias.curvature)
        np.matmul((weight.value**2).T, h, out=self.buffers.dx_columns)
        return self.buffers.dx

    def summary(self) -> Summary:
        connections, macs = self.units * (self.inputs + 1), self.units * self.inputs
        return Summary("fully connected", (self.units,), connections, macs)
