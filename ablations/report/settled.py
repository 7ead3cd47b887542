"""Which published reports settle which choice, how, and from which trainings."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import pandas as pd

from ablations.comparison.claims import DEPENDS, TURNED
from ablations.comparison.designs import WHOLE
from ablations.comparison.pairs import Comparison
from ablations.comparison.verdicts import COLUMNS, Verdict
from ablations.report.analysis import Analysis
from ablations.report.confounds import brought
from ablations.report.dependence import depends
from ablations.report.shelf import Shelved
from ablations.report.trade_offs import SAME
from ablations.tracking.columns import column, tag

Settled = Mapping[Hashable, Sequence[tuple[Shelved, str, frozenset[Hashable]]]]
"""By what a comparison is about the reports that settle it, each with how, the verdict of the levels in order, and from
which trainings."""


def settled(reports: Iterable[Shelved]) -> Settled:
    """What is settled of single choices, in whatever outcome, secondary ones among them."""
    found: dict[Hashable, list[tuple[Shelved, str, frozenset[Hashable]]]] = {}
    for report in reports:
        for row in alone(report.analysis, every_outcome=True):
            about, trainings = about_choice(report, row), None
            for metric, how in _settled_of(report.analysis, row):
                trainings = trainings or _trainings(report, row)
                found.setdefault((*about[:2], metric, *about[3:]), []).append((report, how, trainings))
    return found


def elsewhere(reports: Sequence[Shelved]) -> Callable[[Shelved, Mapping[str, Any]], Sequence[Shelved]]:
    """For the row of a verdict table, whatever its metric, the reports that settle the same choice in another way."""
    known = settled(reports)

    def otherwise(report: Shelved, row: Mapping[str, Any]) -> Sequence[Shelved]:
        how = dict(_settled_of(report.analysis, row)).get(row["metric"])
        said = known.get(about_choice(report, row), ()) if how else ()
        return of_own_runs((other, runs) for other, of, runs in said if other is not report and of != how)

    return otherwise


def of_own_runs(said: Iterable[tuple[Shelved, frozenset[Hashable]]]) -> list[Shelved]:
    """The reports that share no training with one before them: the same runs say nothing new."""
    found, seen = [], frozenset[Hashable]()
    for report, runs in said:
        if runs.isdisjoint(seen):
            found.append(report)
            seen |= runs
    return found


def about_choice(report: Shelved, row: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """The same for two rows that compare the same two levels in the same outcome, either way round; of its report alone
    is a ladder's whole, and a level with which something else is chosen."""
    levels = frozenset((row["variant"], row["baseline"]))
    own = row["factors"] == WHOLE or brought(comparison_of(report, row), report.analysis.study)
    return row["factors"], levels, row["metric"], row.get("block") or "", report.name if own else ""


def comparison_of(report: Shelved, row: Mapping[str, Any]) -> Comparison:
    """The comparison of a row of the verdict table."""
    named = (*(row[name] for name in COLUMNS[:4]), row.get("block"))
    of = report.analysis.comparisons
    return next(each for each in of if (*(getattr(each, name) for name in COLUMNS[:4]), each.block) == named)


def alone(analysis: Analysis, every_outcome: bool = False) -> list[dict[str, Any]]:
    """The rows of the verdict table that compare levels of one factor, in the study's own outcome or in every one that
    it or a claim asks for; none of a study that compares with published figures instead."""
    if analysis.study.published:
        return []
    effects = analysis.effects
    mine = (effects["factors"].map(len) == 1) & (every_outcome | (effects["metric"] == analysis.study.metric))
    return effects[mine].to_dict("records")


def _settled_of(analysis: Analysis, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """In which outcomes the comparison of a row is settled, and how: its own, then secondary ones."""
    if depends(analysis, row):
        yield row["metric"], DEPENDS
    elif Verdict(row["verdict"]).settled:
        yield row["metric"], _in_order(row)
    if row["metric"] != analysis.study.metric:
        return
    for group in analysis.secondary:
        for other in group.effects.to_dict("records"):
            if Verdict(other["verdict"]).settled and all(other.get(key) == row.get(key) for key in SAME):
                yield other["metric"], _in_order(other)


def _in_order(row: Mapping[str, Any]) -> str:
    """The verdict of the level that is the first by name."""
    verdict = Verdict(row["verdict"])
    return verdict if row["variant"] < row["baseline"] else TURNED.get(verdict, verdict)


def _trainings(report: Shelved, row: Mapping[str, Any]) -> frozenset[Hashable]:
    """What the comparison of a row rests on, the same for a run and for what another sweep adopted of it."""
    runs = report.analysis.runs.set_index("run_id")
    own = runs.loc[[*chain.from_iterable(comparison_of(report, row).run_ids)]]
    hashes = zip(*(column(own, tag(name)) for name in ("config_hash", "code_hash")), strict=True)
    return frozenset(
        both if pd.notna(both[0]) else run_id for run_id, both in zip(own.index, hashes, strict=True)
    )
