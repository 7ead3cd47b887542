"""Runs in an MLflow store: where it is, writing one run, reading all of them.

Nothing outside this package imports mlflow, and nothing in it does so before it must: that takes seconds.
"""

from ablations.tracking.earlier import EarlierRun, copy_results, earlier_runs
from ablations.tracking.reader import Reader
from ablations.tracking.store import prepare, tracking_uri
from ablations.tracking.writer import Tracker

__all__ = [
    "EarlierRun",
    "Reader",
    "Tracker",
    "copy_results",
    "earlier_runs",
    "prepare",
    "tracking_uri",
]
