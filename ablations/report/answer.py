"""The sentences that a report begins with: what a reader with ten seconds takes away, in words that need no statistics.

At most five: who is ahead, what that rests on being settled, what depends on what, what a choice costs in other
outcomes, and what is open. Tests, corrections and the size of everything stand in the tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.commands import many
from ablations.comparison.pairs import Comparison
from ablations.comparison.verdicts import Verdict, fewest_seeds
from ablations.report.analysis import Analysis
from ablations.report.blocks import in_one_sentence as over_blocks
from ablations.report.confounds import circumstances, reason
from ablations.report.dependence import depending, depends
from ablations.report.escaping import Markdown, crossed, enumerated, md
from ablations.report.naming import variant_name
from ablations.report.numbers import Form, forms, seeds_needed
from ablations.report.published import reached
from ablations.report.tables import failure
from ablations.report.trade_offs import trade_offs

MOST_NAMED, MOST_SETTLED = 3, 5
"""Comparisons of a sentence, and of one about what is settled; the others are counted."""
MOST_TIED = 4


def answer(analysis: Analysis) -> list[Markdown]:
    """At most five sentences."""
    if published := reached(analysis.runs, analysis.study):
        return [published]
    leader, ranks = _leader(analysis), analysis.ranks
    over = [] if ranks is None else [over_blocks(analysis, ranks)]
    table = analysis.effects[analysis.effects["metric"] == analysis.study.metric]
    if table.empty:
        return [leader, *over]
    form = forms(analysis)[analysis.study.metric]
    rows = table.assign(at=table.index)
    together = rows["factors"].map(len) > 1
    apart = pd.Series([depends(analysis, row) for row in rows.to_dict("records")], rows.index, bool)
    alone = rows[~together & ~apart]
    of_levels = [depending(analysis, row) for row in rows[apart].to_dict("records")]
    return [
        *(over or [leader]),  # the rank before what each block says
        *_settled(analysis, alone, form),
        *([_listed(of_levels)] if of_levels else _depends(analysis, alone, rows[together], form)),
        *trade_offs(analysis),
        *_open(analysis, alone),
    ]


def _listed(parts: Sequence[Markdown]) -> Markdown:
    """The first of these as one sentence, the others counted."""
    more = (
        [md("{} more depend on another choice, too", len(parts) - MOST_NAMED)]
        if len(parts) > MOST_NAMED
        else []
    )
    return md("{}.", md("; ").join([*parts[:MOST_NAMED], *more]))


def _leader(analysis: Analysis) -> Markdown:
    """Which variant is ahead, and where that is all there is to say."""
    study, table = analysis.study, analysis.variants
    form = forms(analysis)[study.metric]
    done = table[table["n"] > 0].to_dict("records")
    if not done:
        return md("No run finished, so there is nothing to compare yet.")
    best = done[0]
    percent = md(" %" if study.label.endswith("(%)") else "")
    one, more = "{}{} in its one run", "{}{} on average over {}"
    counted = many(best["n"], "run" if study.unpaired else "seed")
    reached = md(one if best["n"] == 1 else more, form.value(best["mean"]), percent, counted)
    if len(table) == 1:
        alone = "One variant was run; its {} is {}. There is nothing to compare it with."
        return md(alone, study.noun, reached)
    side = "lowest" if study.smaller else "highest"
    equal = [row for row in done if form.value(row["mean"]) == form.value(best["mean"])]
    if len(equal) > 1:
        return _tie(equal, side, form, analysis)
    lost = ", though only {} of its {} runs finished" if best["n"] < best["planned"] else ""
    lost = md(lost, best["n"], best["planned"])
    name = variant_name(best, study)
    alone = md("; no other variant has a finished run" if len(done) == 1 else "")
    return md("**{}** has the {} mean {}: {}{}{}.", name, side, study.noun, reached, lost, alone)


def _tie(equal: list[Mapping[str, Any]], side: str, form: Form, analysis: Analysis) -> Markdown:
    """The variants that share the first place."""
    study = analysis.study
    names = [md("**{}**", variant_name(row, study)) for row in equal[:MOST_TIED]]
    more = len(equal) - len(names)
    others = md(" and {}", f"{more} more" if more else names.pop())
    percent = md(" %" if study.label.endswith("(%)") else "")
    value = form.value(equal[0]["mean"])
    shown = (md(", ").join(names), others, side, study.noun, value, percent)
    return md("A tie: {}{} have the {} mean {}, {}{}.", *shown)


def _settled(analysis: Analysis, table: pd.DataFrame, form: Form) -> Iterator[Markdown]:
    """The choices that are known to matter, the largest first, and those known not to."""
    ordered = table.sort_values("mean_diff", key=abs, ascending=False, kind="stable")
    mattering = ordered[ordered["verdict"].isin((Verdict.BETTER, Verdict.WORSE))]
    same = ordered[ordered["verdict"] == Verdict.NO_DIFFERENCE]
    parts = [_difference(analysis, row, form) for row in mattering.head(MOST_SETTLED).to_dict("records")]
    if len(mattering) > MOST_SETTLED:
        more = len(mattering) - MOST_SETTLED
        parts.append(md("{} more {} settled, too", more, "is" if more == 1 else "are"))
    if len(same):
        names = _named(analysis, same.to_dict("records"))
        inside = md(" that matters (less than {})", form.limit(analysis.margin))
        makes = "make" if len(same) > 1 else "makes"
        parts.append(md("{} {} no difference{}", names, makes, inside if analysis.margin else md("")))
    if parts:
        yield md("{}.", md("; ").join(parts))


def _difference(analysis: Analysis, row: Mapping[str, Any], form: Form) -> Markdown:
    """`activation: tanh against relu is worse on average over pool: its test error is 0.20 percentage points higher
    (0.07 to 0.35)`."""
    side = "lower" if row["mean_diff"] < 0 else "higher"
    ends = sorted((abs(row["ci_low"]), abs(row["ci_high"])))
    low, high = (form.value(end) for end in ends)
    shown = "{} is {}{}: its {} is {} {} ({} to {})"
    averaged = analysis.comparisons[row["at"]].averaged
    over = md(" on average over {}", enumerated(averaged)) if averaged else md("")
    size = form.with_unit(row["mean_diff"])
    return md(shown, _name(analysis, row), row["verdict"], over, analysis.study.noun, size, side, low, high)


def _name(analysis: Analysis, row: Mapping[str, Any]) -> Markdown:
    """A comparison, with what is chosen along with its variant by design."""
    names = (crossed(row[name]) for name in ("factors", "variant", "baseline"))
    where = circumstances(analysis.comparisons[row["at"]], analysis.study)
    return md("**{}: {}** against {}{}", *names, md(" ({})", where) if where else md(""))


def _named(analysis: Analysis, rows: Sequence[Mapping[str, Any]]) -> Markdown:
    """The first of these comparisons by name, the others counted."""
    names = [_name(analysis, row) for row in rows[:MOST_NAMED]]
    if len(rows) > MOST_NAMED:
        names.append(md("{} more", len(rows) - MOST_NAMED))
    return md(" and ").join([md(", ").join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _depends(
    analysis: Analysis, alone: pd.DataFrame, together: pd.DataFrame, form: Form
) -> Iterator[Markdown]:
    """The largest interaction that is established, though it outweighs no factor's own effect; or what is known of
    interactions where none is, unless nothing is known of the factors `alone` either."""
    found = together[together["verdict"].isin((Verdict.BETTER, Verdict.WORSE))]
    if found.empty:
        rows = (row for row in together.to_dict("records") if not analysis.comparisons[row["at"]].hopeless)
        judged = {row["verdict"] for row in rows}
        if judged and not (alone["verdict"] == Verdict.TOO_FEW).all():
            yield _independent(analysis, judged, form)
        return
    row = found.loc[found["mean_diff"].abs().idxmax()].to_dict()
    template = (
        "**{} and {} depend on each other**{}: {} and {} together do {} {} than each alone lets one expect."
    )
    others = len({each for each in found["factors"] if each != row["factors"]})
    do = "does" if others == 1 else "do"
    so_do = md(" (and so {} {})", do, many(others, "other pair")) if others else md("")
    size = form.with_unit(row["mean_diff"])
    yield md(template, *row["factors"], so_do, *row["variant"], size, row["verdict"])


def _independent(analysis: Analysis, verdicts: set[str], form: Form) -> Markdown:
    """What is known of interactions none of which is established."""
    if Verdict.TOO_FEW in verdicts:
        return md("Whether the effect of one factor depends on another cannot be said yet.")
    if verdicts == {Verdict.NO_DIFFERENCE}:
        matters = md(" by as much as matters ({})", form.limit(analysis.margin))
        known = "The effect of one factor does not depend on another{}."
        return md(known, matters if analysis.margin else md(""))
    return md("Nothing shows so far that the effect of one factor depends on another.")


def _open(analysis: Analysis, table: pd.DataFrame) -> Iterator[Markdown]:
    """What is not settled, and what would settle it."""
    rows = [row for row in table.to_dict("records") if not Verdict(row["verdict"]).settled]
    if not rows:
        return
    of = [analysis.comparisons[row["at"]] for row in rows]
    mixed = [row for row, each in zip(rows, of, strict=True) if each.confounded]
    lost = [row for row in rows if not row["n"] and pd.isna(row["seeds_needed"]) and row not in mixed]
    left = [row for row in rows if row not in lost and row not in mixed]
    parts = [_lost(analysis, row) for row in lost[:MOST_NAMED]]
    if len(lost) > MOST_NAMED:
        parts.append(md("nor of {} more", len(lost) - MOST_NAMED))
    for row in mixed[:MOST_NAMED]:
        what = "{} is confounded: the two sides also differ in {}, so there is no verdict"
        parts.append(md(what, _name(analysis, row), reason(analysis.comparisons[row["at"]])))
    if len(left) == len(table) > 1 and all(row["verdict"] == Verdict.TOO_FEW for row in left):
        seeds = max(row["n"] for row in left)
        text = "{}: so many comparisons need {} at least"
        first = (
            "With {} nothing can be said yet".format(many(seeds, "seed"))
            if seeds
            else "Nothing was paired yet"
        )
        parts.append(md(text, first, many(fewest_seeds(len(analysis.effects)), "seed")))
    elif left:
        what = "{}ot settled: {}{}"
        parts.append(md(what, "n" if parts else "N", _named(analysis, left), _needed(analysis, left)))
    yield md("{}.", md("; ").join(parts))


def _lost(analysis: Analysis, row: Mapping[str, Any]) -> Markdown:
    comparison = analysis.comparisons[row["at"]]
    why = hopeless(analysis, comparison) if comparison.hopeless else "no seed gave a pair"
    return md("{}: {}, so nothing can be said", _name(analysis, row), why)


def hopeless(analysis: Analysis, comparison: Comparison) -> str:
    """What of a comparison never gives a result, and why not."""
    found = comparison.hopeless[0]
    runs = analysis.runs.set_index("run_id").loc[list(found.run_ids)]
    reason = failure(runs.iloc[-1].to_dict(), analysis.study)[1]
    own = dict(zip(comparison.factors, comparison.variant, strict=True)) == found.setting
    setting = " ".join(f"{factor}={level}" for factor, level in found.setting.items())
    whose, of = ("its", "") if own else ("the", f" of {setting}")
    if len(runs) == 1:
        return f"{whose} one run{of} gave no result ({reason})"
    return f"none of {whose} {len(runs)} runs{of} gave a result ({reason})"


def _needed(analysis: Analysis, rows: Sequence[Mapping[str, Any]]) -> Markdown:
    """What would settle these comparisons, in brackets."""
    if any(analysis.comparisons[row["at"]].censored for row in rows):
        return md(" (runs that never got there leave it open: more epochs would settle it, not more seeds)")
    if not any(row["n"] for row in rows):
        return md(" (no seed has a result on both sides)")
    wanted = [row for row in rows if pd.notna(row["seeds_needed"])]
    if not wanted:
        return md("")
    least = min(int(row["seeds_needed_at_least"]) for row in wanted)
    most = max(int(row["seeds_needed"]) for row in wanted)
    if all(row["n"] < 2 for row in wanted):  # nothing says how far seeds scatter
        return md(" ({} seeds are needed at least)", most)
    it = "it" if len(rows) == 1 else "them"
    return md(" (about {} seeds in all would settle {})", seeds_needed(least, most), it)
