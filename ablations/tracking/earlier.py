"""The runs that a store has of one configuration, and the result of one as that of another sweep."""

from collections.abc import Mapping
from dataclasses import dataclass

from ablations.paths import draft_folder
from ablations.tracking.columns import KINDS, METRIC
from ablations.tracking.models import without_bytecode
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.writer import Tracker


@dataclass(frozen=True)
class EarlierRun:
    """A run as the store has it: its parameters, tags and last metrics, by name.

    `params` is None for one that is known from elsewhere, while the store is away.
    """

    run_id: str
    status: str
    params: Mapping[str, str] | None
    metrics: Mapping[str, float]
    tags: Mapping[str, str]


def earlier_runs(store: Store, experiment: str, tags: Mapping[str, str]) -> list[EarlierRun]:
    """The runs of an experiment that have all of `tags`, the newest first.

    Raises InputError where the store or the experiment does not exist.
    """
    runs = []
    for row in Reader(store).runs(experiment, tags).to_dict("records"):
        params, metrics, tags = (
            {
                column.removeprefix(kind): value
                for column, value in row.items()
                if column.startswith(kind) and (kind == METRIC or isinstance(value, str))
            }  # a missing text is not one
            for kind in KINDS
        )
        runs.append(EarlierRun(row["run_id"], row["status"], params, metrics, tags))
    return runs[::-1]


def copy_results(store: Store, run_id: str, tracker: Tracker) -> None:
    """Log all metrics and artifacts of the run `run_id` to the run of `tracker`, too, as they are.

    It may be done again after an interruption: nothing is doubled.
    """
    with store.client() as api, draft_folder() as folder:
        for name in api.get_run(run_id).data.metrics:
            for point in api.get_metric_history(run_id, name):
                tracker.log_metrics({name: point.value}, point.step, point.timestamp)
        tracker.flush()
        api.download_artifacts(run_id, "", str(folder))
        without_bytecode(folder)
        tracker.log_files(folder)


def last_epoch(store: Store, run_id: str, metric: str) -> int:
    """The last step of a metric that the store knows of a run, 0 where it knows none."""
    steps = Reader(store).histories([run_id], [metric])["step"]
    return int(steps.max()) if len(steps) else 0
