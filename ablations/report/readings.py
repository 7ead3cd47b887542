"""What runs read: their `predictions.npz`, looked at before it is believed."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablations.comparison.images import Reading
from ablations.tracking.arrays import Unreadable, read_arrays

if TYPE_CHECKING:
    from ablations.tracking.reader import Reader

MOST_CLASSES = 1000
MOST_RUNS = 5000
"""So many at most are read for the intervals over seeds and images."""


class Readings:
    """Which test images each run read rightly, each run looked at once."""

    def __init__(self, reader: "Reader") -> None:
        self._reader = reader
        self._found: dict[str, Reading | None] = {}

    def __call__(self, run_id: str) -> Reading | None:
        """None where the run has no predictions, or some that cannot be read."""
        if run_id not in self._found:
            self._found[run_id] = self._read(run_id) if len(self._found) < MOST_RUNS else None
        return self._found[run_id]

    def _read(self, run_id: str) -> Reading | None:
        try:
            saved = predictions(self._reader, run_id)
        except Unreadable:
            return None
        if saved is None:
            return None
        labels = saved["labels"]
        digest = hashlib.sha256(labels.astype(np.int64).tobytes()).digest()
        return Reading(digest, np.packbits(saved["predictions"] == labels), len(labels))


def arrays(reader: "Reader", run_id: str, name: str) -> dict[str, np.ndarray] | None:
    """The arrays of an artifact; None where the run has none of that name. Raises Unreadable."""
    path: Path | None = reader.artifact(run_id, name)
    return None if path is None else read_arrays(path)


def predictions(reader: "Reader", run_id: str) -> dict[str, np.ndarray] | None:
    """What a run read, as `arrays`. Raises Unreadable for arrays that do not go together, too."""
    saved = arrays(reader, run_id, "predictions.npz")
    if saved is None:
        return None
    names = saved.get("classes", np.full(MOST_CLASSES, ""))
    readings = [saved.get(name, np.empty(0)) for name in ("labels", "predictions")]
    fits = names.ndim == 1 and names.dtype.kind == "U" and readings[0].shape == readings[1].shape
    for each in readings:
        fits = fits and each.ndim == 1 and each.size > 0 and each.dtype.kind in "iu"
        fits = fits and each.min() >= 0 and each.max() < min(len(names), MOST_CLASSES)
    if "misread_images" in saved:
        at, kept = saved.get("misread", np.empty(0)), saved["misread_images"]
        fits = fits and kept.dtype == np.uint8 and kept.ndim == 3 and min(kept.shape[1:]) > 0
        fits = fits and at.dtype.kind in "iu" and at.shape == kept.shape[:1]
    if not fits:
        raise Unreadable("predictions.npz: not one reading for each test image")
    return saved
