"""What a report says of a choice whose effect depends on another: an answer at each level of that other one."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from ablations.comparison.pairs import Comparison
from ablations.comparison.verdicts import COLUMNS, Verdict, fewest_seeds
from ablations.report.analysis import Analysis, family
from ablations.report.escaping import Markdown, crossed, md, table
from ablations.report.numbers import Form, forms
from ablations.report.tables import verdict_rows

HEAD = (
    *("factor", "variant", "against", "at", "verdict"),
    *("seeds", "difference", "95 % interval", "p (Holm)", "seeds needed"),
)
WORDS = {verdict: str(verdict) for verdict in Verdict} | {Verdict.INCONCLUSIVE: "open"}

ABOUT = (
    "An interaction that is established outweighs these effects, so that their averages answer no question that "
    "anybody has: the comparison at each level of the other factor does. The levels of one other factor share an error "
    "of 5 % of their own (Holm), beside that of the comparisons above; {}. No seeds are advised for the averages."
)

Pairs = list[tuple[Comparison, Mapping[str, Any]]]


def depends(analysis: Analysis, row: Mapping[str, Any]) -> bool:
    """Whether simple effects answer in place of a main effect, a row of the verdict table."""
    return len(simple_rows(analysis, row)) > 0


def depending(analysis: Analysis, row: Mapping[str, Any]) -> Markdown:
    """A main effect that depends on others, in a sentence: `pool: avg against max depends on activation: better with
    relu (-0.20 [-0.30, -0.10]), open with tanh (…)`."""
    form = forms(analysis)[analysis.study.metric]
    by_factor: dict[str, list[Markdown]] = {}
    for comparison, each in simple_rows(analysis, row):
        ((on, level),) = comparison.at
        by_factor.setdefault(on, []).append(_at(each, level, form))
    parts = md("; it depends on ").join(
        md("{}: {}", on, md(", ").join(found)) for on, found in by_factor.items()
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


def simple_rows(analysis: Analysis, row: Mapping[str, Any]) -> Pairs:
    """The simple effects of a main effect and their rows."""
    rows = analysis.simple_effects.to_dict("records")
    found = zip(analysis.simple, rows, strict=True)
    return [pair for pair in found if all(pair[1][name] == row[name] for name in COLUMNS[:4])]


def _at(row: Mapping[str, Any], level: str, form: Form) -> Markdown:
    """`better with relu (-0.20 [-0.30, -0.10])`."""
    if not row["n"]:
        return md("no pair with {}", level)
    low, high = (form.difference(row[name]) for name in ("ci_low", "ci_high"))
    limits = f"; {low} to {high}" if form.ends(row["ci_low"], row["ci_high"]) else ""
    return md(
        "{} with {} ({}{})", WORDS[Verdict(row["verdict"])], level, form.difference(row["mean_diff"]), limits
    )
