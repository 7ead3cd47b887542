"""The answer and its loss: what the ten outputs mean, from squared error to the paper's radial basis functions.

A head has two parts, given by its YAML: the output layer (`Dense`, or `RadialBasis` below), and a loss over its
outputs.
"""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from ablations.errors import InputError
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Shape, Summary, is_number

BITMAP_WIDTH, BITMAP_HEIGHT = 7, 12


class Loss(ABC):
    """A loss over outputs (classes, n), for labels (n,) in 0 … classes − 1."""

    @abstractmethod
    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Loss of each sample, (n,), and the gradient of their mean with respect to the outputs, (classes, n)."""

    @abstractmethod
    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Confidence in each class, (classes, n), columns adding up to 1; the largest is the answer's."""

    @abstractmethod
    def curvature(self, outputs: np.ndarray) -> np.ndarray:
        """∂²E/∂y² of each output for the loss of each sample (not their mean), (classes, n); never negative."""

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """The class of each sample, (n,)."""
        return outputs.argmax(axis=0)

    def further_metrics(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """What else is worth knowing of each sample, by name: each (n,)."""
        return {}


class SquaredError(Loss):
    """E = ½ Σ_i (y_i − t_i)², t one-hot; dE/dy = y − t; ∂²E/∂y² = 1.

    Outputs that minimise it estimate the probability of each class, so the confidences are their positive
    parts, scaled to add up to 1.
    """

    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        error = outputs.copy()
        error[labels, np.arange(labels.size)] -= 1
        return 0.5 * np.add.reduce(error * error, axis=0), error / labels.size

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        share = np.maximum(outputs, 1e-6)
        return share / share.sum(axis=0)

    def further_metrics(self, outputs: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Cross-entropy and confidence as if the outputs were a softmax's, which they were not trained for.

        Outputs at their targets, 0 and 1, give a confidence of e / (e + 9) = 23.2 % and a loss of −log of it, 1.461.
        """
        p = _softmax(outputs)
        loss = -np.log(p[labels, np.arange(labels.size)])
        return {"softmax_loss": loss, "softmax_confidence": p.max(axis=0)}

    def curvature(self, outputs: np.ndarray) -> np.ndarray:
        return np.ones_like(outputs)


class SoftmaxCrossEntropy(Loss):
    """p = e^y / Σ_i e^(y_i); E = −log p[label] = log Σ_i e^(y_i) − y[label]; dE/dy = p − t, t one-hot.

    ∂²E/∂y² = p (1 − p) on the diagonal.
    """

    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at_label = (labels.astype(np.intp), np.arange(labels.size))
        shifted = outputs - np.maximum.reduce(outputs, axis=0)
        gradient = np.exp(shifted)
        total = np.add.reduce(gradient, axis=0)
        losses = np.log(total) - shifted[at_label]
        gradient /= total
        gradient[at_label] -= 1
        gradient /= labels.size
        return losses, gradient

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        return _softmax(outputs)

    def curvature(self, outputs: np.ndarray) -> np.ndarray:
        p = _softmax(outputs)
        return p * (1 - p)


class PenaltyLoss(Loss):
    """Losses over penalties, of which the smallest is the answer's (LeCun et al. 1998, III.C and eqs. 8 and 9).

    Maximum a posteriori: E = y[label] + log(e^(−j) + Σ_i e^(−y_i)), which also pushes the other penalties up, the
    less the closer they are to the "rubbish" level j; dE/dy_i = t_i − e^(−y_i) / (e^(−j) + Σ_k e^(−y_k)), t one-hot.
    Maximum likelihood, with j None: E = y[label], its first term alone; dE/dy = t.

    The curvature is given by the radial basis functions below: the first term is linear in the penalties, and
    what the second would add, p (1 − p), vanishes as the network grows confident.
    """

    def __init__(self, j: float | None) -> None:
        if j is not None and not (is_number(j) and 0 < j < np.inf):
            raise InputError(f"head.loss.j: must be a positive number or null, got {j}")
        self.j = j

    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at_label = (labels.astype(np.intp), np.arange(labels.size))
        losses = outputs[at_label]
        if self.j is None:
            gradient = np.zeros_like(outputs)
        else:
            # The largest exponent is taken out of the sum, so that nothing overflows and no logarithm is of 0.
            least = np.minimum.reduce(outputs, axis=0, initial=self.j)
            gradient = np.exp(least - outputs)
            total = np.add.reduce(gradient, axis=0) + np.exp(least - self.j)
            losses += np.log(total) - least
            gradient /= -total
        gradient[at_label] += 1
        gradient /= labels.size
        return losses, gradient

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmin(axis=0)

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """The posterior probabilities of the ten classes, e^(−y_i) / Σ_k e^(−y_k), rubbish left aside."""
        return _softmax(-outputs)

    def curvature(self, outputs: np.ndarray) -> np.ndarray:
        return np.zeros_like(outputs)


class RadialBasis(Layer):
    """y_i = s Σ_j (x_j − w_ij)², the distance to a fixed code w_i ∈ {−1, +1}⁸⁴ (LeCun et al. 1998, II.B, eq. 7).

    dx = 2 s (x Σ_i dy_i − Wᵀ dy). The codes are stylised 7×12 bitmaps of the digits, read from the text file
    `bitmaps` (in this folder, or by its whole path). `scale` is s; the paper's formula is s = 1.

    Curvature: ∂²E/∂x² = 2 s, the second derivative of the label's own penalty, the first term of eq. 9.
    """

    def __init__(self, bitmaps: str, scale: float) -> None:
        super().__init__()
        if not (is_number(scale) and 0 < scale < np.inf):
            raise InputError(f"head.output.scale: must be a positive number, got {scale}")
        self.bitmaps, self.scale = bitmaps, scale

    def build(self, in_shape: Shape, init: Initializer, rng: np.random.Generator) -> Shape:
        self._codes = read_bitmaps(Path(__file__).parent / self.bitmaps)
        if in_shape != (self._codes.shape[1],):
            raise InputError(
                f"radial basis functions: the codes need {self._codes.shape[1]} inputs, got {in_shape}"
            )
        return (len(self._codes),)

    def bind(self, values: np.ndarray, grads: np.ndarray, curvatures: np.ndarray) -> None:
        super().bind(values, grads, curvatures)
        self.codes = self._codes.astype(self.dtype)

    def allocate(self, n: int) -> SimpleNamespace:
        classes, units = self._codes.shape
        return SimpleNamespace(y=self.zeros(classes, n), dx=self.zeros(units, n))

    def forward(self, x: np.ndarray) -> np.ndarray:
        # Σ (x − w)² = Σ x² − 2 w·x + Σ w², and w² = 1.
        self.x, y = x, self.buffers.y
        np.matmul(self.codes, x, out=y)
        y *= -2
        y += np.add.reduce(x * x, axis=0)
        y += len(x)
        y *= self.scale
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        dx = np.matmul(self.codes.T, dy, out=self.buffers.dx)
        np.subtract(self.x * np.add.reduce(dy, axis=0), dx, out=dx)
        dx *= 2 * self.scale
        return dx

    def curvature(self, h: np.ndarray) -> np.ndarray:
        self.buffers.dx[...] = 2 * self.scale
        return self.buffers.dx

    def summary(self) -> Summary:
        classes, units = self._codes.shape
        return Summary(
            "radial basis functions", (classes,), connections=classes * units, macs=classes * units
        )


def read_bitmaps(path: Path) -> np.ndarray:
    """The codes of the ten digits, (10, 84) of −1 and +1, from a drawing of `.` and `#`.

    Blocks are parted by empty lines. A block begins with a line that names its digits, and goes on with twelve
    lines that hold seven characters for each of them.

    Raises InputError, naming the file, where it is anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"bitmaps: cannot read {path}: {error}") from None
    codes: list[tuple[str, list[float]]] = []
    for block in re.split(r"\n\s*\n", text.strip()):
        names, *rows = (line.split() for line in block.split("\n"))
        if {len(row) for row in rows} != {len(names)}:
            raise InputError(f"bitmaps: {path}: not one drawing for each of the digits {' '.join(names)}")
        for name, drawing in zip(names, zip(*rows, strict=True), strict=True):
            pixels = "".join(drawing)
            if len(drawing) != BITMAP_HEIGHT or {len(row) for row in drawing} != {BITMAP_WIDTH}:
                raise InputError(f"bitmaps: {path}: digit {name} is not 7 characters wide and 12 lines high")
            if set(pixels) - set(".#"):
                raise InputError(f"bitmaps: {path}: digit {name} is not drawn with . and # alone")
            codes.append((name, [1.0 if pixel == "#" else -1.0 for pixel in pixels]))
    if sorted(name for name, _ in codes) != list("0123456789"):
        names = ", ".join(name for name, _ in codes)
        raise InputError(f"bitmaps: {path}: expected the digits 0 to 9, each once, got {names}")
    return np.array([code for _, code in sorted(codes)])


def _softmax(outputs: np.ndarray) -> np.ndarray:
    exponentials = np.exp(outputs - outputs.max(axis=0))
    return exponentials / exponentials.sum(axis=0)
