"""Every layer, loss and initializer by itself: one contract for all, and numbers computed by hand for each."""

import inspect
from collections.abc import Iterator, Mapping

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf
from scipy.special import ndtr

from ablations.errors import InputError
from ablations.ground.paths import CONF
from ablations.nn.activations import Activate, Activation
from ablations.nn.convolution import Convolution
from ablations.nn.dense import Dense
from ablations.nn.heads import Loss, PenaltyLoss, RadialBasis, SoftmaxCrossEntropy, SquaredError
from ablations.nn.initializers import He, Initializer, LeCun, Xavier
from ablations.nn.layer import Layer, aligned
from ablations.nn.network import Network
from ablations.nn.pooling import AveragePooling, MaxPooling, Subsampling

# Helpers


def configured(group: str, choice: str) -> object:
    return hydra.utils.instantiate(OmegaConf.load(CONF / group / f"{choice}.yaml"))


def prepared(layer: Layer, in_shape: tuple[int, ...], n: int, init: Initializer | None = None) -> Layer:
    """The layer, ready for batches of n, in float64; LeCun's initial biases are not zero."""
    layer.build(in_shape, init or LeCun(), np.random.default_rng(1))
    layer.bind(*np.zeros((3, layer.size)))
    layer.resize(n)
    return layer


def phases_of(maps: np.ndarray) -> np.ndarray:
    """(maps, y, x, n) as (4, maps, y/2, x/2, n)."""
    return np.stack([maps[:, row::2, column::2] for row in (0, 1) for column in (0, 1)])


