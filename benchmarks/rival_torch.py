"""The same network in PyTorch as a textbook writes it: NCHW, convolution → activation → pooling, eager mode."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from ablations.nn.network import Network

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "ReLU": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "ScaledTanh": lambda a: 1.7159 * torch.tanh(a * (2 / 3)),
}
POOLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "MaxPooling": lambda a: F.max_pool2d(a, 2),
    "AveragePooling": lambda a: F.avg_pool2d(a, 2),
}


class NoCounterpartError(Exception):
    """A component that is not written here in PyTorch."""


def counterpart(table: dict[str, Callable], config: DictConfig) -> Callable:
    """What stands here for the class that a component's YAML names."""
    name = config["_target_"].rpartition(".")[2]
    if name not in table:
        raise NoCounterpartError(f"{name} has no counterpart in {__name__}.py")
    return table[name]


class LeNet5(nn.Module):
    """LeNet-5 with the weights of `ours`.

    A C3 that reads only some maps is a full convolution whose weight is multiplied by a mask of zeros and
    ones in each forward pass, which masks its gradient as well.
    """

    def __init__(self, config: DictConfig, ours: Network) -> None:
        super().__init__()
        self.activation = counterpart(ACTIVATIONS, config.activation)
        state = ours.state()
        if config.pool["_target_"].endswith(".Subsampling"):
            self.pools = nn.ModuleList(
                Subsampling(state, name, config.pool.average, self.activation) for name in ("S2", "S4")
            )
        else:
            self.pools = [counterpart(POOLINGS, config.pool)] * 2
        self.distances = None
        if config.head.output["_target_"].endswith(".RadialBasis"):
            self.distances = RadialBasis(ours.layers["output"].codes, config.head.output.scale)
            self.loss = MaximumAPosteriori(config.head.loss.j)
        else:
            self.loss = counterpart({"SoftmaxCrossEntropy": F.cross_entropy}, config.head.loss)
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for name in ("C1", "C3", "C5", "F6", *(() if self.distances else ("output",))):
            weight, bias = state[f"{name}.weight"], state[f"{name}.bias"].ravel()
            if name == "C1":
                weight = weight.reshape(len(bias), 1, *weight.shape[1:])
            if name == "C3":
                weight, mask = unpacked(weight, config.c3.connections, in_maps=state["C1.bias"].size)
            self.weights.append(nn.Parameter(torch.from_numpy(weight)))
            self.biases.append(nn.Parameter(torch.from_numpy(bias)))
        sparse = config.c3.connections is not None
        self.register_buffer("mask", torch.from_numpy(mask) if sparse else None)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, 10) for images (n, 1, 32, 32)."""
        c1, c3, c5, f6, *output = self.weights
        if self.mask is not None:
            c3 = c3 * self.mask
        x = self.pools[0](self.activation(F.conv2d(x, c1, self.biases[0])))
        x = self.pools[1](self.activation(F.conv2d(x, c3, self.biases[1])))
        x = self.activation(F.linear(x.flatten(1), c5, self.biases[2]))
        x = self.activation(F.linear(x, f6, self.biases[3]))
        return self.distances(x) if self.distances else F.linear(x, *output, self.biases[4])


class Subsampling(nn.Module):
    """A coefficient and a bias per map over the sum or average of four inputs, then squashed."""

    def __init__(
        self, state: dict[str, np.ndarray], name: str, average: bool, squash: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.times, self.squash = 1 if average else 4, squash
        self.weight = nn.Parameter(torch.from_numpy(state[f"{name}.weight"].reshape(-1, 1, 1)))
        self.bias = nn.Parameter(torch.from_numpy(state[f"{name}.bias"].reshape(-1, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        return self.squash(self.weight * (self.times * F.avg_pool2d(x, 2)) + self.bias)


class RadialBasis(nn.Module):
    """Scaled squared distances to fixed codes."""

    def __init__(self, codes: np.ndarray, scale: float) -> None:
        super().__init__()
        self.register_buffer("codes", torch.from_numpy(codes))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (x[:, None] - self.codes).square().sum(2)


class MaximumAPosteriori(nn.Module):
    """Eq. 9 of the paper."""

    def __init__(self, j: float) -> None:
        super().__init__()
        self.j = j

    def forward(self, penalties: Tensor, labels: Tensor) -> Tensor:
        rubbish = torch.full_like(penalties[:, :1], -self.j)
        others = torch.logsumexp(torch.cat([-penalties, rubbish], dim=1), dim=1)
        return (penalties.gather(1, labels[:, None])[:, 0] + others).mean()


def unpacked(
    kernels: np.ndarray, connections: Sequence[Sequence[int]] | None, in_maps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Kernels that exist, (kernels, k, k), as a full weight (maps, in_maps, k, k), and the mask of those."""
    maps = len(kernels) // in_maps if connections is None else len(connections)
    table = [range(in_maps)] * maps if connections is None else connections
    reads, read = zip(*((m, c) for m, row in enumerate(table) for c in row), strict=True)
    weight = np.zeros((maps, in_maps, *kernels.shape[1:]), kernels.dtype)
    mask = np.zeros_like(weight)
    weight[reads, read], mask[reads, read] = kernels, 1
    return weight, mask


def optimizer(config: DictConfig, network: LeNet5) -> torch.optim.Optimizer:
    """PyTorch's own optimizer with the values of conf/optimizer, in its default implementation."""
    rule, parameters = config.optimizer, network.parameters()
    match rule["_target_"].rpartition(".")[2]:
        case "SGD":
            return torch.optim.SGD(parameters, lr=rule.lr)
        case "Momentum":
            return torch.optim.SGD(parameters, lr=rule.lr, momentum=rule.momentum)
        case "Adam":
            return torch.optim.Adam(parameters, lr=rule.lr, betas=(rule.beta1, rule.beta2), eps=rule.eps)
        case name:
            raise NoCounterpartError(f"{name} has no counterpart in {__name__}.py")


class Step:
    """One training step on a fixed batch."""

    def __init__(self, config: DictConfig, ours: Network, x: np.ndarray, labels: np.ndarray) -> None:
        self.network = LeNet5(config, ours)
        self.optimizer = optimizer(config, self.network)
        self.x = torch.from_numpy(np.ascontiguousarray(x.transpose(3, 0, 1, 2)))
        self.labels = torch.from_numpy(labels.astype(np.int64))

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def __call__(self) -> Tensor:
        """Forward, backward, update; the mean loss before the update."""
        self.optimizer.zero_grad()
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def loss(self) -> Tensor:
        return self.network.loss(self.network(self.x), self.labels)


class CompiledStep(Step):
    """The same, forward and backward through `torch.compile`."""

    def __init__(self, config: DictConfig, ours: Network, x: np.ndarray, labels: np.ndarray) -> None:
        super().__init__(config, ours, x, labels)
        torch.compiler.reset()  # a batch of another size would be compiled for any size
        network, loss = self.network, self.network.loss
        self._loss = torch.compile(lambda x, labels: loss(network(x), labels))

    def loss(self) -> Tensor:
        return self._loss(self.x, self.labels)
