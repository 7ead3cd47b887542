"""Update rules, from plain gradient descent to stochastic diagonal Levenberg-Marquardt.

Each works in place on the network's flat parameter vector θ with the gradient g, and keeps its state in
vectors of the same size. The learning rate is a number, or a list with one rate for each epoch, whose last
holds for all later ones. A weight decay λ, 0 for none, adds the gradient of ½ λ θ² to g before anything else, in all
rules but AdamW, which has its own, and SDLM, which has none; it applies to every parameter, as in PyTorch.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ablations.errors import InputError
from ablations.nn.layer import aligned, is_number


class Optimizer(ABC):
    """An update rule. `start` once, `begin_epoch` before each epoch, `step` after each gradient."""

    state_names: tuple[str, ...] = ()
    """The vectors that the rule remembers between steps, in order."""

    needs_curvature: ClassVar[bool] = False
    """Whether it asks for the network's second derivatives."""

    def __init__(self, lr: float | Sequence[float], weight_decay: float) -> None:
        try:
            rates = lr if _is_list(lr) else [lr]
            self.rates = [] if any(isinstance(rate, bool) for rate in rates) else list(map(float, rates))
        except (TypeError, ValueError):
            self.rates = []
        if not self.rates or not all(0 < rate < np.inf for rate in self.rates):
            raise InputError(f"optimizer.lr: must be a positive number, or a list of them by epoch; got {lr}")
        self.weight_decay = _weight_decay(weight_decay)

    def start(self, values: np.ndarray) -> None:
        """Begin with empty memory, for parameters like `values`."""
        self.steps = 0
        self.state = {name: aligned(values.shape, values.dtype) for name in self.state_names}
        self._scratch = aligned(values.shape, values.dtype)
        self._decayed = aligned(values.shape, values.dtype) if self.weight_decay else None

    def resume(self, steps: int, state: Mapping[str, np.ndarray]) -> None:
        """After `start`: take over the memory that a training of the same kind had after `steps` steps.

        Raises InputError where it is that of another rule or of other parameters.
        """
        expected = {name: vector.shape for name, vector in self.state.items()}
        given = {name: vector.shape for name, vector in state.items()}
        if given != expected:
            raise InputError(f"optimizer: expected the memory {expected}, got {given}")
        self.steps = steps
        for name, vector in self.state.items():
            vector[...] = state[name]

    def begin_epoch(self, epoch: int, share: float = 1.0) -> None:
        """Set the rate of `epoch`, counted from 1, to a `share` of what was given for it."""
        self.lr = share * self.rates[min(epoch, len(self.rates)) - 1]

    def curvature_samples(self, epoch: int, seen: int, batch_size: int) -> int:
        """From how many training images to estimate the curvature before the next step, 0 for not at all.

        `seen` images of this epoch, counted from 1, have been trained on.
        """
        return 0

    def set_curvature(self, curvatures: np.ndarray) -> None:
        """Take an estimate that `curvature_samples` asked for: the mean over these images, of each parameter."""
        raise NotImplementedError(f"{type(self).__name__} asks for no curvature")

    def metrics(self) -> dict[str, float]:
        """What is worth logging of the rule's state after an epoch, by name."""
        return {}

    def step(self, values: np.ndarray, grads: np.ndarray) -> None:
        """Move `values` by one step, in place, for the gradient `grads`."""
        self.steps += 1
        if self._decayed is not None:
            np.multiply(values, self.weight_decay, out=self._decayed)
            grads = np.add(grads, self._decayed, out=self._decayed)
        self._update(values, grads, self._scratch, *self.state.values())

    @abstractmethod
    def _update(self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray, *state: np.ndarray) -> None:
        """The rule itself; `scratch` is free to use."""


def _accumulate(average: np.ndarray, decay: float, term: np.ndarray, weight: float) -> None:
    """average ← decay · average + weight · term, in place; `term` is overwritten."""
    average *= decay
    term *= weight
    average += term


class SGD(Optimizer):
    """θ ← θ − lr · g."""

    def _update(self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray) -> None:
        values -= np.multiply(grads, self.lr, out=scratch)


