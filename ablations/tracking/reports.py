"""A sweep's report in the store: the artifacts of one run of a kind of its own, which no comparison counts."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.tracking.columns import KIND, REPORT, REPORT_OF
from ablations.tracking.writer import Tracker

if TYPE_CHECKING:
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

PAGE = "report.html"
"""A report as one page: in its folder, and as the artifact that the MLflow UI shows."""


def report_run(reader: "Reader", experiment: str, name: str) -> str | None:
    """The id of the run that has the report of a sweep; None where there is none. Raises InputError."""
    runs = reader.records(experiment, {KIND: REPORT, REPORT_OF: name})
    return str(runs[-1]["run_id"]) if runs else None


def log_report(store: "Store", experiment: str, name: str, known: str | None, folder: Path) -> None:
    """Log the files of a report: to the run that has it, `known`, or to a new one. Raises InputError.

    A store that is away takes nothing, now or later: the next report is as good.
    """
    store.probe()
    store.settle()
    if known is not None:
        with closing(Tracker.of(store, known)) as tracker:
            tracker.log_files(folder)
        return
    tracker = Tracker.start(store, experiment, f"report: {name}", {}, {KIND: REPORT, REPORT_OF: name})
    tracker.log_files(folder)
    tracker.finish()


def report_address(experiment_id: str, run_id: str) -> str:
    """Where the MLflow UI shows it, behind the server's address and `/#`."""
    return f"/experiments/{experiment_id}/runs/{run_id}/artifacts/{PAGE}"
