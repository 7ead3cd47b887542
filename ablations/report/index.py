"""`reports/README.md`: what all published reports found, on one page; and the block of the project's README.md that
quotes it."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ablations import ground
from ablations.commands import many
from ablations.comparison.claims import DEPENDS
from ablations.comparison.pairs import Comparison
from ablations.comparison.speed import seconds_per_epoch
from ablations.errors import InputError, printable
from ablations.ground import paths
from ablations.report import tables
from ablations.report.analysis import Analysis, simple_rows
from ablations.report.confounds import circumstances
from ablations.report.dependence import WORDS
from ablations.report.escaping import Markdown, crossed, listed, md, plain, table
from ablations.report.findings import Finding, findings, spread
from ablations.report.numbers import NO_SPREAD, Form, forms
from ablations.report.settled import elsewhere
from ablations.report.shelf import Shelved, homes, shelved
from ablations.tracking.secondary import GROUPS, SECONDARY
from ablations.tracking.study import Study, label

NAME = "README.md"
LADDER, FIRST = "ladder", "forest"
"""The figures that stand for all reports: that of a ladder, where one is published, else the first report's."""

LEADING = {
    "calibration": ("test/ece", "test/brier"),
    "shift": ("shift/geometry/error_pct", "shift/stroke/error_pct", "shift/blur_noise/error_pct"),
    "rejection": ("rejection/rejected_pct", "rejection/auroc"),
}
"""Of each group of secondary outcomes the one that has a column; where it was not measured, the first that was."""

USUAL = "test/error_pct"
QUOTED = 3
"""Sentences in the project's README.md."""
BLOCK = re.compile(r"(?<=<!-- findings -->\n).*?(?=<!-- /findings -->)", re.DOTALL)

ABOUT = (
    "Compiled by rules from the published reports below: from the runs in their folders, by the tests, corrections and "
    "margins that each of them names. `python -m ablations.report --check --all` recomputes all of it. Each report "
    "errs by itself: nothing is corrected over all of them, those that share runs (as of one baseline) are not "
    "independent of each other, and sentences that pick the largest differences tend to overstate them."
)
SENTENCES = (
    "Established differences first, of a whole ladder before others, then the largest; then choices that depend on "
    "others or do not matter, trade-offs, claims of others, and the open question that the fewest seeds would settle. "
    "A sentence holds at its report's settings."
)
CHOICES = (
    "Differences are variant − baseline, seed by seed, of errors in percentage points (negative is better), of any "
    "other outcome as it is named; in brackets the 95 % interval of a comparison by itself, while the verdict counts "
    "all comparisons of its report. *depends*: the effect differs between the levels of another choice, and the rows "
    "below it with *at* answer in place of the average. *with*: what is chosen along with it by design. Secondary "
    "outcomes, a family of their own in each report, with their verdicts: calibration error; error on moved and bent "
    "images (shift) and share of the images rejected for an error of 0.5 % (rejection), both in percentage points; "
    "empty: not measured. Seconds per epoch: of the median run "
    "of each side, variant / baseline, on machines that may have done other work."
)
NOTHING_SETTLED = "Nothing is settled in these reports yet."


def write_index(folder: Path | None = None) -> Path:
    """Compile the page of all published reports in a folder, and the block of the README.md beside that folder, where
    it has one. Returns the page.

    Raises:
        InputError: no published report, a damaged one, or a folder that cannot be written to.
    """
    folder = paths.REPORTS if folder is None else folder
    written = pages([shelved(home) for home in homes(folder)], folder)
    try:
        for path, text in written.items():
            with paths.draft_folder(folder, f".{NAME}.") as new:
                (new / NAME).write_text(text, encoding="utf-8", newline="\n")
                ground.replace(new / NAME, path)
    except OSError as error:
        raise InputError(f"cannot write to {printable(folder)}: {error.strerror or error}") from error
    return folder / NAME


