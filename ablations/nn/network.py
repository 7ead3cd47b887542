"""The layers, C1 to output, put together: what follows each of them, flat parameter vectors, one pass each way."""

from collections.abc import Callable, Iterator, Mapping
from math import prod

import numpy as np

from ablations.errors import InputError
from ablations.nn.activations import Activate, Activation
from ablations.nn.batch_norm import BatchNorm
from ablations.nn.convolution import without_phases
from ablations.nn.dense import Dense
from ablations.nn.dropout import Dropout
from ablations.nn.heads import Loss
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Shape, aligned, check_memory
from ablations.nn.pooling import Pooling


class Network:
    """A feed-forward network: `layers` by the paper's names, an activation after each but the last, and a loss.

    `norms` and `dropout` say by the name of a layer what else follows it: a normalisation comes before the activation
    (an empty one is none), dropout after it (none at a rate of 0). They are `C1.norm`, `C5.dropout` in `named`, which
    has all but the activations. `couples_images`: whether a training step needs its whole batch at once, because an
    image's outputs depend on the others.

    All parameters live in one flat vector, `values`, their gradients and curvatures in two others, `grads` and
    `curvatures`; the layers hold views. An optimizer step is then a handful of vector operations.
    """

    def __init__(
        self,
        layers: Mapping[str, Layer],
        activation: Activation,
        loss: Loss,
        norms: Mapping[str, BatchNorm | Mapping],
        dropout: Mapping[str, Dropout],
    ) -> None:
        self.layers = dict(layers)
        self.activation, self.loss = activation, loss
        _check_places(self.layers, norms, dropout)
        ordered = list(_in_order(self.layers, activation, norms, dropout))
        self.sequence = [layer for _, layer in ordered]
        self.named = {name: layer for name, layer in ordered if name is not None}
        self.couples_images = any(layer.couples_images for layer in self.sequence)
        self._n = 0
        self._forward_done = False

    def build(
        self,
        in_shape: Shape,
        init: Initializer,
        generator: Callable[[str], np.random.Generator],
        dtype: str,
    ) -> "Network":
        """Make the parameters for images of `in_shape` (maps, y, x).

        `generator` gives each layer's own random stream by its name, so that a layer starts from the same
        weights whatever the others are. Raises InputError where shapes do not fit.
        """
        if dtype not in ("float32", "float64"):
            raise InputError(f"trainer.dtype: must be float32 or float64, got {dtype}")
        self.in_shape = in_shape
        names = {id(layer): name for name, layer in self.named.items()}
        shape = in_shape
        for layer in self.sequence:
            name = names.get(id(layer), "activation")
            try:
                shape = layer.build(shape, init, generator(name))
            except InputError as error:
                raise InputError(f"{name}: {error}") from None
        size = sum(layer.size for layer in self.sequence)
        self.values, self.grads, self.curvatures = (aligned((size,), dtype) for _ in range(3))
        start = 0
        for layer in self.sequence:
            stop = start + layer.size
            layer.bind(self.values[start:stop], self.grads[start:stop], self.curvatures[start:stop])
            start = stop
        self._n = 0
        return self

    @property
    def statistics(self) -> dict[str, np.ndarray]:
        """What layers remember of the training beside parameters, by name, `C1.norm.mean`, …: the arrays in use."""
        return {
            f"{name}.{key}": array
            for name, layer in self.named.items()
            for key, array in layer.statistics.items()
        }

    def forward(self, x: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Outputs (classes, n) of images x (maps, y, x, n); they hold until the next call.

        With `rng` as in a training step: it draws which units are dropped, and batch normalisation takes the
        batch's own mean and variance.
        """
        self._resize(x.shape[-1])
        for layer in self.sequence:
            x = layer.forward(x) if rng is None else layer.forward_training(x, rng)
        self._forward_done = True
        return x

    def feature_maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What each named layer makes of one image (maps, y, x), as the paper's figure shows it.

        Maps are (maps, y, x), vectors (units,), after the activation, but for the last layer, which has none.
        """
        self._resize(1)
        names = {id(layer): name for name, layer in self.layers.items()}
        features, name, x = {}, "", image[..., None]
        for layer, following in zip(self.sequence, [*self.sequence[1:], None], strict=True):
            x = layer.forward(x)
            name = names.get(id(layer), name)  # an activation finishes the layer before it
            shown = x[..., 0].copy()
            if _is_pooled_first(following, self.activation):
                self.activation.apply(shown, out=shown)
            features[name] = without_phases(shown) if shown.ndim == 4 else shown
        self._forward_done = False
        return features

    def backward(self, doutputs: np.ndarray) -> None:
        """Write into `grads` the gradient for the last `forward`, given that of its outputs (overwritten).

        Raises RuntimeError when called twice for one `forward`: the buffers no longer hold its values.
        """
        if not self._forward_done:
            raise RuntimeError("backward needs a forward of its own before it")
        self._forward_done = False
        first, *rest = self.sequence
        gradient = doutputs
        for layer in reversed(rest):
            gradient = layer.backward(gradient)
        first.backward_parameters(gradient)

    def curvature(self, x: np.ndarray) -> None:
        """Write into `curvatures` the diagonal of the Gauss-Newton approximation of the Hessian, summed over images.

        Images are (maps, y, x, n); the loss is that of each image, not their mean.
        """
        h = self.loss.curvature(self.forward(x))
        for layer in reversed(self.sequence):
            h = layer.curvature(h)
        self._forward_done = False

    def state(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and statistic by name, `C1.weight`, …, `C1.norm.mean`, …"""
        return {name: array.copy() for name, array in self._arrays().items()}

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Set every parameter and statistic from what `state` gave.

        Raises InputError where names or shapes differ.
        """
        own = self._arrays()
        if own.keys() != state.keys():
            raise InputError(f"model: expected the arrays {', '.join(own)}, got {', '.join(state)}")
        for name, array in state.items():
            if array.shape != own[name].shape:
                raise InputError(f"model: {name} has shape {array.shape}, expected {own[name].shape}")
        for name, array in own.items():
            array[...] = state[name]

    def _arrays(self) -> dict[str, np.ndarray]:
        parameters = {
            f"{name}.{key}": parameter.value
            for name, layer in self.named.items()
            for key, parameter in layer.parameters.items()
        }
        return parameters | self.statistics

    def _resize(self, n: int) -> None:
        if n != self._n:
            values = sum(prod(layer.summary().shape) for layer in self.layers.values())
            needed = 2 * n * values * self.values.itemsize  # with their gradients, nothing else counted
            check_memory(f"the feature maps of a batch of {n}", needed)
            for layer in self.sequence:
                layer.resize(n)
            self._n = n


def _check_places(
    layers: Mapping[str, Layer], norms: Mapping[str, object], dropout: Mapping[str, object]
) -> None:
    """Raises InputError for a normalisation or dropout where there is nothing that it could follow."""
    dense = [name for name, layer in layers.items() if isinstance(layer, Dense)]
    for group, given, accepted in (("norms", norms, list(layers)), ("dropout", dropout, dense)):
        for name in given:
            if name not in accepted:
                raise InputError(f"network.{group}: {name}; accepted: {', '.join(accepted)}")


def _in_order(
    layers: Mapping[str, Layer],
    activation: Activation,
    norms: Mapping[str, BatchNorm | Mapping],
    dropout: Mapping[str, Dropout],
) -> Iterator[tuple[str | None, Layer]]:
    """Each layer by its name with all that follows it, an activation (without a name) being after every layer that
    has weights, except the last.

    Around max pooling a monotone one comes second: max commutes with it, and there is a quarter of the values left
    to apply it to. Otherwise the textbook's order stays: first activate, then pool.
    """
    for (name, layer), following in zip(layers.items(), [*list(layers.values())[1:], None], strict=True):
        yield name, layer
        if norms.get(name):
            yield f"{name}.norm", norms[name]
        if isinstance(layer, Pooling):
            activated = layer.has_weights or _is_pooled_first(layer, activation)
        else:
            activated = following is not None and not _is_pooled_first(following, activation)
        if activated:
            yield None, Activate(activation)
        if name in dropout and dropout[name].rate:
            yield f"{name}.dropout", dropout[name]


def _is_pooled_first(following: Layer | None, activation: Activation) -> bool:
    """Whether the activation of the layer before `following` comes after it."""
    return isinstance(following, Pooling) and following.commutes_with_monotone and activation.is_monotone
