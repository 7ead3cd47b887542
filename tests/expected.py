"""What each choice in conf/ must be, one row for each YAML: all that the tests know of it by itself.

A row holds numbers worked out by hand; the choice in textbook form, for the two implementations of the whole network
in nn/test_network.py and nn/test_curvature.py; and its counterpart in PyTorch, functions whose first argument is
`torch`, so that this file does without. Nothing here calls the package: whoever adds a choice writes it a second time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import erf
from typing import Any

import numpy as np

from ablations.ground.paths import ROOT

Array = np.ndarray


@dataclass(frozen=True)
class Activation:
    """f(a), element by element."""

    numbers: Sequence[tuple[float, float, float]]  # a, f(a), f'(a)
    function: Callable[[Array], Array]
    derivative: Callable[[Array], Array]  # of a
    torch: Callable[..., Any]  # of torch and a
    least: tuple[float, float] | None = None  # where it falls before it rises: a, f(a) at the bottom


def sigmoid(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


ACTIVATIONS = {
    "relu": Activation(
        numbers=[(-3.0, 0.0, 0.0), (-1e-9, 0.0, 0.0), (0.0, 0.0, 0.0), (1e-9, 1e-9, 1.0), (2.5, 2.5, 1.0)],
        function=lambda a: np.where(a > 0, a, 0.0),
        derivative=lambda a: np.where(a > 0, 1.0, 0.0),
        torch=lambda torch, a: torch.relu(a),
    ),
    "sigmoid": Activation(
        numbers=[
            (0.0, 0.5, 0.25),
            (1.0, 0.7310585786300049, 0.19661193324148185),
            (-2.0, 0.11920292202211755, 0.10499358540350652),
            (np.log(3), 0.75, 0.1875),  # 1 / (1 + 1/3)
            (-800.0, 0.0, 0.0),
            (800.0, 1.0, 0.0),
        ],
        function=sigmoid,
        derivative=lambda a: sigmoid(a) * sigmoid(-a),
        torch=lambda torch, a: torch.sigmoid(a),
    ),
    "tanh": Activation(
        numbers=[
            (0.0, 0.0, 1.0),
            (1.0, 0.7615941559557649, 0.41997434161402614),
            (-0.5, -0.46211715726000973, 0.7864477329659275),
            (np.log(2), 0.6, 0.64),  # (4 − 1) / (4 + 1)
            (400.0, 1.0, 0.0),
        ],
        function=np.tanh,
        derivative=lambda a: 1 / np.cosh(a) ** 2,
        torch=lambda torch, a: torch.tanh(a),
    ),
    "scaled_tanh": Activation(
        numbers=[
            (0.0, 0.0, 1.1439333333333333),  # 1.7159 · 2/3
            (1.0, 0.9999972559224790, 0.7554124359024465),  # "f(±1) = ±1"
            (-1.0, -0.9999972559224790, 0.7554124359024465),
            (1.5 * np.log(2), 1.02954, 0.7321173333333333),  # 1.7159 · 0.6 and 1.1439… · 0.64
            (400.0, 1.7159, 0.0),
        ],
        function=lambda a: 1.7159 * np.tanh(2 * a / 3),
        derivative=lambda a: 1.7159 * 2 / 3 / np.cosh(2 * a / 3) ** 2,
        torch=lambda torch, a: 1.7159 * torch.tanh(2 / 3 * a),
    ),
    "gelu": Activation(
        numbers=[
            (0.0, 0.0, 0.5),
            (1.0, 0.8413447460685429, 1.0833154705876864),  # Φ(1), and φ(1) = 0.24197072451914337 more
            (-1.0, -0.15865525393145707, -0.08331547058768635),
            (
                1.959963984540054,
                0.975 * 1.959963984540054,
                0.975 + 1.959963984540054 * 0.05844507,
            ),  # Φ of 97.5 %
            (-40.0, 0.0, 0.0),
            (40.0, 40.0, 1.0),
            (1e17, 1e17, 1.0),  # next to which 1 is nothing
        ],
        function=lambda a: a * (1 + np.vectorize(erf)(a / 2**0.5)) / 2,
        derivative=lambda a: (
            (1 + np.vectorize(erf)(a / 2**0.5)) / 2 + a * np.exp(-(a**2) / 2) / (2 * np.pi) ** 0.5
        ),
        torch=lambda torch, a: torch.nn.functional.gelu(a),
        least=(-0.7517915, -0.1699712),
    ),
    "silu": Activation(
        numbers=[
            (0.0, 0.0, 0.5),
            (1.0, 0.7310585786300049, 0.9276705118714867),  # σ(1), and σ(1) σ(−1) more
            (np.log(3), 0.75 * np.log(3), 0.75 + 0.1875 * np.log(3)),
            (-np.log(3), -0.25 * np.log(3), 0.25 - 0.1875 * np.log(3)),
            (-800.0, 0.0, 0.0),
            (800.0, 800.0, 1.0),
            (1e17, 1e17, 1.0),
        ],
        function=lambda a: a * sigmoid(a),
        derivative=lambda a: sigmoid(a) + a * sigmoid(a) * sigmoid(-a),
        torch=lambda torch, a: torch.nn.functional.silu(a),
        least=(-1.2784645, -0.2784645),  # where e^(−a) = −1 − a, so that f(a) = 1 + a
    ),
}


@dataclass(frozen=True)
class Pool:
    """One number for each window of four; where trainable, times a weight, plus a bias of its map, and squashed."""

    numbers: Sequence[tuple]  # the four, their output, the gradient of each for an output's gradient of 8
    reduce: Callable[
        [Array], tuple[Array, Array]
    ]  # of windows (4, …): outputs (…), derivatives by each (4, …)
    torch: Callable[..., Any]  # of torch, x (n, maps, y, x), weight, bias, activation
    trainable: bool = False


def maximum(window: Array) -> tuple[Array, Array]:
    """Of several that are largest the first alone counts."""
    first = np.argmax(window, axis=0)
    return window.max(axis=0), np.stack([first == i for i in range(4)])


def average(window: Array) -> tuple[Array, Array]:
    return sum(window) / 4, np.full(window.shape, 0.25)


AVERAGES = [((1, 2, 3, 6), 3, (2,) * 4), ((-1, -1, -1, -1), -1, (2,) * 4), ((0, 0, 0, 2), 0.5, (2,) * 4)]
POOLS = {
    "avg": Pool(
        numbers=AVERAGES,
        reduce=average,
        torch=lambda torch, x, *_: torch.nn.functional.avg_pool2d(x, 2),
    ),
    "max": Pool(
        numbers=[
            ((4, 1, 2, 3), 4, (8, 0, 0, 0)),
            ((1, 4, 2, 3), 4, (0, 8, 0, 0)),
            ((1, 2, 4, 3), 4, (0, 0, 8, 0)),
            ((1, 2, 3, 4), 4, (0, 0, 0, 8)),
            ((-4, -2, -3, -4), -2, (0, 8, 0, 0)),
            ((5, 5, 5, 5), 5, (8, 0, 0, 0)),  # ties: the first maximum alone
            ((0, 0, 0, 0), 0, (8, 0, 0, 0)),
            ((1, 5, 5, 5), 5, (0, 8, 0, 0)),
            ((5, 1, 1, 5), 5, (8, 0, 0, 0)),
            ((1, 5, 2, 5), 5, (0, 8, 0, 0)),
            ((1, 2, 5, 5), 5, (0, 0, 8, 0)),
            ((0.0, -0.0, -1, -1), 0, (8, 0, 0, 0)),
            ((-0.0, 0.0, -1, -1), 0, (8, 0, 0, 0)),
        ],
        reduce=maximum,
        torch=lambda torch, x, *_: torch.nn.functional.max_pool2d(x, 2),
    ),
    "subsample": Pool(
        numbers=AVERAGES,  # it starts as the average: coefficient 1, bias 0
        reduce=average,
        torch=lambda torch, x, weight, bias, activation: activation(
            torch.nn.functional.avg_pool2d(x, 2) * weight.unsqueeze(-1) + bias.unsqueeze(-1)
        ),
        trainable=True,
    ),
}


@dataclass(frozen=True)
class C3:
    """Which maps of S2 each of the 16 maps reads."""

    reads: Sequence[str]
    parameters: int
    connections: int  # in the paper's count

    @property
    def table(self) -> list[list[int]]:
        return [list(map(int, row)) for row in self.reads]


SPARSE = "012 123 234 345 450 501 0123 1234 2345 3450 4501 5012 0134 1245 0235 012345"  # LeCun et al. 1998
C3S = {
    "full": C3(["012345"] * 16, parameters=2416, connections=241_600),
    "sparse": C3(SPARSE.split(), parameters=1516, connections=151_600),
}


@dataclass(frozen=True)
class Head:
    """The output layer on F6 and its loss, in terms of images (n, 84), outputs (n, 10) and labels (n,)."""

    numbers: Sequence[tuple]
    """Outputs, label, loss, dE/dy and probabilities: of the first three outputs, and of each of the other seven."""
    output: Callable[
        ..., Any
    ]  # of x, weight, bias: y, and dE/dy → dE/dx with the parameters' gradients by name
    loss: Callable[[Array, Array], tuple[float, Array]]  # of outputs and labels: the mean, and its gradient
    curvature: Callable[..., Any]
    """Of one image's x (84,), weight and bias: ∂²E/∂x² (84,) by the paper's recursion, the parameters' by name."""
    torch_output: Callable[..., Any]  # of torch, x, weight, bias
    torch_loss: Callable[..., Any]  # of torch, outputs, labels: the mean


