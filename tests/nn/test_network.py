"""The whole network, in every combination of its choices, against the textbook written out below."""

import math
import os
from functools import cache

import numpy as np
import pytest

from ablations.errors import InputError
from ablations.nn.layer import memory
from ablations.training.streams import Streams

# LeNet-5 as a textbook has it: batch first, one layer after another (convolve, activate, pool), one output
# position after another; what differs between choices is in expected.py. It shares no line with the code under test.
# Each layer gives its output and the function that turns the gradient of its output into that of its input.


def convolve(x, kernels, bias):
    """Also gives, on the way back, the gradients of kernels (maps, in_maps, k, k) and bias."""
    (n, _, height, width), (maps, _, k, _) = x.shape, kernels.shape
    y = np.zeros((n, maps, height - k + 1, width - k + 1))
    for r, s in np.ndindex(y.shape[2:]):
        y[:, :, r, s] = np.einsum("ncij,mcij->nm", x[:, :, r : r + k, s : s + k], kernels) + bias

    def back(dy):
        dx, dkernels = np.zeros_like(x), np.zeros_like(kernels)
        for r, s in np.ndindex(y.shape[2:]):
            dkernels += np.einsum("nm,ncij->mcij", dy[:, :, r, s], x[:, :, r : r + k, s : s + k])
            dx[:, :, r : r + k, s : s + k] += np.einsum("nm,mcij->ncij", dy[:, :, r, s], kernels)
        return dx, dkernels, dy.sum(axis=(0, 2, 3))

    return y, back


def subsample(pool, x, weight, bias, activation):
    """`pool` is a row of expected.py; where it is trainable, its output is weighted, moved and squashed by map."""
    pooled, back = windows(x, pool.reduce)
    if not pool.trainable:
        return pooled, back
    a = np.stack([weight[m] * pooled[:, m] + bias[m] for m in range(len(weight))], axis=1)

    def through_weights(dy):
        da = dy * activation.derivative(a)
        dweight, dbias = np.einsum("nmrs,nmrs->m", da, pooled), np.einsum("nmrs->m", da)
        dx, _ = back(np.einsum("nmrs,m->nmrs", da, weight.ravel()))
        return dx, {"weight": dweight[:, None], "bias": dbias[:, None]}

    return activation.function(a), through_weights