class Momentum(Optimizer):
    """v ← momentum · v + g; θ ← θ − lr · v (Polyak 1964, in the form of Sutskever et al. 2013 without ε in v)."""

    state_names = ("velocity",)

    def __init__(self, lr: float | Sequence[float], momentum: float, weight_decay: float) -> None:
        super().__init__(lr, weight_decay)
        self.momentum = _fraction("momentum", momentum)

    def _update(
        self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray, velocity: np.ndarray
    ) -> None:
        velocity *= self.momentum
        velocity += grads
        values -= np.multiply(velocity, self.lr, out=scratch)


class Nesterov(Momentum):
    """v ← momentum · v + g; θ ← θ − lr · (g + momentum · v): one step ahead (Nesterov 1983, in the same form)."""

    def _update(
        self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray, velocity: np.ndarray
    ) -> None:
        velocity *= self.momentum
        velocity += grads
        np.multiply(velocity, self.momentum, out=scratch)
        scratch += grads
        scratch *= self.lr
        values -= scratch


class AdaGrad(Optimizer):
    """s ← s + g²; θ ← θ − lr · g / (√s + ε) (Duchi, Hazan and Singer 2011)."""

    state_names = ("sum_of_squares",)

    def __init__(self, lr: float | Sequence[float], eps: float, weight_decay: float) -> None:
        super().__init__(lr, weight_decay)
        self.eps = _eps(eps)

    def _update(
        self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray, squares: np.ndarray
    ) -> None:
        squares += np.multiply(grads, grads, out=scratch)
        _divide_by_root(values, grads, squares, self.lr, self.eps, scratch)


class RMSProp(Optimizer):
    """s ← decay · s + (1 − decay) · g²; θ ← θ − lr · g / (√s + ε) (Tieleman and Hinton 2012)."""

    state_names = ("mean_square",)

    def __init__(self, lr: float | Sequence[float], decay: float, eps: float, weight_decay: float) -> None:
        super().__init__(lr, weight_decay)
        self.decay, self.eps = _fraction("decay", decay), _eps(eps)

    def _update(
        self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray, squares: np.ndarray
    ) -> None:
        _accumulate(squares, self.decay, np.multiply(grads, grads, out=scratch), 1 - self.decay)
        _divide_by_root(values, grads, squares, self.lr, self.eps, scratch)


class Adam(Optimizer):
    """m ← β₁ m + (1 − β₁) g; v ← β₂ v + (1 − β₂) g²; θ ← θ − lr · m̂ / (√v̂ + ε).

    m̂ = m / (1 − β₁ᵗ) and v̂ = v / (1 − β₂ᵗ) undo the pull of the empty start (Kingma and Ba 2015, algorithm 1).
    """

    state_names = ("mean", "mean_square")

    def __init__(
        self, lr: float | Sequence[float], beta1: float, beta2: float, eps: float, weight_decay: float
    ) -> None:
        super().__init__(lr, weight_decay)
        self.beta1, self.beta2 = _fraction("beta1", beta1), _fraction("beta2", beta2)
        self.eps = _eps(eps)

    def _update(
        self,
        values: np.ndarray,
        grads: np.ndarray,
        scratch: np.ndarray,
        mean: np.ndarray,
        squares: np.ndarray,
    ) -> None:
        _accumulate(mean, self.beta1, np.multiply(grads, 1, out=scratch), 1 - self.beta1)
        _accumulate(squares, self.beta2, np.multiply(grads, grads, out=scratch), 1 - self.beta2)
        # m̂ / (√v̂ + ε) = c · m / (√v + ε c') with the corrections moved into two scalars.
        root = (1 - self.beta2**self.steps) ** 0.5
        _divide_by_root(
            values, mean, squares, self.lr * root / (1 - self.beta1**self.steps), self.eps * root, scratch
        )


