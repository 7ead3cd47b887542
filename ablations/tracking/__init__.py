"""Runs in an MLflow store: where it is, writing one run, reading all of them.

Nothing outside this package imports mlflow, and nothing in it does so before it must: that takes seconds.
"""

from ablations.tracking.outbox import deliver
from ablations.tracking.reader import Reader
from ablations.tracking.store import AwayError, Store
from ablations.tracking.writer import Tracker

__all__ = ["AwayError", "Reader", "Store", "Tracker", "deliver"]
