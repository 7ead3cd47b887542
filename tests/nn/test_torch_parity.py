"""The network and its optimizers against PyTorch, where that is installed: same weights, same images, same numbers."""

from functools import cache, lru_cache, partial

import hydra
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional
torch.set_num_threads(1)

TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


class Twin:
    """The same network in PyTorch: C3's missing kernels are zeros behind a mask."""

    def __init__(self, network, activation, pool, head, table, norm=None, dropout=None, rate=0):
        """The parts are rows of expected.py; `table` holds the maps that each of C3's reads."""
        self.activation, self.pool, self.head = partial(activation.torch, torch), pool, head
        self.norm, self.dropout, self.rate, self.training = norm, dropout, rate, True
        self.statistics = {name: torch.tensor(array) for name, array in network.statistics.items()}
        self.parameters = {
            name: torch.tensor(array, requires_grad=True)
            for name, array in network.state().items()
            if name not in self.statistics
        }
        reads, read = np.array([(m, c) for m, row in enumerate(table) for c in row]).T
        self.place = torch.tensor(reads), torch.tensor(read)

    def normalized(self, x, name):
        """The output of a layer, before its activation."""
        if self.norm is None:
            return x
        arrays = self.parameters | self.statistics
        keys = ("weight", "bias", "mean", "variance")
        return self.norm.torch(torch, x, *(arrays.get(f"{name}.norm.{key}") for key in keys), self.training)

    def dropped(self, x, draws):
        """The output of an activation; `draws` by the units, then the images."""
        if not (self.rate and self.training):
            return x
        return self.dropout.torch(torch, x, self.rate, torch.tensor(draws.random(x.T.shape, np.float32)).T)

    def outputs(self, images, draws=None):
        """`draws` is the random stream of a training step."""
        p, f = self.parameters, self.activation

        def weights(name):
            return p.get(f"{name}.weight"), p.get(f"{name}.bias")

        kernels = torch.zeros(16, 6, 5, 5, dtype=images.dtype).index_put(self.place, p["C3.weight"])
        x = f(self.normalized(F.conv2d(images, p["C1.weight"].unsqueeze(1), p["C1.bias"]), "C1"))
        x = self.pool.torch(torch, x, *weights("S2"), f)
        x = f(self.normalized(F.conv2d(x, kernels, p["C3.bias"]), "C3"))
        x = self.pool.torch(torch, x, *weights("S4"), f).flatten(1)
        for name in ("C5", "F6"):
            x = F.linear(x, p[f"{name}.weight"], p[f"{name}.bias"].flatten())
            x = self.dropped(f(self.normalized(x, name)), draws)
        return self.head.torch_output(torch, x, *weights("output"))

    def backward(self, images, labels, draws=None):
        """Outputs (n, 10) and mean loss; gradients are left in the parameters."""
        for parameter in self.parameters.values():
            parameter.grad = None
        outputs = self.outputs(torch.tensor(images), draws)
        loss = self.head.torch_loss(torch, outputs, torch.tensor(labels))
        loss.backward()
        return outputs.detach().numpy(), loss.item()


@cache
def images_of(n, dtype):
    """Random images (n, 1, 32, 32), half of each blank, and their labels."""
    rng = np.random.default_rng(n)
    images, labels = rng.uniform(0, 1, (n, 1, 32, 32)), rng.integers(10, size=n)
    images[:, :, :14] = 0
    return images.astype(dtype), labels


def backward(network, images, labels, draws=None):
    """Outputs (n, 10) and mean loss; gradients are left in the network."""
    outputs = network.forward(np.ascontiguousarray(images.transpose(1, 2, 3, 0)), draws)
    losses, doutputs = network.loss(outputs, labels)
    outputs = outputs.T.copy()
    network.backward(doutputs)
    return outputs, losses.mean()


def assert_close(found, wanted, tolerance, what):
    """Within `tolerance` of the largest number."""
    assert found.shape == wanted.shape, what
    worst, largest = np.abs(found - wanted).max(), np.abs(wanted).max()
    assert worst <= tolerance * largest, f"{what}: off by {worst:.2g} of {largest:.2g}"


@pytest.fixture(scope="module")
def twins(build, expected):
    """twins(activation, pool, c3, head, dtype): a network and its twin, with biases that are not zero."""

    @lru_cache(maxsize=2)  # of the two types; all of them would be 5 GB
    def twins(activation, pool, c3, head, dtype):
        choices = f"activation={activation}", f"pool={pool}", f"c3={c3}", f"head={head}"
        network = build(*choices, f"trainer.dtype={dtype}")
        network.values += np.random.default_rng(0).normal(0, 0.05, network.values.size)
        rows = expected("activation", activation), expected("pool", pool), expected("head", head)
        return network, Twin(network, *rows, expected("c3", c3).table)

    return twins


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [1, 7, 64])
def test_outputs_loss_and_gradients(activation, pool, c3, head, n, dtype, twins):
    network, twin = twins(activation, pool, c3, head, dtype)
    images, labels = images_of(n, dtype)
    outputs, loss = twin.backward(images, labels)
    found_outputs, found_loss = backward(network, images, labels)
    tolerance = TOLERANCE[dtype]
    assert found_outputs.dtype == outputs.dtype == dtype
    assert_close(found_outputs, outputs, tolerance, "outputs")
    assert found_loss == pytest.approx(loss, rel=tolerance)
    for name, layer in network.layers.items():
        for key, parameter in layer.parameters.items():
            gradient = twin.parameters[f"{name}.{key}"].grad.numpy()
            assert np.abs(gradient).max() > 0
            assert_close(parameter.grad, gradient, tolerance, f"{name}.{key}")


