"""The answer and its loss: what the ten outputs mean, from squared error to softmax.

A head has two parts, given by its YAML: the output layer, and one of these losses over its outputs.
"""

from abc import ABC, abstractmethod

import numpy as np


class Loss(ABC):
    """A loss over outputs (classes, n), for labels (n,) in 0 … classes − 1."""

    @abstractmethod
    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Loss of each sample, (n,), and the gradient of their mean with respect to the outputs, (classes, n)."""

    @abstractmethod
    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Confidence in each class, (classes, n), columns adding up to 1; the largest is the answer's."""

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """The class of each sample, (n,)."""
        return outputs.argmax(axis=0)


class SquaredError(Loss):
    """E = ½ Σ_i (y_i − t_i)², t one-hot; dE/dy = y − t.

    Outputs that minimise it estimate the probability of each class, so the confidences are their positive
    parts, scaled to add up to 1.
    """

    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        error = outputs.copy()
        error[labels, np.arange(labels.size)] -= 1
        return 0.5 * np.add.reduce(error * error, axis=0), error / labels.size

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        share = np.maximum(outputs, 1e-6)
        return share / share.sum(axis=0)


class SoftmaxCrossEntropy(Loss):
    """p = e^y / Σ_i e^(y_i); E = −log p[label] = log Σ_i e^(y_i) − y[label]; dE/dy = p − t, t one-hot."""

    def __call__(self, outputs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at_label = (labels, np.arange(labels.size))
        shifted = outputs - np.maximum.reduce(outputs, axis=0)
        exponentials = np.exp(shifted)
        total = np.add.reduce(exponentials, axis=0)
        losses = np.log(total) - shifted[at_label]
        gradient = exponentials / total
        gradient[at_label] -= 1
        gradient /= labels.size
        return losses, gradient

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        exponentials = np.exp(outputs - outputs.max(axis=0))
        return exponentials / exponentials.sum(axis=0)
