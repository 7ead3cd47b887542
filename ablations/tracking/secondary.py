"""What our own runs measure beside the error: names of metrics, what they are called, and which values are better."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Secondary(NamedTuple):
    """How a metric is called in sentences, its unit and that of a difference, and whether smaller is better."""

    noun: str
    unit: str
    difference: str
    smaller: bool = True


PERCENT = "%", "percentage points"

GROUPS: Mapping[str, Mapping[str, Secondary]] = {
    "calibration": {
        "test/brier": Secondary("Brier score", "", ""),
        "test/ece": Secondary("calibration error", "", ""),
        "test/nll": Secondary("negative log-likelihood", "nats", "nats"),
    },
    "shift": {
        "shift/geometry/error_pct": Secondary("error on moved and bent images", *PERCENT),
        "shift/stroke/error_pct": Secondary("error on other strokes", *PERCENT),
        "shift/blur_noise/error_pct": Secondary("error on blurred and noisy images", *PERCENT),
        "shift/inverted/error_pct": Secondary("error on inverted images", *PERCENT),
    },
    "rejection": {
        "rejection/rejected_pct": Secondary("rejected for 0.5 % error", *PERCENT),
        "rejection/auroc": Secondary("AUROC against non-digits", "", "", smaller=False),
        "rejection/false_accept_pct": Secondary("non-digits accepted", *PERCENT),
    },
}
"""By group the outcomes that a report compares; the single shifts and kinds of non-digits stand behind them."""

SECONDARY: Mapping[str, Secondary] = {name: each for group in GROUPS.values() for name, each in group.items()}

PARTS = re.compile(r"shift/\w+/error_pct|rejection/\w+/false_accept_pct")
"""The single ones whose names no list of words reads; of all of them smaller values are better."""


def part(metric: str) -> Secondary | None:
    """One of the single ones by its name; None for another metric."""
    if not PARTS.fullmatch(metric):
        return None
    group, name, _ = metric.split("/")
    name = name.replace("_", " ")
    return Secondary(f"error under {name}" if group == "shift" else f"{name} accepted", *PERCENT)


PICTURES: Mapping[str, str] = {"shift": "shift_sha256", "rejection": "rejection_sha256"}
"""By group the tag with the digest of the pictures that its metrics were measured on."""
