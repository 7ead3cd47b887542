"""The runs that a store has of one configuration, and the result of one as that of another sweep."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.errors import InputError
from ablations.ground.paths import draft_folder
from ablations.tracking.columns import KINDS
from ablations.tracking.journal import LOCAL, Journal, kept
from ablations.tracking.models import without_bytecode
from ablations.tracking.reader import Reader
from ablations.tracking.sending import LOCAL_ID, Record, find_created
from ablations.tracking.store import Store, may_pass, persistently
from ablations.tracking.writer import Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class EarlierRun:
    """A run as the store will have it: its parameters, tags and last metrics, by name.

    `kept` is what of that still waits in the outbox. `params` is None for a run that is known from elsewhere, while
    the store is away.
    """

    run_id: str
    status: str
    params: Mapping[str, str] | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    kept: Sequence[Record] = ()

    @property
    def ids(self) -> tuple[str, str | None]:
        """Its id in the store, a local one before it is there; and the local one of its tag, if it has that."""
        return self.run_id, self.tags.get(LOCAL_ID)


class IncompleteError(InputError):
    """The result of the run `run_id` cannot be copied whole."""

    def __init__(self, run_id: str, why: str) -> None:
        super().__init__(f"the result of run {run_id} {why}")
        self.run_id = run_id


@dataclass(frozen=True)
class Copied:
    """What a run has logged: the values of each metric as (name, value, step, milliseconds since 1970), and files."""

    metrics: Sequence[tuple[str, float, int, int]]
    files: Path


def earlier_runs(store: Store, experiment: str, tags: Mapping[str, str]) -> list[EarlierRun]:
    """The runs of an experiment that have all of `tags`, with what waits in the outbox, the newest first.

    Raises InputError where the store or the experiment does not exist, AwayError where it cannot be read now.
    """
    runs = []
    for row in Reader(store).records(experiment, tags):
        parts = (
            {name.removeprefix(kind): value for name, value in row.items() if name.startswith(kind)}
            for kind in KINDS
        )
        runs.append(EarlierRun(row["run_id"], row["status"], *parts))
    return _with_kept(runs, store, experiment, tags)


def kept_runs(store: Store, experiment: str, tags: Mapping[str, str]) -> list[EarlierRun]:
    """What is known of `earlier_runs` while the store cannot be read: those that began in the outbox."""
    return _with_kept([], store, experiment, tags)


def _with_kept(
    runs: list[EarlierRun], store: Store, experiment: str, tags: Mapping[str, str]
) -> list[EarlierRun]:
    """From the oldest first to the newest first, each as it is once all that waits is delivered."""
    for content in kept(store):
        try:
            about = (index for index, run in enumerate(runs) if content.is_about(*run.ids))
            if (at := next(about, None)) is not None:
                runs[at] = _after(runs[at], content.records)
            elif content.creation is not None and content.creation["experiment"] == experiment:
                new = EarlierRun(content.run_id or content.local_id, "RUNNING", {}, {}, {})
                new = _after(new, content.records)
                if tags.items() <= new.tags.items():
                    runs.append(new)
        except (LookupError, TypeError, ValueError, AttributeError):
            continue  # a damaged journal: whoever delivers it says so
    return runs[::-1]


def _after(run: EarlierRun, records: Sequence[Record]) -> EarlierRun:
    """The run once these records are delivered."""
    status, params, metrics, tags = run.status, {**run.params}, {**run.metrics}, {**run.tags}
    for record in records:
        match record["do"]:
            case "create" | "tags":
                tags |= record["tags"]
            case "params":
                params |= record["params"]
            case "metrics":
                ordered = sorted(record["metrics"], key=lambda point: (point[3], point[2]))
                metrics |= {name: value for name, value, _, _ in ordered}
            case "resume":
                status = "RUNNING"
                tags = {key: text for key, text in tags.items() if key not in ("failure", "failure_reason")}
            case "end":
                status = record["status"]
    return EarlierRun(run.run_id, status, params, metrics, tags, records)


def discard(store: Store, run: EarlierRun) -> None:
    """Delete a run, and what waits of it, which could never be delivered. Raises AwayError where the store is away."""
    for found in find_created(store, run.run_id) if run.run_id.startswith(LOCAL) else [run.run_id]:
        store.discard(found)
    if run.kept and (journal := Journal.find(store, *run.ids)):
        journal.remove()


@contextmanager
def results(store: Store, run_id: str, metrics: Sequence[str], files: Sequence[str]) -> Iterator[Copied]:
    """All metrics and artifacts of a run that has ended, as they are; the files are gone when the block ends.

    Raises IncompleteError where one of these `metrics` or `files` (or one that a server lists) is not there,
    AwayError where the store cannot be read now.
    """
    with draft_folder() as folder:
        with store.client() as api:
            points = [
                (metric, point.value, point.step, point.timestamp)
                for metric in api.get_run(run_id).data.metrics
                for point in api.get_metric_history(run_id, metric)
            ]
            listed = _download(store, api, run_id, folder)
        lost = sorted({*metrics} - {metric for metric, *_ in points})
        lost += sorted(path for path in {*files, *listed} if not _is_whole(folder / path, listed.get(path)))
        if lost:
            raise IncompleteError(run_id, f"lacks {', '.join(lost)}")
        without_bytecode(folder)
        yield Copied(points, folder)


def log_copied(copied: Copied, tracker: Tracker) -> None:
    """Log what a run has logged to another one, too. It may be done again after an interruption: nothing is doubled."""
    for metric, value, step, time_ms in copied.metrics:
        tracker.log_metrics({metric: value}, step, time_ms)
    tracker.flush()
    tracker.log_files(copied.files)


def last_kept_epoch(run: EarlierRun, metric: str) -> int:
    """The last step of a metric among what waits of a run, 0 where there is none."""
    points = [point for record in run.kept if record["do"] == "metrics" for point in record["metrics"]]
    return max((step for name, _, _, step in points if name == metric), default=0)


def last_epoch(store: Store, run: EarlierRun, metric: str) -> int:
    """The last step of a metric that the store knows of a run, or will know, 0 where there is none."""
    steps = [] if run.run_id.startswith(LOCAL) else Reader(store).histories([run.run_id], [metric])["step"]
    return max(last_kept_epoch(run, metric), int(max(steps, default=0)))


def _download(store: Store, api: "MlflowClient", run_id: str, folder: Path) -> dict[str, int | None]:
    """Download all artifacts; return the sizes of those that a server lists, by their names."""
    folders, listed = [None], {}
    for place in folders:
        for item in api.list_artifacts(run_id, place):
            if item.is_dir and store.server is not None:
                folders.append(item.path)
            else:
                listed[item.path] = None if item.is_dir else item.file_size
    if listed:
        try:
            api.download_artifacts(run_id, "", str(folder))
        except Exception as error:
            if store.server is None or not may_pass(error):
                raise
            for path in listed:
                persistently(api.download_artifacts, run_id, path, str(folder))
    return listed


def _is_whole(path: Path, size: int | None) -> bool:
    """Whether something is there that is not empty, of this size where it is known."""
    return path.is_dir() or (path.is_file() and path.stat().st_size == (size or path.stat().st_size) > 0)
