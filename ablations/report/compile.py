"""From a store to the files of a report.

The README is written last and every file is complete when it appears, so a report that fails half-way leaves
the one before it in place.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import paths
from ablations.commands import as_argument
from ablations.errors import InputError
from ablations.report.request import Request, asked
from ablations.report.text import md
from ablations.tracking.columns import metrics_in
from ablations.tracking.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from ablations.report.analysis import Analysis
    from ablations.report.drawings import Drawing
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

FIGURE_COLOURS = 256


@dataclass(frozen=True)
class Report:
    """A compiled report.

    Attributes:
        name: the sweep's name.
        path: its README.md.
        summary: results and verdicts as plain text, at most 100 columns wide.
        failed: how many of the covered runs have no result.
    """

    name: str
    path: Path
    summary: str
    failed: int


@dataclass(frozen=True)
class Compiled:
    """A report before it is written: its text files by name, its figures, and the numbers behind them."""

    files: Mapping[str, str]
    drawings: "Sequence[Drawing]"
    analysis: "Analysis"


def compile_report(
    name: str | None = None,
    store: "Store | None" = None,
    folder: Path | None = None,
    request: Request = Request(),  # noqa: B008  # frozen
    again: Sequence[str] | None = None,
) -> Report:
    """Compile the report of a sweep, or of anybody's runs, from the tracked runs.

    Args:
        name: the sweep's name, the last sweep where it is None; for runs of others the name of the report, by default
            that of the experiment.
        store: that of the runs; the project's own (or MLFLOW_TRACKING_URI) where it is None.
        folder: where reports are kept, `reports/` of the project by default; this one gets a folder in there.
        request: what to compare and how, where the store does not say it.
        again: the commands that compile and show it again, where they are not the usual ones.

    Raises:
        InputError: no such sweep or experiment, no runs, runs that cannot be compared as requested, or a folder that
            cannot be written.
    """
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

    compiled = compiled_from(Reader(store or Store()), name, request, again)
    study = compiled.analysis.study
    home = home_of(study.name, folder)
    try:
        _write(home, compiled)
    except OSError as error:
        raise InputError(f"cannot write the report to {home}: {error.strerror or error}") from error
    from ablations.report.console import console

    failed = len(compiled.analysis.failed)
    return Report(study.name, home / "README.md", console(compiled.analysis), failed)


def home_of(name: str, folder: Path | None = None) -> Path:
    """The folder of a report."""
    return (paths.REPORTS if folder is None else Path(folder)) / folder_name(name)


def folder_name(name: str) -> str:
    """A sweep's name as the name of one folder; different names stay different."""
    safe = re.sub(r"[^\w.=,+-]+", "-", name, flags=re.ASCII).strip("-.")[:80]
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if safe == name != "" else f"{safe or 'sweep'}-{digest}"


def compiled_from(
    reader: "Reader", name: str | None, request: Request, again: Sequence[str] | None = None
) -> Compiled:
    """The report, not yet written. Raises InputError as `compile_report` does."""
    from ablations.comparison.selection import select
    from ablations.comparison.variants import with_times
    from ablations.report.analysis import analyse
    from ablations.report.drawings import drawings
    from ablations.report.tables import left_out

    study, runs = asked(reader, name, request)
    selection = select(runs, study.varied)
    finished = selection.runs.loc[selection.runs["status"] == "FINISHED", "run_id"]
    histories = _histories(reader, list(finished), selection.runs, study)
    everything = with_times(selection.runs, histories, study.target)
    strict = request.factors is not None or request.metric is not None
    analysis = analyse(study, everything, left_out(selection), strict)
    found = list(drawings(reader, analysis, histories))
    return assembled(analysis, found, _again(study.name) if again is None else again, request)


def assembled(
    analysis: "Analysis", drawings: "Sequence[Drawing]", again: Sequence[str], request: Request
) -> Compiled:
    """The files of a report from its numbers and figures."""
    from ablations.report import files
    from ablations.report.sections import after_figures, before_figures

    shown = []
    for drawing in drawings:
        shown.append(md("### {}", drawing.heading))
        if drawing.figure is not None:
            shown.append(md("![{}](figures/{}.png)", drawing.heading, drawing.stem))
        shown.append(drawing.caption)
    page = md("\n\n").join([*before_figures(analysis), *shown, *after_figures(analysis, again)])
    csv, metrics = files.runs_csv(analysis)
    captions = {each.stem: (each.heading, each.caption, each.figure is not None) for each in drawings}
    about = files.about_json(analysis, metrics, captions, again, asdict(request))
    written = {"runs.csv": csv, "report.json": about}
    if len(analysis.effects):
        written |= {"effects.csv": files.effects_csv(analysis), "verdicts.tex": files.verdicts_tex(analysis)}
    return Compiled({**written, "README.md": f"{page}\n"}, drawings, analysis)


def _histories(
    reader: "Reader", finished: Sequence[str], runs: "pd.DataFrame", study: Study
) -> "pd.DataFrame":
    """The metrics by epoch that a report draws or counts."""
    from ablations.comparison.variants import EPOCH_TIME
    from ablations.report.drawings import CURVES

    wanted = {*CURVES, EPOCH_TIME}
    if study.target is not None:
        wanted.add(str(study.target["metric"]))
    there = set(metrics_in(runs))
    if not wanted & there:  # of another program: its outcome, and what has the most to show
        wanted = {study.metric, *sorted(there)[:3]}
    return reader.histories(list(finished), sorted(wanted & there))


def _again(name: str) -> list[str]:
    sweep = as_argument(name)
    return [f"python -m ablations.report {sweep}", f"python -m ablations.ui {sweep}"]


def _write(home: Path, compiled: Compiled) -> None:
    """Replace the report file by file, each of them complete, the README after what it shows.

    Figures and tables that the report before it had and this one has not are taken away; what others put beside
    them stays.
    """
    from ablations.plots.style import save

    (home / "figures").mkdir(parents=True, exist_ok=True)
    readme = home / "README.md"
    before = readme.read_text(encoding="utf-8", errors="replace") if readme.exists() else ""
    drawn = {drawing.stem: drawing.figure for drawing in compiled.drawings if drawing.figure is not None}
    with paths.draft_folder(home.parent, f".{home.name}.") as new:
        (new / "figures").mkdir()
        for stem, figure in drawn.items():
            save(figure, new / "figures" / f"{stem}.png", colours=FIGURE_COLOURS)
        for name, text in compiled.files.items():
            (new / name).write_text(text, encoding="utf-8", newline="\n")
        for path in (*(f"figures/{stem}.png" for stem in drawn), *compiled.files):
            os.replace(new / path, home / path)
    for stem in set(re.findall(r"\]\(figures/(\w+)\.png\)", before)) - set(drawn):
        (home / "figures" / f"{stem}.png").unlink(missing_ok=True)
    for name in {"effects.csv", "verdicts.tex"} - set(compiled.files):
        (home / name).unlink(missing_ok=True)
