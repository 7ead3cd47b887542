"""A sweep's report as the store keeps it for those who look at the runs in the MLflow UI."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ablations.errors import InputError, one_line
from ablations.ground.paths import draft_folder
from ablations.report.compile import TABLES
from ablations.report.escaping import Markdown, md
from ablations.tracking.columns import KIND, REPORT, REPORT_OF, tag
from ablations.tracking.reports import PAGE, log_report, report_address, report_run

if TYPE_CHECKING:
    from ablations.report.compile import Report
    from ablations.report.unchanged import Unchanged
    from ablations.tracking.store import Store


DESCRIPTION = "mlflow.note.content"
"""The tag of an experiment with what the MLflow UI says above its runs."""
LISTED = md("Reports of sweeps: ")
MOST_LISTED = 20


def keep_in_store(report: "Report | Unchanged", store: "Store", update: bool = False) -> str:
    """Log a sweep's report as one page with its tables, in place of an earlier one, and list it above the experiment's
    runs in the MLflow UI; why that failed, '' where it did not.

    Args:
        report: as it was compiled.
        store: of its runs.
        update: whether only a report that is in the store already is replaced.
    """
    from ablations.report.page import page
    from ablations.tracking.reader import Reader

    home, experiment = report.path.parent, report.experiment
    try:
        known = report_run(Reader(store), experiment, report.name)
        if update and known is None:
            return ""
        with draft_folder() as folder:
            (folder / PAGE).write_text(page(home, report.name), encoding="utf-8", newline="\n")
            for name in ("runs.csv", "report.json", *TABLES):
                if (home / name).exists():
                    (folder / name).write_bytes((home / name).read_bytes())
            log_report(store, experiment, report.name, known, folder)
        _list_reports(store, experiment, report.name)
    except (InputError, OSError) as error:
        return one_line(error)
    return ""


def _list_reports(store: "Store", experiment: str, name: str) -> None:
    """Name the experiment's reports in its description, this one first, unless somebody wrote another description."""
    from ablations.tracking.reader import Reader

    reader = Reader(store)
    newest: dict[Any, dict[str, Any]] = {}
    for run in reversed(reader.records(experiment, {KIND: REPORT})):
        newest.setdefault(run.get(tag(REPORT_OF)), run)
    newest.pop(None, None)
    listed = sorted(newest.values(), key=lambda run: run[tag(REPORT_OF)] != name)
    experiment_id = str(listed[0]["experiment_id"])
    before = reader.experiment_tags(experiment_id).get(DESCRIPTION, "")
    text = LISTED + md(", ").join(map(_link, listed[:MOST_LISTED]))
    if before != text and (not before or before.startswith(LISTED)):
        store.tag_experiment(experiment_id, DESCRIPTION, text)


def _link(run: Mapping[str, Any]) -> Markdown:
    return md("[{}](#{})", run[tag(REPORT_OF)], Markdown(report_address(run["experiment_id"], run["run_id"])))
