"""What a network makes of images: its answers, the share it gives each class, and how sure it is of a digit at all."""

from dataclasses import dataclass
from functools import singledispatch

import numpy as np

from ablations.nn.feeder import IMAGES_AT_ONCE, Feeder
from ablations.nn.heads import Loss, PenaltyLoss, SoftmaxCrossEntropy, SquaredError
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization


@dataclass(frozen=True)
class Reader:
    """Reads images with a trained network."""

    network: Network
    normalization: Normalization

    def outputs(self, images: np.ndarray) -> np.ndarray:
        """The outputs (classes, n), float64, for images (n, 28, 28), 0 … 255."""
        feed = Feeder(self.network, self.normalization)
        starts = range(0, len(images), IMAGES_AT_ONCE)
        parts = [self.network.forward(feed(images[at : at + IMAGES_AT_ONCE])).astype(float) for at in starts]
        return np.concatenate(parts, axis=1)

    def answers(self, images: np.ndarray) -> np.ndarray:
        """The class of each of the images, (n,)."""
        return self.network.loss.answers(self.outputs(images))


@singledispatch
def log_probabilities(head: Loss, outputs: np.ndarray) -> np.ndarray | None:
    """The natural logarithm of each class's probability, (classes, n), for outputs (classes, n).

    None for a head without any: the squared error's shares are its outputs, cut off at an arbitrary small number, and
    that number alone would be the likelihood of an image to which it gave nothing.
    """
    return None


@log_probabilities.register
def _(head: SoftmaxCrossEntropy, outputs: np.ndarray) -> np.ndarray:
    return _log_softmax(outputs)


@log_probabilities.register
def _(head: PenaltyLoss, outputs: np.ndarray) -> np.ndarray:
    return _log_softmax(-outputs)  # the posterior probabilities of the classes, rubbish left aside


def confidences(head: Loss, outputs: np.ndarray) -> np.ndarray:
    """How surely each image is the class that it is read as, and no other, (n,): the logarithm of the largest share,
    which tells apart what is 1 after rounding."""
    found = log_probabilities(head, outputs)
    return _finite((np.log(head.probabilities(outputs)) if found is None else found).max(axis=0))


@singledispatch
def scores(head: Loss, outputs: np.ndarray) -> np.ndarray:
    """How surely each image is one of the classes at all, (n,): the larger the surer."""
    return confidences(head, outputs)


@scores.register
def _(head: PenaltyLoss, outputs: np.ndarray) -> np.ndarray:
    """The smallest penalty: what is far from all codes is no digit, whichever of them is the nearest."""
    return _finite(-outputs.min(axis=0))


@scores.register
def _(head: SquaredError, outputs: np.ndarray) -> np.ndarray:
    """The largest output, which was trained to be 1: its share is large where the others are negative, too."""
    return _finite(outputs.max(axis=0))


def _log_softmax(outputs: np.ndarray) -> np.ndarray:
    from scipy.special import log_softmax

    return log_softmax(outputs, axis=0)


def _finite(values: np.ndarray) -> np.ndarray:
    """What is not a number is the least sure of all: a network may overflow on pictures it was not trained for."""
    return np.nan_to_num(values, nan=-np.finfo(float).max)
