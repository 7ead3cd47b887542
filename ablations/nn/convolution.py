"""Convolution, read in the windows of the 2×2 pooling that follows it.

A k×k convolution and a 2×2 pooling at stride 2 together read (k+1)×(k+1) windows at stride 2. Each window
becomes one column; four copies of the kernels, shifted by (0,0), (0,1), (1,0) and (1,1) within the window,
are the rows of one *phase matrix*; one product gives the four convolution outputs of every pooling window as
four contiguous blocks, the phases:

    phases (4·maps, y·x·n) = phase matrix (4·maps, in_maps·(k+1)² + 1) @ columns (in_maps·(k+1)² + 1, y·x·n)

A last row of ones in the columns makes the bias one more weight.
"""

from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ablations.errors import InputError
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Parameter, Shape, Summary


class Convolution(Layer):
    """y[m] = b[m] + Σ_c x[c] ⋆ w[m, c], valid, stride 1 (LeCun et al. 1998, II.B), given in phases.

    Shapes: x (in_maps, H, W, n) → y (4, maps, (H−k+1)/2, (W−k+1)/2, n), phase 2r+s holding the outputs at
    odd (1) or even (0) rows r and columns s.

    `connections` lists, for each output map, the input maps it reads (C3's table); None reads all. A kernel
    that the table leaves out does not exist: the weights are (kernels, k, k), ordered by output map, then by
    the table's order.

    dW and db come from one product of the phases' gradient with the columns, whose four shifted copies are
    added up; dx from one product with the transposed phase matrix, whose overlapping windows are added up.
    """

    def __init__(self, maps: int, kernel: int, connections: Sequence[Sequence[int]] | None) -> None:
        super().__init__()
        self.maps, self.kernel, self.connections = maps, kernel, connections

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        in_maps, height, width = in_shape
        k, window = self.kernel, self.kernel + 1
        if k % 2 == 0 or min(height, width) < window or height % 2 or width % 2:
            raise InputError(
                f"convolution: needs an odd kernel and maps of even height and width, at least one more than the "
                f"kernel, for the 2×2 pooling that follows; got a {k}×{k} kernel on {height}×{width}"
            )
        reads, read = self._kernels(in_maps)
        self.in_shape = in_shape
        self.out_shape = (4, self.maps, (height - k + 1) // 2, (width - k + 1) // 2)

        fan_in, fan_out = np.bincount(reads, minlength=self.maps) * k * k, np.bincount(read) * k * k
        uniform = rng.random((self.maps, in_maps, k, k))[reads, read]
        weight = init.weights(uniform, fan_in[reads, None, None], fan_out[read, None, None])
        bias = init.biases(rng.random(self.maps), fan_in)
        self.parameters = {"weight": Parameter(weight), "bias": Parameter(bias)}

        # Where each parameter stands in the phase matrix; `size`, one past the last, stands for "no weight".
        index = np.full((2, 2, self.maps, in_maps * window * window + 1), self.size)
        kernels = np.arange(weight.size).reshape(weight.shape)
        for row in range(2):
            for column in range(2):
                copy = np.full((self.maps, in_maps, window, window), self.size)
                copy[reads, read, row : row + k, column : column + k] = kernels
                index[row, column, :, :-1] = copy.reshape(self.maps, -1)
        index[..., -1] = weight.size + np.arange(self.maps)
        self._parameter_at = index.reshape(4 * self.maps, -1)
        by_phase = index.reshape(4, -1)
        self._positions = np.argsort(by_phase, axis=1, kind="stable")[:, : self.size]
        self._positions += np.arange(4)[:, None] * by_phase.shape[1]
        return self.out_shape

    def _kernels(self, in_maps: int) -> tuple[np.ndarray, np.ndarray]:
        """Output map and input map of each kernel."""
        table = [range(in_maps)] * self.maps if self.connections is None else self.connections
        if not _is_table(table, self.maps, in_maps):
            raise InputError(
                f"convolution: the connection table needs {self.maps} rows of different input maps 0 to "
                f"{in_maps - 1}, at least one in each; got {table}"
            )
        pairs = np.array([(m, c) for m, row in enumerate(table) for c in row])
        return pairs[:, 0], pairs[:, 1]

    def bind(self, values: np.ndarray, grads: np.ndarray) -> None:
        super().bind(values, grads)
        self._padded = np.zeros(
            self.size + 1, self.dtype
        )  # the parameters, then the 0 that means "no weight"
        self._matrix = np.empty(self._parameter_at.shape, self.dtype)
        self._matrix_grad = np.empty_like(self._matrix)
        self._folded = np.empty(self._positions.shape, self.dtype)

    def allocate(self, n: int) -> SimpleNamespace:
        in_maps, height, width = self.in_shape
        _, _, h, w = self.out_shape
        window = self.kernel + 1
        columns = np.ones((in_maps * window * window + 1, h * w * n), self.dtype)
        y = np.empty((4 * self.maps, h * w * n), self.dtype)
        return SimpleNamespace(
            x=None,
            windows_of_x=None,
            columns=columns,
            windows=columns[:-1].reshape(in_maps, window, window, h, w, n),
            y_columns=y,
            y=y.reshape(*self.out_shape, n),
            dcolumns=np.empty((columns.shape[0] - 1, columns.shape[1]), self.dtype),
            dx=np.empty((in_maps, height, width, n), self.dtype),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        b = self.buffers
        if x is not b.x:  # the layer before hands over the same buffer each time
            b.x, b.windows_of_x = x, _windows(x, self.kernel + 1)
        np.copyto(b.windows, b.windows_of_x)
        self._padded[:-1] = self.values
        np.take(self._padded, self._parameter_at, out=self._matrix, mode="clip")
        np.matmul(self._matrix, b.columns, out=b.y_columns)
        return b.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.backward_parameters(dy)
        b = self.buffers
        np.matmul(self._matrix[:, :-1].T, dy.reshape(b.y_columns.shape), out=b.dcolumns)
        b.dx[...] = 0
        for window, dwindow in _shifts(b.dx, b.dcolumns.reshape(b.windows.shape)):
            window += dwindow
        return b.dx

    def backward_parameters(self, dy: np.ndarray) -> None:
        b = self.buffers
        np.matmul(dy.reshape(b.y_columns.shape), b.columns.T, out=self._matrix_grad)
        np.take(self._matrix_grad, self._positions, out=self._folded, mode="clip")
        np.add.reduce(self._folded, axis=0, out=self.grads)

    def summary(self) -> Summary:
        _, _, h, w = self.out_shape
        weights, positions = self.parameters["weight"].value.size, 4 * h * w
        return Summary(
            f"{self.kernel}×{self.kernel} convolution",
            (self.maps, 2 * h, 2 * w),
            connections=(weights + self.maps) * positions,
            macs=weights * positions,
        )


def _is_table(table: object, maps: int, in_maps: int) -> bool:
    """Whether `table` has `maps` rows, each of one or more of the maps 0 … in_maps − 1, none of them twice."""

    def is_row(row: object) -> bool:
        return (
            isinstance(row, Sequence) and len(row) > 0 and len(set(row)) == len(row) and set(row) <= accepted
        )

    accepted = set(range(in_maps))
    return isinstance(table, Sequence) and len(table) == maps and all(map(is_row, table))


def _windows(x: np.ndarray, window: int) -> np.ndarray:
    """All `window`×`window` windows of x (maps, H, W, n) at stride 2, as a view (maps, window, window, y, x, n)."""
    views = sliding_window_view(x, (window, window), axis=(1, 2))[:, ::2, ::2]
    return views.transpose(0, 4, 5, 1, 2, 3)


def _shifts(x: np.ndarray, windows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of views (of x, of windows) that add overlapping windows at stride 2 back into x.

    Positions (2a, 2b), (2a, 2b+1), (2a+1, 2b) and (2a+1, 2b+1) of all windows lie in disjoint places of x, so
    they are added at once: (window/2)² additions.
    """
    maps, window, _, h, w, n = windows.shape
    half = window // 2
    pairs = x.reshape(maps, x.shape[1] // 2, 2, x.shape[2] // 2, 2, n)
    blocks = windows.reshape(maps, half, 2, half, 2, h, w, n).transpose(1, 3, 0, 5, 2, 6, 4, 7)
    return [(pairs[:, a : a + h, :, b : b + w], blocks[a, b]) for a in range(half) for b in range(half)]