def drawn(*shape: int, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(scope="session")
def c3_layer(compose):
    """c3_layer("sparse"): the layer C3 of the configuration."""
    return lambda choice: hydra.utils.instantiate(compose(f"c3={choice}").network.layers.C3)


@pytest.fixture(params=[1, 3, 4], ids="n={}".format)
def n(request):
    return request.param


# The contract


def targets(node: object, path: str = "") -> Iterator[tuple[str, Mapping]]:
    """Every part of a configuration that names a class."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield path, node
        for key, value in node.items():
            yield from targets(value, f"{path}.{key}")


GROUPS = "activation distortion dropout head init network norm optimizer pool"


@pytest.mark.parametrize(
    "path",
    sorted(path for group in GROUPS.split() for path in (CONF / group).glob("*.yaml") if path.stem != "none"),
    ids=lambda path: f"{path.parent.name}={path.stem}",
)
def test_yaml_gives_exactly_the_arguments_of_its_class(path):
    parts = list(targets(OmegaConf.to_container(OmegaConf.load(path))))
    assert parts, f"{path.name} names no class"
    for where, part in parts:
        parameters = inspect.signature(hydra.utils.get_class(part["_target_"])).parameters
        assert set(part) - {"_target_"} == set(parameters), f"{path.name}{where}"
        defaults = [p.name for p in parameters.values() if p.default is not inspect.Parameter.empty]
        assert not defaults, f"defaults belong into the YAML alone: {defaults}"


def test_c3_yaml_gives_arguments_of_the_convolution(c3):
    assert set(OmegaConf.load(CONF / "c3" / f"{c3}.yaml")) <= set(inspect.signature(Convolution).parameters)


@pytest.mark.parametrize(
    ("part", "family"),
    [
        ("activation", Activation),
        ("init", Initializer),
        ("network.layers.S2", Layer),
        ("network.layers.C3", Convolution),
        ("head.output", Layer),
        ("head.loss", Loss),
    ],
)
def test_parts_are_of_their_family(part, family, compose):
    assert isinstance(hydra.utils.instantiate(OmegaConf.select(compose(), part)), family)


def check_contract(
    layer: Layer, in_shape: tuple[int, ...], out_shape: tuple[int, ...], n: int, gradient
) -> None:
    """Shapes, every gradient against central differences, buffers, and changes of the batch size."""
    assert layer.build(in_shape, LeCun(), np.random.default_rng(1)) == out_shape
    prepared(layer, in_shape, n)
    x, weights = drawn(*in_shape, n), drawn(*out_shape, n, seed=3)

    y = layer.forward(x)
    assert y.shape == (*out_shape, n)
    assert y.dtype == np.float64
    layer.grads[...] = np.nan  # gradients are written, not added
    dx = layer.backward(weights.copy())
    assert dx.shape == x.shape
    first = y.copy(), dx.copy(), layer.grads.copy()

    def energy() -> float:
        return float((layer.forward(x) * weights).sum())

    np.testing.assert_allclose(first[1], gradient(energy, x), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(first[2], gradient(energy, layer.values), rtol=1e-6, atol=1e-7)

    for size in (n, n + 1, n):  # the parameters' gradients of another batch are overwritten, not kept
        layer.resize(size)
        other = drawn(*in_shape, size, seed=4) if size != n else x
        again = layer.forward(other)
        dagain = layer.backward(drawn(*out_shape, size, seed=5) if size != n else weights.copy())
        if size == n:
            assert np.shares_memory(again, y), "the output's buffer was not used again"
            assert np.shares_memory(dagain, dx) or layer.forward(x) is again
            for before, after in zip(first, (again, dagain, layer.grads), strict=True):
                np.testing.assert_array_equal(before, after)
        else:
            assert not np.shares_memory(again, y)

    layer.grads[...] = np.nan
    layer.forward(x)
    layer.backward_parameters(weights.copy())
    np.testing.assert_array_equal(layer.grads, first[2])
    assert sum(p.value.size for p in layer.parameters.values()) == layer.size == layer.values.size
    for parameter in layer.parameters.values():
        assert np.shares_memory(parameter.value, layer.values)
        assert np.shares_memory(parameter.grad, layer.grads)
        assert np.shares_memory(parameter.curvature, layer.curvatures)


def test_activation_keeps_the_contract(activation, n, numerical_gradient):
    layer = Activate(configured("activation", activation))
    check_contract(layer, (2, 3, 4), (2, 3, 4), n, numerical_gradient)
    check_contract(Activate(configured("activation", activation)), (5,), (5,), n, numerical_gradient)


def test_pool_keeps_the_contract(pool, n, numerical_gradient):
    check_contract(configured("pool", pool), (4, 3, 2, 5), (3, 2, 5), n, numerical_gradient)


def test_c3_keeps_the_contract(c3, n, c3_layer, numerical_gradient):
    check_contract(c3_layer(c3), (6, 6, 8), (4, 16, 1, 2), n, numerical_gradient)


def test_output_keeps_the_contract(head, n, numerical_gradient):
    check_contract(configured("head", head).output, (84,), (10,), n, numerical_gradient)


@pytest.mark.parametrize("average", [True, False])
def test_drawn_subsampling_keeps_the_contract(average, n, numerical_gradient):
    check_contract(Subsampling(average, None, None), (4, 3, 2, 5), (3, 2, 5), n, numerical_gradient)


@pytest.mark.parametrize(
    ("maps", "kernel", "connections", "in_shape", "out_shape"),
    [
        (2, 1, None, (3, 4, 6), (4, 2, 2, 3)),
        (3, 3, None, (2, 8, 4), (4, 3, 3, 1)),
        (2, 5, None, (1, 10, 6), (4, 2, 3, 1)),
        (3, 3, [[1], [0, 1], [1, 0]], (2, 4, 6), (4, 3, 1, 2)),
    ],
)
def test_convolution_keeps_the_contract(
    maps, kernel, connections, in_shape, out_shape, n, numerical_gradient
):
    check_contract(Convolution(maps, kernel, connections), in_shape, out_shape, n, numerical_gradient)


def test_dense_keeps_the_contract(n, numerical_gradient):
    check_contract(Dense(5), (2, 3, 2), (5,), n, numerical_gradient)


def test_loss_gradient_is_that_of_the_mean_loss(head, n, numerical_gradient):
    loss = configured("head", head).loss
    outputs, labels = drawn(10, n), np.arange(n, dtype=np.uint8) * 3 % 10
    losses, gradient = loss(outputs, labels)
    assert losses.shape == (n,)
    assert gradient.shape == outputs.shape
    numerical = numerical_gradient(lambda: float(loss(outputs, labels)[0].mean()), outputs)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-6, atol=1e-8)


def test_probabilities_add_up_to_one_and_agree_with_the_answer(head):
    loss = configured("head", head).loss
    outputs = 3 * drawn(10, 50)
    outputs[:, 0] = -np.arange(10) - 1.0  # nothing positive
    probabilities, answers = loss.probabilities(outputs), loss.answers(outputs)
    assert probabilities.shape == (10, 50)
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, rtol=1e-12)
    np.testing.assert_array_equal(probabilities.argmax(axis=0), answers)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_parameters(activation, pool, c3, dtype, c3_layer):
    convolution, pooling = c3_layer(c3), configured("pool", pool)
    squashing, dense = Activate(configured("activation", activation)), Dense(4)
    shape = (6, 6, 6)
    for layer in (convolution, pooling, squashing, dense):
        shape = layer.build(shape, LeCun(), np.random.default_rng(1))
        layer.bind(*np.zeros((3, layer.size), dtype))
        layer.resize(2)
    x = drawn(6, 6, 6, 2).astype(dtype)
    for layer in (convolution, pooling, squashing, dense):
        x = layer.forward(x)
        assert x.dtype == dtype
    for loss in (SoftmaxCrossEntropy(), PenaltyLoss(20.0), PenaltyLoss(None), SquaredError()):
        losses, gradient = loss(x, np.array([1, 3]))
        h = loss.curvature(x)
        assert losses.dtype == gradient.dtype == h.dtype == loss.probabilities(x).dtype == dtype
    for layer in (dense, squashing, pooling, convolution):
        gradient = layer.backward(gradient)
        assert gradient.dtype == dtype
    for layer in (dense, squashing, pooling, convolution):
        h = layer.curvature(h)
        assert h.dtype == dtype
        assert (layer.curvatures >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_of_the_output_is_that_of_the_parameters(head, dtype):
    layer = configured("head", head).output
    layer.build((84,), LeCun(), np.random.default_rng(1))
    layer.bind(*np.zeros((3, layer.size), dtype))
    layer.resize(2)
    y = layer.forward(drawn(84, 2).astype(dtype))
    assert y.dtype == layer.backward(y.copy()).dtype == layer.curvature(y.copy()).dtype == dtype
    assert getattr(layer, "codes", y).dtype == dtype, "products of two precisions are slow"


# Numbers by hand


def test_activation_in_numbers(activation, expected):
    rows = expected("activation", activation).numbers
    a, y, slope = (np.array(column, float) for column in zip(*rows, strict=True))
    layer = prepared(Activate(configured("activation", activation)), (len(a),), 1)
    np.testing.assert_allclose(layer.forward(a[:, None])[:, 0], y, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(
        layer.backward(np.full((len(a), 1), 3.0))[:, 0], 3 * slope, rtol=1e-9, atol=1e-14
    )


def test_activation_says_whether_it_is_monotone_and_never_gives_nan_or_infinity(activation, expected):
    a = np.linspace(-1e4, 1e4, 2_000_001)[:, None]
    layer = prepared(Activate(configured("activation", activation)), (len(a),), 1)
    y, least = layer.forward(a).copy(), expected("activation", activation).least
    assert np.isfinite(y).all()
    assert layer.activation.is_monotone == (least is None) == (np.diff(y[:, 0]) >= 0).all()
    if least is not None:
        at = y.argmin()
        assert a[at, 0] == pytest.approx(least[0], abs=0.01)
        assert y[at, 0] == pytest.approx(least[1], abs=1e-4)
        assert (np.diff(y[: at + 1, 0]) <= 0).all()
        assert (np.diff(y[at:, 0]) >= 0).all()
    assert np.isfinite(layer.backward(np.ones_like(a))).all()


def test_activation_works_in_place(activation):
    """As for the feature maps of a picture."""
    rule, a = configured("activation", activation), drawn(3, 4)
    wanted = np.empty_like(a)
    rule.apply(a, out=wanted)
    rule.apply(a, out=a)
    np.testing.assert_array_equal(a, wanted)


def test_pool_in_numbers(pool, expected):
    rows = expected("pool", pool).numbers
    windows, outputs, gradients = (np.array(column, float) for column in zip(*rows, strict=True))
    layer = prepared(configured("pool", pool), (4, 1, 1, len(rows)), 1)
    y = layer.forward(windows.T.reshape(4, 1, 1, -1, 1).copy())
    np.testing.assert_array_equal(y.ravel(), outputs)
    dx = layer.backward(np.full(y.shape, 8.0))
    np.testing.assert_array_equal(dx.reshape(4, -1).T, gradients)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_max_pooling_hands_on_the_gradient_exactly(dtype):
    layer = MaxPooling()
    layer.build((4, 3, 5, 5), LeCun(), np.random.default_rng(0))
    layer.bind(*np.zeros((3, 0), dtype))
    layer.resize(7)
    x = np.random.default_rng(0).integers(0, 3, (4, 3, 5, 5, 7)).astype(dtype)  # ties of all kinds
    dy = drawn(3, 5, 5, 7).astype(dtype)
    y = layer.forward(x)
    dx = layer.backward(dy.copy())
    first = x.argmax(axis=0)
    np.testing.assert_array_equal(y, x.max(axis=0))
    np.testing.assert_array_equal(dx, np.where(np.arange(4)[:, None, None, None, None] == first, dy, 0))


@pytest.mark.parametrize(("average", "share"), [(True, 0.25), (False, 1)])
def test_subsampling_by_hand(average, share):
    """Two maps of one window each, two images."""
    layer = prepared(Subsampling(average, 1.0, 0.0), (4, 2, 1, 1), 2)
    weight, bias = layer.parameters["weight"], layer.parameters["bias"]
    assert weight.value.ravel().tolist() == [1, 1]
    assert bias.value.ravel().tolist() == [0, 0]
    weight.value[...] = [[2], [-8]]
    bias.value[...] = [[0.5], [1]]
    # Map 0 holds 1, 2, 3, 6 in image 0 and 4, 4, 4, −4 in image 1; map 1 zeros, and 0, 0, 0, 4.
    x = np.array([[[1, 4], [0, 0]], [[2, 4], [0, 0]], [[3, 4], [0, 0]], [[6, -4], [0, 4]]], float)
    y = layer.forward(x.reshape(4, 2, 1, 1, 2))
    sums = np.array([[12, 8], [0, 4]]) * share
    assert y[:, 0, 0].tolist() == [
        [2 * sums[0, 0] + 0.5, 2 * sums[0, 1] + 0.5],
        [1, -8 * sums[1, 1] + 1],
    ]

    dx = layer.backward(np.array([[10.0, 1.0], [3.0, -2.0]]).reshape(2, 1, 1, 2))
    assert weight.grad.ravel().tolist() == [(10 * 12 + 8) * share, -2 * 4 * share]
    assert bias.grad.ravel().tolist() == [11, 1]
    for phase in dx[:, :, 0, 0]:
        assert phase.tolist() == [[20 * share, 2 * share], [-24 * share, 16 * share]]


def test_subsampling_shares_its_weights_over_positions():
    layer = prepared(Subsampling(False, 1.0, 0.0), (4, 1, 2, 3), 2)
    x, dy = drawn(4, 1, 2, 3, 2), drawn(1, 2, 3, 2, seed=3)
    layer.forward(x)
    layer.backward(dy.copy())
    weight = sum(dy[0, r, s, i] * x[:, 0, r, s, i].sum() for r, s, i in np.ndindex(2, 3, 2))
    np.testing.assert_allclose(layer.parameters["weight"].grad, [[weight]], rtol=1e-12)
    np.testing.assert_allclose(layer.parameters["bias"].grad, [[dy.sum()]], rtol=1e-12)


def test_subsampling_starts_from_what_it_is_given_or_from_draws():
    given = prepared(Subsampling(True, 0.25, -1.0), (4, 3, 1, 1), 1)
    assert given.parameters["weight"].value.ravel().tolist() == [0.25] * 3
    assert given.parameters["bias"].value.ravel().tolist() == [-1] * 3
    fans = prepared(Subsampling(True, None, None), (4, 3, 1, 1), 1, Fans())
    assert fans.parameters["weight"].value.ravel().tolist() == [4.001] * 3  # four inputs, one output
    assert fans.parameters["bias"].value.ravel().tolist() == [4] * 3
    drawn_weights = prepared(Subsampling(True, None, None), (4, 300, 1, 1), 1)
    for parameter in drawn_weights.parameters.values():
        assert 0.59 < np.abs(parameter.value).max() <= 0.6
        assert len(np.unique(parameter.value)) == 300


def test_c3_in_numbers(c3, expected, c3_layer):
    row = expected("c3", c3)
    layer = prepared(c3_layer(c3), (6, 14, 14), 1)
    assert layer.size == row.parameters
    assert layer.summary().connections == row.connections
    assert layer.summary().macs == row.connections - 16 * 100
    assert layer.summary().shape == (16, 10, 10)

    # Kernels of ones, and 100^c in map c: each pair of digits of an output, 25 or 00, says whether it reads a map.
    layer.parameters["weight"].value[...] = 1
    layer.parameters["bias"].value[...] = 0
    x = np.broadcast_to(100.0 ** np.arange(6)[:, None, None, None], (6, 14, 14, 1))
    y = layer.forward(x)
    reads = [sum(25 * 100.0**c for c in maps) for maps in row.table]
    np.testing.assert_array_equal(y, np.broadcast_to(np.reshape(reads, (1, 16, 1, 1, 1)), y.shape))


def test_convolution_by_hand():
    """A 6×6 image of 0 … 35 under a 5×5 kernel with three weights: nothing symmetric, nothing flipped."""
    layer = prepared(Convolution(1, 5, None), (1, 6, 6), 1)
    weight, bias = layer.parameters["weight"], layer.parameters["bias"]
    weight.value[...] = 0
    weight.value[0, 0, 0], weight.value[0, 2, 3], weight.value[0, 4, 4] = 1, 100, 10
    bias.value[...] = 0.5
    x = np.arange(36.0).reshape(1, 6, 6, 1)

    y = layer.forward(x)
    # y[0, 0] = 1·x[0, 0] + 100·x[2, 3] + 10·x[4, 4] + 0.5 = 0 + 1500 + 280 + 0.5; a step right adds 111, down 666.
    assert y.ravel().tolist() == [1780.5, 1891.5, 2446.5, 2557.5]

    dx = layer.backward(np.array([1.0, 2.0, 3.0, 4.0]).reshape(4, 1, 1, 1, 1))
    assert bias.grad.tolist() == [10]
    # dW[i, j] = 1·x[i, j] + 2·x[i, j+1] + 3·x[i+1, j] + 4·x[i+1, j+1] = 10·x[i, j] + 2 + 18 + 28
    by_hand = 10 * x[0, :5, :5, 0] + 48
    np.testing.assert_array_equal(weight.grad[0], by_hand)
    by_hand = np.zeros((6, 6))
    by_hand[0:2, 0:2] += [[1, 2], [3, 4]]
    by_hand[2:4, 3:5] += [[100, 200], [300, 400]]
    by_hand[4:6, 4:6] += [[10, 20], [30, 40]]
    np.testing.assert_array_equal(dx[0, :, :, 0], by_hand)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(1,), (61706,), (3, 5, 7), (4, 6, 14, 14, 3)])
def test_buffers_begin_at_a_cache_line(shape, dtype):
    first, second = aligned(shape, dtype), aligned(shape, dtype)
    assert (first.ctypes.data % 64, second.ctypes.data % 64) == (0, 0)
    assert (first.shape, first.dtype) == (shape, np.dtype(dtype))
    assert first.flags.c_contiguous
    assert not first.any()
    first[...] = 1
    assert first.all()
    assert not second.any()


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("connections", [None, [[2], [0, 1], [1, 2, 0]]])
def test_convolution_is_the_textbook_sum(connections, n):
    layer = prepared(Convolution(3, 3, connections), (3, 8, 6), n)
    x, weight, bias = drawn(3, 8, 6, n), layer.parameters["weight"].value, layer.parameters["bias"].value
    y = np.zeros((3, 6, 4, n))
    kernel = 0
    for m, reads in enumerate(connections or [range(3)] * 3):
        for c in reads:
            for row, column in np.ndindex(3, 3):
                y[m] += (
                    weight.reshape(-1, 3, 3)[kernel, row, column] * x[c, row : row + 6, column : column + 4]
                )
            kernel += 1
        y[m] += bias[m]
    np.testing.assert_allclose(layer.forward(x), phases_of(y), rtol=1e-12, atol=1e-13)


def test_convolution_reads_whichever_input_it_is_given():
    """Views of the last input are kept between calls: they must not outlive it."""
    layer, inputs = prepared(Convolution(2, 3, None), (1, 4, 4), 2), drawn(5, 1, 4, 4, 2)
    fresh = [prepared(Convolution(2, 3, None), (1, 4, 4), 2).forward(x).copy() for x in inputs]
    for at in (0, 1, 0, 2, 3, 4, 4, 0):
        np.testing.assert_array_equal(layer.forward(inputs[at]), fresh[at])
    reused = inputs[0]
    layer.forward(reused)
    reused[...] = inputs[1]
    np.testing.assert_array_equal(layer.forward(reused), fresh[1])


def test_dense_by_hand():
    layer = prepared(Dense(2), (3,), 2)
    weight, bias = layer.parameters["weight"], layer.parameters["bias"]
    weight.value[...] = [[1, 2, 3], [4, 5, 6]]
    bias.value[...] = [[0.5], [-0.5]]
    y = layer.forward(np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]]))
    assert y.tolist() == [[7.5, 2.5], [15.5, 4.5]]
    dx = layer.backward(np.array([[1.0, 10.0], [0.0, 2.0]]))
    assert weight.grad.tolist() == [[1, 10, 2], [0, 2, 0]]
    assert bias.grad.tolist() == [[11], [2]]
    assert dx.tolist() == [[1, 18], [2, 30], [3, 42]]


@pytest.fixture
def stripes(tmp_path):
    """A file of ten drawings, each row of # another: any two differ in 14 of their 84 pixels."""
    path = tmp_path / "stripes.txt"
    rows = [" ".join(("#" if row == digit else ".") * 7 for digit in range(10)) for row in range(12)]
    path.write_text("\n".join(["0 1 2 3 4 5 6 7 8 9", *rows]) + "\n", encoding="utf-8")
    return str(path)


def stripe(digit: int) -> np.ndarray:
    """The code of a digit in that file."""
    code = -np.ones(84)
    code[7 * digit : 7 * digit + 7] = 1
    return code


def test_radial_basis_by_hand(stripes):
    layer = prepared(RadialBasis(stripes, 0.5), (84,), 4)
    assert layer.size == 0
    assert [len(vector) for vector in (layer.values, layer.grads, layer.curvatures)] == [0, 0, 0]
    x = np.stack([np.zeros(84), stripe(3), 2 * stripe(9), stripe(0)], axis=1)
    x[83, 3] += 0.25
    y = layer.forward(x)
    # Half of: 84 · 1²; 14 · 2², none to itself; 70 · 1² + 7 · 3² + 7 · 3², 84 · 1² to itself; 0.25² more.
    assert y[:, 0].tolist() == [42] * 10
    assert y[:, 1].tolist() == [28, 28, 28, 0, 28, 28, 28, 28, 28, 28]
    assert y[:, 2].tolist() == [98] * 9 + [42]
    assert y[:, 3].tolist() == [0.03125] + [28.03125] * 9

    dy = np.zeros((10, 4))
    dy[3, 0], dy[3, 1], dy[5, 1], dy[9, 2], dy[0, 3] = 1, 7, 2, -3, 1
    dx = layer.backward(dy.copy())
    assert dx[:, 0].tolist() == (-stripe(3)).tolist()  # 2 · 0.5 · (0 − w)
    assert dx[:, 1].tolist() == (2 * (stripe(3) - stripe(5))).tolist()
    assert dx[:, 2].tolist() == (-3 * stripe(9)).tolist()
    assert dx[:, 3].tolist() == [0.0] * 83 + [0.25]


def test_penalty_of_the_label_alone_is_the_maximum_likelihood_loss():
    loss = PenaltyLoss(None)
    outputs = np.array([[3.0, 1e4, 0.0], [2.5, 7.0, 1e4]])
    losses, gradient = loss(outputs, np.array([1, 0, 0]))
    assert losses.tolist() == [2.5, 1e4, 0]
    assert (gradient * 3).tolist() == [[0, 1, 1], [1, 0, 0]]
    assert loss.answers(outputs).tolist() == [1, 1, 0]
    assert outputs.tolist() == [[3.0, 1e4, 0.0], [2.5, 7.0, 1e4]], "the outputs belong to the network"


@pytest.mark.parametrize("j", [0.1, 1, 20.0, 80])
def test_penalties_give_equation_9(j):
    outputs, labels = np.abs(10 * drawn(10, 30)), np.arange(30) % 10
    losses, _ = PenaltyLoss(j)(outputs, labels)
    for y, label, loss in zip(outputs.T, labels, losses, strict=True):
        assert loss == pytest.approx(y[label] + np.log(np.exp(-j) + sum(np.exp(-y))), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("j", [None, 1.0, 80.0, 1e6])
def test_extreme_penalties_give_finite_losses(j, dtype):
    loss = PenaltyLoss(j)
    outputs = np.array([[0, 1e4, 0, 1e4, -1e-5], [0, 1e4, 1e4, 0, 1e4]], dtype)
    for labels in ([0] * 5, [1] * 5):
        losses, gradient = loss(outputs, np.array(labels))
        assert np.isfinite(losses).all()
        assert np.isfinite(gradient).all()
        assert np.abs(gradient).max() <= 0.2  # of the mean over five
    probabilities = loss.probabilities(outputs)
    np.testing.assert_allclose(probabilities[0], [0.5, 0.5, 1, 0, 1])
    assert loss.answers(outputs).tolist() == [0, 0, 0, 1, 0]


def test_a_higher_rubbish_level_pushes_farther_penalties_up():
    """dE/dy of a wrong class at penalty y is −1/(e^(y−j) + …): next to nothing far above j, and felt below it."""
    outputs, labels = np.array([[50.0], [30.0]]), np.array([0])
    _, low = PenaltyLoss(10.0)(outputs, labels)
    _, high = PenaltyLoss(40.0)(outputs, labels)
    np.testing.assert_allclose(low[1], -np.exp(-20), rtol=1e-6)
    np.testing.assert_allclose(high[1], -1 / (1 + np.exp(-20) + np.exp(-10)), rtol=1e-12)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "much"])
