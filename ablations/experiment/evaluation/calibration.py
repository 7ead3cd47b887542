"""Calibration: whether of the images that a network reads with 90 % confidence nine in ten are read rightly."""

import numpy as np

BINS = 15


def brier_score(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of Σ_k (p_k − t_k)², t one-hot: from 0 to 2.

    Source: G. W. Brier, "Verification of forecasts expressed in terms of probability", 1950.

    Args:
        probabilities: (classes, n), columns adding up to 1.
        labels: (n,).
    """
    hits = probabilities[labels, np.arange(len(labels))]
    return float(np.mean((probabilities**2).sum(axis=0) - 2 * hits + 1))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, right: np.ndarray) -> float:
    """Σ_b n_b/n · |accuracy − mean confidence| over 15 bins of equal width, (0, 1/15], …, (14/15, 1]: from 0 to 1.

    The confidence of an image is its largest share; `right` (n,) is whether its answer is.

    Source: C. Guo et al., "On calibration of modern neural networks", 2017, eq. 3.
    """
    confidence = probabilities.max(axis=0)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def negative_log_likelihood(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images of −log p[label], in nats; of log p (classes, n), so that no p is 0."""
    return float(-np.mean(log_probabilities[labels, np.arange(len(labels))]))
