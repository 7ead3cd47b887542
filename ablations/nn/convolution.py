"""Convolution, row by row, its columns in the two phases of the 2×2 pooling that follows it.

A k×k convolution and a 2×2 pooling at stride 2 read, in each row of the input, windows of k+1 values at stride 2. Each
row's windows are copied into *columns* once; k rows of columns, one under the other, are what one row of the output
needs, and the next row of the output needs the same but for one. Two copies of the kernels, shifted by 0 and 1 within
the window, are the rows of one *phase matrix*. One product gives a row of the output, its even places and its odd ones:

    phases (2·maps, x·n) = phase matrix (2·maps, k·(in_maps·(k+1) + 1)) @ k rows of columns (k·(in_maps·(k+1) + 1), x·n)

With the row's own parity these are the four phases, contiguous each. A row of ones in the columns makes the bias one
more weight. A product is small enough for the processor's caches.
"""

from collections.abc import Sequence
from math import prod
from types import SimpleNamespace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ablations.errors import InputError
from ablations.nn.initializers import Initializer
from ablations.nn.layer import BYTES_OF_WEIGHT, Layer, Parameter, Shape, Summary, check_width

MAPS_TO_TURN, IMAGES_TO_TURN = 8, 4
"""From so many maps on, and for fewer images than so many, a copy of the gradient with the maps last is worth making:
the product then takes, with the copy, 150 µs in place of 198 in C3 with 32 images, and 8 in place of 12 in C1 with one;
but 200 in place of 110 in C1 with 32 (OpenBLAS 0.3.31, AVX-512)."""


