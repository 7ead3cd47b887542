"""What a report says of outcomes that the study was not made for."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.commands import many
from ablations.comparison import exact
from ablations.comparison.verdicts import fewest_seeds
from ablations.report.analysis import Analysis, Group, steps_of
from ablations.report.escaping import Markdown, md, table
from ablations.report.naming import short_name
from ablations.report.numbers import Form, p_value
from ablations.report.tables import in_words
from ablations.tracking.columns import metric as metric_column
from ablations.tracking.columns import natural, numbers
from ablations.tracking.secondary import GROUPS, SECONDARY
from ablations.tracking.study import label, unit

OF_SECONDARY = tuple(GROUPS)
"""The figures that stand in this section."""
MOST_VARIANTS = 8

ABOUT = (
    "Secondary: beside what the study asks for. The comparisons of each figure share an error of 5 % of their own "
    "(Holm), besides that of the verdicts above; what is settled here deserves a study that asks for it. Main effects "
    "alone, {}. No margin was given, so that no difference is called too small to matter, and no seeds are advised. "
    "Points are mean differences to the {}, bars their 95 % intervals, those of a comparison by itself."
)
FAMILY = "{} of this group, which take {} seeds at least."
WITHOUT = "{} without any pair: a side has no such outcome, or was measured on other pictures."
NUMBERS = (
    "factor",
    "variant",
    "against",
    "outcome",
    "verdict",
    "difference \\[95 % interval\\]",
    "p (Holm)",
    "seeds",
)
OUTCOMES = "outcomes.csv"
PARTS = "Means over the runs of a variant, without verdicts{}."


def other_outcomes(analysis: Analysis, figures: Mapping[str, Sequence[Markdown]]) -> Iterator[Markdown]:
    """The section on secondary outcomes; `figures`: by group its figure in Markdown."""
    if not analysis.secondary:
        return
    yield md("## Other outcomes")
    averaged = (
        "averaged over the other factors"
        if any(each.averaged for each in analysis.comparisons)
        else "as above"
    )
    yield md(ABOUT, averaged, "step before" if steps_of(analysis.study) else "baseline")
    for group in analysis.secondary:
        yield md("### {}", group.name.capitalize())
        yield from figures.get(group.name, ())
        yield from _legend(analysis, group)
        rows = [_row(row, form) for row, form in _formed(group)]
        verdicts = table([md(name) for name in NUMBERS], rows, numeric=3)
        yield _folded(f"Every number: {many(len(rows), 'comparison')}", verdicts)
        yield from _parts(analysis, group)
    yield md("The same for other programs: [{0}]({0}).", OUTCOMES)


def outcomes_table(analysis: Analysis, columns: Sequence[str]) -> pd.DataFrame:
    """The table of outcomes.csv: one row per comparison, its group and these columns."""
    tables = [in_words(each.effects).assign(group=each.name) for each in analysis.secondary]
    return pd.concat(tables, ignore_index=True)[["group", *columns]]


def _legend(analysis: Analysis, group: Group) -> Iterator[Markdown]:
    """How many comparisons the group has, and how many it lacks."""
    texts, comparisons = [], len(group.effects)
    if not analysis.study.unpaired:
        texts.append(md(FAMILY, many(comparisons, "comparison"), fewest_seeds(comparisons)))
    if group.without:
        texts.append(md(WITHOUT, many(group.without, "comparison")))
    if texts:
        yield md(" ").join(texts)


def _formed(group: Group) -> Iterator[tuple[dict[str, Any], Form]]:
    """The rows of a group's table, outcome by outcome, and how their numbers are written."""
    for name, rows in in_words(group.effects).groupby("metric", sort=False):
        form = Form.fitting(rows["mean_diff"].tolist(), unit(name))
        yield from ((row, form) for row in rows.to_dict("records"))


def _row(row: Mapping[str, Any], form: Form) -> tuple[str, ...]:
    difference, ends = form.difference(row["mean_diff"]), form.ends(row["ci_low"], row["ci_high"])
    told = *(row[name] for name in ("factor", "variant", "baseline")), label(row["metric"]), row["verdict"]
    return *told, f"{difference} [{ends}]" if ends else difference, p_value(row["p_holm"]), str(row["n"])


def _parts(analysis: Analysis, group: Group) -> Iterator[Markdown]:
    """The means of the single shifts, or of the single kinds of non-digits, by variant."""
    names = sorted(
        (name for name in analysis.runs if name.startswith(metric_column(f"{group.name}/"))), key=natural
    )
    single = [name for name in names if name.removeprefix(metric_column("")) not in SECONDARY]
    shown = analysis.variants[analysis.variants["n"] > 0].head(MOST_VARIANTS)
    if not single or shown.empty:
        return
    heads = [short_name(row, analysis.study) for row in shown.to_dict("records")]
    done = analysis.runs[analysis.runs["finished"]]
    rows = []
    for name in single:
        values = numbers(done, name)
        means = [exact.mean(values[done["variant"] == at].dropna()) for at in shown.index]
        form = Form(2, "") if name.endswith("_pct") else Form(3, "")
        rows.append((name.removeprefix(metric_column("")), *map(form.value, means)))
    more = len(analysis.variants[analysis.variants["n"] > 0]) - len(shown)
    left = f"; the best {len(shown)} of them" if more else ""
    text = md("\n\n").join([table(("", *heads), rows, numeric=len(heads)), md(PARTS, left)])
    yield _folded(f"One by one: {many(len(rows), 'outcome')}", text)


def _folded(summary: str, text: Markdown) -> Markdown:
    return md("<details><summary>{}</summary>\n\n{}\n\n</details>", summary, text)
