"""Dropout: by hand, by differences, its draws, in a training."""

from dataclasses import replace

import numpy as np
import pytest

from ablations.errors import InputError
from ablations.nn.activations import Activate
from ablations.nn.dense import Dense
from ablations.nn.dropout import Dropout
from ablations.nn.initializers import LeCun
from ablations.training import loop
from ablations.training.loop import evaluate, train
from ablations.training.recipe import assemble


class Given:
    """In place of a random generator: these draws."""

    def __init__(self, draws: np.ndarray) -> None:
        self.draws = draws

    def random(self, out: np.ndarray, dtype: type) -> None:
        out[...] = self.draws


def prepared(rate: float, units: int, n: int, dtype: type = np.float64) -> Dropout:
    layer = Dropout(rate)
    layer.build((units,), LeCun(), np.random.default_rng(1))
    layer.bind(*np.zeros((3, 0), dtype))
    layer.resize(n)
    return layer


# The layer


def test_in_numbers(dropout, expected):
    for rate, draw, value, output in expected("dropout", dropout).numbers:
        layer = prepared(rate, 1, 1)
        y = layer.forward_training(np.array([[value]]), Given(np.array([[draw]])))
        assert y[0, 0] == pytest.approx(output, rel=1e-12)
        assert layer.backward(np.array([[1.0]]))[0, 0] == pytest.approx(output / value, rel=1e-12)
        assert layer.curvature(np.array([[1.0]]))[0, 0] == pytest.approx((output / value) ** 2, rel=1e-12)


def test_gradient_is_a_difference(numerical_gradient):
    layer, rng = prepared(0.4, 5, 3), np.random.default_rng(2)
    x, weights = rng.normal(size=(2, 5, 3))

    def energy() -> float:
        return float((layer.forward_training(x, np.random.default_rng(4)) * weights).sum())

    energy()
    np.testing.assert_allclose(layer.backward(weights.copy()), numerical_gradient(energy, x), atol=1e-8)


def test_evaluation_leaves_everything_as_it_is():
    layer, x = prepared(0.9, 4, 2), np.random.default_rng(0).normal(size=(4, 2))
    layer.forward_training(x, np.random.default_rng(1))
    np.testing.assert_array_equal(layer.forward(x), x)
    np.testing.assert_array_equal(layer.backward(x.copy()), x)
    np.testing.assert_array_equal(layer.curvature(x.copy()), x)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_a_share_is_dropped_for_each_image_and_the_mean_stays(rate):
    layer, rng = prepared(rate, 400, 100), np.random.default_rng(3)
    y = layer.forward_training(np.ones((400, 100)), rng).copy()
    assert set(np.unique(y)) == {0, 1 / (1 - rate)}
    assert (y == 0).mean() == pytest.approx(rate, abs=0.01)
    assert y.mean() == pytest.approx(1, abs=0.05)
    assert (y[:, 0] != y[:, 1]).any()
    assert (layer.forward_training(np.ones((400, 100)), rng) != y).any()


def test_both_precisions_drop_the_same():
    single, double = (
        prepared(0.3, 50, 20, dtype).forward_training(np.ones((50, 20), dtype), np.random.default_rng(5))
        for dtype in (np.float32, np.float64)
    )
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single == 0, double == 0)


@pytest.mark.parametrize("rate", [-0.1, 1, 1.5, float("nan"), "half", None])
def test_rates_that_make_no_sense_are_refused(rate):
    with pytest.raises(InputError, match=rf"^dropout\.rate: must be at least 0 and below 1, got {rate}$"):
        Dropout(rate)


# The network and its training


def test_it_follows_the_activations_of_c5_and_f6(build):
    kinds = [type(layer) for layer in build("dropout.rate=0.5").sequence]
    assert kinds[-7:] == [*(Dense, Activate, Dropout) * 2, Dense]
    assert build("dropout.rate=0.125").named["C5.dropout"].summary().kind == "dropout of 12.5%"
    assert Dropout not in [type(layer) for layer in build().sequence]
    one = build("dropout.rate=0.5", "~network.dropout.C5")
    assert [name for name in one.named if name not in one.layers] == ["F6.dropout"]


def some(compose, *overrides):
    recipe = assemble(compose("trainer.epochs=2", *overrides))
    return replace(recipe, training=recipe.training.first(100), validation=None)


def test_the_order_of_the_images_stays_the_same(compose, monkeypatch):
    batches, original = [], loop.gradient

    def spy(network, feed, images, *rest):
        batches.append(images.copy())
        return original(network, feed, images, *rest)

    monkeypatch.setattr(loop, "gradient", spy)
    for rate in (0, 0.5):
        list(train(some(compose, f"dropout.rate={rate}")))
    for plain, dropped in zip(batches[:8], batches[8:], strict=True):
        np.testing.assert_array_equal(plain, dropped)


def test_a_seed_gives_the_same_bits_and_its_own_draws(compose):
    def weights(*overrides):
        recipe = some(compose, *overrides)
        list(train(recipe))
        return recipe.network.values.tobytes()

    first = weights("dropout.rate=0.5")
    assert first == weights("dropout.rate=0.5")
    assert first != weights("dropout.rate=0.4")
    assert weights() == weights("dropout.rate=0")


def test_evaluation_drops_nothing(compose):
    recipe = some(compose, "dropout.rate=0.5")
    list(train(recipe))
    first, second = (evaluate(recipe.network, recipe.normalization, recipe.test) for _ in range(2))
    assert first.loss == second.loss
    plain = assemble(compose()).network
    plain.load(recipe.network.state())
    assert evaluate(plain, recipe.normalization, recipe.test).loss == first.loss


def test_it_goes_with_sdlm(compose):
    """The curvature is that of the network with all its units, and draws nothing."""
    recipe = some(compose, "dropout.rate=0.3", "optimizer=sdlm", "head=mse", "trainer.batch_size=10")
    records = list(train(recipe))
    assert records[-1].train_loss < records[0].train_loss
