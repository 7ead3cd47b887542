"""From a store to the files of a report.

The README is written last and every file is complete when it appears, so a report that fails half-way leaves
the one before it in place.
"""

import hashlib
import os
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ablations import markdown as md
from ablations import paths
from ablations.errors import InputError
from ablations.study import Study, tag_of

if TYPE_CHECKING:
    import pandas as pd

    from ablations.report.analysis import Analysis
    from ablations.report.drawings import Drawing
    from ablations.tracking.reader import Reader
    from ablations.tracking.store import Store

FIGURE_COLOURS = 256
# Of runs without a study, those of other programs, say; conf/ need not be there for them.
UNSAID = {"design": "grid", "tuned_on": "val/accuracy"}


@dataclass(frozen=True)
class Request:
    """What a report is to be about, where the study that a sweep left in the store does not say it all.

    Attributes:
        experiment: all runs of this experiment, instead of those of a sweep.
        factors: the params that are compared.
        metric: the outcome.
        baseline: by factor the level that the others are compared with.
        margin: largest difference that does not matter, in the metric's unit.
        smaller_is_better: of the metric; None: told from its name.
        seed_param: the param that pairs runs.
        nuisance: params of which each variant gets its own best value.
        tuned_on: the metric that chooses it.
    """

    experiment: str | None = None
    factors: tuple[str, ...] | None = None
    metric: str | None = None
    baseline: Mapping[str, str] | None = None
    margin: float | None = None
    smaller_is_better: bool | None = None
    seed_param: str | None = None
    nuisance: tuple[str, ...] | None = None
    tuned_on: str | None = None

    @property
    def of_others(self) -> bool:
        """Whether it is about runs that no sweep of this project tied together."""
        return self.experiment is not None and self.factors is not None

    @property
    def changes(self) -> dict[str, object]:
        """What it says that a study says, too."""
        said = {
            name: getattr(self, name) for name in ("factors", "metric", "baseline", "margin", "seed_param")
        }
        said |= {name: getattr(self, name) for name in ("smaller_is_better", "nuisance", "tuned_on")}
        return {name: value for name, value in said.items() if value is not None}


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
    request: Request = Request(),
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
    from ablations.report.words import console, finished

    failed = int((~finished(compiled.analysis)).sum())
    return Report(study.name, home / "README.md", console(compiled.analysis), failed)


def home_of(name: str, folder: Path | None = None) -> Path:
    """The folder of a report."""
    return (paths.REPORTS if folder is None else Path(folder)) / folder_name(name)


