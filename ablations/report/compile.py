"""From a store to the files of a report.

The README is written last and every file is complete when it appears, so a report that fails half-way leaves
the one before it in place.
"""

import dataclasses
import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import ground
from ablations.commands import about, many, module_command
from ablations.errors import InputError
from ablations.ground import paths
from ablations.report.escaping import md, plain
from ablations.report.request import Request, asked, everywhere, looks_at
from ablations.tracking.columns import column, metrics_in, tag
from ablations.tracking.reports import PAGE
from ablations.tracking.study import Study

if TYPE_CHECKING:
    import pandas as pd

    from ablations.report.analysis import Analysis
    from ablations.report.drawings import Drawing
    from ablations.report.escaping import Markdown
    from ablations.tracking.reader import Reader
    from ablations.tracking.results import Results
    from ablations.tracking.store import Store

VECTORS = ("svg", "pdf")

FIRST = "forest"
"""The figure that stands beside the answer."""

TRIALS, OUTCOMES = "tuning.csv", "outcomes.csv"
TABLES = ("effects.csv", "verdicts.tex", OUTCOMES, "blocks.tex", TRIALS)
"""What a report without comparisons, other outcomes, blocks or tuning does not have."""

PUBLISHED = "PUBLISHED"
"""A file of this name in a report's folder keeps it as it is until somebody asks for another."""

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""Names that Windows gives to devices."""


@dataclass(frozen=True)
class Report:
    """A compiled report.

    Attributes:
        name: the sweep's name.
        path: its README.md.
        of_sweep: whether its runs are those of a sweep.
        summary: results and verdicts as plain text, on a terminal no wider than that.
        remark: why it is not in the folder of its name, '' where it is.
        analysis: the numbers behind it.
        written: by path in its folder the SHA-256 of each file that was written.
    """

    name: str
    path: Path
    of_sweep: bool
    summary: str
    remark: str
    analysis: "Analysis"
    written: Mapping[str, str]

    @property
    def failed(self) -> int:
        """How many of the covered runs have no result."""
        return len(self.analysis.failed)

    @property
    def experiment(self) -> str:
        """The name of the experiment of its runs."""
        return str(self.analysis.everything["experiment"].iloc[-1])


@dataclass(frozen=True)
class Compiled:
    """A report before it is written: its text files by name, its figures, and the numbers behind them."""

    files: Mapping[str, str]
    drawings: "Sequence[Drawing]"
    analysis: "Analysis"
    own_metric: str | None = None
    """The one that its study has by itself."""


def compile_report(
    name: str | None = None,
    store: "Store | None" = None,
    folder: Path | None = None,
    request: Request = Request(),  # noqa: B008  # frozen
    again: Sequence[str] | None = None,
    out: Path | None = None,
    formats: str | Sequence[str] = (),
    replace: bool = False,
    source: "Results | None" = None,
    html: bool = False,
) -> Report:
    """Compile the report of a sweep, or of anybody's runs, from the tracked runs.

    Args:
        name: the sweep's name, the last sweep where it is None; for runs of others the name of the report, by default
            that of the experiment.
        store: that of the runs; the project's own (or MLFLOW_TRACKING_URI) where it is None.
        folder: where reports are kept, `reports/` of the project by default; this one gets a folder in there, of
            another metric than the study's own a folder beside that one.
        request: what to compare and how, where the store does not say it.
        again: the commands that compile and show it again, where they are not the usual ones.
        out: the report's own folder, instead of one in `folder`.
        formats: of figures, besides the PNGs that the page shows: `svg`, `pdf`; a text parts them by commas.
        replace: whether it may take the place of a published report, or of one of other settings.
        source: of runs that are in no store, instead of `store`.
        html: whether to write it as one page, too (`report.html`).

    Raises:
        InputError: no such sweep or experiment, no runs, runs that cannot be compared as requested, a folder that
            cannot be written, or another format.
    """
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

    vectors = vector_formats(formats)
    store = store or Store()
    option = store.option
    reader = source or Reader(store)
    compiled = compiled_from(reader, name, request, again, option)
    shown = {each.stem for each in compiled.drawings if each.shown} if reader.out_of_reach else None
    study, reason = compiled.analysis.study, ""
    home = _home(compiled, folder) if out is None else empty_or_report(Path(out))
    if out is not None and not replace and (lost := _lost(home, shown)):
        raise InputError(f"--out: {home} {lost}; choose another folder, or replace it with --replace")
    if out is None and not replace:
        usual, (home, reason) = home, place(home, compiled.analysis, request.of_others, shown)
        if reason:
            command = module_command("report", *about(study.name, [*option, "--replace"]))
            reason = f"(reports/{usual.name} {reason}, and stays as it is; `{command}` replaces it)"
    try:
        written = write(home, compiled, vectors, html)
    except OSError as error:
        raise InputError(f"cannot write the report to {home}: {error.strerror or error}") from error
    from ablations.report.console import console

    swept = column(compiled.analysis.everything, tag("sweep")).eq(study.name).any()
    summary = console(compiled.analysis)
    return Report(study.name, home / "README.md", bool(swept), summary, reason, compiled.analysis, written)


def vector_formats(formats: str | Sequence[str]) -> list[str]:
    """The formats besides PNG, of a text parted by commas or a list. Raises InputError for another one."""
    named = formats.split(",") if isinstance(formats, str) else formats
    found = [str(each).strip().lower() for each in named if each]
    if unknown := set(found) - {"png", *VECTORS}:
        raise InputError(f"figures: {min(unknown)} is no format; accepted: png, {', '.join(VECTORS)}")
    return [each for each in VECTORS if each in found]


def _home(compiled: Compiled, folder: Path | None) -> Path:
    """The folder of a report, beside that of the same name where that is of another metric."""
    study = compiled.analysis.study
    home, own = home_of(study.name, folder), compiled.own_metric
    if own is None:  # of another program: who was there first
        with suppress(OSError, ValueError, KeyError, TypeError):
            own = json.loads((home / "report.json").read_text(encoding="utf-8"))["study"]["metric"]
    if own in (None, study.metric):
        return home
    return home_of(f"{study.name}.{study.metric.replace('/', '_')}", folder)


def empty_or_report(out: Path) -> Path:
    """A folder to write to. Raises InputError for one with a README.md that is no report's."""
    if (out / "README.md").exists() and not (out / "report.json").exists():
        raise InputError(f"--out: {out} has a README.md that is no report; choose another folder")
    return out


