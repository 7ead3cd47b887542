"""The contract of a layer.

The batch comes last everywhere: feature maps are `(maps, y, x, n)`, vectors `(units, n)`, so that every copy,
sum and elementwise operation runs over long contiguous stretches, and every matrix product is
`weights @ columns` with the batch inside the columns.

A convolution followed by 2×2 pooling gives its output in *phases*, `(4, maps, y, x, n)`: the four values that
one pooling window reads lie along axis 0, and pooling is a reduction over it.
"""

import math
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from numbers import Real
from types import SimpleNamespace
from typing import ClassVar

import numpy as np

from ablations.errors import InputError
from ablations.nn.initializers import Initializer

Shape = tuple[int, ...]

CACHE_LINE = 64
"""Bytes. The widest vector registers are as long, and read what begins anywhere else in two pieces."""

BYTES_OF_WEIGHT = 4 * 8
"""What a weight takes before training begins: its draw, its value, its gradient and its curvature."""


def aligned(shape: Shape, dtype: np.dtype | str) -> np.ndarray:
    """Zeros that begin at a cache line; numpy's own begin at any multiple of 16 bytes."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.zeros(size + CACHE_LINE, np.uint8)
    start = -memory.ctypes.data % CACHE_LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def is_number(value: object) -> bool:
    """Whether it is a real number: `true`, which Python counts as 1, is none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_width(what: str, value: object, bytes_each: int) -> None:
    """Raises InputError for a number of maps or units that no layer can have, or none that this machine has the memory
    for, of which each takes so many bytes."""
    if type(value) is not int or value < 1:
        raise InputError(f"{what}: must be a whole number of at least 1, got {value}")
    check_memory(f"{what}: {value}", value * bytes_each)


def check_memory(what: str, needed: int) -> None:
    """Raises InputError for what takes more bytes than this machine has."""
    if needed > (there := memory()):
        raise InputError(f"{what} would take {needed / 1e9:,.0f} GB of memory; there are {there / 1e9:,.0f}")


def memory() -> float:
    """Bytes of this machine; infinite where it does not say. From Python alone, as a saved model brings this file."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return math.inf


@dataclass
class Parameter:
    """A trainable array, with the gradient of the loss and the curvature with respect to it, of the same shape."""

    value: np.ndarray
    grad: np.ndarray = field(init=False)
    curvature: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.grad, self.curvature = np.zeros_like(self.value), np.zeros_like(self.value)


@dataclass(frozen=True)
class Summary:
    """What a layer is and costs for one image, counted as the 1998 paper counts.

    `shape`: of the output as the paper's figure shows it, (maps, y, x) or (units,). `connections`: every input
    or bias that an output value reads. `macs`: multiply-accumulate operations of the forward pass.
    """

    kind: str
    shape: Shape
    connections: int
    macs: int


class Layer(ABC):
    """One step of the network, with its parameters, gradients and buffers; it never updates itself.

    Life: constructed with hyperparameters → `build` once → `resize` when the batch size changes →
    `forward`, `backward` for each batch. Results are written into buffers that live as long as the layer:
    they hold until its next call, and `backward` may overwrite the gradient it is given.

    `statistics` are what a layer remembers of the training beside its parameters, by name; `bind` makes them.
    """

    couples_images: ClassVar[bool] = False
    """Whether, in a training step, an image's output depends on the other images."""

    def __init__(self) -> None:
        self.parameters: dict[str, Parameter] = {}
        self.statistics: dict[str, np.ndarray] = {}
        self.values = self.grads = self.curvatures = np.empty(0)
        self.dtype: np.dtype = np.dtype(np.float32)
        self._buffers_of: dict[int, SimpleNamespace] = {}

    @abstractmethod
    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        """Make the parameters for inputs of `in_shape` (without the batch axis); return the output shape.

        Raises InputError where the layer cannot read such inputs.
        """

    @abstractmethod
    def allocate(self, n: int) -> SimpleNamespace:
        """Buffers, and views into them, for batches of `n` images."""

    @abstractmethod
    def forward(self, x: np.ndarray) -> np.ndarray:
        """Output for the input `x`, `(*in_shape, n)`."""

    def forward_training(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """The same in a training step, for layers that do then what they do not do in evaluation."""
        return self.forward(x)

    @abstractmethod
    def backward(self, dy: np.ndarray) -> np.ndarray:
        """Gradient with respect to the input of the last `forward`, given that of its output.

        Parameter gradients are written (not added) on the way.
        """

    @abstractmethod
    def curvature(self, h: np.ndarray) -> np.ndarray:
        """The same for second derivatives: ∂²E/∂x² from `h` = ∂²E/∂y², on the diagonal, by the squared Jacobian.

        `h` may be overwritten. Curvatures of parameters are written on the way, summed over the batch and over
        all connections that share the parameter. It drops what is not on the diagonal and the second derivatives
        of the layer itself: the Gauss-Newton approximation of LeCun et al. 1998, appendix C.
        """

    def backward_parameters(self, dy: np.ndarray) -> None:
        """`backward` of the first layer, which has no use for the gradient with respect to its input."""
        self.backward(dy)

    @abstractmethod
    def summary(self) -> Summary:
        """Kind, output shape, connections and multiply-accumulates; known after `build`."""

    def bind(self, values: np.ndarray, grads: np.ndarray, curvatures: np.ndarray) -> None:
        """Move the parameters, their gradients and their curvatures into these vectors, this layer's stretches of
        the network's flat ones."""
        start = 0
        for parameter in self.parameters.values():
            stop, shape = start + parameter.value.size, parameter.value.shape
            values[start:stop] = parameter.value.ravel()
            parameter.value = values[start:stop].reshape(shape)
            parameter.grad = grads[start:stop].reshape(shape)
            parameter.curvature = curvatures[start:stop].reshape(shape)
            start = stop
        self.values, self.grads, self.curvatures, self.dtype = values, grads, curvatures, values.dtype
        self._buffers_of.clear()

    def zeros(self, *shape: int) -> np.ndarray:
        """A buffer in the precision of the parameters."""
        return aligned(shape, self.dtype)

    def resize(self, n: int) -> None:
        """Prepare for batches of `n` images; buffers of sizes seen before are used again."""
        if n not in self._buffers_of:
            self._buffers_of[n] = self.allocate(n)
        self.buffers = self._buffers_of[n]

    @property
    def size(self) -> int:
        """Number of trainable parameters."""
        return sum(parameter.value.size for parameter in self.parameters.values())