@pytest.mark.parametrize(("dtype", "tolerance", "many"), [("float32", 1e-3, 1), ("float64", 1e-9, 4)])
@pytest.mark.parametrize("n", [8, 64])
@pytest.mark.parametrize("rate", [0, 0.4])
def test_normalised_and_dropped(norm, dropout, rate, pool, n, dtype, tolerance, many, build, expected):
    """Training steps (in float32 one: a maximum may change sides), gradients and running statistics after each; then
    an evaluation by these."""
    network = build(
        f"norm={norm}", f"dropout={dropout}", f"dropout.rate={rate}", f"pool={pool}", "activation=tanh",
        f"trainer.dtype={dtype}",
    )  # fmt: skip
    network.values += np.random.default_rng(0).normal(0, 0.05, network.values.size)
    rows = expected("activation", "tanh"), expected("pool", pool), expected("head", "softmax")
    more = {"norm": expected("norm", norm), "dropout": expected("dropout", dropout), "rate": rate}
    twin = Twin(network, *rows, expected("c3", "full").table, **more)
    images, labels = images_of(n, dtype)
    ours, theirs = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(many):
        outputs, loss = twin.backward(images, labels, theirs)
        found_outputs, found_loss = backward(network, images, labels, ours)
        assert_close(found_outputs, outputs, tolerance, "outputs")
        assert found_loss == pytest.approx(loss, rel=tolerance)
        largest = np.abs(network.grads).max()
        for name, parameter in twin.parameters.items():
            layer, _, key = name.rpartition(".")
            grad = network.named[layer].parameters[key].grad
            worst = np.abs(grad - parameter.grad.numpy()).max()  # a bias before a norm has none but rounding
            assert worst <= tolerance * max(np.abs(grad).max(), 0.1 * largest), name
            with torch.no_grad():
                parameter -= 0.05 * parameter.grad
        network.values -= 0.05 * network.grads
        for name, array in twin.statistics.items():
            assert_close(network.statistics[name], array.numpy(), tolerance, name)
    twin.training = False
    evaluated = twin.outputs(torch.tensor(images)).detach().numpy()
    found = network.forward(np.ascontiguousarray(images.transpose(1, 2, 3, 0))).T
    assert_close(found, evaluated, tolerance, "evaluation")


def steps(optimizer, dtype, build, compose, expected, *overrides):
    """The parameters of both after each of 20 steps, those of PyTorch first; and those that they began with."""
    row = expected("optimizer", optimizer)
    if row.torch is None:
        pytest.skip("PyTorch has no such optimizer")
    config = compose(f"optimizer={optimizer}", *overrides).optimizer
    ours = hydra.utils.instantiate(config)
    network = build("c3=sparse", f"trainer.dtype={dtype}")
    parts = expected("activation", "relu"), expected("pool", "max"), expected("head", "softmax")
    twin = Twin(network, *parts, expected("c3", "sparse").table)
    theirs = row.torch(torch, list(twin.parameters.values()), config)
    start = network.values.copy()
    ours.start(network.values)
    ours.begin_epoch(1)
    images, labels = images_of(64, dtype)
    for step in range(20):
        part = slice(16 * (step % 4), 16 * (step % 4) + 16)
        twin.backward(images[part], labels[part])
        theirs.step()
        backward(network, images[part], labels[part])
        ours.step(network.values, network.grads)
        yield (
            np.concatenate([p.detach().numpy().ravel() for p in twin.parameters.values()]),
            network.values,
            start,
        )


@pytest.mark.parametrize("weight_decay", [None, 0.05])
def test_twenty_steps_in_float64(optimizer, weight_decay, build, compose, expected):
    overrides = []
    if weight_decay is not None:
        if "weight_decay" not in compose(f"optimizer={optimizer}").optimizer:
            pytest.skip("it has no weight decay")
        overrides = [f"optimizer.weight_decay={weight_decay}"]
    both = steps(optimizer, "float64", build, compose, expected, *overrides)
    for number, (theirs, ours, start) in enumerate(both, 1):
        change = np.linalg.norm(theirs - start)
        assert change > 0
        assert np.linalg.norm(ours - theirs) <= 1e-9 * change, f"step {number}"
        assert np.abs(ours - theirs).max() <= 1e-9, f"step {number}"
    assert number == 20


def test_twenty_steps_in_float32(optimizer, build, compose, expected):
    *_, (theirs, ours, start) = steps(optimizer, "float32", build, compose, expected)
    assert ours.dtype == theirs.dtype == np.float32
    assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs - start)
