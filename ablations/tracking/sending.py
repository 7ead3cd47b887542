"""Records to the store: each applied to a run, so that a second time changes nothing."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError
from ablations.tracking import directly
from ablations.tracking.columns import CONTEXT, tag
from ablations.tracking.models import list_models
from ablations.tracking.store import REFUSALS, Store, may_pass, pages

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo

LOCAL_ID = "local_id"
"""The tag that ties a run in the store to the one that was started here."""

# MLflow's limits for one request.
ITEMS_PER_BATCH = 100
METRICS_PER_BATCH = 1000
CHARACTERS_PER_BATCH = 900_000

Record = dict[str, Any]
"""One thing to do to a run: `do` names it, the rest is JSON, too."""


def send(store: Store, run_id: str, record: Record, files: Path | None = None) -> None:
    """Apply one record to a run in the store. A second time changes nothing.

    Raises AwayError where the store cannot be reached now, InputError where it refuses the record.
    """
    with store.file_errors():
        if directly.write(store, run_id, record, files):
            return
    with store.client() as api:
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        match record["do"]:
            case "params":
                for batch in _batches(record["params"]):
                    api.log_batch(run_id, params=[Param(*item) for item in batch])
            case "tags":
                for batch in _batches(record["tags"]):
                    api.log_batch(run_id, tags=[RunTag(*item) for item in batch])
            case "metrics":
                values = record["metrics"]
                for start in range(0, len(values), METRICS_PER_BATCH):
                    batch = values[start : start + METRICS_PER_BATCH]
                    api.log_batch(run_id, metrics=[Metric(*item) for item in batch])
            case "dataset":
                tags = [InputTag(CONTEXT, record["context"])]
                api.log_inputs(run_id, datasets=[DatasetInput(Dataset(**record["dataset"]), tags)])
            case "files":
                _log_files(store, api, run_id, files)
            case "models":
                try:
                    list_models(api, run_id, record["paths"])
                except MlflowException as error:
                    if error.error_code not in (*REFUSALS, "ENDPOINT_NOT_FOUND"):
                        raise  # a server before MLflow 3 lists none
            case "resume":
                _resume(api, run_id)
            case "end":
                api.set_terminated(run_id, record["status"], record["time_ms"])
            case other:
                raise InputError(f"the outbox holds a record of an unknown kind: {other!r}")


def create(store: Store, record: Record) -> str:
    """Create the run that a record describes and return its id. A second time makes a second run."""
    experiment_id = store.prepare(record["experiment"])
    with store.file_errors():
        found = directly.create_run(store, experiment_id, record["name"], record["tags"], record["time_ms"])
    if found is not None:
        return found
    with store.client() as api:
        run = api.create_run(experiment_id, record["time_ms"], record["tags"], record["name"])
    return run.info.run_id


def find_created(store: Store, local_id: str, deleted: bool = False) -> list[str]:
    """Return the ids of the runs in the store that carry this local id, the oldest first; or of those `deleted`."""
    with store.file_errors():
        known = directly.find_runs(store, LOCAL_ID, local_id, deleted)
    if known is not None:
        return known
    with store.client() as api:
        from mlflow.entities import ViewType

        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        experiments = [item.experiment_id for item in pages(api.search_experiments)]
        found = api.search_runs(experiments, f"{tag(LOCAL_ID)} = '{local_id}'", view)
    return [info.run_id for info in sorted((run.info for run in found), key=_age)]


def is_deleted(store: Store, run_id: str) -> bool:
    """Whether a run is in the store's bin."""
    with store.file_errors():
        known = directly.is_deleted(store, run_id)
    if known is not None:
        return known
    with store.client() as api:
        return api.get_run(run_id).info.lifecycle_stage == "deleted"


def require_sendable(record: Record) -> None:
    """Raise InputError for what every store would refuse, so that it is said now and not at the delivery."""
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.exceptions import MlflowException
    from mlflow.utils.validation import _validate_batch_log_data

    try:
        _validate_batch_log_data(
            [Metric(*item) for item in record.get("metrics", ())],
            [Param(*item) for item in record.get("params", {}).items()],
            [RunTag(*item) for item in record.get("tags", {}).items()],
        )
    except MlflowException as error:
        raise InputError(" ".join(str(error).split())) from error


def require_names(folder: Path) -> None:
    """Raise InputError where a file below `folder` has a name that not every store would keep as it is."""
    for path in folder.rglob("*"):
        require_name(path.relative_to(folder).as_posix())


def require_name(name: str) -> None:
    """Raise InputError for the name of an artifact that leaves its folder, or is no plain relative path."""
    path = PurePosixPath(name)
    plain = name.isprintable() and not set(name) & set("\\?#%:") and path.as_posix() == name
    if not plain or name == "." or path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"artifact {name!r}: its name must be a relative path of printable characters without .. \\ ? # % :"
        )


def _age(info: "RunInfo") -> tuple[int, str]:
    return info.start_time, info.run_id


def _log_files(store: Store, api: "MlflowClient", run_id: str, folder: Path) -> None:
    """Send a folder, which a server that does not answer each time gets file by file."""
    try:
        api.log_artifacts(run_id, str(folder))
    except Exception as error:
        if store.server is None or not may_pass(error):
            raise
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                parent = path.parent.relative_to(folder).as_posix()
                api.log_artifact(run_id, str(path), None if parent == "." else parent)


def _resume(api: "MlflowClient", run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    api.update_run(run_id, status="RUNNING")
    for key in ("failure", "failure_reason"):
        try:
            api.delete_tag(run_id, key)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def _batches(items: Mapping[str, str]) -> Iterator[list[tuple[str, str]]]:
    """Blocks that MLflow takes in one request."""
    batch, size = [], 0
    for item in items.items():
        length = len(json.dumps(item)) + 50
        if batch and (len(batch) == ITEMS_PER_BATCH or size + length > CHARACTERS_PER_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch
