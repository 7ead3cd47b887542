"""The same network in JAX, the whole training step as one `jit`-compiled function."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from omegaconf import DictConfig
from rival_torch import NoCounterpartError, counterpart, unpacked

from ablations.nn.network import Network

Parameters = dict[str, Array]


def _pooled(a: Array, start: float, combine: Callable) -> Array:
    return lax.reduce_window(a, start, combine, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def _cross_entropy(outputs: Array, labels: Array) -> Array:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(outputs), labels[:, None], axis=1)
    return -chosen.mean()


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "ReLU": jax.nn.relu,
    "Sigmoid": jax.nn.sigmoid,
    "Tanh": jnp.tanh,
    "ScaledTanh": lambda a: 1.7159 * jnp.tanh(a * (2 / 3)),
}
POOLINGS: dict[str, Callable[[Array], Array]] = {
    "MaxPooling": lambda a: _pooled(a, -jnp.inf, lax.max),
    "AveragePooling": lambda a: _pooled(a, 0.0, lax.add) / 4,
}
LOSSES: dict[str, Callable[[Array, Array], Array]] = {"SoftmaxCrossEntropy": _cross_entropy}


class Step:
    """One training step on a fixed batch."""

    def __init__(self, config: DictConfig, ours: Network, x: np.ndarray, labels: np.ndarray) -> None:
        self.parameters: Parameters = {}
        for name, value in ours.state().items():
            self.parameters[name] = jnp.asarray(value.ravel() if name.endswith("bias") else value)
        kernels = np.asarray(self.parameters["C3.weight"])
        full, mask = unpacked(kernels, config.c3.connections, in_maps=self.parameters["C1.bias"].size)
        self.parameters["C3.weight"] = jnp.asarray(full)
        self.parameters["C1.weight"] = self.parameters["C1.weight"][:, None]
        self.memory = [{key: jnp.zeros_like(p) for key, p in self.parameters.items()} for _ in range(2)]
        self.steps, self.rate = 0, config.optimizer.lr
        self.x = jnp.asarray(np.ascontiguousarray(x.transpose(3, 0, 1, 2)))
        self.labels = jnp.asarray(labels.astype(np.int32))
        self._step = jax.jit(_step(config, mask), donate_argnums=(0, 1))

    def set_rate(self, rate: float) -> None:
        self.rate = rate

    def __call__(self) -> Array:
        """Forward, backward, update; the mean loss before the update."""
        self.steps += 1
        loss, self.parameters, self.memory = self._step(
            self.parameters, self.memory, self.x, self.labels, float(self.steps), float(self.rate)
        )
        jax.block_until_ready((loss, self.parameters))
        return loss


def _step(config: DictConfig, mask: np.ndarray) -> Callable:
    activation, pool = counterpart(ACTIVATIONS, config.activation), counterpart(POOLINGS, config.pool)
    loss_of, update = counterpart(LOSSES, config.head.loss), _update(config.optimizer)
    sparse = config.c3.connections is not None

    def mean_loss(p: Parameters, x: Array, labels: Array) -> Array:
        for name in ("C1", "C3"):
            weight = p[f"{name}.weight"] * mask if sparse and name == "C3" else p[f"{name}.weight"]
            x = lax.conv_general_dilated(x, weight, (1, 1), "VALID") + p[f"{name}.bias"][:, None, None]
            x = pool(activation(x))
        x = x.reshape(len(x), -1)
        for name in ("C5", "F6"):
            x = activation(x @ p[f"{name}.weight"].T + p[f"{name}.bias"])
        return loss_of(x @ p["output.weight"].T + p["output.bias"], labels)

    def step(p: Parameters, memory: list, x: Array, labels: Array, t: float, rate: float) -> tuple:
        loss, grads = jax.value_and_grad(mean_loss)(p, x, labels)
        new = {key: update(p[key], grads[key], memory[0][key], memory[1][key], t, rate) for key in p}
        p, first, second = ({key: value[i] for key, value in new.items()} for i in range(3))
        return loss, p, [first, second]

    return step


def _update(rule: DictConfig) -> Callable:
    """(parameter, gradient, first and second memory, step, rate) → parameter and memories."""
    name = rule["_target_"].rpartition(".")[2]

    def sgd(p: Array, g: Array, m: Array, v: Array, t: float, rate: float) -> tuple[Array, Array, Array]:
        return p - rate * g, m, v

    def momentum(p: Array, g: Array, m: Array, v: Array, t: float, rate: float) -> tuple[Array, Array, Array]:
        m = rule.momentum * m + g
        return p - rate * m, m, v

    def adam(p: Array, g: Array, m: Array, v: Array, t: float, rate: float) -> tuple[Array, Array, Array]:
        m = rule.beta1 * m + (1 - rule.beta1) * g
        v = rule.beta2 * v + (1 - rule.beta2) * g * g
        m_hat, v_hat = m / (1 - rule.beta1**t), v / (1 - rule.beta2**t)
        return p - rate * m_hat / (jnp.sqrt(v_hat) + rule.eps), m, v

    rules = {"SGD": sgd, "Momentum": momentum, "Adam": adam}
    if name not in rules:
        raise NoCounterpartError(f"{name} has no counterpart in {__name__}.py")
    return rules[name]
