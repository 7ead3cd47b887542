"""Update rules: steps by hand, two functions to minimise, rates by epoch, and values that are refused."""

import re

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from ablations.errors import InputError
from ablations.optimizers import SGD, Adam, Momentum
from ablations.paths import CONF

# Two steps of rate 0.1 from (1, −2), the YAML's other values as they are: gradients (½, −1), then (1, 0).
STEPS = {
    "sgd": [(0.95, -1.9), (0.85, -1.9)],
    "momentum": [(0.95, -1.9), (0.805, -1.81)],  # velocities (0.5, −1) and (1.45, −0.9)
    "adagrad": [(0.9, -1.9), (0.9 - 0.1 / 1.25**0.5, -1.9)],  # sums of squares (¼, 1) and (1¼, 1)
    "rmsprop": [  # mean squares (0.0025, 0.01) and (0.012475, 0.0099)
        (1 - 0.05 / (0.05 + 1e-8), -2 + 0.1 / (0.1 + 1e-8)),
        (1 - 0.05 / (0.05 + 1e-8) - 0.1 / (0.012475**0.5 + 1e-8), -2 + 0.1 / (0.1 + 1e-8)),
    ],
    "adam": [  # m (0.145, −0.09) / 0.19 and v (0.00124975, 0.000999) / 0.001999 at the second
        (1 - 0.05 / (0.5 + 1e-8), -2 + 0.1 / (1 + 1e-8)),
        (0.9 - 0.09651820258217746, -1.9 + 0.06700582541365434),
    ],
}

# Rates by epoch, of 3,000 steps each, for the parabola and for Rosenbrock's function.
RATES = {
    "sgd": ([0.1], [0.002]),
    "momentum": ([0.01], [0.0005]),
    "adagrad": ([0.5], [0.5]),
    "rmsprop": ([0.01, 0.001, 0.0001], [0.01, 0.001, 0.0001]),
    "adam": ([0.02], [0.02]),
}


def configured(choice: str, **overrides: object):
    return hydra.utils.instantiate({**OmegaConf.load(CONF / "optimizer" / f"{choice}.yaml"), **overrides})


def test_two_steps_by_hand(optimizer, expected):
    rows = expected(STEPS, "optimizer", optimizer, "its two steps to STEPS in test_optimizers.py")
    rule = configured(optimizer, lr=0.1)
    values = np.array([1.0, -2.0])
    rule.start(values)
    rule.begin_epoch(1)
    for gradient, row in zip([(0.5, -1.0), (1.0, 0.0)], rows, strict=True):
        grads = np.array(gradient)
        rule.step(values, grads)
        np.testing.assert_allclose(values, row, rtol=1e-7, atol=1e-9)
        assert grads.tolist() == list(gradient), "the gradient belongs to the network"


def parabola(v: np.ndarray) -> np.ndarray:
    """Gradient of ½ (x − 3)² + 2 (y + 1)²."""
    return np.array([v[0] - 3, 4 * (v[1] + 1)])


def rosenbrock(v: np.ndarray) -> np.ndarray:
    """Gradient of (1 − x)² + 100 (y − x²)²."""
    x, y = v
    return np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


@pytest.mark.parametrize(
    ("at", "gradient", "start", "minimum", "tolerance"),
    [(0, parabola, (0, 0), (3, -1), 1e-4), (1, rosenbrock, (-1.2, 1), (1, 1), 0.02)],
    ids=["parabola", "rosenbrock"],
)
def test_finds_the_minimum(optimizer, at, gradient, start, minimum, tolerance, expected):
    rates = expected(RATES, "optimizer", optimizer, "learning rates to RATES in test_optimizers.py")[at]
    rule, values = configured(optimizer, lr=rates), np.array(start, float)
    rule.start(values)
    for epoch in range(1, 5):
        rule.begin_epoch(epoch)
        for _ in range(3000):
            rule.step(values, gradient(values))
    np.testing.assert_allclose(values, minimum, atol=tolerance)