def test_levels_and_scales_that_make_no_sense_are_refused(value):
    with pytest.raises(InputError, match=rf"^head\.loss\.j: must be a positive number or null, got {value}$"):
        PenaltyLoss(value)
    with pytest.raises(InputError, match=rf"^head\.output\.scale: must be a positive number, got {value}$"):
        RadialBasis("bitmaps_7x12.txt", value)


def test_head_in_numbers(head, expected):
    rows = expected("head", head).numbers
    loss = configured("head", head).loss
    outputs, labels, losses, gradients, probabilities = zip(*rows, strict=True)

    def ten(columns: tuple) -> np.ndarray:
        return np.array([[*first, *[last] * 7] for *first, last in columns], float).T

    found, gradient = loss(ten(outputs), np.array(labels, np.uint8))
    np.testing.assert_allclose(found, losses, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(gradient * len(rows), ten(gradients), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(loss.probabilities(ten(outputs)), ten(probabilities), rtol=1e-5, atol=1e-300)


def test_squared_error_at_its_targets_has_the_softmax_loss_and_confidence_of_the_riddle():
    """Outputs 0 and 1 are perfect for squared error; taken for a softmax's they give 1.461 and 23.2 %."""
    labels = np.array([3, 0])
    perfect = np.eye(10)[labels].T
    further = SquaredError().further_metrics(perfect, labels)
    assert further.keys() == {"softmax_loss", "softmax_confidence"}
    np.testing.assert_allclose(further["softmax_loss"], [-np.log(np.e / (np.e + 9))] * 2)
    np.testing.assert_allclose(further["softmax_confidence"], [np.e / (np.e + 9)] * 2)
    wrong = SquaredError().further_metrics(perfect, np.array([3, 1]))
    np.testing.assert_allclose(wrong["softmax_loss"], [1.461, np.log(np.e + 9)], rtol=1e-3)
    np.testing.assert_allclose(wrong["softmax_confidence"], 0.232, rtol=2e-3)
    assert SoftmaxCrossEntropy().further_metrics(perfect, labels) == {}
    assert PenaltyLoss(1.0).further_metrics(perfect, labels) == {}


def test_init_in_numbers(init, expected):
    columns = zip(*expected("init", init), strict=True)
    uniform, fan_in, fan_out, weights, biases = map(np.array, columns)
    scheme = configured("init", init)
    np.testing.assert_allclose(scheme.weights(uniform, fan_in, fan_out), weights, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(scheme.biases(uniform, fan_in), biases, rtol=1e-9, atol=1e-12)


def test_initial_weights_of_a_whole_layer():
    def weights(init: Initializer) -> np.ndarray:
        return prepared(Dense(300), (400,), 1, init).parameters["weight"].value

    lecun, xavier, he = weights(LeCun()), weights(Xavier()), weights(He())
    assert 0.999 * 2.4 / 400 < np.abs(lecun).max() <= 2.4 / 400
    assert lecun.var() == pytest.approx((2.4 / 400) ** 2 / 3, rel=0.02)
    assert 0.999 * np.sqrt(6 / 700) < np.abs(xavier).max() <= np.sqrt(6 / 700)
    assert xavier.var() == pytest.approx(2 / 700, rel=0.02)
    assert he.var() == pytest.approx(2 / 400, rel=0.02)
    assert (he**4).mean() == pytest.approx(3 * (2 / 400) ** 2, rel=0.05)  # normal
    for drawn_weights in (lecun, xavier, he):
        assert abs(drawn_weights.mean()) < 4 * drawn_weights.std() / np.sqrt(drawn_weights.size)


def test_every_scheme_maps_the_same_draws(init):
    def ranks(scheme: Initializer) -> np.ndarray:
        return prepared(Dense(30), (40,), 1, scheme).parameters["weight"].value.ravel().argsort()

    np.testing.assert_array_equal(ranks(configured("init", init)), ranks(LeCun()))


def test_draws_can_be_read_back_from_each_scheme():
    def weights(scheme: Initializer) -> np.ndarray:
        return prepared(Convolution(4, 3, None), (5, 6, 6), 1, scheme).parameters["weight"].value

    fan_in, fan_out = 5 * 9, 4 * 9
    draws = (weights(LeCun()) * fan_in / 2.4 + 1) / 2
    np.testing.assert_allclose(
        (weights(Xavier()) / np.sqrt(6 / (fan_in + fan_out)) + 1) / 2, draws, rtol=1e-9
    )
    np.testing.assert_allclose(ndtr(weights(He()) / np.sqrt(2 / fan_in)), draws, rtol=1e-9)


class Draws(Initializer):
    """The draws themselves."""

    def weights(self, uniform, fan_in, fan_out):
        return uniform

    def biases(self, uniform, fan_in):
        return uniform


class Fans(Initializer):
    """fan-in + fan-out / 1000, and the fan-in for biases."""

    def weights(self, uniform, fan_in, fan_out):
        return np.broadcast_to(fan_in + fan_out / 1000, uniform.shape)

    def biases(self, uniform, fan_in):
        return np.broadcast_to(fan_in, uniform.shape)


def test_sparse_kernels_start_as_the_full_ones(c3_layer, expected):
    table = expected("c3", "sparse").table
    full, sparse = (prepared(c3_layer(choice), (6, 14, 14), 1, Draws()) for choice in ("full", "sparse"))
    kernels = full.parameters["weight"].value.reshape(16, 6, 5, 5)
    kept = [kernels[m, c] for m, row in enumerate(table) for c in row]
    np.testing.assert_array_equal(sparse.parameters["weight"].value, kept)
    np.testing.assert_array_equal(sparse.parameters["bias"].value, full.parameters["bias"].value)


def test_fans_count_what_a_weight_is_connected_to(c3_layer, expected):
    dense = prepared(Dense(84), (120,), 1, Fans())
    assert (dense.parameters["weight"].value == 120.084).all()
    assert (dense.parameters["bias"].value == 120).all()

    full = prepared(c3_layer("full"), (6, 14, 14), 1, Fans())
    assert (full.parameters["weight"].value == 150.4).all()  # 6 maps in, 16 out, 25 weights each
    assert (full.parameters["bias"].value == 150).all()

    table = expected("c3", "sparse").table
    sparse = prepared(c3_layer("sparse"), (6, 14, 14), 1, Fans())
    read_by = {c: sum(c in row for row in table) for c in range(6)}
    assert list(read_by.values()) == [10] * 6
    by_hand = [25 * len(row) + 25 * read_by[c] / 1000 for row in table for c in row]
    np.testing.assert_allclose(sparse.parameters["weight"].value[:, 0, 0], by_hand)
    np.testing.assert_allclose(sparse.parameters["bias"].value, [25 * len(row) for row in table])


# What cannot be read


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.layers.C1.kernel=4"], r"^C1: .*4×4 kernel on 32×32"),
        (["network.layers.C1.kernel=33"], r"^C1: .*33×33 kernel on 32×32"),
        (["network.layers.C1.kernel=7"], r"^C3: .*5×5 kernel on 13×13"),
        (["network.layers.C3.kernel=15"], r"^C3: .*15×15 kernel on 14×14"),
        (["c3.connections=[[0]]"], r"^C3: .*16 rows of different input maps 0 to 5, .*got \[\[0\]\]"),
        (
            ["c3=full", f"c3.connections={[[6]] * 16}".replace(" ", "")],
            r"^C3: .*input maps 0 to 5, at least one",
        ),
        (
            ["c3=full", f"c3.connections={[[-1]] * 16}".replace(" ", "")],
            r"^C3: .*input maps 0 to 5, at least one",
        ),
        (
            ["c3=full", f"c3.connections={[[0, 0]] * 16}".replace(" ", "")],
            r"^C3: .*input maps 0 to 5, at least one",
        ),
        (
            ["c3=full", f"c3.connections={[[0]] * 15 + [[]]}".replace(" ", "")],
            r"^C3: .*input maps 0 to 5, at least one",
        ),
        (
            ["c3=full", f"c3.connections={[[]] * 16}".replace(" ", "")],
            r"^C3: .*input maps 0 to 5, at least one",
        ),
        (
            ["c3=full", f"c3.connections={[[0.5]] * 16}".replace(" ", "")],
            r"^C3: .*input maps 0 to 5, at least one",
        ),
        (["c3=sparse", "network.layers.C1.maps=4"], r"^C3: .*input maps 0 to 3, at least one"),
        (
            ["c3=sparse", "network.layers.C1.maps=12"],
            r"^C3: .*each in at least one; .*; c3=full fits any number$",
        ),
        (["c3=sparse", "network.layers.C3.maps=32"], r"^C3: .*needs 32 rows .*; c3=full fits any number$"),
        (["c3=full", "c3.connections=3"], r"^C3: .*input maps 0 to 5, at least one"),
        (
            ["head=rbf", "network.layers.F6.units=83"],
            r"^output: radial basis functions: the codes need 84 inputs, got \(83,\)$",
        ),
        (
            ["c3=full", f"c3.connections={[1] * 16}".replace(" ", "")],
            r"^C3: .*input maps 0 to 5, at least one",
        ),
    ],
)
def test_a_layer_that_cannot_read_its_input_is_named(build, overrides, message):
    with pytest.raises(InputError, match=message) as error:
        build(*overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("c1", "c3", "c5", "f6"), [(4, 16, 120, 84), (12, 16, 120, 84), (3, 8, 60, 42), (12, 32, 240, 168)]
)
def test_a_network_of_other_widths_has_the_parameters_of_the_formula(c1, c3, c5, f6, build, compose):
    """As docs/width.md has it; and all of it is used."""
    sizes = {"C1.maps": c1, "C3.maps": c3, "C5.units": c5, "F6.units": f6}
    network = build(*(f"network.layers.{size}={value}" for size, value in sizes.items()), "activation=tanh")
    assert network.values.size == 26 * c1 + (25 * c1 + 1) * c3 + (25 * c3 + 1) * c5 + (c5 + 1) * f6 + 10 * (
        f6 + 1
    )
    network.backward(network.loss(network.forward(drawn(1, 32, 32, 4)), np.arange(4))[1])
    assert (network.grads != 0).all()


def test_what_is_not_monotone_stands_before_max_pooling(activation):
    layers = {"C": Convolution(1, 3, None), "S": MaxPooling(), "output": Dense(2)}
    rule = configured("activation", activation)
    kinds = [type(layer) for layer in Network(layers, rule, SquaredError(), {}, {}).sequence]
    between = [MaxPooling, Activate] if rule.is_monotone else [Activate, MaxPooling]
    assert kinds == [Convolution, *between, Dense]


def test_averaging_does_not_commute_with_activations_and_max_does():
    assert MaxPooling.commutes_with_monotone
    assert not AveragePooling.commutes_with_monotone
    assert not Subsampling.commutes_with_monotone
    kinds = {}
    for pool in (MaxPooling(), AveragePooling(), Subsampling(True, 1.0, 0.0)):
        layers = {"C": Convolution(1, 3, None), "S": pool, "F": Dense(2), "output": Dense(2)}
        network = Network(layers, configured("activation", "tanh"), SquaredError(), {}, {})
        kinds[type(pool)] = [type(layer).__name__ for layer in network.sequence]
    assert kinds[MaxPooling] == ["Convolution", "MaxPooling", "Activate", "Dense", "Activate", "Dense"]
    assert kinds[AveragePooling] == [
        "Convolution",
        "Activate",
        "AveragePooling",
        "Dense",
        "Activate",
        "Dense",
    ]
    assert kinds[Subsampling] == [  # it has weights, so it is squashed as well
        "Convolution",
        "Activate",
        "Subsampling",
        "Activate",
        "Dense",
        "Activate",
        "Dense",
    ]