def home_of(name: str, folder: Path | None = None) -> Path:
    """The folder of a report.

    Where one of another name lies there that Windows and macOS take for the same, as `A` for `a`, it is beside that:
    the project may be copied to them.
    """
    reports = paths.REPORTS if folder is None else Path(folder)
    name = unicodedata.normalize("NFC", name)
    plain, marked = folder_name(name), folder_name(name, marked=True)
    try:
        there = {unicodedata.normalize("NFC", path.name) for path in reports.iterdir()}
    except OSError:  # there are no reports yet
        there = set()
    if plain in there:
        return reports / plain
    taken = plain.casefold() in {each.casefold() for each in there}
    return reports / (marked if taken or marked in there else plain)


def folder_name(name: str, marked: bool = False) -> str:
    """A sweep's name as the name of one folder on any system; different names stay different but for the case of their
    letters, and for that, too, where they are `marked`."""
    kept = "".join(c if c in "_.=,+-" or unicodedata.category(c)[0] in "LMN" else " " for c in name)
    safe = "-".join(kept.split()).strip("-.").encode()[:160].decode(errors="ignore")[:80]
    if RESERVED.match(safe):
        safe = f"_{safe}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name if safe == name != "" and not marked else f"{safe or 'sweep'}-{digest}"


def place(
    home: Path, analysis: "Analysis", of_others: bool, shown: set[str] | None = None
) -> tuple[Path, str]:
    """Where a report goes, and what keeps it from `home`, '' where nothing does.

    Beside a report that is published, whose runs have other settings, or that has figures beyond those `shown` now,
    it goes into `home-2`, `home-3`, … Without `shown` nothing is out of reach.
    """
    reason = ""
    for number in count(2):
        folder = home if number == 2 else home.with_name(f"{home.name}-{number - 1}")
        found = _stays(folder, analysis, of_others) or _lost(folder, shown)
        if not found:
            return folder, reason
        reason = reason or found
    raise AssertionError("unreachable")


def _stays(folder: Path, analysis: "Analysis", of_others: bool) -> str:
    """Why the report in a folder is not to be replaced by one of these numbers; '' where there is no reason."""
    from ablations.comparison.selection import disagreements
    from ablations.report.files import runs_from_csv

    if (folder / PUBLISHED).exists():
        return "is published"
    try:
        about = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        study = Study.read(about["study"])
        runs = runs_from_csv((folder / "runs.csv").read_text(encoding="utf-8"), study, about["metrics"])
    except (OSError, ValueError, KeyError, TypeError, InputError):
        return ""  # no report, or none that says what it is about
    if study.name != analysis.study.name:
        return f"is of {plain(study.name)}"
    ours = analysis.everything
    theirs = runs[~runs["run_id"].isin(ours["run_id"])]
    for run in (
        () if of_others else disagreements(theirs, ours, (*analysis.study.varied, *analysis.study.chosen))
    ):
        for name, there, here in run:
            return f"is of other runs ({name.partition('.')[2]}: {there} there, {here} here)"
    return ""


