"""One MLflow run, being written."""

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ablations.errors import InputError
from ablations.tracking.store import client, prepare, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's limits.
PARAMS_PER_BATCH = 100
METRICS_PER_BATCH = 1000
PARAM_CHARACTERS = 6000
TAG_CHARACTERS = 8000
DIGEST_CHARACTERS = 36

REASON_CHARACTERS = 500

Item = TypeVar("Item")


class Tracker:
    """One MLflow run, being written.

    Every method raises InputError, in one line, where the store fails or refuses what it is given (a metric
    name with `@ = ( ) %` or `//`, a parameter that was logged before with another value).
    """

    def __init__(self, uri: str, run_id: str) -> None:
        self.run_id = run_id
        self._uri = uri
        self._client: MlflowClient = client(uri)
        self._pending: list[tuple[str, float, int, int]] = []
        self._sent = -math.inf

    @classmethod
    def start(
        cls,
        uri: str,
        experiment: str,
        run_name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
    ) -> "Tracker":
        """Create a run that is RUNNING, with its parameters and tags.

        Parameters are logged as strings. One longer than MLflow's 6,000 characters is shortened and ends in
        the SHA-256 of the whole, so that two different values stay different; so is a tag beyond 8,000.
        """
        experiment_id = prepare(uri, experiment)
        with store_errors(uri):
            run = client(uri).create_run(
                experiment_id, run_name=run_name, tags={**_origin(), **_fit_tags(tags)}
            )
        tracker = cls(uri, run.info.run_id)
        try:
            tracker.log_params(params)
        except InputError as error:
            tracker.fail("error", str(error))
            raise
        return tracker

    @classmethod
    def resume(cls, uri: str, run_id: str) -> "Tracker":
        """Go on writing a run that exists: it is RUNNING again, without the tags of an earlier failure."""
        from mlflow.exceptions import MlflowException

        tracker = cls(uri, run_id)
        with store_errors(uri):
            tracker._client.update_run(run_id, status="RUNNING")
            for key in ("failure", "failure_reason"):
                try:
                    tracker._client.delete_tag(run_id, key)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise
        return tracker

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log parameters as `start` does. Those logged before must be the same."""
        from mlflow.entities import Param

        items = [Param(key, _fit(str(value), PARAM_CHARACTERS)) for key, value in params.items()]
        with store_errors(self._uri):
            for batch in _chunks(items, PARAMS_PER_BATCH):
                self._client.log_batch(self.run_id, params=batch)

    def log_metrics(self, metrics: Mapping[str, float], step: int, time_ms: int | None = None) -> None:
        """Remember metrics of one step (an epoch, from 1) until the next `flush`.

        `time_ms` is when they were measured (milliseconds since 1970), by default now. The store keeps one of
        values that agree in name, step, time and value, so that what is logged again from a record of it is not
        doubled. NaN is kept as such; an infinity is stored by MLflow's databases as ±1.797e308, and read back
        from there as an infinity by `Reader`.
        """
        when = time.time_ns() // 1_000_000 if time_ms is None else time_ms
        self._pending.extend((name, float(value), when, step) for name, value in metrics.items())

    def flush(self, every: float = 0.0) -> None:
        """Send the remembered metrics, unless the last time is less than `every` seconds ago.

        Each sending costs about 4 ms on SQLite, which short epochs need not pay. What could not be sent is
        still remembered.
        """
        if time.monotonic() - self._sent < every:
            return
        self._sent = time.monotonic()
        from mlflow.entities import Metric

        with store_errors(self._uri):
            while self._pending:
                batch = [Metric(*item) for item in self._pending[:METRICS_PER_BATCH]]
                self._client.log_batch(self.run_id, metrics=batch)
                del self._pending[:METRICS_PER_BATCH]

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
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(
            name=name,
            digest=digest[:DIGEST_CHARACTERS],
            source_type="local" if source else "code",
            source=json.dumps({"uri": source} if source else {"tags": {}}),
            profile=json.dumps(profile) if profile else None,
        )
        with store_errors(self._uri):
            self._client.log_inputs(
                self.run_id, datasets=[DatasetInput(dataset, [InputTag("mlflow.data.context", context)])]
            )

    def log_files(self, folder: Path) -> None:
        """Log everything in a folder as artifacts, under the same relative names."""
        with store_errors(self._uri):
            self._client.log_artifacts(self.run_id, str(folder))

    def log_text(self, text: str, artifact_file: str) -> None:
        """Log a text as the artifact `artifact_file`."""
        with store_errors(self._uri):
            self._client.log_text(self.run_id, text, artifact_file)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or replace tags, shortened as `start` does."""
        from mlflow.entities import RunTag

        items = [RunTag(key, value) for key, value in _fit_tags(tags).items()]
        with store_errors(self._uri):
            for batch in _chunks(items, PARAMS_PER_BATCH):
                self._client.log_batch(self.run_id, tags=batch)

    def finish(self) -> None:
        """Send what is pending and end the run as FINISHED."""
        self.flush()
        self._end("FINISHED")

    def fail(self, failure: str, reason: str) -> None:
        """End the run as FAILED, with the tags `failure` (a word) and `failure_reason` (one short line).

        Pending metrics are sent where that is possible; they may be what failed.
        """
        line = " ".join(reason.split())
        if len(line) > REASON_CHARACTERS:
            line = line[: REASON_CHARACTERS - 1] + "…"
        with suppress(InputError):
            self.flush()
        self.set_tags({"failure": failure, "failure_reason": line})
        self._end("FAILED")

    def _end(self, status: str) -> None:
        with store_errors(self._uri):
            self._client.set_terminated(self.run_id, status)


def _origin() -> dict[str, str]:
    """The tags by which MLflow's own `start_run` says who ran what."""
    import getpass

    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # an account without a name, as in some containers
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": Path(sys.argv[0]).name, "mlflow.source.type": "LOCAL"}


def _fit_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: _fit(str(value), TAG_CHARACTERS) for key, value in tags.items()}


def _fit(value: str, limit: int) -> str:
    if len(value) <= limit:
        return value
    ending = f"… sha256:{hashlib.sha256(value.encode()).hexdigest()}"
    return value[: limit - len(ending)] + ending


def _chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[start : start + size] for start in range(0, len(items), size))
