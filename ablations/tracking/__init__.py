"""Runs in an MLflow store: writing them, reading all of them, and the models and views that go with them.

In come params, metrics, tags and files of one run at a time (`Tracker`); out go tables of runs and their histories
(`Reader`), this project's or anybody's. `Store` says where, once. What a store that is away does not take waits in
the outbox, on disk, and is delivered later (`deliver`). This room knows `errors`, `paths` and what a study is, and
neither training nor statistics. It alone imports MLflow, and not before it must: that takes seconds.
"""

from ablations.tracking.outbox import deliver
from ablations.tracking.reader import Reader
from ablations.tracking.store import AwayError, Store
from ablations.tracking.writer import Tracker

__all__ = ["AwayError", "Reader", "Store", "Tracker", "deliver"]