def linear(x: Array, weight: Array, bias: Array) -> tuple[Array, Callable]:
    def back(dy: Array) -> tuple[Array, dict[str, Array]]:
        return dy @ weight, {"weight": dy.T @ x, "bias": dy.sum(axis=0)[:, None]}

    return x @ weight.T + bias.ravel(), back


def linear_curvature(second: Callable[[Array], Array]) -> Callable[..., Any]:
    """`second`: ∂²E/∂y² of one image's outputs."""

    def curvature(x: Array, weight: Array, bias: Array) -> tuple[Array, dict[str, Array]]:
        h = second(weight @ x + bias.ravel())
        return (weight**2).T @ h, {"weight": np.outer(h, x**2), "bias": h[:, None]}

    return curvature


def linear_torch(torch: Any, x: Any, weight: Any, bias: Any) -> Any:
    return torch.nn.functional.linear(x, weight, bias.flatten())


def softmax(outputs: Array, labels: Array) -> tuple[float, Array]:
    p = np.array([np.exp(row) / np.exp(row).sum() for row in outputs])
    loss = -np.mean([np.log(row[label]) for row, label in zip(p, labels, strict=True)])
    return loss, (p - np.eye(10)[labels]) / len(labels)


def softmax_second(y: Array) -> Array:
    p = np.exp(y) / np.exp(y).sum()
    return p * (1 - p)


