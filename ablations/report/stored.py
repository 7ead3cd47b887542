"""A sweep's report as the store keeps it for those who look at the runs in the MLflow UI."""

from typing import TYPE_CHECKING

from ablations.errors import InputError, one_line
from ablations.paths import draft_folder
from ablations.report.again import TABLES

if TYPE_CHECKING:
    from ablations.report.compile import Report
    from ablations.tracking.store import Store


def keep_in_store(report: "Report", store: "Store", update: bool = False) -> str:
    """Log a sweep's report as one page with its tables, in place of an earlier one; why that failed, else ''.

    Args:
        report: as it was compiled.
        store: of its runs.
        update: whether only a report that is in the store already is replaced.
    """
    from ablations.report.page import page
    from ablations.tracking.reader import Reader
    from ablations.tracking.reports import PAGE, log_report, report_run

    home, experiment = report.path.parent, str(report.analysis.everything["experiment"].iloc[-1])
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
    except (InputError, OSError) as error:
        return one_line(error)
    return ""