class AdamW(Adam):
    """θ ← (1 − lr · λ) θ, then Adam's step for the gradient alone (Loshchilov and Hutter 2019, algorithm 2).

    λ is scaled by the rate, as in PyTorch.
    """

    def __init__(
        self, lr: float | Sequence[float], beta1: float, beta2: float, eps: float, weight_decay: float
    ) -> None:
        super().__init__(lr, beta1, beta2, eps, weight_decay=0)
        self.decoupled_decay = _weight_decay(weight_decay)

    def _update(self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray, *state: np.ndarray) -> None:
        values *= 1 - self.lr * self.decoupled_decay
        super()._update(values, grads, scratch, *state)


class SDLM(Optimizer):
    """Stochastic diagonal Levenberg-Marquardt: θ_k ← θ_k − lr / (μ + h_kk) · g_k, a rate for each parameter.

    h_kk is the diagonal of the Gauss-Newton approximation of the Hessian, from a second back-propagation
    (`Network.curvature`), as a mean over `samples` training images, estimated anew before each pass (LeCun et
    al. 1998, appendix C, eqs. 21 to 28).

    While the first pass lasts it is also estimated every `refresh_every` images (None: never) from
    `refresh_samples` of them. The paper does not say so. But its initial weights are so small that h starts near
    0 and every rate near lr / μ, which is too large once the units have grown.
    """

    def __init__(
        self,
        lr: float | Sequence[float],
        mu: float,
        samples: int,
        refresh_every: int | None,
        refresh_samples: int,
    ) -> None:
        super().__init__(lr, weight_decay=0)
        if not is_number(mu) or not 0 < mu < np.inf:
            raise InputError(f"optimizer.mu: must be positive, got {mu}")
        for name, value in {"samples": samples, "refresh_samples": refresh_samples}.items():
            if type(value) is not int or value < 1:
                raise InputError(f"optimizer.{name}: must be a whole number from 1 on, got {value}")
        if refresh_every is not None and (type(refresh_every) is not int or refresh_every < 1):
            raise InputError(
                f"optimizer.refresh_every: must be a whole number from 1 on or null, got {refresh_every}"
            )
        self.mu, self.samples = float(mu), samples
        self.refresh_every, self.refresh_samples = refresh_every, refresh_samples

    state_names = ("damped_curvature",)
    needs_curvature = True

    def start(self, values: np.ndarray) -> None:
        super().start(values)
        self.set_curvature(np.zeros_like(values))

    def curvature_samples(self, epoch: int, seen: int, batch_size: int) -> int:
        if seen == 0:
            return self.samples
        if epoch == 1 and self.refresh_every is not None and seen % self.refresh_every < batch_size:
            return self.refresh_samples
        return 0

    def set_curvature(self, curvatures: np.ndarray) -> None:
        np.add(curvatures, self.mu, out=self.state["damped_curvature"])

    def metrics(self) -> dict[str, float]:
        """The smallest, the median and the largest rate."""
        rates = self.lr / self.state["damped_curvature"]
        found = {"rate_min": rates.min(), "rate_median": np.median(rates), "rate_max": rates.max()}
        return {name: float(rate) for name, rate in found.items()}

    def _update(self, values: np.ndarray, grads: np.ndarray, scratch: np.ndarray, damped: np.ndarray) -> None:
        np.divide(grads, damped, out=scratch)
        scratch *= self.lr
        values -= scratch


def _divide_by_root(
    values: np.ndarray, top: np.ndarray, squares: np.ndarray, rate: float, eps: float, scratch: np.ndarray
) -> None:
    """values ← values − rate · top / (√squares + eps), in place."""
    np.sqrt(squares, out=scratch)
    scratch += eps
    np.divide(top, scratch, out=scratch)
    scratch *= rate
    values -= scratch


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _fraction(name: str, value: float) -> float:
    if not is_number(value) or not 0 <= value < 1:
        raise InputError(f"optimizer.{name}: must be at least 0 and below 1, got {value}")
    return value


def _weight_decay(value: float) -> float:
    if not is_number(value) or not 0 <= value < np.inf:
        raise InputError(f"optimizer.weight_decay: must be at least 0, got {value}")
    return value


def _eps(value: float) -> float:
    """0 would make parameters without a gradient, as under blank pixels, 0 / 0."""
    if not is_number(value) or not 0 < value < np.inf:
        raise InputError(f"optimizer.eps: must be positive, got {value}")
    return value