def squared_error(outputs: Array, labels: Array) -> tuple[float, Array]:
    error = outputs - np.eye(10)[labels]
    return np.mean([row @ row / 2 for row in error]), error / len(labels)


def squared_error_torch(torch: Any, outputs: Any, labels: Any) -> Any:
    F = torch.nn.functional
    return 0.5 * F.mse_loss(outputs, F.one_hot(labels, 10).to(outputs.dtype), reduction="sum") / len(labels)


SCALE, J = 0.1, 20.0  # of the distances; the rubbish level
RUBBISH = np.exp(-J)


@cache
def codes() -> Array:
    """The ten drawings (10, 84), read as a person reads them."""
    lines = (ROOT / "ablations/nn/bitmaps_7x12.txt").read_text("utf-8").split("\n")
    found = []
    for digit in range(10):
        top, left = 1 + 14 * (digit // 5), 8 * (digit % 5)
        drawing = "".join(line[left : left + 7] for line in lines[top : top + 12])
        found.append([{"#": 1, ".": -1}[pixel] for pixel in drawing])
    return np.array(found)


def distances(x: Array, weight: None, bias: None) -> tuple[Array, Callable]:
    y = np.array([[SCALE * sum((vector - code) ** 2) for code in codes()] for vector in x])

    def back(dy: Array) -> tuple[Array, dict[str, Array]]:
        dx = [
            sum(2 * SCALE * d * (vector - code) for d, code in zip(row, codes(), strict=True))
            for row, vector in zip(dy, x, strict=True)
        ]
        return np.array(dx), {}

    return y, back


def distances_torch(torch: Any, x: Any, weight: None, bias: None) -> Any:
    return SCALE * (x[:, None] - torch.tensor(codes())).square().sum(dim=2)


def penalties(outputs: Array, labels: Array) -> tuple[float, Array]:
    """Eq. 9."""
    total = [RUBBISH + np.exp(-row).sum() for row in outputs]
    loss = np.mean([row[label] + np.log(s) for row, label, s in zip(outputs, labels, total, strict=True)])
    gradient = [-np.exp(-row) / s for row, s in zip(outputs, total, strict=True)]
    return loss, (gradient + np.eye(10)[labels]) / len(labels)


def right_penalty(outputs: Array, labels: Array) -> tuple[float, Array]:
    """Eq. 8."""
    loss = np.mean([row[label] for row, label in zip(outputs, labels, strict=True)])
    return loss, np.eye(10)[labels] / len(labels)


def penalties_torch(torch: Any, outputs: Any, labels: Any) -> Any:
    """Mean of y[label] + log(e^(−j) + Σ e^(−y))."""
    rubbish = torch.full((len(labels), 1), J, dtype=outputs.dtype)
    total = torch.logsumexp(-torch.cat([outputs, rubbish], dim=1), dim=1)
    return (outputs.gather(1, labels[:, None])[:, 0] + total).mean()


E = np.e
HEADS = {
    "softmax": Head(
        numbers=[
            ((0, 0, 0, 0), 1, np.log(10), (0.1, -0.9, 0.1, 0.1), (0.1, 0.1, 0.1, 0.1)),
            (  # e^y = 1, 2, 3, 0
                (0, np.log(2), np.log(3), -1000),
                1,
                np.log(3),
                (1 / 6, 1 / 3 - 1, 1 / 2, 0),
                (1 / 6, 1 / 3, 1 / 2, 0),
            ),
            ((1000, 0, 0, 0), 0, 0, (0, 0, 0, 0), (1, 0, 0, 0)),
            ((1000, 0, 0, 0), 2, 1000, (1, 0, -1, 0), (1, 0, 0, 0)),
            (
                (-1e4, -1e4 - 1, -2e4, -2e4),
                0,
                np.log(1 + 1 / E),
                (-1 / (E + 1), 1 / (E + 1), 0, 0),
                (E / (E + 1), 1 / (E + 1), 0, 0),
            ),
        ],
        output=linear,
        loss=softmax,
        curvature=linear_curvature(softmax_second),
        torch_output=linear_torch,
        torch_loss=lambda torch, outputs, labels: torch.nn.functional.cross_entropy(outputs, labels),
    ),
    "mse": Head(
        numbers=[
            ((0, 0, 0, 0), 1, 0.5, (0, -1, 0, 0), (0.1, 0.1, 0.1, 0.1)),
            (
                (0, 1, 0, 0),
                1,
                0,
                (0, 0, 0, 0),
                (1e-6, 1, 1e-6, 1e-6),
            ),  # next to nothing for what is not positive
            ((3, -2, 1, 0), 0, 4.5, (2, -2, 1, 0), (0.75, 2.5e-7, 0.25, 2.5e-7)),
            ((1e3, 0, 0, 1), 2, 500_004, (1e3, 0, -1, 1), (1e3 / 1007, 1e-6 / 1007, 1e-6 / 1007, 1 / 1007)),
        ],
        output=linear,
        loss=squared_error,
        curvature=linear_curvature(np.ones_like),
        torch_output=linear_torch,
        torch_loss=squared_error_torch,
    ),
    "rbf": Head(
        numbers=[  # eq. 9
            (
                (0, 0, 0, 0),
                1,
                np.log(10 + RUBBISH),
                (-1 / (10 + RUBBISH), 1 - 1 / (10 + RUBBISH), -1 / (10 + RUBBISH), -1 / (10 + RUBBISH)),
                (0.1, 0.1, 0.1, 0.1),
            ),
            (  # e^(−y) = 1, 1/2, 1/3, 0; their sum is 11/6
                (0, np.log(2), np.log(3), 1000),
                1,
                np.log(2) + np.log(11 / 6 + RUBBISH),
                (-1 / (11 / 6 + RUBBISH), 1 - 1 / (11 / 3 + 2 * RUBBISH), -1 / (11 / 2 + 3 * RUBBISH), 0),
                (6 / 11, 3 / 11, 2 / 11, 0),
            ),
            ((J, 1e4, 1e4, 1e4), 0, np.log(2), (0.5, 0, 0, 0), (1, 0, 0, 0)),  # as good as rubbish
            ((0, 1e4, 1e4, 1e4), 0, np.log(1 + RUBBISH), (RUBBISH / (1 + RUBBISH), 0, 0, 0), (1, 0, 0, 0)),
            (
                (0, 1e4, 1e4, 1e4),
                2,
                1e4 + np.log(1 + RUBBISH),
                (-1 / (1 + RUBBISH), 0, 1, 0),
                (1, 0, 0, 0),
            ),
            ((1e4, 1e4, 1e4, 1e4), 2, 1e4 - J, (0, 0, 1, 0), (0.1, 0.1, 0.1, 0.1)),
            ((1e4, 1e4 + np.log(2), 1e5, 1e5), 0, 1e4 - J, (1, 0, 0, 0), (2 / 3, 1 / 3, 0, 0)),
        ],
        output=distances,
        loss=penalties,
        curvature=lambda x, weight, bias: (np.full(84, 2 * SCALE), {}),  # of eq. 8
        torch_output=distances_torch,
        torch_loss=penalties_torch,
    ),
    "rbf_ml": Head(
        numbers=[  # eq. 8
            ((0, 0, 0, 0), 1, 0, (0, 1, 0, 0), (0.1, 0.1, 0.1, 0.1)),
            (  # e^(−y) = 1, 1/2, 1/3, 0; their sum is 11/6
                (0, np.log(2), np.log(3), 1000),
                2,
                np.log(3),
                (0, 0, 1, 0),
                (6 / 11, 3 / 11, 2 / 11, 0),
            ),
            ((0, 1e4, 1e4, 1e4), 2, 1e4, (0, 0, 1, 0), (1, 0, 0, 0)),
        ],
        output=distances,
        loss=right_penalty,
        curvature=lambda x, weight, bias: (np.full(84, 2 * SCALE), {}),
        torch_output=distances_torch,
        torch_loss=lambda torch, outputs, labels: outputs.gather(1, labels[:, None]).mean(),
    ),
}


@dataclass(frozen=True)
class Norm:
    """What is done to the values of one map, or one unit, in a batch, before the activation."""

    numbers: Sequence[tuple]
    """Values, w, b, outputs in a training step; and mean and variance to remember, 0 and 1 before it."""
    torch: Callable[..., Any]  # of torch, x (n, maps, …), weight, bias, mean, variance, in training or not


def batch_norm_torch(
    torch: Any, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool
) -> Any:
    """Mean and variance are moved in place."""
    parameters = [each.reshape(-1) for each in (mean, variance, weight, bias)]
    return torch.nn.functional.batch_norm(x, *parameters, training=training, momentum=0.1, eps=1e-5)


NORMS = {
    "none": Norm(numbers=[], torch=lambda torch, x, *_: x),
    "batch": Norm(
        numbers=[
            (  # mean 3, variance 14/4, or 14/3 as an estimate
                (1, 2, 3, 6),
                1,
                0,
                tuple(d / (3.5 + 1e-5) ** 0.5 for d in (-2, -1, 0, 3)),
                0.3,
                0.9 + 0.1 * 14 / 3,
            ),
            ((5, 5), 2, -1, (-1, -1), 0.5, 0.9),
            (
                (-1, 1),
                0.5,
                10,
                (10 - 0.5 / 1.00001**0.5, 10 + 0.5 / 1.00001**0.5),
                0.0,
                1.1,
            ),
        ],
        torch=batch_norm_torch,
    ),
}


@dataclass(frozen=True)
class Dropout:
    """Which units are 0 in a training step."""

    numbers: Sequence[tuple[float, float, float, float]]  # rate, draw, value, output
    torch: Callable[..., Any]  # of torch, x, rate and draws of x's shape


DROPOUTS = {
    "inverted": Dropout(
        numbers=[
            (0.5, 0.2, 3.0, 0.0),
            (0.5, 0.7, 3.0, 6.0),
            (0.5, 0.5, -1.0, -2.0),
            (0.2, 0.19, 8.0, 0.0),
            (0.2, 0.21, 8.0, 10.0),
            (0.0, 0.0, 7.0, 7.0),
        ],
        torch=lambda torch, x, rate, draws: x * (draws >= rate) / (1 - rate),
    ),
}


INITS = {  # uniform draw, fan-in, fan-out, weight, bias
    "lecun": [
        (0.0, 25, 100, -0.096, -0.096),
        (0.5, 25, 100, 0.0, 0.0),
        (0.75, 150, 1, 0.008, 0.008),
        (1.0, 4, 7, 0.6, 0.6),
    ],
    "xavier": [
        (0.0, 25, 29, -1 / 3, 0.0),
        (0.5, 25, 29, 0.0, 0.0),
        (0.75, 100, 50, 0.1, 0.0),
        (1.0, 84, 12, 0.25, 0.0),
    ],
    "he": [
        (0.5, 25, 100, 0.0, 0.0),
        (0.975, 50, 1, 0.2 * 1.959963984540054, 0.0),
        (0.025, 50, 999, -0.2 * 1.959963984540054, 0.0),
        (0.8413447460685429, 8, 7, 0.5, 0.0),  # one standard deviation
    ],
}

NORMALIZATIONS = {  # pixels 0, 51 and 255, where a quarter of the training pixels is 255 and the others are 0
    "unit": (0, 0.2, 1),
    "lecun1998": (-0.1, 0.155, 1.175),
    "standard": (-1 / 3**0.5, -0.2 / 3**0.5, 3**0.5),  # mean 1/4, standard deviation √3/4
}


@dataclass(frozen=True)
class Optimizer:
    """An update rule."""

    steps: Sequence[tuple[float, float]]
    """Two steps of rate 0.1 from (1, −2), the YAML's other values as they are: gradients (½, −1), then (1, 0)."""
    rates: tuple[Sequence[float], Sequence[float]]
    """By epoch, of 3,000 steps each, to the minimum of the parabola and of Rosenbrock's function."""
    torch: Callable[..., Any] | None  # of torch, parameters and the YAML; None where PyTorch has no such rule


OPTIMIZERS = {
    "sgd": Optimizer(
        steps=[(0.95, -1.9), (0.85, -1.9)],
        rates=([0.1], [0.002]),
        torch=lambda torch, parameters, c: torch.optim.SGD(parameters, c.lr, weight_decay=c.weight_decay),
    ),
    "momentum": Optimizer(
        steps=[(0.95, -1.9), (0.805, -1.81)],  # velocities (0.5, −1) and (1.45, −0.9)
        rates=([0.01], [0.0005]),
        torch=lambda torch, parameters, c: torch.optim.SGD(
            parameters, c.lr, c.momentum, weight_decay=c.weight_decay
        ),
    ),
    "nesterov": Optimizer(
        steps=[(0.905, -1.81), (0.6745, -1.729)],  # g + 0.9 v: (0.95, −1.9), then (2.305, −0.81)
        rates=([0.01], [0.0005]),
        torch=lambda torch, parameters, c: torch.optim.SGD(
            parameters, c.lr, c.momentum, weight_decay=c.weight_decay, nesterov=True
        ),
    ),
    "adagrad": Optimizer(
        steps=[(0.9, -1.9), (0.9 - 0.1 / 1.25**0.5, -1.9)],  # sums of squares (¼, 1) and (1¼, 1)
        rates=([0.5], [0.5]),
        torch=lambda torch, parameters, c: torch.optim.Adagrad(
            parameters, c.lr, eps=c.eps, weight_decay=c.weight_decay
        ),
    ),
    "rmsprop": Optimizer(
        steps=[  # mean squares (0.0025, 0.01) and (0.012475, 0.0099)
            (1 - 0.05 / (0.05 + 1e-8), -2 + 0.1 / (0.1 + 1e-8)),
            (1 - 0.05 / (0.05 + 1e-8) - 0.1 / (0.012475**0.5 + 1e-8), -2 + 0.1 / (0.1 + 1e-8)),
        ],
        rates=([0.01, 0.001, 0.0001], [0.01, 0.001, 0.0001]),
        torch=lambda torch, parameters, c: torch.optim.RMSprop(
            parameters, c.lr, alpha=c.decay, eps=c.eps, weight_decay=c.weight_decay
        ),
    ),
    "adam": Optimizer(
        steps=[  # m (0.145, −0.09) / 0.19 and v (0.00124975, 0.000999) / 0.001999 at the second
            (1 - 0.05 / (0.5 + 1e-8), -2 + 0.1 / (1 + 1e-8)),
            (0.9 - 0.09651820258217746, -1.9 + 0.06700582541365434),
        ],
        rates=([0.02], [0.02]),
        torch=lambda torch, parameters, c: torch.optim.Adam(
            parameters, c.lr, (c.beta1, c.beta2), c.eps, c.weight_decay
        ),
    ),
    "adamw": Optimizer(
        steps=[  # Adam's, after a thousandth of each parameter is gone: 0.1 · 0.01
            (0.999 - 0.05 / (0.5 + 1e-8), -1.998 + 0.1 / (1 + 1e-8)),
            (0.898101 - 0.09651820258217746, -1.896102 + 0.06700582541365434),
        ],
        rates=([0.02], [0.02]),
        torch=lambda torch, parameters, c: torch.optim.AdamW(
            parameters, c.lr, (c.beta1, c.beta2), c.eps, c.weight_decay
        ),
    ),
    "sdlm": Optimizer(
        steps=[(-1.5, 3), (-6.5, 3)],  # before any curvature is known, a rate of 0.1 / 0.02
        rates=([0.002], [0.00004]),  # over μ = 0.02: those of sgd
        torch=None,
    ),
}

TABLES: Mapping[str, Mapping[str, Any]] = {
    "activation": ACTIVATIONS,
    "pool": POOLS,
    "c3": C3S,
    "norm": NORMS,
    "dropout": DROPOUTS,
    "head": HEADS,
    "init": INITS,
    "optimizer": OPTIMIZERS,
    "normalization": NORMALIZATIONS,
}
