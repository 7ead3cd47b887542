"""Batch normalisation: by hand, by differences, in the whole network, in a training, in what a run leaves behind."""

from dataclasses import replace

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from ablations.errors import InputError
from ablations.ground.paths import CONF
from ablations.nn.activations import Activate
from ablations.nn.batch_norm import BatchNorm
from ablations.nn.convolution import Convolution
from ablations.nn.dense import Dense
from ablations.nn.initializers import LeCun
from ablations.nn.pooling import MaxPooling
from ablations.predict.model import Model, save
from ablations.training.loop import evaluate, gradient, train
from ablations.training.optimizers import SGD
from ablations.training.recipe import assemble

RNG = np.random.default_rng(0)


def prepared(shape: tuple[int, ...], n: int, dtype: type = np.float64) -> BatchNorm:
    layer = hydra.utils.instantiate(OmegaConf.load(CONF / "norm" / "batch.yaml"))
    assert layer.build(shape, LeCun(), np.random.default_rng(1)) == shape
    layer.bind(*np.zeros((3, layer.size), dtype))
    layer.resize(n)
    return layer


def drawn(*shape: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# The layer


def test_in_numbers(norm, expected):
    for values, weight, bias, outputs, mean, variance in expected("norm", norm).numbers:
        layer = prepared((2,), len(values))
        layer.parameters["weight"].value[0], layer.parameters["bias"].value[0] = weight, bias
        x = np.array([values, np.zeros(len(values))], float)
        np.testing.assert_allclose(layer.forward_training(x, RNG)[0], outputs, rtol=1e-12)
        assert layer.statistics["mean"][0] == pytest.approx(mean, rel=1e-12)
        assert layer.statistics["variance"][0] == pytest.approx(variance, rel=1e-12)
        wanted = weight * (np.array(values) - mean) / (variance + 1e-5) ** 0.5 + bias
        np.testing.assert_allclose(layer.forward(x)[0], wanted, rtol=1e-12)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("shape", [(4, 2, 1, 3), (2, 3, 2), (5,)])
def test_gradients_are_differences(shape, n, training, numerical_gradient):
    layer = prepared(shape, n)
    layer.values += drawn(layer.size, seed=7)
    layer.forward_training(3 * drawn(*shape, n, seed=8) + 1, RNG)
    x, weights = drawn(*shape, n), drawn(*shape, n, seed=3)

    def forward() -> np.ndarray:
        return layer.forward_training(x, RNG) if training else layer.forward(x)

    forward()
    layer.grads[...] = np.nan
    dx = layer.backward(weights.copy()).copy()
    grads = layer.grads.copy()

    def energy() -> float:
        return float((forward() * weights).sum())

    np.testing.assert_allclose(dx, numerical_gradient(energy, x), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(grads, numerical_gradient(energy, layer.values), rtol=1e-6, atol=1e-7)


def test_a_map_is_normalised_over_images_positions_and_phases():
    layer, x = prepared((4, 3, 2, 5), 6), 3 * drawn(4, 3, 2, 5, 6) + 7
    y = layer.forward_training(x, RNG)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3, 4)), 0, atol=1e-12)
    np.testing.assert_allclose(y.var(axis=(0, 2, 3, 4)), 1, rtol=1e-5)
    assert layer.summary().shape == (3, 4, 10)


def test_running_statistics_come_to_those_of_all_images():
    layer, x = prepared((2,), 50), drawn(2, 5000) * [[3.0], [0.5]] + [[1.0], [-2.0]]
    for _ in range(3):
        for start in range(0, 5000, 50):
            layer.forward_training(x[:, start : start + 50], RNG)
    np.testing.assert_allclose(layer.statistics["mean"][:, 0], [1, -2], atol=0.2)
    np.testing.assert_allclose(layer.statistics["variance"][:, 0], [9, 0.25], rtol=0.2)
    kept = {name: each.copy() for name, each in layer.statistics.items()}
    layer.forward(x[:, :50])
    for name, each in kept.items():
        np.testing.assert_array_equal(layer.statistics[name], each)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_parameters(dtype):
    layer = prepared((4, 2, 3, 3), 2, dtype)
    x = drawn(4, 2, 3, 3, 2).astype(dtype)
    assert (
        layer.forward_training(x, RNG).dtype
        == layer.backward(x.copy()).dtype
        == layer.forward(x).dtype
        == dtype
    )
    assert {each.dtype for each in layer.statistics.values()} == {np.dtype(dtype)}


