"""The sentences that a report begins with: what a busy reader can quote, each with its interval."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from ablations.commands import many
from ablations.comparison.pairs import Comparison
from ablations.comparison.tests import ALPHA
from ablations.comparison.verdicts import Verdict
from ablations.report.analysis import Analysis
from ablations.report.blocks import in_one_sentence as over_blocks
from ablations.report.confounds import reason
from ablations.report.escaping import Markdown, crossed, md, plain
from ablations.report.numbers import ENOUGH_SEEDS, Form, forms, p_value
from ablations.report.tables import failure
from ablations.tracking.columns import column, natural, param

MOST_SENTENCES = 10
MOST_TIED = 4


def answer(analysis: Analysis) -> list[Markdown]:
    """Three to ten sentences."""
    first = list(_leader(analysis))
    table = analysis.effects[analysis.effects["metric"] == analysis.study.metric]
    if table.empty:
        return [*first, *over_blocks(analysis)]
    form = forms(analysis)[analysis.study.metric]
    together = table["factors"].map(len) > 1
    hopeless = pd.Series([bool(each.hopeless) for each in analysis.comparisons])
    last = [*_interactions(analysis, table[together & ~hopeless[table.index]], form), _basis(analysis)]
    ranked = list(over_blocks(analysis))
    room = MOST_SENTENCES - len(first) - len(ranked) - len(last)
    effects = list(_effects(analysis, table[~together], form, room))
    return [*first, *ranked, *effects, *last]


def variant_name(row: Mapping[str, Any], factors: tuple[str, ...]) -> str:
    """A variant by its levels: `activation=relu pool=max`."""
    return " ".join(f"{key}={plain(row[param(key)])}" for key in factors)


def _leader(analysis: Analysis) -> Iterator[Markdown]:
    """Which variant is ahead, and where that is all there is to say."""
    study, table = analysis.study, analysis.variants
    form = forms(analysis)[study.metric]
    done = table[table["n"] > 0].to_dict("records")
    if not done:
        yield md("No run finished, so there is nothing to compare yet.")
        return
    best = done[0]
    percent = md(" %" if study.label.endswith("(%)") else "")
    mean, sd = form.value(best["mean"]), form.value(best["sd"])
    one, more = "{}{} in its one run", "{0} ± {2}{1} (mean and standard deviation, {3})"
    counted = many(best["n"], "run" if study.unpaired else "seed")
    reached = md(one if best["n"] == 1 else more, mean, percent, sd, counted)
    if len(table) == 1:
        alone = "One variant was run; its {} is {}. There is nothing to compare it with."
        yield md(alone, study.noun, reached)
        return
    side = "lowest" if study.smaller else "highest"
    equal = [row for row in done if form.value(row["mean"]) == form.value(best["mean"])]
    if len(equal) > 1:
        yield _tie(equal, side, form, analysis)
        return
    lost = ", though only {} of its {} runs finished" if best["n"] < best["planned"] else ""
    lost = md(lost, best["n"], best["planned"])
    name = variant_name(best, study.factors)
    yield md("**{}** has the {} mean {}: {}{}.", name, side, study.noun, reached, lost)
    if len(done) == 1:
        yield md("No other variant has a finished run.")


def _tie(equal: list[Mapping[str, Any]], side: str, form: Form, analysis: Analysis) -> Markdown:
    """The variants that share the first place."""
    study = analysis.study
    names = [md("**{}**", variant_name(row, study.factors)) for row in equal[:MOST_TIED]]
    more = len(equal) - len(names)
    others = md(" and {}", f"{more} more" if more else names.pop())
    percent = md(" %" if study.label.endswith("(%)") else "")
    value = form.value(equal[0]["mean"])
    return md(
        "A tie: {}{} have the {} mean {}, {}{}.",
        md(", ").join(names),
        others,
        side,
        study.noun,
        value,
        percent,
    )


def _effects(analysis: Analysis, table: pd.DataFrame, form: Form, room: int) -> Iterator[Markdown]:
    """Main effects, those that are settled first, of those the largest; what has no room is counted."""
    ranks = {verdict: rank // 2 for rank, verdict in enumerate(Verdict)}
    order = sorted(
        table.assign(at=table.index).to_dict("records"),
        key=lambda row: (ranks[row["verdict"]], -abs(row["mean_diff"]) if row["n"] else 0),
    )
    shown = len(order) if len(order) <= room else room - 1
    for row in order[:shown]:
        yield _effect(analysis, row, form)
    if rest := [row["verdict"] for row in order[shown:]]:
        counted = ", ".join(f"{rest.count(verdict)} {verdict}" for verdict in Verdict if verdict in rest)
        yield md("The other {}: {}; see the table.", many(len(rest), "comparison"), counted)


def _effect(analysis: Analysis, row: Mapping[str, Any], form: Form) -> Markdown:
    """One main effect in words."""
    study = analysis.study
    names = (crossed(row[name]) for name in ("factors", "variant", "baseline"))
    what = md("**{}: {}** against {}{}", *names, md(" ({})", row["block"]) if row.get("block") else "")
    comparison = analysis.comparisons[row["at"]]
    if not row["n"]:
        why = _hopeless(analysis, comparison) if comparison.hopeless else "no seed gave a pair"
        return md("{}: {}, so nothing can be said.", what, why)
    if comparison.confounded:
        return md(
            "{} is confounded: the two sides also differ in {}, so there is no verdict.",
            what,
            reason(comparison),
        )
    side = "lower" if row["mean_diff"] < 0 else "higher"
    shown = form.with_unit(row["mean_diff"])
    size = f"{shown} {side}" if re.search("[1-9]", shown) else "the same to the digits shown"
    difference = md("its {} is {}", study.noun, size)
    seeds = many(row["n"], "run" if study.unpaired else "seed") + (" a side" if study.unpaired else "")
    interval = _interval(row, form)
    evidence = md("{}, {} after Holm's correction, {}", interval, _p(row), seeds)
    grid = study.design == "grid" and not study.unpaired
    others = [key for key in study.factors if key not in row["factors"] and grid]
    others += study.average_over
    over = md(" on average over {}", ", ".join(others)) if others else md("")
    match Verdict(row["verdict"]):
        case Verdict.BETTER | Verdict.WORSE as verdict:
            return md("{} is {}{}: {} ({}).", what, verdict, over, difference, evidence)
        case Verdict.NO_DIFFERENCE:
            inside = md("{}, inside ±{}", interval, form.with_unit(analysis.margin))
            return md("{} makes no difference that matters{}: {} ({}).", what, over, difference, inside)
        case Verdict.INCONCLUSIVE:
            return md(
                "{} is not settled{}: {} ({}); {}.",
                what,
                over,
                difference,
                evidence,
                _needed(row, comparison),
            )
        case Verdict.TOO_FEW:
            lacking = "{} in {}, which cannot reach p < {} whatever the difference"
            lacking = md(lacking, difference, seeds, ALPHA)
            return md("{} has too few seeds for a verdict: {}; {}.", what, lacking, _needed(row, comparison))


def _interval(row: Mapping[str, Any], form: Form) -> Markdown:
    ends = form.ends(row["ci_low"], row["ci_high"])
    return md("95 % interval [{}]", ends) if ends else md("95 % interval no limits")


def _p(row: Mapping[str, Any]) -> Markdown:
    sign, _, value = p_value(row["p_holm"]).rpartition(" ")
    return md("p < {}", value) if sign else md("p = {}", value)


def _hopeless(analysis: Analysis, comparison: Comparison) -> str:
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


def _needed(row: Mapping[str, Any], comparison: Comparison) -> str:
    if pd.isna(row["seeds_needed"]) and not comparison.censored:
        return "more runs may settle it"
    if comparison.censored:
        return "runs that never got there leave it open: more epochs would settle it, not more seeds"
    seeds = int(row["seeds_needed"])
    if seeds >= ENOUGH_SEEDS:
        return f"{ENOUGH_SEEDS} seeds or more would be needed to settle it"
    return f"about {seeds} seeds in all would settle it"


def _interactions(analysis: Analysis, table: pd.DataFrame, form: Form) -> Iterator[Markdown]:
    """The largest that are established, or that none is; main effects that must not be read alone."""
    found = table[table["verdict"].isin((Verdict.BETTER, Verdict.WORSE))]
    found = found.loc[found["mean_diff"].abs().sort_values(ascending=False, kind="stable").index]
    for row in found.head(2).to_dict("records"):
        yield _interaction(row, form)
    if len(table) and (table["verdict"] == Verdict.TOO_FEW).all():
        yield md("Whether the effect of one factor depends on another cannot be said yet: too few seeds.")
    elif len(table) and not len(found):
        none = "The interaction is not" if len(table) == 1 else f"None of the {len(table)} interactions is"
        yield md("{} established: nothing says that the effect of one factor depends on another.", none)
    if len(analysis.dependences):
        yield from _dependence(analysis.dependences, form)


def _interaction(row: Mapping[str, Any], form: Form) -> Markdown:
    template = (
        "**{} and {} depend on each other**: {} and {} together do {} {} than their separate effects add up to "
        "({}, {} after Holm's correction)."
    )
    shown = (form.with_unit(row["mean_diff"]), row["verdict"], _interval(row, form), _p(row))
    return md(template, *row["factors"], *row["variant"], *shown)


def _dependence(table: pd.DataFrame, form: Form) -> Iterator[Markdown]:
    """What a main effect depends on, where an interaction outweighs it."""
    template = (
        "The effect of {factor}={variant} must not be read alone: it changes by {interaction} from "
        "{on}={on_baseline} to {on_variant}, more than its mean of {main}."
    )
    for row in table[table["established"]].head(2).to_dict("records"):
        interaction = f"{form.difference(row['interaction'])} {form.unit}"
        yield md(template, **row | {"interaction": interaction, "main": form.difference(row["main"])})


def _basis(analysis: Analysis) -> Markdown:
    """What all this rests on."""
    runs = analysis.everything
    logged = (column(runs, param(key)).dropna().astype(str) for key in ("trainer.epochs", "dataset", "seed"))
    epochs, data, seeds = (sorted(set(values), key=natural) for values in logged)
    parts = [md("This rests on {}", many(len(runs), "run"))]
    if seeds and not analysis.study.unpaired:
        parts = [md("{} with {}", parts[0], many(len(seeds), "seed"))]
    if epochs:
        few = " or ".join(epochs) if len(epochs) <= 3 else f"{epochs[0]} to {epochs[-1]}"
        parts.append(md("{} {} each", few, "epoch" if epochs == ["1"] else "epochs"))
    if data:
        parts.append(md("on {}", " and ".join(data) if len(data) <= 3 else f"{len(data)} data sets"))
    settled = [Verdict(verdict).settled for verdict in analysis.effects["verdict"]]
    count, verb = many(len(settled), "comparison"), "is" if len(settled) == 1 else "are"
    return md("{}; {} of {} {} settled.", md(", ").join(parts), sum(settled), count, verb)