@dataclass(frozen=True)
class Answered:
    """A question and the numbers that answer it, before anything is drawn: for `drawings`, and what `Compiled` has."""

    analysis: "Analysis"
    histories: "pd.DataFrame"
    own_metric: str | None
    request: Request
    """With the experiments that were found, where nobody said which."""


def _lost(folder: Path, shown: set[str] | None) -> str:
    """What the report in a folder has that one with the figures `shown` has not; '' for nothing."""
    if shown is None:
        return ""
    try:
        about = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        lost = {stem for stem, (_, _, drawn) in about["figures"].items() if drawn} - shown
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f"has {many(len(lost), 'figure')} from artifacts that are out of reach now" if lost else ""


def answered(reader: "Reader | Results", name: str | None, request: Request) -> Answered:
    """The numbers of a report. Raises InputError as `compile_report` does."""
    from ablations.comparison.images import over_seeds_and_images
    from ablations.report.readings import Readings

    found = compared_only(reader, name, request)
    comparisons = (*found.analysis.comparisons, *found.analysis.simple)
    wide = over_seeds_and_images(comparisons, Readings(reader))
    return dataclasses.replace(found, analysis=dataclasses.replace(found.analysis, images=wide))


def compared_only(
    reader: "Reader | Results", name: str | None, request: Request, only_seen: bool = False
) -> Answered:
    """The same without what other test images would say, whose readings take longer than all the rest.

    Args:
        reader: of the runs.
        name: the sweep's.
        request: what to compare and how, where the store does not say it.
        only_seen: leave out what was in no report yet.

    Raises:
        InputError: as `compile_report` does; also where nothing is left.
    """
    from ablations.comparison.looks import seen
    from ablations.comparison.selection import select
    from ablations.comparison.units import differing_within
    from ablations.comparison.variants import with_times
    from ablations.report.analysis import analyse
    from ablations.report.runs import disagreeing, prepared, require_named
    from ablations.report.tables import left_out
    from ablations.report.tuning import runs_of_trials, with_trials

    name, request = everywhere(reader, name, request)
    study, runs, own, unread = asked(reader, name, request)
    if only_seen:
        runs = runs[seen(runs, looks_at(reader, runs))]
        if runs.empty:
            raise InputError(f"no report has shown a run of {study.name} yet")
    study, runs, parts, remarks = prepared(reader, study, runs, request.of_others)
    selection = select(runs, study.varied, study.metric, study.ignore)
    disagreements = disagreeing(selection.disagreeing, study.metric)
    finished = selection.runs.loc[selection.runs["status"] == "FINISHED", "run_id"]
    histories = _histories(reader, list(finished), selection.runs, study)
    everything = with_times(selection.runs, histories, study.target)
    strict = request.factors is not None or request.metric is not None
    left = [*parts, *left_out(selection), *disagreements, *unread]
    invocations = looks_at(reader, everything)
    analysis = analyse(study, everything, left, strict, invocations, request.looks, remarks)
    if study.tuning is not None:
        analysis = with_trials(analysis, runs_of_trials(reader, study, everything), request.looks)
    if strict:
        seeded = not study.unpaired
        require_named(differing_within(analysis.everything, study.varied, study.ignore, seeded), study)
    return Answered(analysis, histories, own, request)


def compiled_from(
    reader: "Reader | Results",
    name: str | None,
    request: Request,
    again: Sequence[str] | None = None,
    option: Sequence[str] = (),
) -> Compiled:
    """The report, not yet written. Raises InputError as `compile_report` does."""
    from ablations.report.drawings import drawings

    found = answered(reader, name, request)
    figures = list(drawings(reader, found.analysis, found.histories))
    again = usual_again(found.analysis.study.name, option) if again is None else again
    compiled = assembled(found.analysis, figures, again, found.request)
    return dataclasses.replace(compiled, own_metric=found.own_metric)