def test_one_image_is_refused():
    with pytest.raises(InputError, match="needs two images to a training step, got 1"):
        prepared((3,), 1).forward_training(np.ones((3, 1)), RNG)
    assert np.isfinite(prepared((3,), 1).forward(np.ones((3, 1)))).all()
    assert np.isfinite(prepared((4, 3, 2, 2), 1).forward_training(drawn(4, 3, 2, 2, 1), RNG)).all()


@pytest.mark.parametrize(
    ("momentum", "eps", "said"),
    [
        (0, 1e-5, "momentum"),
        (1.1, 1e-5, "momentum"),
        ("a", 1e-5, "momentum"),
        (0.1, 0, "eps"),
        (0.1, None, "eps"),
    ],
)
def test_values_that_make_no_sense_are_refused(momentum, eps, said):
    with pytest.raises(InputError, match=rf"^norm\.{said}: must be "):
        BatchNorm(momentum, eps)


# The network


def test_it_stands_between_a_layer_and_its_activation(build):
    network = build("norm=batch")
    assert [type(layer) for layer in network.sequence] == [
        *(Convolution, BatchNorm, MaxPooling, Activate) * 2,
        *(Dense, BatchNorm, Activate) * 2,
        Dense,
    ]
    assert [type(layer) for layer in build("norm=batch", "pool=avg").sequence][:3] == [
        Convolution,
        BatchNorm,
        Activate,
    ]
    assert list(build().named) == list(build().layers)
    assert set(network.named) - set(network.layers) == {"C1.norm", "C3.norm", "C5.norm", "F6.norm"}
    for name in ("mean", "variance", "weight", "bias"):
        assert network.state()[f"C3.norm.{name}"].shape == (16, 1)


def test_one_seed_gives_one_start(build, compose):
    plain, normal = build(seed=3).state(), build("norm=batch", "dropout.rate=0.3", seed=3).state()
    for name, array in plain.items():
        np.testing.assert_array_equal(normal[name], array)
    streams = {assemble(compose(choice)).stream for choice in ("norm=none", "norm=batch", "dropout.rate=0.5")}
    assert len(streams) == 1


def test_gradient_of_the_whole_network(build):
    """Central differences in two random directions of every parameter; a bias before a mean is taken away has none."""
    network = build("norm=batch", "activation=tanh", "pool=avg")
    rng = np.random.default_rng(1)
    network.values += rng.normal(0, 0.05, network.values.size)
    x, labels = rng.uniform(0, 1, (1, 32, 32, 4)), np.arange(4)

    def loss() -> float:
        return network.loss(network.forward(x, rng), labels)[0].mean()

    network.backward(network.loss(network.forward(x, rng), labels)[1])
    gradients = {
        (name, key): parameter.grad.copy()
        for name, layer in network.named.items()
        for key, parameter in layer.parameters.items()
    }
    for (name, key), grad in gradients.items():
        value = network.named[name].parameters[key].value
        kept = value.copy()
        assert np.abs(grad).max() > 1e-6 or (key == "bias" and name in ("C1", "C3", "C5", "F6"))
        for direction in rng.normal(size=(2, *value.shape)):
            value[...] = kept + 1e-7 * direction
            above = loss()
            value[...] = kept - 1e-7 * direction
            below = loss()
            value[...] = kept
            scale = np.linalg.norm(grad) * np.linalg.norm(direction)
            wanted = (above - below) / 2e-7
            assert wanted == pytest.approx((grad * direction).sum(), abs=1e-4 * scale + 1e-7), f"{name}.{key}"


def test_feature_maps_are_those_of_evaluation(build):
    network, rng = build("norm=batch"), np.random.default_rng(0)
    x = rng.uniform(0, 1, (1, 32, 32, 5))
    network.forward(x, rng)
    outputs = network.forward(x).copy()
    for at in range(5):
        maps = network.feature_maps(x[..., at])
        np.testing.assert_allclose(maps["output"], outputs[:, at], rtol=1e-12)
    assert list(maps) == ["C1", "S2", "C3", "S4", "C5", "F6", "output"]
    pooled = maps["C1"].reshape(6, 14, 2, 14, 2).max(axis=(2, 4))
    np.testing.assert_allclose(maps["S2"], pooled)


