"""From images, kept as bytes, to the network's input, a few at a time."""

import numpy as np

from ablations.nn.layer import aligned
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization

INPUT_SHAPE = (1, 32, 32)
"""The network's input: 28×28 pixels in the centre of 32×32, so that a stroke's end meets whole receptive fields."""

IMAGES_AT_ONCE = 32  # large enough for full speed, small enough for the processor's caches


class Feeder:
    """Turns images into network input: normalised, centred, batch last."""

    def __init__(self, network: Network, normalization: Normalization) -> None:
        self.normalization = normalization
        self.shape, self.dtype = network.in_shape, network.values.dtype
        self._buffers: dict[int, np.ndarray] = {}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Images (n, 28, 28), 0 … 255 of any type, as (1, 32, 32, n), valid until the next call for as many."""
        n = len(images)
        if n not in self._buffers:
            self._buffers[n] = aligned((*self.shape, n), self.dtype)
            self._buffers[n].fill(self.normalization.background)
        self.normalization.fill(images, self._buffers[n])
        return self._buffers[n]
