"""What could not be sent to the store, delivered when it is back.

Records are sent in their order, again where it is unknown whether they arrived: MLflow keeps one of values that
agree in name, step, time and value, and all else replaces what was there. A run is created once because it carries
its local id as a tag, for which the store is searched first.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ablations.errors import InputError
from ablations.tracking.journal import JOURNAL, Journal, waiting
from ablations.tracking.sending import METRICS_PER_BATCH, Record, create, find_created, is_deleted, send
from ablations.tracking.store import AwayError, Store

# How long a store that is away is left alone: twice as long each time, and long against what an attempt takes.
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
WAIT_PER_ATTEMPT = 10.0


class DeletedError(InputError):
    """The run was deleted from the store, and what waited of it is gone, too."""


@dataclass(frozen=True)
class Delivery:
    """What became of one run that waited: delivered where `problem` is None; `store` is None where it is unknown.

    Nothing is left of what was `dropped`, because its run was deleted.
    """

    store: Store | None
    run_id: str
    name: str
    folder: Path
    problem: str | None = None
    dropped: bool = False


def deliver(store: Store | None = None) -> list[Delivery]:
    """Deliver what runs left that have ended, to `store` alone where given; quick when there is nothing.

    What cannot be delivered stays, and is in the answer with its problem. Other processes may do the same.
    """
    done: list[Delivery] = []
    away: dict[Store, str] = {}
    for folder in waiting():
        journal = problem = None
        try:
            journal = Journal.claim(folder)
            if journal is None and (folder / JOURNAL).exists():
                problem = "it is still being written"
        except InputError as error:
            problem = str(error)
        if journal is not None:
            if store in (None, journal.store):
                done.append(_delivery(journal, away))
            journal.close()
        elif problem is not None and store is None:
            done.append(Delivery(None, "", folder.name, folder, problem))
    return done


def _delivery(journal: Journal, away: dict[Store, str]) -> Delivery:
    """Deliver a run, unless its store is among those that are `away`, which need not be waited for again."""
    problem, dropped = away.get(journal.store), False
    try:
        if problem is None:
            journal.store.probe()
            journal.store.settle()
            send_all(journal)
    except DeletedError:
        dropped = True
    except InputError as error:
        problem = str(error)
        if isinstance(error, AwayError):
            away[journal.store] = problem
    run_id = journal.run_id or journal.local_id or ""
    return Delivery(journal.store, run_id, journal.name, journal.folder, problem, dropped)


def send_all(journal: Journal) -> None:
    """Send what is left of a journal, in order, then remove it.

    Raises AwayError where the store cannot be reached, InputError where it refuses a record; what was not sent is
    still there, unless the run was deleted (DeletedError).
    """
    if _is_of_deleted(journal):
        journal.remove()
        raise DeletedError(f"the run {journal.name!r} was deleted from {journal.store.shown}")
    before = journal.delivered
    try:
        if journal.run_id is None:
            journal.run_id = _created(journal)
            journal.mark()
        while journal.delivered < len(journal.records):
            count, record = _next(journal.records[journal.delivered :])
            if record["do"] != "create":
                send(journal.store, journal.run_id, record, journal.files(record))
            journal.delivered += count
        _delete_doubles(journal)
    except BaseException as error:
        if journal.delivered > before:
            journal.mark()
        if isinstance(error, LookupError | TypeError | AttributeError):
            raise journal.damage(repr(error)) from error
        raise
    journal.remove()


def _created(journal: Journal) -> str:
    """The run's id in the store, where it may have been created although no answer came."""
    if journal.local_id is None:
        raise journal.damage("it names no run")
    if found := find_created(journal.store, journal.local_id):
        return found[0]
    if journal.creation is None:
        raise InputError(f"there is no run {journal.local_id} in the store {journal.store.shown}")
    return create(journal.store, journal.creation)


def _is_of_deleted(journal: Journal) -> bool:
    if journal.run_id is not None:
        return is_deleted(journal.store, journal.run_id)
    local_id = journal.local_id or ""
    return not find_created(journal.store, local_id) and bool(
        find_created(journal.store, local_id, deleted=True)
    )


def _delete_doubles(journal: Journal) -> None:
    """Delete the empty doubles that a stalled request to create the run has left behind."""
    if journal.local_id and journal.creation:
        for double in find_created(journal.store, journal.local_id):
            if double != journal.run_id:
                journal.store.discard(double)


def _next(records: Sequence[Record]) -> tuple[int, Record]:
    """The first record and how many it stands for: metrics that follow each other are sent together."""
    if records[0]["do"] != "metrics":
        return 1, records[0]
    count, values = 0, []
    for record in records:
        more = record["metrics"] if record["do"] == "metrics" else None
        if more is None or (values and len(values) + len(more) > METRICS_PER_BATCH):
            break
        count, values = count + 1, values + more
    return count, {"do": "metrics", "metrics": values}


class Patience:
    """When to try a store again that was away."""

    def __init__(self) -> None:
        self._failures = 0
        self._due = 0.0

    def over(self) -> bool:
        """Whether it is time to try."""
        return time.monotonic() >= self._due

    def failed(self, started: float) -> None:
        """Wait longer after an attempt that began at `started` (monotonic seconds) and failed."""
        now = time.monotonic()
        wait = min(FIRST_WAIT_SECONDS * 2**self._failures, LONGEST_WAIT_SECONDS)
        self._due = now + max(wait, WAIT_PER_ATTEMPT * (now - started))
        self._failures += 1

    def succeeded(self) -> None:
        """Begin anew."""
        self._failures, self._due = 0, 0.0


@cache
def patience_with(store: Store) -> Patience:
    """The patience of all runs that this process writes to a store, one after the other."""
    return Patience()