def folder_name(name: str) -> str:
    """A sweep's name as the name of one folder; different names stay different."""
    safe = re.sub(r"[^\w.=,+-]+", "-", name, flags=re.ASCII).strip("-.")[:80]
    return (
        name if safe == name != "" else f"{safe or 'sweep'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    )


def compiled_from(
    reader: "Reader", name: str | None, request: Request, again: Sequence[str] | None = None
) -> Compiled:
    """The report, not yet written. Raises InputError as `compile_report` does."""
    from ablations import statistics
    from ablations.report.analysis import analyse
    from ablations.report.drawings import drawings

    study, runs = asked(reader, name, request)
    comparison = statistics.select(runs, study.varied)
    finished = comparison.runs.loc[comparison.runs["status"] == "FINISHED", "run_id"]
    histories = _histories(reader, list(finished), comparison.runs, study)
    everything = statistics.with_times(comparison.runs, histories, study.target)
    strict = request.factors is not None or request.metric is not None
    analysis = analyse(study, everything, comparison.left_out, strict)
    found = list(drawings(reader, analysis, histories))
    return assembled(analysis, found, _again(study.name) if again is None else again, request)


def assembled(
    analysis: "Analysis", drawings: "Sequence[Drawing]", again: Sequence[str], request: Request
) -> Compiled:
    """The files of a report from its numbers and figures."""
    from ablations.report import tables
    from ablations.report.words import Section, after_figures, before_figures

    shown = []
    for drawing in drawings:
        shown.append(Section(f"### {drawing.heading}"))
        if drawing.figure is not None:
            shown.append(Section(f"![{drawing.heading}](figures/{drawing.stem}.png)"))
        shown.append(Section(drawing.caption))
    sections = [*before_figures(analysis), *shown, *after_figures(analysis, again)]
    csv, metrics = tables.runs_csv(analysis)
    captions = {each.stem: (each.heading, each.caption, each.figure is not None) for each in drawings}
    files = {
        "runs.csv": csv,
        "report.json": tables.about_json(analysis, metrics, captions, again, asdict(request)),
    }
    if len(analysis.effects):
        files |= {"effects.csv": tables.effects_csv(analysis), "verdicts.tex": tables.verdicts_tex(analysis)}
    text = "\n\n".join(section.text for section in sections) + "\n"
    return Compiled({**files, "README.md": text}, drawings, analysis)


def asked(reader: "Reader", name: str | None, request: Request) -> tuple[Study, "pd.DataFrame"]:
    """The study and all its runs, the param that pairs them as `params.seed`."""
    if request.of_others:
        runs = reader.runs(request.experiment)
        if runs.empty:
            raise InputError(f"the experiment {request.experiment!r} has no runs")
        study = Study(
            name=name or str(request.experiment),
            factors=request.factors or (),
            baseline=dict(request.baseline or {}),
            metric=request.metric or _only_metric(runs),
            margin=0.0 if request.margin is None else request.margin,
            **UNSAID,
        )
        study = replace(study, **request.changes)
    else:
        found, runs = _sweep(reader, name, request.experiment)
        study = replace(_kept(reader, found, runs), **request.changes)
    unknown = [key for key in request.baseline or {} if key not in study.factors]
    if unknown:
        factors = ", ".join(study.factors) or "none"
        raise InputError(f"baseline: {', '.join(unknown)} is no factor; the factors are {factors}")
    seed = f"params.{study.seed_param}"
    if seed != "params.seed":
        if seed not in runs:
            from ablations.report.analysis import params_of

            raise InputError(
                f"seeds: no run has the param {study.seed_param}, so that nothing can be paired; there are "
                f"{params_of(runs)}"
            )
        runs = runs.drop(columns="params.seed", errors="ignore")
        runs = runs.rename(columns={seed: "params.seed"})
    return study, runs


def _only_metric(runs: "pd.DataFrame") -> str:
    there = sorted(name[8:] for name in runs if name.startswith("metrics."))
    if len(there) == 1:
        return there[0]
    raise InputError(
        f"metric: say which one is compared (--metric); the runs have {', '.join(there) or 'none'}"
    )


def _sweep(reader: "Reader", name: str | None, experiment: str | None) -> tuple[str, "pd.DataFrame"]:
    """The sweep's name and all its runs."""
    from ablations.statistics import column

    if name is not None:
        runs = reader.runs(experiment, tags={"sweep": name})
        if not runs.empty:
            return name, runs
    runs = reader.runs(experiment)
    sweeps = column(runs, "tags.sweep").dropna()
    sweeps = sweeps[sweeps != ""]
    if sweeps.empty:
        if len(runs):
            raise InputError(
                "the store has runs, but no sweep: say what to compare with --experiment and --factors, "
                "or try "
                "`python run.py -m activation=relu,tanh`"
            )
        raise InputError("the store has no runs yet: try `python run.py -m activation=relu,tanh`")
    if name is not None:
        existing = ", ".join(md.plain(each) for each in sorted(set(sweeps)))
        raise InputError(f"no sweep is named {name!r}; there are: {existing}")
    newest = runs.loc[sweeps.index].sort_values(["start_time", "run_id"]).iloc[-1]["tags.sweep"]
    return newest, runs[column(runs, "tags.sweep") == newest]


def _kept(reader: "Reader", name: str, runs: "pd.DataFrame") -> Study:
    """The study that the sweep left in its experiment; for runs that were copied without it, what they
    say."""
    from ablations.statistics import factors_of

    newest = runs.sort_values(["start_time", "run_id"]).iloc[-1]
    kept = reader.experiment_tags(newest["experiment_id"]).get(tag_of(name))
    if kept is not None:
        return Study.from_json(kept)
    return Study(name, factors_of(runs), {}, metric="test/error_pct", margin=0.1, **UNSAID)


def _histories(
    reader: "Reader", finished: Sequence[str], runs: "pd.DataFrame", study: Study
) -> "pd.DataFrame":
    """The metrics by epoch that a report draws or counts."""
    from ablations import statistics
    from ablations.report.drawings import CURVES

    wanted = {*CURVES, statistics.EPOCH_TIME}
    if study.target is not None:
        wanted.add(str(study.target["metric"]))
    there = {name[8:] for name in runs if name.startswith("metrics.")}
    if not wanted & there:  # of another program: its outcome, and what has the most to show
        wanted = {study.metric, *sorted(there)[:3]}
    return reader.histories(list(finished), sorted(wanted & there))


def _again(name: str) -> list[str]:
    said = shlex.quote(md.plain(name))
    return [f"python -m ablations.report {said}", f"python -m ablations.ui {said}"]


def _write(home: Path, compiled: Compiled) -> None:
    """Replace the report file by file, each of them complete, the README after what it shows."""
    from ablations import plots
    from ablations.report.drawings import STEMS

    (home / "figures").mkdir(parents=True, exist_ok=True)
    drawn = {drawing.stem: drawing.figure for drawing in compiled.drawings if drawing.figure is not None}
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=f".{home.name}.") as draft:
        new = Path(draft)
        (new / "figures").mkdir()
        for stem, figure in drawn.items():
            plots.save(figure, new / "figures" / f"{stem}.png", colours=FIGURE_COLOURS)
        for name, text in compiled.files.items():
            (new / name).write_text(text, encoding="utf-8", newline="\n")
        for path in (*(f"figures/{stem}.png" for stem in drawn), *compiled.files):
            os.replace(new / path, home / path)
    for stem in set(STEMS) - set(drawn):
        (home / "figures" / f"{stem}.png").unlink(missing_ok=True)
    for name in {"effects.csv", "verdicts.tex"} - set(compiled.files):
        (home / name).unlink(missing_ok=True)