def test_rates_by_epoch(optimizer):
    rule = configured(optimizer, lr=[0.1, 0.01, 0.001])
    rule.start(np.zeros(2))
    for epoch, rate in [(1, 0.1), (2, 0.01), (3, 0.001), (4, 0.001), (100, 0.001)]:
        rule.begin_epoch(epoch)
        assert rule.lr == rate
    rule = configured(optimizer, lr=0.5)
    for epoch in (1, 2, 10):
        rule.begin_epoch(epoch)
        assert rule.lr == 0.5


def test_the_rate_of_the_epoch_is_applied():
    rule, values = SGD(lr=[1, 0.25]), np.zeros(1)
    rule.start(values)
    for epoch, value in [(1, -1), (2, -1.25), (3, -1.5)]:
        rule.begin_epoch(epoch)
        rule.step(values, np.ones(1))
        assert values == value


def test_memory_is_kept_between_epochs_and_emptied_by_start(optimizer):
    rule, first = configured(optimizer, lr=0.1), np.ones(2)
    rule.start(first)
    for epoch in (1, 2):
        rule.begin_epoch(epoch)
        rule.step(first, np.array([0.5, -1.0]))
    straight = np.ones(2)
    rule.start(straight)
    rule.begin_epoch(1)
    for _ in range(2):
        rule.step(straight, np.array([0.5, -1.0]))
    np.testing.assert_array_equal(straight, first)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_works_in_place_and_in_the_precision_of_the_parameters(optimizer, dtype):
    rule, whole = configured(optimizer), np.ones(4, dtype)
    values = whole[1:3]
    rule.start(values)
    rule.begin_epoch(1)
    rule.step(values, np.array([0.5, -1], dtype))
    assert whole[0] == whole[3] == 1
    assert whole[1] < 1 < whole[2]
    assert all(state.dtype == dtype for state in rule.state.values())


def test_parameters_without_gradient_stay_where_they_are(optimizer):
    """Blank pixels give gradients that are exactly zero, step after step."""
    rule, values = configured(optimizer), np.ones(2, np.float32)
    rule.start(values)
    rule.begin_epoch(1)
    for _ in range(5):
        rule.step(values, np.array([0, 1], np.float32))
    assert values[0] == 1
    assert values[1] < 1


@pytest.mark.parametrize(
    "lr",
    [
        0,
        -0.1,
        float("nan"),
        float("inf"),
        "fast",
        None,
        [],
        [0.1, 0],
        [0.1, -1],
        [0.1, None],
        [[0.1]],
        {"a": 1},
    ],
)
def test_rates_that_make_no_sense_are_refused(optimizer, lr):
    message = (
        rf"optimizer\.lr: must be a positive number, or a list of them by epoch; got {re.escape(str(lr))}"
    )
    with pytest.raises(hydra.errors.InstantiationException, match=message) as error:
        configured(optimizer, lr=lr)
    assert isinstance(error.value.__cause__, InputError)


@pytest.mark.parametrize("value", [-0.1, 1, 1.5, float("nan"), "much", None])
def test_fractions_outside_0_to_1_are_refused(value):
    for name, make in [
        ("momentum", lambda: Momentum(0.1, momentum=value)),
        ("beta1", lambda: Adam(0.1, beta1=value, beta2=0.999, eps=1e-8)),
        ("beta2", lambda: Adam(0.1, beta1=0.9, beta2=value, eps=1e-8)),
    ]:
        with pytest.raises(
            InputError, match=rf"^optimizer\.{name}: must be at least 0 and below 1, got {value}$"
        ):
            make()
    assert Momentum(0.1, momentum=0).momentum == 0


@pytest.mark.parametrize("eps", [0, -1e-8, float("nan"), float("inf"), "small", None])
@pytest.mark.parametrize("choice", ["adagrad", "rmsprop", "adam"])
def test_eps_that_would_divide_by_zero_is_refused(choice, eps):
    """A zero gradient over a zero root: the parameter would become NaN unseen."""
    with pytest.raises(
        hydra.errors.InstantiationException, match=rf"optimizer\.eps: must be positive, got {eps}"
    ):
        configured(choice, eps=eps)
