"""Initial weights as a function of uniform draws.

Every scheme maps the same draws u ~ U(0, 1) to weights, so that runs of one seed start from corresponding
weights whatever the scheme.
"""

from abc import ABC, abstractmethod

import numpy as np


class Initializer(ABC):
    """Scales uniform draws to initial weights and biases."""

    @abstractmethod
    def weights(self, uniform: np.ndarray, fan_in: np.ndarray | int, fan_out: np.ndarray | int) -> np.ndarray:
        """Weights of the shape of `uniform`; the fans broadcast against it."""

    @abstractmethod
    def biases(self, uniform: np.ndarray, fan_in: np.ndarray | int) -> np.ndarray:
        """Biases of the shape of `uniform`."""


class LeCun(Initializer):
    """w and b uniform in ±2.4 / fan_in, without a root (LeCun et al. 1998, appendix A)."""

    def weights(self, uniform: np.ndarray, fan_in: np.ndarray | int, fan_out: np.ndarray | int) -> np.ndarray:
        return (2 * uniform - 1) * 2.4 / fan_in

    def biases(self, uniform: np.ndarray, fan_in: np.ndarray | int) -> np.ndarray:
        return (2 * uniform - 1) * 2.4 / fan_in


class Xavier(Initializer):
    """w uniform in ±√(6 / (fan_in + fan_out)), b = 0 (Glorot and Bengio 2010, eq. 16)."""

    def weights(self, uniform: np.ndarray, fan_in: np.ndarray | int, fan_out: np.ndarray | int) -> np.ndarray:
        return (2 * uniform - 1) * np.sqrt(6 / (np.asarray(fan_in) + fan_out))

    def biases(self, uniform: np.ndarray, fan_in: np.ndarray | int) -> np.ndarray:
        return np.zeros_like(uniform)


class He(Initializer):
    """w normal with variance 2 / fan_in, b = 0 (He et al. 2015, eq. 10)."""

    def weights(self, uniform: np.ndarray, fan_in: np.ndarray | int, fan_out: np.ndarray | int) -> np.ndarray:
        from scipy.special import ndtri  # the inverse of the normal distribution function

        return ndtri(uniform) * np.sqrt(2 / np.asarray(fan_in))

    def biases(self, uniform: np.ndarray, fan_in: np.ndarray | int) -> np.ndarray:
        return np.zeros_like(uniform)
