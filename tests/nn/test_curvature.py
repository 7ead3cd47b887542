"""The second back-propagation: each layer against JᵀHJ, the whole network against the recursion in plain loops."""

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from ablations.ground.paths import CONF
from ablations.nn.activations import Activate
from ablations.nn.convolution import Convolution
from ablations.nn.dense import Dense
from ablations.nn.feeder import Feeder
from ablations.nn.heads import PenaltyLoss, RadialBasis, SoftmaxCrossEntropy, SquaredError
from ablations.nn.initializers import LeCun
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization
from ablations.nn.pooling import AveragePooling, MaxPooling, Subsampling
from ablations.training.loop import curvature

UNIT = Normalization(offset=-0.1, scale=1.275 / 255)

C3_TABLE = OmegaConf.load(CONF / "c3" / "sparse.yaml").connections


def drawn(*shape: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# One layer: the diagonal of JᵀHJ, with J row by row


def jacobian(layer, x):
    """For one image: dy/dx (outputs, inputs) and dy/dθ (outputs, parameters), by `backward` of each unit vector."""
    layer.resize(1)
    y = layer.forward(x[..., None])
    by_input, by_parameter = [], []
    for unit in np.eye(y.size):
        layer.forward(x[..., None])
        by_input.append(layer.backward(unit.reshape(y.shape)).ravel().copy())
        by_parameter.append(layer.grads.copy())
    return np.array(by_input), np.array(by_parameter)


def check_against_jacobians(layer, in_shape, n, x=None):
    out_shape = layer.build(in_shape, LeCun(), np.random.default_rng(1))
    layer.bind(*np.zeros((3, layer.size)))
    x = drawn(*in_shape, n) if x is None else x
    h = np.random.default_rng(3).uniform(0.1, 2, (*out_shape, n))
    by_input, by_parameter = np.empty((*in_shape, n)), np.zeros(layer.size)
    for image in range(n):
        j_input, j_parameter = jacobian(layer, x[..., image])
        diagonal = np.diag(h[..., image].ravel())  # H
        by_input[..., image] = np.diag(j_input.T @ diagonal @ j_input).reshape(in_shape)
        by_parameter += np.diag(j_parameter.T @ diagonal @ j_parameter)

    layer.resize(n)
    layer.forward(x)
    layer.grads[...], layer.curvatures[...] = -1, np.nan
    found = layer.curvature(h.copy())
    assert found.shape == x.shape
    np.testing.assert_allclose(found, by_input, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(layer.curvatures, by_parameter, rtol=1e-8, atol=1e-12)
    assert (layer.grads == -1).all(), "the gradient is not its to write"
    np.testing.assert_array_equal(
        np.concatenate([p.curvature.ravel() for p in layer.parameters.values()] or [[]]), layer.curvatures
    )


LAYERS = {
    "dense": (lambda: Dense(5), (2, 3, 2)),
    "convolution": (lambda: Convolution(2, 3, None), (2, 4, 6)),
    "convolution 5×5": (lambda: Convolution(3, 5, None), (1, 8, 6)),
    "convolution by a table": (lambda: Convolution(3, 3, [[2], [0, 1], [1, 2, 0]]), (3, 6, 4)),
    "C3": (lambda: Convolution(16, 5, C3_TABLE), (6, 6, 8)),
    "average": (AveragePooling, (4, 2, 2, 3)),
    "max": (MaxPooling, (4, 2, 2, 3)),
    "subsampling, average": (lambda: Subsampling(True, None, None), (4, 3, 2, 3)),
    "subsampling, sum": (lambda: Subsampling(False, None, None), (4, 3, 2, 3)),
    "subsampling from 1": (lambda: Subsampling(True, 1.0, 0.0), (4, 3, 2, 3)),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", LAYERS)
def test_layer_is_the_diagonal_by_its_jacobian(kind, n):
    make, in_shape = LAYERS[kind]
    check_against_jacobians(make(), in_shape, n)


def test_activation_is_the_diagonal_by_its_jacobian(activation):
    layer = Activate(hydra.utils.instantiate(OmegaConf.load(CONF / "activation" / f"{activation}.yaml")))
    check_against_jacobians(layer, (2, 3), 4)


def test_max_pooling_of_ties_counts_one_of_them():
    x = np.random.default_rng(0).integers(0, 2, (4, 3, 3, 3, 4)).astype(float)
    check_against_jacobians(MaxPooling(), (4, 3, 3, 3), 4, x)


def test_shared_weights_add_up_over_positions_and_images():
    """Written out for one weight: Σ h · x² over all that it multiplies, as the paper sums over connections."""
    layer = Convolution(1, 3, None)
    layer.build((1, 6, 4), LeCun(), np.random.default_rng(1))
    layer.bind(*np.zeros((3, layer.size)))
    layer.resize(2)
    x, h = drawn(1, 6, 4, 2), np.random.default_rng(3).uniform(0, 1, (4, 1, 2, 1, 2))
    layer.forward(x)
    layer.curvature(h.copy())
    maps = np.empty((4, 2, 2))  # phases put back in their places
    for phase, (r, s) in zip(h[:, 0], np.ndindex(2, 2), strict=True):
        maps[r::2, s::2] = phase
    for i, j in np.ndindex(3, 3):
        by_hand = sum(maps[r, s, n] * x[0, r + i, s + j, n] ** 2 for r, s, n in np.ndindex(4, 2, 2))
        assert layer.parameters["weight"].curvature[0, i, j] == pytest.approx(by_hand, rel=1e-12)
    assert layer.parameters["bias"].curvature[0] == pytest.approx(h.sum(), rel=1e-12)


def test_coefficient_of_subsampling_sees_the_square_of_the_sum():
    """One weight for four inputs: (1 + 2 + 3 − 4)² · h = 4 h, not (1 + 4 + 9 + 16) h."""
    layer = Subsampling(False, 3.0, 0.0)
    layer.build((4, 1, 1, 1), LeCun(), np.random.default_rng(1))
    layer.bind(*np.zeros((3, layer.size)))
    layer.resize(1)
    layer.forward(np.array([1.0, 2, 3, -4]).reshape(4, 1, 1, 1, 1))
    found = layer.curvature(np.full((1, 1, 1, 1), 0.5))
    assert layer.curvatures.tolist() == [2, 0.5]
    assert found.ravel().tolist() == [4.5] * 4


# Losses


@pytest.mark.parametrize(
    "loss", [SquaredError(), SoftmaxCrossEntropy()], ids=lambda loss: type(loss).__name__
)
def test_loss_is_its_second_derivative(loss):
    outputs, labels, h = 2 * drawn(10, 6), np.arange(6) * 3 % 10, 1e-4
    found = loss.curvature(outputs.copy())
    assert found.shape == outputs.shape
    assert (found >= 0).all()
    for i in range(10):
        step = h * np.eye(10)[i][:, None]
        above, here, below = (loss(y, labels)[0] for y in (outputs + step, outputs, outputs - step))
        np.testing.assert_allclose(found[i], (above - 2 * here + below) / h**2, atol=1e-6)


def test_loss_in_numbers():
    outputs = np.array([[0.0], [np.log(2)], [np.log(3)]])  # probabilities 1/6, 1/3, 1/2
    np.testing.assert_allclose(SoftmaxCrossEntropy().curvature(outputs)[:, 0], [5 / 36, 2 / 9, 1 / 4])
    assert SquaredError().curvature(outputs).tolist() == [[1], [1], [1]]


@pytest.mark.parametrize("scale", [1, 0.1])
def test_radial_basis_is_the_second_derivative_of_the_labels_penalty(scale):
    """Eq. 8, E = y[label], differentiated twice by each input of the output layer."""
    layer, loss, labels, h = RadialBasis("bitmaps_7x12.txt", scale), PenaltyLoss(None), np.array([3, 8]), 1e-3
    layer.build((84,), LeCun(), np.random.default_rng(1))
    layer.bind(*np.zeros((3, 0)))
    layer.resize(2)
    x = drawn(84, 2)
    found = layer.curvature(loss.curvature(layer.forward(x)))
    assert found.shape == x.shape
    for j in range(84):
        step, losses = h * np.eye(84)[j][:, None], []
        for moved in (x + step, x, x - step):
            losses.append(loss(layer.forward(moved), labels)[0])
        numerical = (losses[0] - 2 * losses[1] + losses[2]) / h**2
        np.testing.assert_allclose(found[j], numerical, rtol=1e-5)
        np.testing.assert_allclose(found[j], 2 * scale, rtol=1e-12)


# The whole network, where the diagonal is exact


def images_of(n):
    """n random images (1, 32, 32, n) with a blank left half, and their labels."""
    rng = np.random.default_rng(7)
    images, labels = rng.uniform(0, 1, (1, 32, 32, n)), rng.integers(10, size=n)
    images[:, :, :16] = 0
    return images, labels


def second_differences(network, parameter, at, x, labels, h):
    """∂²/∂θ² of the summed loss, for the elements `at` of a parameter."""
    for index in at:
        kept, losses = parameter.value[index], []
        for value in (kept + h, kept, kept - h):
            parameter.value[index] = value
            losses.append(network.loss(network.forward(x), labels)[0].sum())
        parameter.value[index] = kept
        yield (losses[0] - 2 * losses[1] + losses[2]) / h**2


@pytest.mark.parametrize(
    "loss", [SquaredError(), SoftmaxCrossEntropy()], ids=lambda loss: type(loss).__name__
)
def test_one_layer_of_weights_has_its_exact_hessian(loss, compose):
    network = Network({"output": Dense(10)}, hydra.utils.instantiate(compose().activation), loss, {}, {})
    network.build((2, 2, 3), LeCun(), lambda name: np.random.default_rng(5), "float64")
    x, labels = drawn(2, 2, 3, 4), np.array([1, 2, 2, 9])
    network.curvature(x)
    for parameter in network.layers["output"].parameters.values():
        at = list(np.ndindex(parameter.value.shape))
        numerical = list(second_differences(network, parameter, at, x, labels, 1e-3))
        np.testing.assert_allclose(parameter.curvature.ravel(), numerical, atol=1e-5)


@pytest.mark.parametrize("head", ["softmax", "mse"])
def test_output_layer_of_the_whole_network_has_its_exact_hessian(head, build):
    network, (x, labels) = build(f"head={head}", "activation=tanh"), images_of(3)
    network.curvature(x)
    rng = np.random.default_rng(0)
    for parameter in network.layers["output"].parameters.values():
        at = [tuple(rng.integers(parameter.value.shape)) for _ in range(20)]
        numerical = list(second_differences(network, parameter, at, x, labels, 1e-3))
        found = [parameter.curvature[index] for index in at]
        np.testing.assert_allclose(found, numerical, rtol=1e-4, atol=1e-7)


def test_f6_below_the_radial_basis_functions_has_its_exact_hessian(build):
    """Where ReLU is linear, eq. 8 is quadratic in the weights of F6."""
    network, (x, labels) = build("head=rbf", "head.loss.j=null"), images_of(3)
    network.curvature(x)
    weight = network.layers["F6"].parameters["weight"]
    at = [tuple(index) for index in np.argwhere(weight.curvature > 0)[::151]]
    assert len(at) > 10
    found = [weight.curvature[index] for index in at]
    numerical = list(second_differences(network, weight, at, x, labels, 1e-4))
    np.testing.assert_allclose(found, numerical, rtol=1e-3, atol=1e-6)


# The whole network, by the recursion of appendix C written out


def convolve(x, kernels, bias):
    """One image (maps, y, x). On the way back: squared weights up, squared inputs to the weights, all summed."""
    (_, height, width), (maps, _, k, _) = x.shape, kernels.shape
    y = np.empty((maps, height - k + 1, width - k + 1))
    for r, s in np.ndindex(y.shape[1:]):
        y[:, r, s] = (kernels * x[:, r : r + k, s : s + k]).sum(axis=(1, 2, 3)) + bias

    def back(h):
        to_x, to_kernels = np.zeros_like(x), np.zeros_like(kernels)
        for r, s in np.ndindex(y.shape[1:]):
            to_kernels += h[:, r, s, None, None, None] * x[:, r : r + k, s : s + k] ** 2
            to_x[:, r : r + k, s : s + k] += (h[:, r, s, None, None, None] * kernels**2).sum(axis=0)
        return to_x, to_kernels, h.sum(axis=(1, 2))

    return y, back


def subsample(pool, x, weight, bias, activation):
    maps, height, width = x.shape
    windows = x.reshape(maps, height // 2, 2, width // 2, 2).transpose(2, 4, 0, 1, 3).reshape(4, maps, -1)
    pooled, share = pool.reduce(windows)
    y, factor = pooled, 1.0
    if pool.trainable:
        a = weight * pooled + bias
        y, factor = activation.function(a), weight**2

    def back(h):
        h, found = h.reshape(maps, -1), {}
        if pool.trainable:
            h = h * activation.derivative(a) ** 2
            found = {"weight": (h * pooled**2).sum(axis=1)[:, None], "bias": h.sum(axis=1)[:, None]}
        spread = (share**2 * factor * h).reshape(2, 2, maps, height // 2, width // 2)
        return spread.transpose(2, 3, 0, 4, 1).reshape(x.shape), found

    return y.reshape(maps, height // 2, width // 2), back


def recursion(state, image, activation, pool, head, table):
    """The curvature of each parameter by its name, for one image (1, 32, 32); choices are rows of expected.py."""
    f, slope = activation.function, activation.derivative
    reads, read = np.array([(m, c) for m, row in enumerate(table) for c in row]).T
    kernels = np.zeros((16, 6, 5, 5))
    kernels[reads, read] = state["C3.weight"]

    def weights(name):
        return state.get(f"{name}.weight"), state.get(f"{name}.bias")

    def dense(name, x):
        return state[f"{name}.weight"] @ x + state[f"{name}.bias"].ravel()

    c1, c1_back = convolve(image, state["C1.weight"].reshape(6, 1, 5, 5), state["C1.bias"])
    s2, s2_back = subsample(pool, f(c1), *weights("S2"), activation)
    c3, c3_back = convolve(s2, kernels, state["C3.bias"])
    s4, s4_back = subsample(pool, f(c3), *weights("S4"), activation)
    c5 = dense("C5", s4.ravel())
    f6 = dense("F6", f(c5))

    found = {}

    def dense_back(name, h, x):
        found[f"{name}.weight"] = np.outer(h, x**2)
        found[f"{name}.bias"] = h[:, None]
        return (state[f"{name}.weight"] ** 2).T @ h

    h, by_output = head.curvature(f(f6), *weights("output"))
    h = dense_back("F6", slope(f6) ** 2 * h, f(c5))
    h = dense_back("C5", slope(c5) ** 2 * h, s4.ravel())
    h, by_s4 = s4_back(h.reshape(s4.shape))
    h, by_kernels, by_bias = c3_back(slope(c3) ** 2 * h)
    found |= {"C3.weight": by_kernels[reads, read], "C3.bias": by_bias}
    h, by_s2 = s2_back(h)
    _, by_kernels, by_bias = c1_back(slope(c1) ** 2 * h)
    found |= {"C1.weight": by_kernels[:, 0], "C1.bias": by_bias}
    for name, by in {"S2": by_s2, "S4": by_s4, "output": by_output}.items():
        found |= {f"{name}.{key}": values for key, values in by.items()}
    return found


def test_network_is_the_recursion_of_the_paper(activation, pool, c3, head, build, expected):
    rows = expected("activation", activation), expected("pool", pool), expected("head", head)
    network = build(f"activation={activation}", f"pool={pool}", f"c3={c3}", f"head={head}")
    network.values += np.random.default_rng(0).normal(0, 0.05, network.values.size)
    x, _ = images_of(2)
    table = expected("c3", c3).table
    each = [recursion(network.state(), x[..., i], *rows, table) for i in range(2)]
    network.grads[...], network.curvatures[...] = -1, np.nan
    network.curvature(x)
    assert (network.grads == -1).all()
    for name, layer in network.layers.items():
        for key, parameter in layer.parameters.items():
            wanted = each[0].pop(f"{name}.{key}") + each[1].pop(f"{name}.{key}")
            assert wanted.shape == parameter.curvature.shape
            assert wanted.max() > 0, f"{name}.{key}: nothing was compared"
            np.testing.assert_allclose(
                parameter.curvature, wanted, rtol=1e-8, atol=1e-12 * wanted.max(), err_msg=f"{name}.{key}"
            )
    assert each == [{}, {}]


@pytest.mark.parametrize("average", [True, False])
def test_adding_instead_of_averaging_is_a_coefficient_four_times_as_large(average, build):
    """The same network; its coefficients' curvature is 16 times smaller or larger, all others are the same."""
    one, other = (
        build("pool=subsample", f"pool.average={kind}", "pool.coefficient=null", "activation=tanh")
        for kind in (average, not average)
    )
    other.load(
        {
            name: array * (0.25 if average else 4) if name in ("S2.weight", "S4.weight") else array
            for name, array in one.state().items()
        }
    )
    x, _ = images_of(2)
    one.curvature(x)
    other.curvature(x)
    for name, layer in one.layers.items():
        for key, parameter in layer.parameters.items():
            factor = (16 if average else 1 / 16) if name in ("S2", "S4") and key == "weight" else 1
            again = other.layers[name].parameters[key].curvature
            np.testing.assert_allclose(again, factor * parameter.curvature, rtol=1e-9)


# Over many images


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(4).integers(0, 256, (120, 28, 28), np.uint8)


@pytest.mark.parametrize("count", [1, 31, 32, 33, 100])
def test_mean_over_images_however_they_are_split(count, build, pixels):
    network = build("pool=subsample", "head=rbf", "c3=sparse", "activation=scaled_tanh", "init=lecun")
    feed = Feeder(network, UNIT)
    chosen = np.random.default_rng(count).permutation(120)[:count]
    total = np.zeros(network.values.size)
    for index in chosen:
        network.curvature(feed(pixels[index : index + 1]))
        total += network.curvatures
    mean = curvature(network, feed, pixels[chosen])
    np.testing.assert_allclose(mean, total / count, rtol=1e-9, atol=1e-12 * mean.max())
    assert not np.shares_memory(mean, network.curvatures)


def test_curvature_changes_no_weight_and_no_later_gradient(build):
    network, (x, labels) = build("pool=subsample", "head=rbf"), images_of(3)
    network.backward(network.loss(network.forward(x), labels)[1])
    values, grads = network.values.copy(), network.grads.copy()
    network.curvature(x[..., :2])
    np.testing.assert_array_equal(network.values, values)
    np.testing.assert_array_equal(network.grads, grads)
    with pytest.raises(RuntimeError, match="forward"):  # the buffers no longer hold what it needs
        network.backward(np.ones((10, 2)))
    network.backward(network.loss(network.forward(x), labels)[1])
    np.testing.assert_array_equal(network.grads, grads)


def test_curvature_in_float32_is_that_in_float64(build):
    single, double = (build(f"trainer.dtype={dtype}", "head=rbf") for dtype in ("float32", "float64"))
    x, _ = images_of(3)
    single.curvature(x.astype(np.float32))
    double.curvature(x)
    assert single.curvatures.dtype == np.float32
    assert np.abs(single.curvatures - double.curvatures).max() <= 1e-4 * double.curvatures.max()
