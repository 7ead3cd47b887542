"""What a report says of a choice whose effect depends on another: an answer at each level of that other one."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ablations.comparison.verdicts import Verdict, fewest_seeds
from ablations.report.analysis import Analysis, family, simple_rows
from ablations.report.escaping import Markdown, crossed, md, table
from ablations.report.numbers import Form, forms
from ablations.report.tables import verdict_rows

HEAD = (
    *("factor", "variant", "against", "at", "verdict"),
    *("seeds", "difference", "95 % interval", "p (Holm)", "seeds needed"),
)
WORDS = {verdict: str(verdict) for verdict in Verdict} | {Verdict.INCONCLUSIVE: "open"}

AtLevels = list[tuple[str, Mapping[str, Any]]]
"""The levels of another factor, each with the row of the simple effect there."""

ABOUT = (
    "An interaction that is established outweighs these effects, so that their averages answer no question that "
    "anybody has: the comparison at each level of the other factor does. The levels of one other factor share an error "
    "of 5 % of their own (Holm), beside that of the comparisons above; {}. No seeds are advised for the averages."
)


def depends(analysis: Analysis, row: Mapping[str, Any]) -> bool:
    """Whether simple effects answer in place of a main effect, a row of the verdict table."""
    return len(simple_rows(analysis, row)) > 0


def depending(analysis: Analysis, row: Mapping[str, Any]) -> Markdown:
    """A main effect that depends on others, in a sentence: `pool: avg against max depends on activation: better with
    relu (-0.20 [-0.30, -0.10]), open with tanh (…)`."""
    form = forms(analysis)[analysis.study.metric]
    parts = md("; it depends on ").join(
        md("{}: {}", on, md(", ").join(_at(each, level, form) for level, each in rows))
        for on, rows in by_other(analysis, row).items()
    )
    names = (crossed(row[name]) for name in ("factors", "variant", "baseline"))
    unit = md(" {}", form.unit) if form.unit else md("")
    return md("**{}: {}** against {} depends on {}{}", *names, parts, unit)


def simple_effects(analysis: Analysis) -> Iterator[Markdown]:
    """The part with the simple effects and their table."""
    if analysis.simple_effects.empty:
        return
    yield md("### Where it depends on the other choice")
    yield table(*verdict_rows(analysis, HEAD, simple=True), numeric=5)
    sizes = sorted(set(Counter(map(family, analysis.simple)).values()))
    fewest = (f"{size} of them take {fewest_seeds(size)} seeds" for size in sizes)
    yield md(ABOUT, f"{' and '.join(fewest)} at least")


def by_other(analysis: Analysis, row: Mapping[str, Any]) -> dict[str, AtLevels]:
    """By the factor on which a main effect depends, what it is at each level of that; empty where there is none."""
    found: dict[str, AtLevels] = {}
    for comparison, each in simple_rows(analysis, row):
        ((on, level),) = comparison.at
        found.setdefault(on, []).append((level, each))
    return found


def _at(row: Mapping[str, Any], level: str, form: Form) -> Markdown:
    """`better with relu (-0.20 [-0.30, -0.10])`."""
    if not row["n"]:
        return md("no pair with {}", level)
    low, high = (form.difference(row[name]) for name in ("ci_low", "ci_high"))
    limits = f"; {low} to {high}" if form.ends(row["ci_low"], row["ci_high"]) else ""
    return md(
        "{} with {} ({}{})", WORDS[Verdict(row["verdict"])], level, form.difference(row["mean_diff"]), limits
    )