def windows(x, reduce):
    y, shares = np.zeros((*x.shape[:2], x.shape[2] // 2, x.shape[3] // 2)), {}
    for r, s in np.ndindex(y.shape[2:]):
        window = np.stack([x[:, :, 2 * r + i, 2 * s + j] for i in (0, 1) for j in (0, 1)])
        y[:, :, r, s], shares[r, s] = reduce(window)

    def back(dy):
        dx = np.zeros_like(x)
        for (r, s), share in shares.items():
            for (i, j), part in zip(np.ndindex(2, 2), share, strict=True):
                dx[:, :, 2 * r + i, 2 * s + j] = part * dy[:, :, r, s]
        return dx, {}

    return y, back


def textbook(state, images, labels, activation, pool, head, table):
    """Outputs (n, 10), mean loss, the gradient by each parameter's name, and what each layer shows, (n, …), for
    images (n, 1, 32, 32).

    `activation`, `pool`, `head` are rows of expected.py; `table` holds the input maps of each of C3's maps.
    """
    f, slope = activation.function, activation.derivative

    def weights(name):
        return state.get(f"{name}.weight"), state.get(f"{name}.bias")

    reads, read = np.array([(m, c) for m, row in enumerate(table) for c in row]).T
    kernels = np.zeros((16, 6, 5, 5))
    kernels[reads, read] = state["C3.weight"]

    c1, c1_back = convolve(images, state["C1.weight"].reshape(6, 1, 5, 5), state["C1.bias"])
    s2, s2_back = subsample(pool, f(c1), *weights("S2"), activation)
    c3, c3_back = convolve(s2, kernels, state["C3.bias"])
    s4, s4_back = subsample(pool, f(c3), *weights("S4"), activation)
    flat = s4.reshape(len(images), 400)
    c5 = flat @ state["C5.weight"].T + state["C5.bias"].ravel()
    f6 = f(c5) @ state["F6.weight"].T + state["F6.bias"].ravel()
    outputs, output_back = head.output(f(f6), *weights("output"))
    loss, doutputs = head.loss(outputs, labels)

    dx, by_output = output_back(doutputs)
    df6 = slope(f6) * dx
    dc5 = slope(c5) * (df6 @ state["F6.weight"])
    ds4 = (dc5 @ state["C5.weight"]).reshape(s4.shape)
    dc3, by_s4 = s4_back(ds4)
    ds2, dkernels, dc3_bias = c3_back(slope(c3) * dc3)
    dc1, by_s2 = s2_back(ds2)
    _, dc1_weight, dc1_bias = c1_back(slope(c1) * dc1)
    gradients = {
        "C1.weight": dc1_weight[:, 0],
        "C1.bias": dc1_bias,
        "C3.weight": dkernels[reads, read],
        "C3.bias": dc3_bias,
        "C5.weight": dc5.T @ flat,
        "C5.bias": dc5.sum(axis=0)[:, None],
        "F6.weight": df6.T @ f(c5),
        "F6.bias": df6.sum(axis=0)[:, None],
    }
    for name, found in {"S2": by_s2, "S4": by_s4, "output": by_output}.items():
        gradients |= {f"{name}.{key}": gradient for key, gradient in found.items()}
    shown = {"C1": f(c1), "S2": s2, "C3": f(c3), "S4": s4, "C5": f(c5), "F6": f(f6), "output": outputs}
    return outputs, loss, gradients, shown


# Helpers


def images_of(n: int) -> tuple[np.ndarray, np.ndarray]:
    """n random images (n, 1, 32, 32) with a blank left half, and their labels."""
    rng = np.random.default_rng(7)
    images, labels = rng.uniform(0, 1, (n, 1, 32, 32)), rng.integers(10, size=n)
    images[:, :, :, :16] = 0
    return images, labels


@pytest.fixture(scope="module")
def network_of(build):
    """network_of(activation, pool, c3, head): built once, with biases that are not zero; not to be changed."""

    @cache
    def network_of(activation, pool, c3, head):
        network = build(f"activation={activation}", f"pool={pool}", f"c3={c3}", f"head={head}")
        network.values += np.random.default_rng(0).normal(0, 0.05, network.values.size)
        return network

    return network_of


def pass_through(network, images, labels):
    """Outputs (n, 10), mean loss and the gradient by name."""
    outputs = network.forward(np.ascontiguousarray(images.transpose(1, 2, 3, 0)))
    losses, doutputs = network.loss(outputs, labels)
    outputs = outputs.T.copy()
    network.grads[...] = np.nan
    network.backward(doutputs)
    return outputs, losses.mean(), gradients_of(network)


def gradients_of(network):
    return {
        f"{name}.{key}": parameter.grad.copy()
        for name, layer in network.layers.items()
        for key, parameter in layer.parameters.items()
    }


def assert_close(found, wanted, tolerance, what=""):
    """Within `tolerance` of the largest number."""
    assert found.shape == wanted.shape, what
    worst = np.abs(found - wanted).max()
    assert worst <= tolerance * np.abs(wanted).max(), f"{what}: off by {worst}"


# Every combination


@pytest.fixture(scope="module")
def check_against_textbook(network_of, expected):
    def check(activation, pool, c3, head, images, labels):
        network = network_of(activation, pool, c3, head)
        outputs, loss, gradients, shown = textbook(
            network.state(),
            images,
            labels,
            expected("activation", activation),
            expected("pool", pool),
            expected("head", head),
            expected("c3", c3).table,
        )
        found_outputs, found_loss, found = pass_through(network, images, labels)
        assert_close(found_outputs, outputs, 1e-12, "outputs")
        assert found_loss == pytest.approx(loss, rel=1e-12)
        assert found.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert_close(found[name], gradient, 1e-9, name)
        for at, image in enumerate(images):
            maps = network.feature_maps(image)
            assert maps.keys() == shown.keys()
            for name, layer in shown.items():
                assert_close(maps[name], layer[at], 1e-12, name)
        return gradients

    return check


def test_network_is_the_textbooks(activation, pool, c3, head, check_against_textbook):
    gradients = check_against_textbook(activation, pool, c3, head, *images_of(2))
    for name, gradient in gradients.items():
        assert np.abs(gradient).max() > 0, f"{name}: nothing was compared"


def test_blank_images_are_the_textbooks(activation, pool, check_against_textbook):
    """All values of every C1 window tie, and those of C3's nearly so."""
    images, labels = np.zeros((2, 1, 32, 32)), np.array([3, 8])
    check_against_textbook(activation, pool, "full", "softmax", images, labels)


def test_gradient_of_the_whole_network(activation, pool, c3, head, network_of, compose):
    """Central differences: two random directions and three single elements of every parameter.

    The step is so small that no maximum and no ReLU changes sides on the way; without these it can be longer,
    which the small gradients at the bottom of many sigmoids need.
    """
    h = 1e-8 if activation == "relu" or pool == "max" else 1e-7
    network, rng = network_of(activation, pool, c3, head), np.random.default_rng(3)
    images, labels = images_of(3)
    x = np.ascontiguousarray(images.transpose(1, 2, 3, 0))
    network.backward(network.loss(network.forward(x), labels)[1])
    gradients = gradients_of(network)
    for name, layer in network.layers.items():
        for key, parameter in layer.parameters.items():
            kept, size = parameter.value.copy(), parameter.value.size
            single = np.eye(size)[rng.integers(size, size=3)] if size < 1e4 else np.zeros((0, size))
            for direction in [*rng.normal(size=(2, size)), *single]:
                step, losses = h * direction.reshape(kept.shape), []
                for moved in (kept + step, kept - step):
                    parameter.value[...] = moved
                    losses.append(network.loss(network.forward(x), labels)[0].mean())
                parameter.value[...] = kept
                slope = (losses[0] - losses[1]) / (2 * h)
                gradient = gradients[f"{name}.{key}"].ravel()
                scale = np.linalg.norm(gradient) * np.linalg.norm(direction)
                assert slope == pytest.approx(gradient @ direction, abs=1e-5 * scale + 1e-7), f"{name}.{key}"


def test_feature_maps_are_kept_apart_and_need_a_forward_of_their_own_before_a_backward(build):
    network, (images, _) = build(), images_of(2)
    first = network.feature_maps(images[0])
    kept = {name: maps.copy() for name, maps in first.items()}
    network.feature_maps(images[1])
    assert all(np.array_equal(first[name], kept[name]) for name in kept)
    assert [(name, maps.shape) for name, maps in first.items()] == [
        ("C1", (6, 28, 28)),
        ("S2", (6, 14, 14)),
        ("C3", (16, 10, 10)),
        ("S4", (16, 5, 5)),
        ("C5", (120,)),
        ("F6", (84,)),
        ("output", (10,)),
    ]
    network.forward(np.ones((1, 32, 32, 1)))
    network.feature_maps(images[0])
    with pytest.raises(RuntimeError, match="forward"):
        network.backward(np.ones((10, 1)))


def test_one_backward_for_each_forward(activation, pool, c3, head, build):
    network = build(f"activation={activation}", f"pool={pool}", f"c3={c3}", f"head={head}")
    doutputs = np.ones((10, 1))
    with pytest.raises(RuntimeError, match="forward"):
        network.backward(doutputs)
    network.forward(np.ones((1, 32, 32, 1)))
    network.backward(doutputs)
    with pytest.raises(RuntimeError, match="forward"):
        network.backward(doutputs)
    network.forward(np.ones((1, 32, 32, 1)))
    network.backward(np.ones((10, 1)))


def test_batches_of_any_size_give_the_same(activation, pool, c3, head, network_of):
    """Outputs image by image, gradients as the mean over images, whatever was computed before."""
    network, (images, labels) = network_of(activation, pool, c3, head), images_of(4)
    whole = pass_through(network, images, labels)
    alone = [pass_through(network, images[i : i + 1], labels[i : i + 1]) for i in range(4)]
    pass_through(network, images[:3], labels[:3])
    again = pass_through(network, images, labels)
    np.testing.assert_array_equal(whole[0], again[0])
    assert whole[1] == again[1]
    assert_close(np.concatenate([outputs for outputs, _, _ in alone]), whole[0], 1e-12)
    assert np.mean([loss for _, loss, _ in alone]) == pytest.approx(whole[1], rel=1e-12)
    for name, gradient in whole[2].items():
        np.testing.assert_array_equal(gradient, again[2][name])
        assert_close(np.mean([gradients[name] for _, _, gradients in alone], axis=0), gradient, 1e-11, name)


# Numbers of the paper


@pytest.mark.parametrize(
    ("c3", "by_layer", "total"),
    [
        ("full", [156, 0, 2416, 0, 48_120, 10_164, 850], 61_706),
        ("sparse", [156, 0, 1516, 0, 48_120, 10_164, 850], 60_806),
    ],
)
@pytest.mark.parametrize("pool", ["avg", "max"])  # trainable subsampling: test_lenet5_1998.py
def test_parameters_and_connections_are_the_papers(c3, by_layer, total, pool, build):
    network = build(f"c3={c3}", f"pool={pool}")
    layers = network.layers
    assert list(layers) == ["C1", "S2", "C3", "S4", "C5", "F6", "output"]
    assert [layer.size for layer in layers.values()] == by_layer
    assert network.values.size == network.grads.size == total
    weights = sum(array.size for name, array in network.state().items() if name.endswith("weight"))
    assert weights == {"full": 61_470, "sparse": 60_570}[c3]
    summaries = {name: layer.summary() for name, layer in layers.items()}
    assert [s.shape for s in summaries.values()] == [
        (6, 28, 28),
        (6, 14, 14),
        (16, 10, 10),
        (16, 5, 5),
        (120,),
        (84,),
        (10,),
    ]
    connections = {name: s.connections for name, s in summaries.items()}
    assert connections["C1"] == 122_304
    assert connections["C3"] == {"full": 241_600, "sparse": 151_600}[c3]
    assert (connections["C5"], connections["F6"], connections["output"]) == (48_120, 10_164, 850)
    macs = {name: s.macs for name, s in summaries.items()}
    assert (macs["C1"], macs["C5"], macs["F6"], macs["output"]) == (117_600, 48_000, 10_080, 840)
    assert macs["C3"] == {"full": 240_000, "sparse": 150_000}[c3]


# Ties


def test_blank_images_count_once_in_the_bias_of_c1(build):
    """All C1 values of a blank image tie: through max pooling each window hands on one gradient, not four."""
    network = build("pool=max", "activation=tanh", "init=lecun")
    x, labels = np.zeros((1, 32, 32, 1)), np.array([3])
    network.backward(network.loss(network.forward(x), labels)[1])
    bias = network.layers["C1"].parameters["bias"]
    gradient, kept, numerical = bias.grad.copy(), bias.value.copy(), []
    for m in range(6):  # a bias moves all four values of a window alike, so the loss is smooth in it
        losses = []
        for h in (1e-4, -1e-4):
            bias.value[m] = kept[m] + h
            losses.append(network.loss(network.forward(x), labels)[0][0])
        bias.value[m] = kept[m]
        numerical.append((losses[0] - losses[1]) / 2e-4)
    np.testing.assert_allclose(gradient, numerical, rtol=1e-5)


# Parameters


def test_flat_vectors_are_the_parameters(c3, pool, head, build):
    network = build(f"c3={c3}", f"pool={pool}", f"head={head}")
    network.values[...] = np.arange(network.values.size)
    network.grads[...] = -np.arange(network.values.size)
    network.curvatures[...] = 2 * np.arange(network.values.size)
    start = 0
    for name, layer in network.layers.items():
        for key, parameter in layer.parameters.items():
            stop = start + parameter.value.size
            assert parameter.value.ravel().tolist() == list(range(start, stop)), f"{name}.{key}"
            np.testing.assert_array_equal(parameter.grad, -parameter.value)
            np.testing.assert_array_equal(parameter.curvature, 2 * parameter.value)
            parameter.value[...] = -1
            assert (network.values[start:stop] == -1).all()
            start = stop
    assert start == network.values.size


def test_a_change_of_the_vector_changes_the_outputs(build):
    network, (images, _) = build(), images_of(2)
    x = np.ascontiguousarray(images.transpose(1, 2, 3, 0))
    before = network.forward(x).copy()
    for name, layer in network.layers.items():
        if layer.size:
            layer.values += 0.01
            after = network.forward(x).copy()
            assert (after != before).any(), name
            before = after
    network.values[...] = 0
    assert (network.forward(x) == 0).all()


def test_state_goes_round(activation, pool, c3, head, build):
    choices = [f"activation={activation}", f"pool={pool}", f"c3={c3}", f"head={head}"]
    one, other = build(*choices, seed=1), build(*choices, seed=2)
    images, _ = images_of(2)
    x = np.ascontiguousarray(images.transpose(1, 2, 3, 0))
    state = one.state()
    wanted = one.forward(x).copy()
    assert (other.forward(x) != wanted).any()
    other.load(state)
    np.testing.assert_array_equal(other.values, one.values)
    np.testing.assert_array_equal(other.forward(x), wanted)
    state["C1.weight"][...] = 0  # a copy
    assert (one.state()["C1.weight"] != 0).any()
    assert (other.state()["C1.weight"] != 0).any()


def test_state_of_another_network_is_refused(build):
    network = build()
    state, before = network.state(), network.values.copy()
    assert list(state) == [
        f"{layer}.{key}" for layer in ("C1", "C3", "C5", "F6", "output") for key in ("weight", "bias")
    ]
    with pytest.raises(
        InputError, match=r"^model: C3\.weight has shape \(60, 5, 5\), expected \(96, 5, 5\)$"
    ):
        network.load(build("c3=sparse").state())
    with pytest.raises(InputError, match=r"^model: expected the arrays C1\.weight, .*, got C1\.bias, "):
        network.load({name: array for name, array in state.items() if name != "C1.weight"})
    with pytest.raises(InputError, match=r"^model: expected the arrays"):
        network.load({**state, "S2.weight": np.zeros(1)})
    last = {**state, "C1.weight": state["C1.weight"] + 1, "output.bias": np.zeros(3)}
    with pytest.raises(InputError, match=r"^model: output\.bias has shape \(3,\), expected \(10, 1\)$"):
        network.load(last)
    np.testing.assert_array_equal(network.values, before)  # nothing was loaded halfway


# Initial weights


def test_one_seed_gives_one_start_whatever_the_variant(activation, pool, c3, head, build):
    default = build(seed=5).state()
    other = build(f"activation={activation}", f"pool={pool}", f"c3={c3}", f"head={head}", seed=5).state()
    same_shape = [name for name in default if other.get(name, np.empty(0)).shape == default[name].shape]
    assert set(default) - set(same_shape) <= {"C3.weight"} | ({"output.weight", "output.bias"} - set(other))
    for name in same_shape:
        np.testing.assert_array_equal(other[name], default[name], name)


def test_seeds_and_layers_have_draws_of_their_own(init, build):
    one, same, other = (build(f"init={init}", seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.values, same.values)
    for name, weights in one.state().items():
        if name.endswith("weight"):
            assert (weights != other.state()[name]).all()
    uniform = [Streams(0).generator(f"init/{layer}").random() for layer in one.layers]
    assert len(set(uniform)) == len(uniform)


def test_precisions_start_from_the_same_weights(build):
    single, double = build("trainer.dtype=float32"), build("trainer.dtype=float64")
    assert single.values.dtype == single.grads.dtype == np.float32
    assert double.values.dtype == np.float64
    np.testing.assert_array_equal(single.values, double.values.astype(np.float32))


def test_other_precisions_are_refused(build):
    with pytest.raises(InputError, match=r"^trainer\.dtype: must be float32 or float64, got float16$"):
        build("trainer.dtype=float16")


@pytest.mark.parametrize(
    ("layer", "what", "width"),
    [("C1", "maps", 0), ("C3", "maps", -1), ("C5", "units", 0), ("F6", "units", 1.5), ("C1", "maps", True)],
)
def test_widths_that_make_no_sense_are_refused(layer, what, width, build):
    with pytest.raises(
        InputError, match=rf"^{layer}: {what}: must be a whole number of at least 1, got {width}$"
    ):
        build(f"network.layers.{layer}.{what}={width}")


@pytest.mark.parametrize(
    ("layer", "what", "width"),
    [("C1", "maps", 10**8), ("C1", "maps", 10**7), ("C3", "maps", 10**8), ("C5", "units", 10**9)],
)
def test_widths_beyond_the_memory_are_refused_before_anything_is_drawn(
    layer, what, width, build, monkeypatch
):
    monkeypatch.setattr("ablations.nn.layer.memory", lambda: 16 * 10**9)
    with pytest.raises(
        InputError,
        match=rf"^{layer}: {what}: {width} would take [\d,]+ GB of memory; there are 16$",
    ):
        build("c3=full", f"network.layers.{layer}.{what}={width}")


def test_a_batch_beyond_the_memory_is_refused(build, monkeypatch):
    """C1 to output: 4704 + 1176 + 1600 + 400 + 120 + 84 + 10 values and as many of their gradients, in float64."""
    network = build("trainer.dtype=float64")
    there = 16 * 8094 * 100
    monkeypatch.setattr("ablations.nn.layer.memory", lambda: there)
    network.forward(np.zeros((1, 32, 32, 100)))
    with pytest.raises(InputError, match=r"^the feature maps of a batch of 101 would take 0 GB of memory"):
        network.forward(np.zeros((1, 32, 32, 101)))


def test_a_machine_that_does_not_say_its_memory_sets_no_limit(monkeypatch):
    told = {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", told.__getitem__, raising=False)
    assert memory() == 409_600
    monkeypatch.delattr(os, "sysconf")  # as on Windows
    assert memory() == math.inf
