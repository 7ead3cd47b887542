"""Rejection: what it costs to leave doubtful images to a person, and whether what is no digit is noticed.

An image is accepted where its score is at least a threshold; images of equal score stand together. In doubt may be
which class it is (`reading.confidences`), or whether it is any (`reading.scores`).
"""

from collections.abc import Mapping

import numpy as np

ERROR = 0.005
"""Among the accepted images, as LeCun et al. 1998 ask for."""
ACCEPTED = 0.95
"""The share of digits at whose threshold non-digits are counted."""


def rejected_share(scores: np.ndarray, right: np.ndarray, error: float = ERROR) -> float:
    """The smallest share of images to be rejected so that at most `error` of the others are misread, from 0 to 1.

    Source: LeCun et al. 1998, III.D and figure 10 (from memory): the percentage of test patterns that must be rejected
    to achieve 0.5 % error. There the score is the difference between the two best classes.

    Args:
        scores: (n,).
        right: (n,), whether each answer is.
        error: the share among the accepted that may be misread.
    """
    order = np.argsort(-scores, kind="stable")
    accepted, wrong = np.arange(1, len(order) + 1), np.cumsum(~right[order])
    ends = np.append(np.diff(scores[order]) != 0, True)  # a threshold never parts equal scores
    enough = accepted[ends & (wrong <= error * accepted)]
    return float(1 - enough.max(initial=0) / len(order))


def false_acceptance(digits: np.ndarray, others: np.ndarray, accepted: float = ACCEPTED) -> float:
    """The share of other pictures that are accepted at the highest threshold at which at least the share `accepted` of
    the digits is, from scores of both; from 0 to 1."""
    threshold = np.sort(digits)[::-1][int(np.ceil(accepted * len(digits) - 1e-9)) - 1]
    return float(np.mean(others >= threshold))


def auroc(digits: np.ndarray, others: np.ndarray) -> float:
    """The probability that a digit scores higher than another picture, ties counting half."""
    from sklearn.metrics import roc_auc_score

    which = np.repeat([1, 0], [len(digits), len(others)])
    return float(roc_auc_score(which, np.concatenate([digits, others])))


def rejection_metrics(scores: np.ndarray, right: np.ndarray) -> dict[str, float]:
    """What the test images alone tell, in %."""
    return {"rejection/rejected_pct": round(100 * rejected_share(scores, right), 10)}


def non_digit_metrics(digits: np.ndarray, others: Mapping[str, np.ndarray]) -> dict[str, float]:
    """How well digits are told from other pictures, of all kinds together and of each, from scores of both."""
    found = {}
    for kind, scores in {"": np.concatenate([*others.values()]), **others}.items():
        name = f"rejection/{kind}/" if kind else "rejection/"
        found[f"{name}auroc"] = auroc(digits, scores)
        found[f"{name}false_accept_pct"] = 100 * false_acceptance(digits, scores)
    return found
