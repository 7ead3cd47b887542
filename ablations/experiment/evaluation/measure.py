"""All parts of an evaluation, one after the other, and the pictures that they share."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from ablations.datasets import Dataset
from ablations.experiment.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from ablations.experiment.evaluation.non_digits import non_digits
from ablations.experiment.evaluation.reading import Reader, confidences, log_probabilities, scores
from ablations.experiment.evaluation.rejection import non_digit_metrics, rejection_metrics
from ablations.experiment.evaluation.shift import chosen, error_metrics, shifted

SHIFT_TAG, REJECTION_TAG = "shift_sha256", "rejection_sha256"
"""Tags with the digest of the pictures that were made: runs with others are no pairs in what these measure."""

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Parts:
    """Which parts are asked for."""

    calibration: bool
    shift: bool
    rejection: bool


@dataclass(frozen=True)
class Further:
    """Metrics and tags of a run, beside those of the test images as they are."""

    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """By name pictures (n, 28, 28), and their digest."""

    by_name: dict[str, np.ndarray]
    sha256: str

    @classmethod
    def of(cls, by_name: dict[str, np.ndarray]) -> "Pictures":
        digest = hashlib.sha256()
        for name, pictures in by_name.items():
            digest.update(f"{name} {pictures.shape}\n".encode())
            digest.update(np.ascontiguousarray(pictures))
        return cls(by_name, digest.hexdigest()[:16])


_made: dict[tuple[str, str], Pictures] = {}
"""Those of the last data set, by its digest and their tag: the next run of a sweep wants the same."""


def measure(parts: Parts, reader: Reader, dataset: Dataset) -> Further:
    """The metrics of the parts that are asked for, and the tags of the pictures behind them.

    Non-digits are drawn where the classes are the ten digits: what no digit is may well be a coat.
    """
    found = Further()
    if parts == Parts(calibration=False, shift=False, rejection=False):
        return found
    head, labels = reader.network.loss, dataset.test_labels
    outputs = reader.outputs(dataset.test_images)
    right = head.answers(outputs) == labels
    if parts.calibration:
        found.metrics.update(_calibration(reader, outputs, labels, right))
    if parts.shift:
        at = chosen(len(labels))
        pictures = _kept(SHIFT_TAG, dataset)
        answers = {name: reader.answers(images) for name, images in pictures.by_name.items()}
        unshifted = {"none": right[at]}
        found.metrics.update(
            error_metrics(unshifted | {name: each == labels[at] for name, each in answers.items()})
        )
        found.tags[SHIFT_TAG] = pictures.sha256
    if parts.rejection:
        found.metrics.update(rejection_metrics(confidences(head, outputs), right))
        if dataset.classes == DIGITS:
            pictures = _kept(REJECTION_TAG, dataset)
            others = {kind: scores(head, reader.outputs(images)) for kind, images in pictures.by_name.items()}
            found.metrics.update(non_digit_metrics(scores(head, outputs), others))
            found.tags[REJECTION_TAG] = pictures.sha256
    return found


def _calibration(
    reader: Reader, outputs: np.ndarray, labels: np.ndarray, right: np.ndarray
) -> Iterable[tuple[str, float]]:
    logarithms = log_probabilities(reader.network.loss, outputs)
    shares = reader.network.loss.probabilities(outputs) if logarithms is None else np.exp(logarithms)
    yield "test/brier", brier_score(shares, labels)
    yield "test/ece", expected_calibration_error(shares, labels, right)
    if logarithms is not None:
        yield "test/nll", negative_log_likelihood(logarithms, labels)


def _kept(tag: str, dataset: Dataset) -> Pictures:
    """The pictures of a part, made once for a data set."""
    if any(sha256 != dataset.sha256 for sha256, _ in _made):
        _made.clear()
    key = dataset.sha256, tag
    if key not in _made:
        images, labels = dataset.test_images, dataset.test_labels
        made = shifted(images[chosen(len(images))]) if tag == SHIFT_TAG else non_digits(images, labels)
        _made[key] = Pictures.of(made)
    return _made[key]