class Convolution(Layer):
    """y[m] = b[m] + Σ_c x[c] ⋆ w[m, c], valid, stride 1 (LeCun et al. 1998, II.B), given in phases.

    Shapes: x (in_maps, H, W, n) → y (4, maps, (H−k+1)/2, (W−k+1)/2, n), phase 2r+s holding the outputs at
    odd (1) or even (0) rows r and columns s.

    `connections` lists, for each output map, the input maps it reads (C3's table); None reads all. A kernel
    that the table leaves out does not exist: the weights are (kernels, k, k), ordered by output map, then by
    the table's order.

    dW and db come from products of each row's gradient with its columns, added up over the rows and over the two
    shifted copies of a kernel. dx comes from products of the transposed phase matrix with the k rows of the gradient
    that a row of the input takes part in, whose overlapping windows are added up.
    """

    def __init__(self, maps: int, kernel: int, connections: Sequence[Sequence[int]] | None) -> None:
        super().__init__()
        self.maps, self.kernel, self.connections = maps, kernel, connections

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        in_maps, height, width = in_shape
        k, window = self.kernel, self.kernel + 1
        tables = 2 * 2 * 8 * k * (in_maps * window + 1)  # both made below
        maps_of_one_image = 2 * 4 * (height - k + 1) * (width - k + 1)  # and their gradients
        check_width("maps", self.maps, BYTES_OF_WEIGHT * in_maps * k * k + tables + maps_of_one_image)
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

        # Places of a column: (row of the kernel, then input map, column of the window; last the one).
        self._places = in_maps * window + 1  # in one row
        # Where each parameter stands in the phase matrix; `size`, one past the last, stands for "no weight".
        index = np.full((2, self.maps, k, self._places), self.size)
        kernels = np.arange(weight.size).reshape(weight.shape)
        for column in range(2):
            copy = index[column, ..., :-1].reshape(self.maps, k, in_maps, window)  # a view
            copy[reads, :, read, column : column + k] = kernels
        index[:, :, 0, -1] = weight.size + np.arange(self.maps)
        self._parameter_at = index.reshape(2 * self.maps, k * self._places)
        # The other way round: the two positions of each parameter in the gradient, (place, column, map).
        order = np.argsort(self._parameter_at.T, axis=None, kind="stable")
        self._positions = np.ascontiguousarray(order[: 2 * self.size].reshape(self.size, 2).T)
        self._reads, self._read_by = _window_tables(in_shape, window)
        return self.out_shape

    def _kernels(self, in_maps: int) -> tuple[np.ndarray, np.ndarray]:
        """Output map and input map of each kernel."""
        table = [range(in_maps)] * self.maps if self.connections is None else self.connections
        if not _is_table(table, self.maps, in_maps):
            raise InputError(
                f"convolution: the connection table needs {self.maps} rows of different input maps 0 to "
                f"{in_maps - 1}, at least one in each, and each in at least one; got {table}; c3=full fits any number"
            )
        pairs = np.array([(m, c) for m, row in enumerate(table) for c in row])
        return pairs[:, 0], pairs[:, 1]

    def bind(self, values: np.ndarray, grads: np.ndarray, curvatures: np.ndarray) -> None:
        super().bind(values, grads, curvatures)
        self._padded = self.zeros(self.size + 1)  # the parameters, and the 0 of "no weight"
        self._matrix = self.zeros(*self._parameter_at.shape)
        self._matrix_grad = self.zeros(*self._parameter_at.T.shape)
        self._folded = self.zeros(*self._positions.shape)

    def allocate(self, n: int) -> SimpleNamespace:
        (rows, places, across), (_, maps, height, _), k = self._reads.shape, self.out_shape, self.kernel
        columns = self.zeros(rows, places, across, n)
        y = self.zeros(*self.out_shape, n)
        dy_rows = self.zeros(rows + k - 1, 2 * maps, across * n)  # between k − 1 rows of 0
        dcolumns = self.zeros(rows * (places - 1) * across + 1, n)  # the last: no window's
        dx = self.zeros(*self.in_shape, n)
        turned = maps >= MAPS_TO_TURN or n < IMAGES_TO_TURN
        return SimpleNamespace(
            columns=columns,
            windows=_windows(columns.reshape(rows, places, -1), k).reshape(height, 2, k * places, -1),
            y=y,
            y_rows=self._in_rows(y),
            dy_turned=self.zeros(height, 2, across * n, 2 * maps) if turned else None,
            products=self.zeros(height, 2, *self._matrix_grad.shape),
            dy_rows=dy_rows[k - 1 : rows].reshape(height, 2, 2 * maps, -1),
            dy_windows=_windows(dy_rows, k),
            dcolumns=dcolumns,
            dcolumn_rows=dcolumns[:-1].reshape(rows, places - 1, -1),
            dreads=self.zeros(*self._read_by.shape, n),
            dx=dx,
            dx_values=dx.reshape(-1, n),
        )

    def forward(self, x: np.ndarray) -> np.ndarray:
        b = self.buffers
        np.take(x.reshape(-1, x.shape[-1]), self._reads, axis=0, out=b.columns, mode="clip")
        b.columns[:, -1] = 1
        self._padded[:-1] = self.values
        np.take(self._padded, self._parameter_at, out=self._matrix, mode="clip")
        np.matmul(self._matrix, b.windows, out=b.y_rows)
        return b.y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dy_rows = self._in_rows(dy)
        self._to_parameters(dy_rows, self.buffers.windows, self.grads)
        return self._to_input(dy_rows, self._matrix)

    def backward_parameters(self, dy: np.ndarray) -> None:
        self._to_parameters(self._in_rows(dy), self.buffers.windows, self.grads)

    def curvature(self, h: np.ndarray) -> np.ndarray:
        h_rows = self._in_rows(h)
        self._to_parameters(h_rows, self.buffers.windows**2, self.curvatures)
        return self._to_input(h_rows, self._matrix**2)

    def _to_parameters(self, dy_rows: np.ndarray, windows: np.ndarray, out: np.ndarray) -> None:
        """Multiply the rows of `dy` by the columns and fold the copies of each parameter into `out`."""
        b, dy_turned = self.buffers, dy_rows.swapaxes(2, 3)
        if b.dy_turned is not None:
            np.copyto(b.dy_turned, dy_turned)
            dy_turned = b.dy_turned
        np.matmul(windows, dy_turned, out=b.products)
        np.add.reduce(b.products, axis=(0, 1), out=self._matrix_grad)
        np.take(self._matrix_grad, self._positions, out=self._folded, mode="clip")
        np.add.reduce(self._folded, axis=0, out=out)

    def _to_input(self, dy_rows: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Multiply the rows of `dy` by the transposed `matrix` and add up the overlapping windows."""
        b, (maps, k) = self.buffers, (2 * self.maps, self.kernel)
        np.copyto(b.dy_rows, dy_rows)
        # Row i of the input is read by rows i−k+1 to i of the output: the kernels' last row comes first.
        by_row = matrix.reshape(maps, k, -1)[:, ::-1, :-1].transpose(2, 1, 0).reshape(-1, k * maps)
        np.matmul(by_row, b.dy_windows, out=b.dcolumn_rows)
        np.take(b.dcolumns, self._read_by, axis=0, out=b.dreads, mode="clip")
        np.add.reduce(b.dreads, axis=0, out=b.dx_values)
        return b.dx

    def _in_rows(self, phases: np.ndarray) -> np.ndarray:
        """A view of the phases, (4, maps, y, x, n), as (y, 2, 2·maps, x·n): by rows of the output."""
        _, maps, height, *_ = phases.shape
        return phases.reshape(2, 2 * maps, height, -1).transpose(2, 0, 1, 3)

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
    """Whether `table` has `maps` rows, each of one or more of the maps 0 … in_maps − 1, none of them twice, all read.

    A map that no row reads would be computed for nothing, and count as parameters.
    """

    def is_row(row: object) -> bool:
        return (
            isinstance(row, Sequence) and len(row) > 0 and len(set(row)) == len(row) and set(row) <= accepted
        )

    accepted = set(range(in_maps))
    if not (isinstance(table, Sequence) and len(table) == maps and all(map(is_row, table))):
        return False
    return set().union(*table) == accepted


def _windows(rows: np.ndarray, k: int) -> np.ndarray:
    """A view of (rows, places, columns) as (rows − k + 1, k·places, columns): each row with the k − 1 below it."""
    places = rows.shape[1]
    return sliding_window_view(rows.reshape(-1, rows.shape[2]), k * places, axis=0)[::places].swapaxes(1, 2)


def _window_tables(in_shape: Shape, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Which values of x the windows at stride 2 of each row read, and which places of them read each value of x.

    The first, (H, places, windows in a row), holds the index in x, flattened, that each place of each window reads
    (any at the last place, the one). The second, (window/2, values of x), holds indices into the first without the
    ones, flattened; one past its end stands for "none".
    """
    values = np.arange(prod(in_shape)).reshape(in_shape)
    windows = sliding_window_view(values, window, axis=2)[:, :, ::2]
    places = windows.transpose(1, 0, 3, 2).reshape(in_shape[1], in_shape[0] * window, -1)

    at = np.argsort(places, axis=None, kind="stable")
    value = places.ravel()[at]
    rank = np.arange(value.size) - np.searchsorted(value, value)
    read_by = np.full((window // 2, values.size), places.size)
    read_by[rank, value] = at
    return np.pad(places, ((0, 0), (0, 1), (0, 0))), read_by
