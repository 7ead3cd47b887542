"""One MLflow run, being written."""

import hashlib
import json
import logging
import math
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ablations.commands import here
from ablations.errors import InputError, masked
from ablations.ground.paths import draft_folder
from ablations.tracking.directly import DIGEST_CHARACTERS, PARAM_CHARACTERS, TAG_CHARACTERS
from ablations.tracking.journal import LOCAL, Journal, outbox_folder
from ablations.tracking.models import model_tags
from ablations.tracking.outbox import DeletedError, deliver, patience_with, send_all
from ablations.tracking.sending import (
    LOCAL_ID,
    Record,
    create,
    find_created,
    require_name,
    require_names,
    require_sendable,
    send,
)
from ablations.tracking.store import AwayError, Store

NAME_CHARACTERS = 250
"""MLflow's limit."""

REASON_CHARACTERS = 500

log = logging.getLogger(__name__)


class Tracker:
    """One MLflow run, being written.

    What the store does not take because it is away (a server that is down or stalls, a database that is locked,
    a full disk) is kept in the outbox and delivered when it is back: tried again now and then at a `flush`, at
    the end of the run, at the start of any later one, and by `python -m ablations.sync`.

    Every method raises InputError, in one line, where the store refuses what it is given (a metric name with
    `@ = ( ) %` or `//`, a parameter that was logged before with another value), or where what it did not take
    cannot be kept either. `run_id` is the run's id in the store, or a local one until it is delivered there.
    """

    def __init__(
        self, store: Store, run_id: str, local_id: str | None = None, journal: Journal | None = None
    ) -> None:
        self.run_id = run_id
        self._local_id = local_id
        self._store = store
        self._journal = journal
        self._patience = patience_with(store)
        self._pending: list[tuple[str, float, int, int]] = []
        self._sent = -math.inf

    @classmethod
    def start(
        cls,
        store: Store,
        experiment: str,
        run_name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        offline_ok: bool = False,
    ) -> "Tracker":
        """Create a run that is RUNNING, with its parameters and tags; deliver what earlier runs left.

        A store that is away raises AwayError, or with `offline_ok` (in the middle of a sweep, whose store was
        there when it began) leaves the whole run to the outbox.

        Parameters are logged as strings. One longer than MLflow's 6,000 characters is shortened and ends in
        the SHA-256 of the whole, so that two different values stay different; so is a tag beyond 8,000.
        """
        local_id = f"{LOCAL}{uuid.uuid4().hex}"
        record = {
            "do": "create",
            "experiment": experiment,
            "name": _fit(run_name, NAME_CHARACTERS),
            "tags": {**_origin(), **_fit_tags(tags), LOCAL_ID: local_id},
            "time_ms": _now_ms(),
        }
        tracker = cls(store, local_id, local_id)
        tracker._begin(record, lambda: create(store, record), offline_ok)
        try:
            tracker.log_params(params)
        except InputError as error:
            tracker.fail("error", str(error))
            raise
        if tracker._journal is None:
            _deliver_earlier(store)
        return tracker

    @classmethod
    def of(cls, store: Store, run_id: str, local_id: str | None = None) -> "Tracker":
        """Write to a run that has ended, as it is: behind what waits of it, if anything does. To be closed.

        `run_id` may be the local id of a run that is, or was, in the outbox; `local_id` is that of its tag.
        """
        journal = Journal.find(store, run_id, local_id)
        known = journal.run_id if journal is not None else None
        return cls(store, known or run_id, run_id if run_id.startswith(LOCAL) else local_id, journal)

    @classmethod
    def resume(
        cls, store: Store, run_id: str, local_id: str | None = None, offline_ok: bool = False
    ) -> "Tracker":
        """Go on writing a run that exists, by its ids as `of` takes them.

        It is RUNNING again, without the tags of an earlier failure. Raises InputError where there is no such run,
        AwayError where the store is away, unless `offline_ok`.
        """
        resume, tracker = {"do": "resume"}, cls.of(store, run_id, local_id)
        if tracker.waits:
            tracker._write(resume)
            tracker._try_to_deliver()
            return tracker

        def resumed() -> str:
            store.probe(patient=True)
            found = find_created(store, run_id) if run_id.startswith(LOCAL) else [run_id]
            if not found:
                raise InputError(f"there is no run {run_id} in the store {store.shown}")
            send(store, found[0], resume)
            return found[0]

        tracker._begin(resume, resumed, offline_ok)
        return tracker

    @property
    def waits(self) -> bool:
        """Whether something of the run is kept in the outbox, and not in the store yet."""
        return self._journal is not None

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters as `start` does. Those logged before must be the same."""
        fitted = {key: _fit(masked(str(value)), PARAM_CHARACTERS) for key, value in params.items()}
        self._write({"do": "params", "params": fitted})

    def log_metrics(self, metrics: Mapping[str, float], step: int, time_ms: int | None = None) -> None:
        """Remember metrics of one step (an epoch, from 1) until the next `flush`.

        `time_ms` is when they were measured (milliseconds since 1970), by default now. The store keeps one of
        values that agree in name, step, time and value, so that what is logged again is not doubled. NaN is
        kept as such; an infinity is stored by MLflow's databases as ±1.797e308, and read back from there as
        an infinity by `Reader`.
        """
        when = _now_ms() if time_ms is None else time_ms
        self._pending.extend((name, float(value), when, step) for name, value in metrics.items())

    def flush(self, every: float = 0.0) -> None:
        """Send the remembered metrics, unless the last time is less than `every` seconds ago.

        Each sending costs about 4 ms on SQLite, which short epochs need not pay. What was refused is still
        remembered.
        """
        if time.monotonic() - self._sent < every:
            return
        self._sent = time.monotonic()
        if self._pending:
            self._write({"do": "metrics", "metrics": self._pending})
            self._pending = []
        if self._patience.over():
            self._try_to_deliver()

    def log_dataset(
        self,
        name: str,
        digest: str,
        context: str,
        source: str = "",
        profile: Mapping[str, object] | None = None,
    ) -> None:
        """Record a data set as an input of the run; no data are copied.

        `digest` is cut to MLflow's 36 characters, `context` says what it is for (`train`, `test`), `source`
        where it came from, and `profile` is shown beside it in the UI (sizes: images, classes).
        """
        dataset = {
            "name": name,
            "digest": digest[:DIGEST_CHARACTERS],
            "source_type": "local" if source else "code",
            "source": json.dumps({"uri": source} if source else {"tags": {}}),
            "profile": json.dumps(profile) if profile else None,
        }
        self._write({"do": "dataset", "context": context, "dataset": dataset})

    def log_files(self, folder: Path) -> None:
        """Log everything in a folder as artifacts, under the same relative names.

        Models in MLflow's format become the run's logged models, and the experiment lists them. Raises InputError
        for a name with a character that not every store keeps (a control character or one of `\\ ? # % :`).
        """
        require_names(folder)
        models = model_tags(folder)
        self._write({"do": "files"}, folder)
        if models:
            self.set_tags(models)
            self.flush()  # its metrics become those of its models, too
            self._write(
                {"do": "models", "paths": sorted(path.parent.name for path in folder.glob("*/MLmodel"))}
            )

    def log_text(self, text: str, artifact_file: str) -> None:
        """Log a text as the artifact `artifact_file`, a relative path as `log_files` takes."""
        require_name(artifact_file)
        with draft_folder() as folder:
            file = folder / artifact_file
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8", errors="backslashreplace")
            except OSError as error:
                raise InputError(f"artifact {artifact_file[:100]!r}: {error.strerror}") from error
            self.log_files(folder)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags, shortened as `start` does."""
        self._write({"do": "tags", "tags": _fit_tags(tags)})

    def finish(self) -> None:
        """Send what is pending and end the run as FINISHED."""
        self.flush()
        self._end("FINISHED")

    def fail(self, failure: str, reason: str, status: str = "FAILED") -> None:
        """End the run without a result, with the tags `failure` (a word) and `failure_reason` (one short line).

        Pending metrics are sent where that is possible; they may be what failed.
        """
        line = " ".join(reason.split())
        if len(line) > REASON_CHARACTERS:
            line = line[: REASON_CHARACTERS - 1] + "…"
        with suppress(InputError):
            self.flush()
        self.set_tags({"failure": failure, "failure_reason": line})
        self._end(status)

    def close(self) -> None:
        """Let go of the run; what is kept of it, any other process may deliver."""
        if self._journal is not None:
            log.warning(
                here("the run %r waits in %s: the next run or `python -m ablations.sync` delivers it"),
                self._journal.name,
                self._journal.folder,
            )
            self._journal.close()

    def _end(self, status: str) -> None:
        self._write({"do": "end", "status": status, "time_ms": _now_ms()})
        try:
            self._try_to_deliver()
        finally:
            self.close()

    def _begin(self, record: Record, send_it: Callable[[], str], offline_ok: bool) -> None:
        """Send the first record, which gives the run's id; keep it where the store is away and that is `offline_ok`."""
        started = time.monotonic()
        try:
            if offline_ok and not self._patience.over():
                raise AwayError(f"the MLflow store {self._store.shown} is still away")
            self.run_id = send_it()
        except AwayError as error:
            if not offline_ok:
                raise
            self._keep(record, None, error, started)

    def _write(self, record: Record, files: Path | None = None) -> None:
        """Send a record, or keep it where something before it is kept or the store is away."""
        started, away = time.monotonic(), None
        if self._journal is None:
            try:
                send(self._store, self.run_id, record, files)
                return
            except AwayError as error:
                away = error
        self._keep(record, files, away, started)

    def _keep(self, record: Record, files: Path | None, away: AwayError | None, started: float) -> None:
        """Keep a record; from now on all of them where the store is `away`, as an attempt from `started` on found."""
        require_sendable(record)
        if away is not None:
            self._journal = Journal.new(self._store, self.run_id, self._local_id)
            self._patience.failed(started)
            log.warning("%s; kept in %s until it is back", away, self._journal.folder)
        self._journal.append(record, files)

    def _try_to_deliver(self) -> None:
        journal, started = self._journal, time.monotonic()
        if journal is None:
            return
        try:
            self._store.probe()
            send_all(journal)
        except AwayError:
            self._patience.failed(started)
            return
        except DeletedError:
            self._journal = None
            raise
        finally:
            self.run_id = journal.run_id or self.run_id
        self._patience.succeeded()
        self._journal = None
        log.info("the MLflow store %s is back: all that was kept is delivered", self._store.shown)


def _deliver_earlier(store: Store) -> None:
    try:
        runs = deliver(store)
    except InputError as error:
        log.warning("%s", error)
        return
    left = [run for run in runs if run.problem]
    if len(runs) > len(left):
        log.info("delivered %d runs that were kept while %s was away", len(runs) - len(left), store.shown)
    if left:
        log.warning("%d runs are kept in %s still: %s", len(left), outbox_folder(), left[0].problem)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _origin() -> dict[str, str]:
    """The tags by which MLflow's own `start_run` says who ran what."""
    import getpass

    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # an account without a name, as in some containers
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}


def _fit_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _fit(masked(str(value)), TAG_CHARACTERS) for key, value in tags.items()}


def _fit(value: str, limit: int) -> str:
    """Shorten a text that a database takes: without the half characters that bytes of a command may leave."""
    value = value.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(value) <= limit:
        return value
    ending = f"… sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    return value[: limit - len(ending)] + ending