def pages(reports: Sequence[Shelved], folder: Path) -> dict[Path, str]:
    """By its path the text of the page, and of the project's README.md where that quotes it."""
    found = findings(reports)
    written = {folder / NAME: index(reports, found)}
    readme = folder.parent / NAME
    try:
        text = readme.read_text(encoding="utf-8")
    except FileNotFoundError:
        return written
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{printable(readme)}: cannot be read: {printable(error)}") from None
    if BLOCK.search(text):
        block = f"{quoting(reports, found, f'{folder.name}/')}\n"
        written[readme] = BLOCK.sub(lambda _: block, text, count=1)
    return written


def index(reports: Sequence[Shelved], found: Sequence[Finding]) -> str:
    """The page: sentences, the ladder, every comparison, every claim, the reports."""
    page = md("\n\n").join(_parts(reports, found))
    return f"{page}\n"


def _parts(reports: Sequence[Shelved], found: Sequence[Finding]) -> Iterator[Markdown]:
    yield md("# Findings")
    yield md(ABOUT)
    yield listed(each.said() for each in found) if found else md(NOTHING_SETTLED)
    if found:
        yield md(SENTENCES)
    for report in reports:
        if report.analysis.study.design == "ladder" and (picture := report.picture(LADDER)):
            yield md("## {}", report.figures[LADDER][0])
            yield picture
            yield md("{} ({})", Markdown(report.figures[LADDER][1]), report.link())
    form = _forms(reports)
    if rows := [row for report in reports for row in _rows(report, form)]:
        yield md("## What each choice is worth")
        yield table(HEAD, rows, numeric=6)
        yield md(CHOICES)
    if claims := list(_claims(reports)):
        yield md("## Claims of others")
        yield table(("claim", "source", "verdict", "evidence", "report"), claims)
    yield md("## The reports")
    yield listed(map(_report, reports))


def _claims(reports: Sequence[Shelved]) -> Iterator[tuple[Markdown | str, ...]]:
    """A row per claim; beside its report those that settle the same comparison in another way."""
    otherwise = elsewhere(reports)
    for report in reports:
        rows = tables.claim_rows(report.analysis)
        for row, answer in zip(rows, report.analysis.answers, strict=True):
            others = [each.link() for each in otherwise(report, answer.row)]
            link = (
                md("{}; otherwise in {}", report.link(), md(", ").join(others)) if others else report.link()
            )
            yield (*row, link)


def quoting(reports: Sequence[Shelved], found: Sequence[Finding], prefix: str) -> Markdown:
    """A figure, where it is from, and a few of the sentences, as different as there are."""
    chosen = spread(found, QUOTED)
    ladders = [report for report in reports if report.analysis.study.design == "ladder"]
    pictured = [(report, LADDER) for report in ladders]
    pictured += [(report, FIRST) for report in [*(each.report for each in chosen), *reports]]
    parts = []
    for report, stem in pictured:
        if picture := report.picture(stem, prefix):
            parts += [picture, md("*{}{}*", _command(report), report.link(prefix))]
            break
    parts.append(listed(each.said(prefix) for each in chosen) if chosen else md(NOTHING_SETTLED))
    parts.append(md("[All findings]({}{})", Markdown(prefix), NAME))
    return md("\n\n").join(parts)


def _command(report: Shelved) -> Markdown:
    command = report.analysis.study.command
    runs = many(len(report.analysis.everything), "run")
    if not command:
        return md("{}, ", runs)
    return md("`{}`: {}, ", Markdown(plain(command).replace("`", "'")), runs)


def _report(report: Shelved) -> Markdown:
    study = report.analysis.study
    runs = many(len(report.analysis.everything), "run")
    return md("{}: {}{}.", report.link(), md("{} ", study.question) if study.question else "", runs)


HEAD = (
    *("report", "choice", "instead of", "verdict"),
    *("test error", "seeds", *GROUPS, "s per epoch"),
)

