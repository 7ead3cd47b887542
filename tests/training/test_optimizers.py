"""Update rules: steps by hand, two functions to minimise, rates by epoch, and values that are refused."""

import re

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from ablations.errors import InputError
from ablations.ground.paths import CONF
from ablations.training.optimizers import SDLM, SGD, Adam, Momentum


def defaults(choice: str) -> dict[str, object]:
    return dict(OmegaConf.load(CONF / "optimizer" / f"{choice}.yaml"))


def configured(choice: str, **overrides: object):
    return hydra.utils.instantiate({**defaults(choice), **overrides})


def undecayed(choice: str, **overrides: object):
    """Without weight decay, where the rule has one."""
    return configured(
        choice, **({"weight_decay": 0} if "weight_decay" in defaults(choice) else {}), **overrides
    )


def test_two_steps_by_hand(optimizer, expected):
    rule = configured(optimizer, lr=0.1)
    values = np.array([1.0, -2.0])
    rule.start(values)
    rule.begin_epoch(1)
    for gradient, row in zip([(0.5, -1.0), (1.0, 0.0)], expected("optimizer", optimizer).steps, strict=True):
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
    rates = expected("optimizer", optimizer).rates[at]
    rule, values = undecayed(optimizer, lr=rates), np.array(start, float)
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


def test_a_share_of_the_rate_of_the_epoch(optimizer):
    rule = configured(optimizer, lr=[0.1, 0.01])
    rule.start(np.zeros(2))
    rule.begin_epoch(2, share=0.5)
    assert rule.lr == 0.005


def test_the_rate_of_the_epoch_is_applied():
    rule, values = SGD(lr=[1, 0.25], weight_decay=0), np.zeros(1)
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
    rule, values = undecayed(optimizer), np.ones(2, np.float32)
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
        True,
        [0.1, True],
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
        ("momentum", lambda: Momentum(0.1, momentum=value, weight_decay=0)),
        ("beta1", lambda: Adam(0.1, beta1=value, beta2=0.999, eps=1e-8, weight_decay=0)),
        ("beta2", lambda: Adam(0.1, beta1=0.9, beta2=value, eps=1e-8, weight_decay=0)),
    ]:
        with pytest.raises(
            InputError, match=rf"^optimizer\.{name}: must be at least 0 and below 1, got {value}$"
        ):
            make()
    assert Momentum(0.1, momentum=0, weight_decay=0).momentum == 0


@pytest.mark.parametrize("eps", [0, -1e-8, float("nan"), float("inf"), "small", None])
@pytest.mark.parametrize("choice", ["adagrad", "rmsprop", "adam"])
def test_eps_that_would_divide_by_zero_is_refused(choice, eps):
    """A zero gradient over a zero root: the parameter would become NaN unseen."""
    with pytest.raises(
        hydra.errors.InstantiationException, match=rf"optimizer\.eps: must be positive, got {eps}"
    ):
        configured(choice, eps=eps)


# Weight decay


def test_weight_decay_by_hand():
    """½ · 0.5 · θ²: from (1, −2) the gradient (½, −1) becomes (1, −2), then (1, 0) from (0.9, −1.8) (1.45, −0.9)."""
    rule, values = SGD(lr=0.1, weight_decay=0.5), np.array([1.0, -2.0])
    rule.start(values)
    rule.begin_epoch(1)
    for gradient, wanted in [((0.5, -1.0), (0.9, -1.8)), ((1.0, 0.0), (0.755, -1.71))]:
        grads = np.array(gradient)
        rule.step(values, grads)
        np.testing.assert_allclose(values, wanted)
        assert grads.tolist() == list(gradient), "the gradient belongs to the network"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_weight_decay_is_a_term_of_the_gradient(optimizer, dtype):
    """In every rule that has the key, but for adamw."""
    if optimizer == "adamw" or "weight_decay" not in defaults(optimizer):
        pytest.skip("not by the gradient")
    decayed, plain = configured(optimizer, weight_decay=0.03), undecayed(optimizer)
    values, by_hand = np.array([1, -2, 3], dtype), np.array([1, -2, 3], dtype)
    for rule, parameters in ((decayed, values), (plain, by_hand)):
        rule.start(parameters)
        rule.begin_epoch(1)
    for _ in range(3):
        decayed.step(values, np.array([0.5, 0, -1], dtype))
        plain.step(by_hand, np.array([0.5, 0, -1], dtype) + dtype(0.03) * by_hand)
        np.testing.assert_allclose(values, by_hand, rtol=1e-6)
        assert values.dtype == dtype
    assert set(decayed.state) == set(plain.state), "nothing more to remember"


