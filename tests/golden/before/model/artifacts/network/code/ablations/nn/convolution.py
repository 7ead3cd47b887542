"""Convolution, read in the windows of the 2×2 pooling that follows it.

A k×k convolution and a 2×2 pooling at stride 2 together read (k+1)×(k+1) windows at stride 2. Each window
becomes one column; four copies of the kernels, shifted by (0,0), (0,1), (1,0) and (1,1) within the window,
are the rows of one *phase matrix*; one product gives the four convolution outputs of every pooling window as
four contiguous blocks, the phases:

    phases (4·maps, y·x·n) = phase matrix (4·maps, in_maps·(k+1)² + 1) @ columns (in_maps·(k+1)² + 1, y·x·n)

One row of ones in the columns makes the bias one more weight. The products go over blocks of columns, each small
enough for the processor's caches. And they leave out most of the zeros: the upper two phases do not read the
last row of a window, nor the lower two the first. So a column holds the first row of the window, then the rows
between and the one, then the last row; the upper phases multiply its beginning, the lower ones its end.
"""

from collections.abc import Sequence
from math import prod
from types import SimpleNamespace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ablations.errors import InputError
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Parameter, Shape, Summary

BLOCK = 784  # columns to a product; longer ones take twice as long (measured with OpenBLAS 0.3.31 on Zen)


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

        # Places of a column: (row of the window, input map, column of the window), and the one before the last row.
        self._edge = in_maps * window  # places in one row of the window
        one, places = self._edge * k, self._edge * window + 1
        self._halves = (slice(0, one + 1), slice(self._edge, places))  # what the upper and lower phases read
        self._one = one
        # Where each parameter stands in the phase matrix; `size`, one past the last, stands for "no weight".
        index = np.empty((2, 2, self.maps, places), np.intp)
        kernels = np.arange(weight.size).reshape(weight.shape)
        for row in range(2):
            for column in range(2):
                copy = np.full((self.maps, in_maps, window, window), self.size)
                copy[reads, read, row : row + k, column : column + k] = kernels
                copy = copy.transpose(0, 2, 1, 3).reshape(self.maps, -1)
                index[row, column] = np.insert(copy, one, weight.size + np.arange(self.maps), axis=1)
        self._parameter_at = index.reshape(4 * self.maps, places)
        # The other way round: the four positions of each parameter in the gradient, (half, place, column, map).
        gradient = np.stack([index[row, ..., half] for row, half in enumerate(self._halves)])
        order = np.argsort(gradient.transpose(0, 3, 1, 2), axis=None, kind="stable")
        self._positions = np.ascontiguousarray(order[: 4 * self.size].reshape(self.size, 4).T)
        self._reads, self._read_by = _window_tables(in_shape, window, one)
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

    def bind(self, values: np.ndarray, grads: np.ndarray, curvatures: np.ndarray) -> None:
        super().bind(values, grads, curvatures)
        self._padded = np.zeros(self.size + 1, self.dtype)  # the parameters, and the 0 of "no weight"
        self._matrix = np.empty(self._parameter_at.shape, self.dtype)
        self._matrix_grad = np.empty((2, self._one + 1, 2 * self.maps), self.dtype)
        self._folded = np.empty(self._positions.shape, self.dtype)

    def allocate(self, n: int) -> SimpleNamespace:
        places, positions = self._reads.shape  # of one window; of all windows
        columns = np.empty((places, positions, n), self.dtype)
        y = np.empty((*self.out_shape, n), self.dtype)
        dcolumns = np.zeros(
            (places * positions + 1, n), self.dtype
        )  # the last row stays 0: read by no window
        blocks = _number_of_blocks(positions * n)
        return SimpleNamespace(
            blocks=blocks,
            columns=columns,
            column_blocks=_in_blocks(columns.reshape(places, -1), blocks),
            y=y,
            y_blocks=_in_blocks(y.reshape(4 * self.maps, -1), blocks),
            dmatrix=np.empty((blocks, *self._matrix_grad.shape), self.dtype),
            dcolumns=dcolumns,
            dcolumn_blocks=_in_blocks(dcolumns[:-1].reshape(places, -1), blocks),
            dreads=np.empty((*self._read_by.shape, n), self.dtype),
            dx=np.empty((*self.in_shape, n), self.dtype),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        b = self.buffers
        np.take(x.reshape(-1, x.shape[-1]), self._reads, axis=0, out=b.columns, mode="clip")
        b.columns[self._one] = 1
        self._padded[:-1] = self.values
        np.take(self._padded, self._parameter_at, out=self._matrix, mode="clip")
        for phases, half in zip(self._phases(), self._halves, strict=True):
            np.matmul(self._matrix[phases, half], b.column_blocks[:, half], out=b.y_blocks[:, phases])
        return b.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        self.backward_parameters(dy)
        return self._to_input(dy, self._matrix)

    def backward_parameters(self, dy: np.ndarray) -> None:
        self._to_parameters(dy, self.buffers.column_blocks, self.grads)

    def curvature(self, h: np.ndarray) -> np.ndarray:
        self._to_parameters(h, self.buffers.column_blocks**2, self.curvatures)
        return self._to_input(h, self._matrix**2)

    def _to_parameters(self, dy: np.ndarray, column_blocks: np.ndarray, out: np.ndarray) -> None:
        """Multiply `dy` by the columns and fold the four copies of each parameter into `out`."""
        b = self.buffers
        dy_blocks = _in_blocks(dy.reshape(4 * self.maps, -1), b.blocks).transpose(0, 2, 1)
        for i, (phases, half) in enumerate(zip(self._phases(), self._halves, strict=True)):
            np.matmul(column_blocks[:, half], dy_blocks[:, :, phases], out=b.dmatrix[:, i])
        np.add.reduce(b.dmatrix, axis=0, out=self._matrix_grad)
        np.take(self._matrix_grad, self._positions, out=self._folded, mode="clip")
        np.add.reduce(self._folded, axis=0, out=out)

    def _to_input(self, dy: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Multiply `dy` by the transposed `matrix` and add up the overlapping windows."""
        b, edge, (upper, lower) = self.buffers, self._edge, self._phases()
        dy_blocks = _in_blocks(dy.reshape(4 * self.maps, -1), b.blocks)
        for phases, part in (
            (upper, slice(0, edge)),
            (slice(None), slice(edge, -edge)),
            (lower, slice(-edge, None)),
        ):
            np.matmul(matrix[phases, part].T, dy_blocks[:, phases], out=b.dcolumn_blocks[:, part])
        np.take(b.dcolumns, self._read_by, axis=0, out=b.dreads, mode="clip")
        np.add.reduce(b.dreads, axis=0, out=b.dx.reshape(b.dreads.shape[1:]))
        return b.dx

    def _phases(self) -> tuple[slice, slice]:
        """The rows of the phase matrix that belong to the upper and to the lower two phases."""
        return slice(0, 2 * self.maps), slice(2 * self.maps, None)

    def summary(self) -> Summary:
        _, _, h, w = self.out_shape
        weights, positions = self.parameters["weight"].value.size, 4 * h * w
        return Summary(
            f"{self.kernel}×{self.kernel} convolution",
            (self.maps, 2 * h, 2 * w),
            connections=(weights + self.maps) * positions,
            macs=weights * positions,
        )


def without_phases(phases: np.ndarray) -> np.ndarray:
    """The phases of one image, (4, maps, y/2, x/2), as one picture for each map: (maps, y, x)."""
    _, maps, height, width = phases.shape
    by_row_and_column = phases.reshape(2, 2, maps, height, width)
    return by_row_and_column.transpose(2, 3, 0, 4, 1).reshape(maps, 2 * height, 2 * width)


def _is_table(table: object, maps: int, in_maps: int) -> bool:
    """Whether `table` has `maps` rows, each of one or more of the maps 0 … in_maps − 1, none of them twice."""

    def is_row(row: object) -> bool:
        return (
            isinstance(row, Sequence) and len(row) > 0 and len(set(row)) == len(row) and set(row) <= accepted
        )

    accepted = set(range(in_maps))
    return isinstance(table, Sequence) and len(table) == maps and all(map(is_row, table))


def _number_of_blocks(columns: int) -> int:
    """Into how many equal blocks of about BLOCK columns to divide so many columns."""
    blocks = max(1, columns // BLOCK)
    while columns % blocks:
        blocks -= 1
    return blocks


def _in_blocks(matrix: np.ndarray, blocks: int) -> np.ndarray:
    """A view of (rows, columns) as (blocks, rows, columns / blocks)."""
    return matrix.reshape(len(matrix), blocks, -1).transpose(1, 0, 2)


def _window_tables(in_shape: Shape, window: int, one: int) -> tuple[np.ndarray, np.ndarray]:
    """Which values of x the windows at stride 2 read, and which places of which windows read each value of x.

    The first, (places, positions), holds the index in x, flattened, that each place of each window reads (any at
    the place of the `one`). The second, ((window/2)², values of x), holds indices into the first, flattened;
    one past its end stands for "none".
    """
    values = np.arange(prod(in_shape)).reshape(in_shape)
    windows = sliding_window_view(values, (window, window), axis=(1, 2))[:, ::2, ::2]
    places = windows.transpose(3, 0, 4, 1, 2).reshape(in_shape[0] * window * window, -1)
    reads = np.insert(places, one, 0, axis=0)

    place, position = np.unravel_index(np.argsort(places, axis=None, kind="stable"), places.shape)
    value = places[place, position]
    rank = np.arange(value.size) - np.searchsorted(value, value)
    read_by = np.full(((window // 2) ** 2, values.size), reads.size)
    read_by[rank, value] = (place + (place >= one)) * reads.shape[1] + position
    return reads, read_by
