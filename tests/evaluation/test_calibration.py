"""Calibration against numbers worked out by hand, scikit-learn, and what each head can give."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss

from ablations.experiment.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from ablations.experiment.evaluation.reading import confidences, log_probabilities, scores
from ablations.nn.heads import PenaltyLoss, SoftmaxCrossEntropy, SquaredError


def shares(
    seed: int, n: int = 400, classes: int = 10, sharpness: float = 3.0
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (classes, n), and labels drawn from something else."""
    rng = np.random.default_rng(seed)
    logits = sharpness * rng.standard_normal((classes, n))
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    return p, rng.integers(classes, size=n)


def test_brier_score_by_hand():
    p = np.array([[0.7, 0.2], [0.2, 0.3], [0.1, 0.5]])
    # (0.3² + 0.2² + 0.1²) = 0.14 for the first, 0.2² + 0.7² + 0.5² = 0.78 for the second.
    assert brier_score(p, np.array([0, 1])) == pytest.approx((0.14 + 0.78) / 2)
    assert brier_score(np.eye(3), np.arange(3)) == 0
    assert brier_score(np.eye(3), np.array([1, 2, 0])) == 2


@pytest.mark.parametrize("seed", range(3))
def test_brier_score_and_likelihood_are_scikit_learns(seed):
    p, labels = shares(seed)
    expected = brier_score_loss(labels, p.T, labels=range(10), scale_by_half=False)
    assert brier_score(p, labels) == pytest.approx(expected, rel=1e-12)
    expected = log_loss(labels, p.T, labels=range(10))
    assert negative_log_likelihood(np.log(p), labels) == pytest.approx(expected, rel=1e-12)


def test_calibration_error_by_hand():
    # Confidences 0.9 and 0.91 share the bin (13/15, 14/15]: one of the two is right, so it is |0.5 − 0.905| off;
    # 0.6 stands alone in (8/15, 9/15] and is wrong.
    p = np.array([[0.9, 0.09, 0.6], [0.1, 0.91, 0.4]])
    labels = np.array([0, 0, 1])
    expected = 2 / 3 * 0.405 + 1 / 3 * 0.6
    assert expected_calibration_error(p, labels, p.argmax(axis=0) == labels) == pytest.approx(expected)


def test_a_sure_network_is_off_by_its_error():
    p, labels = np.eye(10)[:, np.zeros(20, int)], np.repeat([0, 1], [15, 5])
    assert expected_calibration_error(p, labels, labels == 0) == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(3))
def test_calibration_error_bin_by_bin(seed):
    p, labels = shares(seed)
    confidence, right = p.max(axis=0), p.argmax(axis=0) == labels
    expected = 0.0
    for low in np.arange(15) / 15:
        inside = (confidence > low) & (confidence <= low + 1 / 15 + 1e-15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert expected_calibration_error(p, labels, right) == pytest.approx(expected, rel=1e-12)


def test_labels_drawn_from_the_shares_are_calibrated():
    p, _ = shares(1, n=40_000)
    labels = (np.random.default_rng(2).random(40_000) > p.cumsum(axis=0)).sum(axis=0)
    assert expected_calibration_error(p, labels, p.argmax(axis=0) == labels) < 0.01


# What heads give


def test_a_softmax_gives_probabilities_and_scores_by_the_largest():
    outputs = np.array([[2.0, 800.0], [1.0, 0.0], [0.0, 30.0]])
    head = SoftmaxCrossEntropy()
    p = np.exp(log_probabilities(head, outputs))
    np.testing.assert_allclose(p, head.probabilities(outputs), rtol=1e-12)
    losses, _ = head(outputs, np.array([1, 1]))
    assert negative_log_likelihood(log_probabilities(head, outputs), np.array([1, 1])) == pytest.approx(
        losses.mean()
    )
    np.testing.assert_allclose(np.exp(scores(head, outputs)), p.max(axis=0))


def test_scores_tell_apart_what_rounds_to_one():
    outputs = np.array([[25.0, 30.0], [0.0, 0.0]])
    assert np.diff(scores(SoftmaxCrossEntropy(), outputs)) > 0
    np.testing.assert_array_equal(SoftmaxCrossEntropy().probabilities(outputs.astype(np.float32))[0], 1)


@pytest.mark.parametrize("j", [None, 2.0])
def test_penalties_give_posterior_probabilities_and_score_by_the_smallest(j):
    head, outputs = PenaltyLoss(j), np.array([[0.5, 90.0], [3.0, 95.0], [4.0, 99.0]])
    np.testing.assert_allclose(
        np.exp(log_probabilities(head, outputs)), head.probabilities(outputs), rtol=1e-12
    )
    # The second is far from every code, although the nearest has nearly all of its share.
    np.testing.assert_array_equal(scores(head, outputs), [-0.5, -90])
    np.testing.assert_allclose(np.exp(confidences(head, outputs)), head.probabilities(outputs).max(axis=0))


def test_squared_error_has_shares_but_no_likelihood():
    outputs = np.array([[0.9, 0.2], [0.2, -0.1], [-0.3, -0.4]])
    assert log_probabilities(SquaredError(), outputs) is None
    np.testing.assert_array_equal(scores(SquaredError(), outputs), [0.9, 0.2])
    np.testing.assert_allclose(np.exp(confidences(SquaredError(), outputs)), [0.9 / 1.1, 1], rtol=1e-5)


def test_what_overflows_is_the_least_sure():
    with np.errstate(all="ignore"):
        found = scores(SoftmaxCrossEntropy(), np.array([[np.inf, 1.0], [0.0, 0.0]]))
    assert np.isfinite(found).all()
    assert found[0] < found[1]
