"""The network and its optimizers against PyTorch, where that is installed: same weights, same images, same numbers."""

from functools import cache

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from ablations.paths import CONF

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional
torch.set_num_threads(1)

ACTIVATIONS = {
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "scaled_tanh": lambda a: 1.7159 * torch.tanh(2 / 3 * a),
}


def trainable(x, weight, bias, activation):
    """The mean of four, times one weight per map, plus one bias, squashed."""
    return activation(F.avg_pool2d(x, 2) * weight.unsqueeze(-1) + bias.unsqueeze(-1))


POOLS = {  # of values, weight, bias and activation
    "max": lambda x, *_: F.max_pool2d(x, 2),
    "avg": lambda x, *_: F.avg_pool2d(x, 2),
    "subsample": trainable,
}


def squared_error(outputs, labels):
    return 0.5 * F.mse_loss(outputs, F.one_hot(labels, 10).to(outputs.dtype), reduction="sum") / len(labels)


RBF = OmegaConf.load(CONF / "head" / "rbf.yaml")


def equation_9(outputs, labels):
    """Mean of y[label] + log(e^(−j) + Σ e^(−y))."""
    rubbish = torch.full((len(labels), 1), RBF.loss.j, dtype=outputs.dtype)
    total = torch.logsumexp(-torch.cat([outputs, rubbish], dim=1), dim=1)
    return (outputs.gather(1, labels[:, None])[:, 0] + total).mean()


HEADS = {"softmax": F.cross_entropy, "mse": squared_error, "rbf": equation_9}
OPTIMIZERS = {  # those of PyTorch, with their names for the keys of our YAML
    "sgd": (torch.optim.SGD, {}),
    "momentum": (torch.optim.SGD, {"momentum": "momentum"}),
    "adagrad": (torch.optim.Adagrad, {"eps": "eps"}),
    "rmsprop": (torch.optim.RMSprop, {"decay": "alpha", "eps": "eps"}),
    "adam": (torch.optim.Adam, {"eps": "eps"}),
    "sdlm": None,
}
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}


class Twin:
    """The same network in PyTorch: C3's missing kernels are zeros behind a mask."""

    def __init__(self, network, activation, pool, head, table):
        self.activation, self.pool, self.head = ACTIVATIONS[activation], POOLS[pool], HEADS[head]
        self.parameters = {
            name: torch.tensor(array, requires_grad=True) for name, array in network.state().items()
        }
        reads, read = np.array([(m, c) for m, row in enumerate(table) for c in row]).T
        self.place = torch.tensor(reads), torch.tensor(read)
        self.codes = torch.tensor(getattr(network.layers["output"], "codes", ()))

    def outputs(self, images):
        p, f = self.parameters, self.activation

        def pool(x, name):
            return self.pool(x, p.get(f"{name}.weight"), p.get(f"{name}.bias"), f)

        kernels = torch.zeros(16, 6, 5, 5, dtype=images.dtype).index_put(self.place, p["C3.weight"])
        x = pool(f(F.conv2d(images, p["C1.weight"].unsqueeze(1), p["C1.bias"])), "S2")
        x = pool(f(F.conv2d(x, kernels, p["C3.bias"])), "S4").flatten(1)
        x = f(F.linear(x, p["C5.weight"], p["C5.bias"].flatten()))
        x = f(F.linear(x, p["F6.weight"], p["F6.bias"].flatten()))
        if len(self.codes):
            return RBF.output.scale * (x[:, None] - self.codes).square().sum(dim=2)
        return F.linear(x, p["output.weight"], p["output.bias"].flatten())

    def backward(self, images, labels):
        """Outputs (n, 10) and mean loss; gradients are left in the parameters."""
        for parameter in self.parameters.values():
            parameter.grad = None
        outputs = self.outputs(torch.tensor(images))
        loss = self.head(outputs, torch.tensor(labels))
        loss.backward()
        return outputs.detach().numpy(), loss.item()


@cache
def images_of(n, dtype):
    """Random images (n, 1, 32, 32), half of each blank, and their labels."""
    rng = np.random.default_rng(n)
    images, labels = rng.uniform(0, 1, (n, 1, 32, 32)), rng.integers(10, size=n)
    images[:, :, :14] = 0
    return images.astype(dtype), labels


def backward(network, images, labels):
    """Outputs (n, 10) and mean loss; gradients are left in the network."""
    outputs = network.forward(np.ascontiguousarray(images.transpose(1, 2, 3, 0)))
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
def twins(build, compose, expected):
    """twins(activation, pool, c3, head, dtype): a network and its twin, with biases that are not zero."""

    @cache
    def twins(activation, pool, c3, head, dtype):
        how = "PyTorch's form of it to {} in test_torch_parity.py".format
        expected(ACTIVATIONS, "activation", activation, how("ACTIVATIONS"))
        expected(POOLS, "pool", pool, how("POOLS"))
        expected(HEADS, "head", head, how("HEADS"))
        choices = f"activation={activation}", f"pool={pool}", f"c3={c3}", f"head={head}"
        network = build(*choices, f"trainer.dtype={dtype}")
        network.values += np.random.default_rng(0).normal(0, 0.05, network.values.size)
        table = compose(f"c3={c3}").c3.connections or [range(6)] * 16
        return network, Twin(network, activation, pool, head, table)

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


def steps(optimizer, dtype, build, compose, expected):
    """The parameters of both after each of 20 steps, those of PyTorch first; and the largest change."""
    how = "PyTorch's optimizer, or None where it has none, to OPTIMIZERS in test_torch_parity.py"
    row = expected(OPTIMIZERS, "optimizer", optimizer, how)
    if row is None:
        pytest.skip("PyTorch has no such optimizer")
    torch_class, keys = row
    config = compose(f"optimizer={optimizer}").optimizer
    ours = hydra.utils.instantiate(config)
    network = build("c3=sparse", f"trainer.dtype={dtype}")
    twin = Twin(network, "relu", "max", "softmax", compose("c3=sparse").c3.connections)
    arguments = {theirs: config[own] for own, theirs in keys.items()}
    if optimizer == "adam":
        arguments["betas"] = config.beta1, config.beta2
    theirs = torch_class(list(twin.parameters.values()), lr=config.lr, **arguments)
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


def test_twenty_steps_in_float64(optimizer, build, compose, expected):
    for number, (theirs, ours, start) in enumerate(steps(optimizer, "float64", build, compose, expected), 1):
        change = np.linalg.norm(theirs - start)
        assert change > 0
        assert np.linalg.norm(ours - theirs) <= 1e-9 * change, f"step {number}"
        assert np.abs(ours - theirs).max() <= 1e-9, f"step {number}"
    assert number == 20


def test_twenty_steps_in_float32(optimizer, build, compose, expected):
    *_, (theirs, ours, start) = steps(optimizer, "float32", build, compose, expected)
    assert ours.dtype == theirs.dtype == np.float32
    assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs - start)