def test_decoupled_decay_shrinks_what_has_no_gradient():
    rule, values = configured("adamw", lr=[0.1, 0.5], weight_decay=0.2), np.array([1.0, -2.0])
    rule.start(values)
    for epoch, factor in [(1, 0.98), (2, 0.98 * 0.9)]:
        rule.begin_epoch(epoch)
        rule.step(values, np.zeros(2))
        np.testing.assert_allclose(values, [factor, -2 * factor])


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "much", None, True])
@pytest.mark.parametrize("choice", ["sgd", "adam", "adamw"])
def test_decays_that_make_no_sense_are_refused(choice, value):
    message = rf"optimizer\.weight_decay: must be at least 0, got {value}"
    with pytest.raises(hydra.errors.InstantiationException, match=message):
        configured(choice, weight_decay=value)


# Stochastic diagonal Levenberg-Marquardt


def sdlm(**overrides: object) -> SDLM:
    return SDLM(
        **{"lr": 0.1, "mu": 0.02, "samples": 500, "refresh_every": 500, "refresh_samples": 100, **overrides}
    )


def test_each_parameter_has_the_rate_of_its_curvature():
    rule, values = sdlm(lr=[0.1, 0.05]), np.array([1.0, -2.0, 0.0])
    rule.start(values)
    rule.begin_epoch(1)
    curvatures = np.array([0.08, 0.38, 0.0])
    rule.set_curvature(curvatures)  # rates 1, ¼ and 5
    assert rule.metrics() == pytest.approx({"rate_min": 0.25, "rate_median": 1.0, "rate_max": 5.0})
    assert {type(rate) for rate in rule.metrics().values()} == {float}
    curvatures[...] = 7  # it keeps a copy
    rule.step(values, np.array([0.5, -1.0, 0.0]))
    np.testing.assert_allclose(values, [0.5, -1.75, 0.0])
    rule.begin_epoch(2)
    rule.step(values, np.array([0.5, -1.0, 1.0]))
    np.testing.assert_allclose(values, [0.25, -1.625, -2.5])
    rule.set_curvature(np.array([0.0, 0.03, 0.98]))  # forgets the one before: rates 2.5, 1 and 0.05
    rule.step(values, np.array([0.1, 0.2, 1.0]))
    np.testing.assert_allclose(values, [0.0, -1.825, -2.55])
    assert rule.metrics() == pytest.approx({"rate_min": 0.05, "rate_median": 1.0, "rate_max": 2.5})
    rule.start(values)
    assert rule.metrics() == pytest.approx({"rate_min": 2.5, "rate_median": 2.5, "rate_max": 2.5})


def test_the_exact_curvature_makes_a_narrow_valley_round():
    """½ (10⁴ x² + y² + 10⁻⁴ z²): one step of rate 1 ends at the minimum, up to μ."""
    scales, values = np.array([1e4, 1.0, 1e-4]), np.array([1.0, -2.0, 3.0])
    rule = sdlm(lr=1.0, mu=1e-9)
    rule.start(values)
    rule.begin_epoch(1)
    rule.set_curvature(scales)
    rule.step(values, scales * values)
    np.testing.assert_allclose(values, 0, atol=1e-4)


@pytest.mark.parametrize(
    ("batch_size", "refreshed"),
    [
        (1, [500, 1000, 1500]),
        (8, [504, 1000, 1504]),
        (100, [500, 1000, 1500]),
        (300, [600, 1200, 1500]),
        (700, [700, 1400]),
    ],
)
def test_curvature_is_asked_for_before_each_pass_and_along_the_first(batch_size, refreshed):
    """In the first of them, before the first batch that begins after each 500th image."""
    rule = sdlm()

    def asked(epoch: int) -> dict[int, int]:
        seen = {at: rule.curvature_samples(epoch, at, batch_size) for at in range(0, 1900, batch_size)}
        return {at: samples for at, samples in seen.items() if samples}

    assert asked(1) == {0: 500, **dict.fromkeys(refreshed, 100)}
    assert asked(2) == asked(20) == {0: 500}
    rule = sdlm(refresh_every=None, samples=7)
    assert asked(1) == asked(2) == {0: 7}


def test_the_other_rules_ask_for_no_curvature(optimizer):
    if optimizer == "sdlm":
        pytest.skip("it is the one that does")
    rule = configured(optimizer)
    assert {rule.curvature_samples(epoch, seen, 8) for epoch in (1, 2) for seen in range(2000)} == {0}
    assert rule.metrics() == {}
    with pytest.raises(NotImplementedError, match="asks for no curvature"):
        rule.set_curvature(np.zeros(2))


@pytest.mark.parametrize(
    ("name", "values", "accepted"),
    [
        ("mu", [0, -1, float("nan"), float("inf"), "much", None], "positive"),
        ("samples", [0, -5, 2.5, "all", None], "a whole number from 1 on"),
        ("refresh_samples", [0, -5, 2.5, "all", None], "a whole number from 1 on"),
        ("refresh_every", [0, -5, 2.5, "often"], "a whole number from 1 on or null"),
    ],
)
def test_values_that_make_no_sense_for_sdlm_are_refused(name, values, accepted):
    for value in values:
        message = rf"^optimizer\.{name}: must be {accepted}, got {re.escape(str(value))}$"
        with pytest.raises(InputError, match=message):
            sdlm(**{name: value})