def test_places_that_do_not_exist_are_refused(build):
    refused = hydra.errors.InstantiationException
    with pytest.raises(refused, match=r"network\.norms: C9; accepted: C1, S2, C3, S4, C5, F6, output"):
        build("+network.norms.C9=${norm}", "norm=batch")
    with pytest.raises(refused, match=r"network\.dropout: C1; accepted: C5, F6, output"):
        build("+network.dropout.C1=${dropout}")


# The training


@pytest.fixture
def recipe(compose):
    recipe = assemble(compose("norm=batch", "dropout.rate=0.2", "trainer.epochs=2"))
    return replace(recipe, training=recipe.training.first(200), validation=None)


def test_a_large_batch_is_normalised_as_a_whole(build):
    network, rng = build("norm=batch"), np.random.default_rng(0)
    images, labels = rng.uniform(0, 1, (70, 1, 32, 32)), rng.integers(10, size=70)

    def feed(part: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(part.transpose(1, 2, 3, 0))

    gradient(network, feed, images, labels, rng)
    found = network.grads.copy()
    network.backward(network.loss(network.forward(feed(images), rng), labels)[1])
    np.testing.assert_array_equal(found, network.grads)


@pytest.mark.parametrize("batch_size", [1, 199, 66])
def test_a_step_of_one_image_is_refused_before_the_first(batch_size, recipe):
    options = replace(recipe.options, batch_size=batch_size)
    small = replace(recipe, options=options, training=recipe.training.first(199 if batch_size == 66 else 200))
    before = recipe.network.values.copy()
    with pytest.raises(
        InputError, match=r"^trainer\.batch_size: .* leave one image to a step, and norm=batch needs"
    ):
        list(train(small))
    np.testing.assert_array_equal(recipe.network.values, before)


def test_sdlm_is_refused_in_one_line(compose):
    with pytest.raises(InputError, match=r"^norm=batch: .*optimizer=sdlm.*accepted: norm=none") as error:
        assemble(compose("norm=batch", "optimizer=sdlm"))
    assert "\n" not in str(error.value)
    assemble(compose("dropout.rate=0.5", "optimizer=sdlm"))


def test_validation_does_not_touch_the_training(recipe, compose):
    again = assemble(compose("norm=batch", "dropout.rate=0.2", "trainer.epochs=2"))
    list(train(recipe))
    list(train(replace(again, training=again.training.first(200), validation=again.training.first(50))))
    for name, array in recipe.network.state().items():
        np.testing.assert_array_equal(array, again.network.state()[name], name)


def test_a_saved_model_reads_as_the_run_did(recipe, compose, tmp_path):
    """By the running statistics, with every unit: image by image as in a batch."""
    list(train(recipe))
    model = Model(recipe.network, recipe.normalization)
    scored = evaluate(recipe.network, recipe.normalization, recipe.test)
    assert len(set(scored.predictions)) > 5
    save(tmp_path / "model", compose("norm=batch", "dropout.rate=0.2"), model)
    loaded = Model.load(tmp_path / "model")
    digits, probabilities = loaded.read(recipe.test.pixels)
    np.testing.assert_array_equal(digits, scored.predictions)
    np.testing.assert_array_equal(probabilities.max(axis=1), scored.confidences)
    alone = [loaded.read(recipe.test.pixels[at : at + 1])[1][0] for at in range(5)]
    np.testing.assert_allclose(alone, probabilities[:5], rtol=1e-4, atol=1e-6)
    with np.load(tmp_path / "model" / "weights.npz", allow_pickle=False) as saved:
        assert {name for name in saved if name.startswith("C5.")} == {
            f"C5.{key}"
            for key in ("weight", "bias", "norm.weight", "norm.bias", "norm.mean", "norm.variance")
        }


def test_it_trains_what_is_hard_without(compose):
    """Sigmoids, whose slope of at most a quarter lets next to nothing through to C1."""
    accuracy = {}
    for norm in ("none", "batch"):
        recipe = assemble(compose("activation=sigmoid", f"norm={norm}", "init=xavier", "trainer.epochs=4"))
        recipe = replace(recipe, training=recipe.training.first(640), validation=None, optimizer=SGD(0.1, 0))
        list(train(recipe))
        accuracy[norm] = evaluate(recipe.network, recipe.normalization, recipe.test).accuracy
    assert accuracy["none"] < 0.3 < 0.8 < accuracy["batch"]