def assembled(
    analysis: "Analysis", drawings: "Sequence[Drawing]", again: Sequence[str], request: Request
) -> Compiled:
    """The files of a report from its numbers and figures."""
    from ablations.report import files
    from ablations.report.blocks import blocks_tex
    from ablations.report.secondary import OF_SECONDARY, other_outcomes
    from ablations.report.sections import after_figures, before_figures
    from ablations.report.tuning import OF_TUNING, tuning

    first = [each for drawing in drawings if drawing.stem == FIRST for each in _shown(drawing)]
    shown = _with_headings(each for each in drawings if each.stem not in (FIRST, *OF_SECONDARY, *OF_TUNING))
    others = other_outcomes(analysis, {each.stem: list(_shown(each)) for each in drawings})
    tuned = tuning(analysis, _with_headings(each for each in drawings if each.stem in OF_TUNING))
    page = md("\n\n").join(
        [*before_figures(analysis, first), *shown, *others, *tuned, *after_figures(analysis, again)]
    )
    csv, metrics = files.runs_csv(analysis)
    figures = {each.stem: (each.heading, each.caption, each.shown) for each in drawings}
    wanted = {name: value for name, value in asdict(request).items() if value is not None}
    written, more = {"runs.csv": csv}, {}
    if analysis.trials is not None:
        written[TRIALS], more["tuning"] = files.table_of_runs(analysis.trials.runs, analysis.study)
    kept = {"figures": figures, "again": again, "request": wanted, **more}
    written["report.json"] = files.about_json(analysis, metrics, **kept)
    if len(analysis.effects):
        written |= {"effects.csv": files.effects_csv(analysis), "verdicts.tex": files.verdicts_tex(analysis)}
    if analysis.secondary:
        written[OUTCOMES] = files.outcomes_csv(analysis)
    if analysis.ranks is not None:
        written["blocks.tex"] = blocks_tex(analysis)
    return Compiled({**written, "README.md": f"{page}\n"}, drawings, analysis)


def _with_headings(drawings: "Iterable[Drawing]") -> "list[Markdown]":
    return [each for drawing in drawings for each in (md("### {}", drawing.heading), *_shown(drawing))]


def _shown(drawing: "Drawing") -> "list[Markdown]":
    picture = md("![{}](figures/{}.png)", drawing.heading, drawing.stem)
    return [*([picture] if drawing.shown else []), drawing.caption]


def _histories(reader: "Reader", ids: list[str], runs: "pd.DataFrame", study: Study) -> "pd.DataFrame":
    """The metrics by epoch that a report draws or counts."""
    from ablations.comparison.variants import EPOCH_TIME
    from ablations.report.drawings import CURVES

    wanted = {*CURVES, EPOCH_TIME}
    if study.target is not None:
        wanted.add(str(study.target["metric"]))
    there = set(metrics_in(runs))
    if not wanted & there:  # of another program: its outcome, and what has the most to show
        wanted = {study.metric, *sorted(there)[:3]}
    return reader.histories(ids, sorted(wanted & there))


def usual_again(name: str, option: Sequence[str]) -> list[str]:
    """The commands that compile and show the report of a sweep."""
    return [module_command(command, *about(name, option)) for command in ("report", "ui")]


def write(home: Path, compiled: Compiled, vectors: Sequence[str], html: bool = False) -> dict[str, str]:
    """Replace the report file by file, each of them complete, the README after what it shows, and after it the page
    that is made of it, where that is asked for or was there. Returns the SHA-256 of each by its path, but for the page.

    Figures and tables that the report before it had and this one has not are taken away; what others put beside
    them stays.
    """
    from ablations.plots.style import save_all

    (home / "figures").mkdir(parents=True, exist_ok=True)
    readme = home / "README.md"
    before = readme.read_text(encoding="utf-8", errors="replace") if readme.exists() else ""
    drawn = {drawing.stem: drawing.draw for drawing in compiled.drawings if drawing.draw is not None}
    with paths.draft_folder(home.parent, f".{home.name}.") as new:
        (new / "figures").mkdir()
        save_all({new / "figures" / f"{stem}.png": draw for stem, draw in drawn.items()}, vectors)
        for name, text in compiled.files.items():
            (new / name).write_text(text, encoding="utf-8", newline="\n")
        written = {f"figures/{stem}.{kind}" for stem in drawn for kind in ("png", *vectors)}
        digests = {}
        for path in (*sorted(written), *compiled.files):
            digests[path] = hashlib.sha256((new / path).read_bytes()).hexdigest()
            ground.replace(new / path, home / path)
    kept = {drawing.stem for drawing in compiled.drawings if drawing.kept}
    for stem in set(re.findall(r"\]\(figures/(\w+)\.png\)", before)) - kept:
        for old in {f"figures/{stem}.{kind}" for kind in ("png", *VECTORS)} - written:
            (home / old).unlink(missing_ok=True)
    for name in set(TABLES) - set(compiled.files):
        (home / name).unlink(missing_ok=True)
    if html or (home / PAGE).exists():
        _write_page(home, compiled)
    return digests


def _write_page(home: Path, compiled: Compiled) -> None:
    from ablations.report.page import page

    title = compiled.analysis.study.name
    with paths.draft_folder(home.parent, f".{home.name}.") as new:
        (new / PAGE).write_text(page(home, title), encoding="utf-8", newline="\n")
        ground.replace(new / PAGE, home / PAGE)