Forms = Mapping[str, Form]


def _forms(reports: Sequence[Shelved]) -> Forms:
    """How the differences of each secondary outcome are written, the same in all rows."""
    sizes: dict[str, list[float]] = {}
    for report in reports:
        for each in _secondary(report.analysis):
            sizes.setdefault(each["metric"], []).append(each["mean_diff"])
    return {metric: Form.fitting(found, SECONDARY[metric].difference) for metric, found in sizes.items()}


def _secondary(analysis: Analysis) -> list[dict[str, Any]]:
    """The rows of all outcomes that a column shows, those that the study asks for itself among them."""
    there = [analysis.effects, *(group.effects for group in analysis.secondary)]
    found = pd.concat([each for each in there if len(each)] or there[:1], ignore_index=True)
    return found[found["metric"].isin(SECONDARY)].to_dict("records")


def _rows(report: Shelved, form: Forms) -> Iterator[tuple[Markdown | str, ...]]:
    """A row per comparison in the study's own outcome, below it those at the levels of another choice; none of a study
    that compares with published figures instead."""
    analysis = report.analysis
    if analysis.study.published:
        return
    others = _secondary(analysis)
    own = forms(analysis).get(analysis.study.metric, Form(2, analysis.study.unit))
    for comparison, row in zip(analysis.comparisons, analysis.effects.to_dict("records"), strict=True):
        if row["metric"] != analysis.study.metric:
            continue
        simple = simple_rows(analysis, row)
        outcomes = [_outcome(row, others, group, form) for group in GROUPS]
        first, second = seconds_per_epoch(comparison, analysis.runs)
        times = f"{_seconds(first)} / {_seconds(second)}" if first == first else ""
        verdict = DEPENDS if simple else row["verdict"]
        yield (
            report.link(),
            *_compared(row, comparison, analysis.study),
            verdict,
            *_size(analysis, row, own),
            *outcomes,
            times,
        )
        for level, each in simple:
            yield (
                report.link(),
                *_compared(each, level, analysis.study),
                each["verdict"],
                *_size(analysis, each, own),
                *[""] * 4,
            )


def _compared(row: Mapping[str, Any], comparison: Comparison, study: Study) -> tuple[str, str]:
    choice = f"{crossed(row['factors'])}: {crossed(row['variant'])}"
    where = circumstances(comparison, study)
    return f"{choice} ({where})" if where else choice, crossed(row["baseline"])


def _size(analysis: Analysis, row: Mapping[str, Any], form: Form) -> tuple[str, str]:
    """The difference with its interval, and the number of seeds."""
    ends, difference = form.ends(row["ci_low"], row["ci_high"]), form.difference(row["mean_diff"])
    shown = f"{difference} [{ends}]" if ends else difference
    other = "" if analysis.study.metric == USUAL else f" {label(analysis.study.metric)}"
    return shown + other, str(row["n"])


def _outcome(row: Mapping[str, Any], others: Sequence[Mapping[str, Any]], group: str, form: Forms) -> str:
    """The leading outcome of a group for the same choice: `+0.0021, better`."""
    same = [
        each for each in others if all(each[key] == row[key] for key in ("factors", "variant", "baseline"))
    ]
    same = [each for each in same if each.get("block") in (None, row.get("block"))]
    by_metric = {each["metric"]: each for each in same if each["n"] and not math.isnan(each["mean_diff"])}
    for metric in LEADING[group]:
        if each := by_metric.get(metric):
            shown = form[metric].difference(each["mean_diff"])
            other = "" if metric == LEADING[group][0] else f" ({SECONDARY[metric].noun})"
            return f"{shown}, {WORDS[each['verdict']]}{other}"
    return ""


def _seconds(value: float) -> str:
    """Two digits at least."""
    if value != value:
        return NO_SPREAD
    return f"{value:.{max(0, 1 - math.floor(math.log10(value)))}f}" if value > 0 else "0"
