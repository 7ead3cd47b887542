"""The logged values of many runs, kept in compact columns."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ablations.tracking.columns import INFINITY

if TYPE_CHECKING:
    import pandas as pd

Point = tuple[bytes, bytes, int, float | None, int]
"""Run, metric, step, value (None where there is no number), milliseconds since 1970; texts as the database has them."""


class Points:
    """Values of runs, added in blocks and in any order; a million of them take some thirty bytes each."""

    def __init__(self) -> None:
        self._runs: dict[bytes, int] = {}
        self._metrics: dict[bytes, int] = {}
        self._blocks: list[tuple[np.ndarray, ...]] = []

    def add(self, points: Sequence[Point]) -> None:
        """Add some."""
        if not points:
            return
        runs, metrics, steps, values, times = zip(*points, strict=True)
        numbers = np.array(values, np.float64)
        numbers[numbers >= INFINITY], numbers[numbers <= -INFINITY] = np.inf, -np.inf
        self._blocks.append(
            (
                np.array([self._runs.setdefault(run, len(self._runs)) for run in runs], np.int32),
                np.array([self._metrics.setdefault(name, len(self._metrics)) for name in metrics], np.int32),
                np.array(steps, np.int64),
                numbers,
                np.array(times, np.int64),
            )
        )

    def frame(self) -> "pd.DataFrame":
        """Columns `run_id`, `metric`, `step`, `value`, sorted by the first three; values of the same step in the order
        of their time stamps."""
        import pandas as pd

        empty = (
            np.empty(0, np.int32),
            np.empty(0, np.int32),
            np.empty(0, int),
            np.empty(0),
            np.empty(0, int),
        )
        parts = [np.concatenate(each) for each in zip(empty, *self._blocks, strict=True)]
        self._blocks.clear()
        names = []
        for at, texts in enumerate((self._runs, self._metrics)):
            texts = np.array([text.decode("utf-8", "replace") for text in texts], object)
            order = np.argsort(texts)
            place = np.empty(len(order), np.int32)
            place[order] = np.arange(len(order))
            parts[at] = place[parts[at]]
            names.append(pd.Series(texts[order], dtype="str"))
        runs, metrics, steps, values, times = parts
        order = np.lexsort((values, times, steps, metrics, runs))
        columns = {
            "run_id": names[0].array.take(runs[order]),
            "metric": names[1].array.take(metrics[order]),
            "step": steps[order],
            "value": values[order],
        }
        return pd.DataFrame(columns)
