"""The layers, C1 to output, put together: order of the activations, flat parameter vectors, one pass each way."""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ablations.errors import InputError
from ablations.nn.activations import Activate, Activation
from ablations.nn.convolution import without_phases
from ablations.nn.heads import Loss
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer, Shape, aligned
from ablations.nn.pooling import Pooling


class Network:
    """A feed-forward network: `layers` by the paper's names, an activation after each but the last, and a loss.

    All parameters live in one flat vector, `values`, their gradients and curvatures in two others, `grads` and
    `curvatures`; the layers hold views. An optimizer step is then a handful of vector operations.
    """

    def __init__(self, layers: Mapping[str, Layer], activation: Activation, loss: Loss) -> None:
        self.layers = dict(layers)
        self.activation, self.loss = activation, loss
        self.sequence = list(_with_activations(list(self.layers.values()), activation))
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
        names = {id(layer): name for name, layer in self.layers.items()}
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

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Outputs (classes, n) of images x (maps, y, x, n); they hold until the next call."""
        self._resize(x.shape[-1])
        for layer in self.sequence:
            x = layer.forward(x)
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
        """A copy of every parameter by name, `C1.weight`, …"""
        return {
            f"{name}.{key}": parameter.value.copy()
            for name, layer in self.layers.items()
            for key, parameter in layer.parameters.items()
        }

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Set every parameter from what `state` gave.

        Raises InputError where names or shapes differ.
        """
        own = self.state()
        if own.keys() != state.keys():
            raise InputError(f"model: expected the arrays {', '.join(own)}, got {', '.join(state)}")
        for name, array in state.items():
            if array.shape != own[name].shape:
                raise InputError(f"model: {name} has shape {array.shape}, expected {own[name].shape}")
        for name, layer in self.layers.items():
            for key, parameter in layer.parameters.items():
                parameter.value[...] = state[f"{name}.{key}"]

    def _resize(self, n: int) -> None:
        if n != self._n:
            for layer in self.sequence:
                layer.resize(n)
            self._n = n


def _with_activations(layers: list[Layer], activation: Activation) -> Iterator[Layer]:
    """An activation after every layer that has weights, except the last.

    Around max pooling a monotone one comes second: max commutes with it, and there is a quarter of the values left
    to apply it to. Otherwise the textbook's order stays: first activate, then pool.
    """
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        yield layer
        if isinstance(layer, Pooling):
            activated = layer.has_weights or _is_pooled_first(layer, activation)
        else:
            activated = following is not None and not _is_pooled_first(following, activation)
        if activated:
            yield Activate(activation)


def _is_pooled_first(following: Layer | None, activation: Activation) -> bool:
    """Whether the activation of the layer before `following` comes after it."""
    return isinstance(following, Pooling) and following.commutes_with_monotone and activation.is_monotone
