"""What each variant chose for itself in its trials, what that cost, and what would be said after fewer of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd

from ablations.commands import duration, many
from ablations.comparison import exact
from ablations.comparison.tuning import State, at_edge, chosen, prefixes, trials
from ablations.report.analysis import Analysis, Tuned, analyse
from ablations.report.escaping import Markdown, crossed, listed, md, plain, table
from ablations.report.naming import variant_name
from ablations.report.numbers import NO_SPREAD, forms, number
from ablations.report.tables import in_words
from ablations.tracking.columns import TRIAL, TUNING, column, param, tag
from ablations.tracking.study import Study, label, sweep_of_prefixes, sweep_of_trials

if TYPE_CHECKING:
    from ablations.report.escaping import Markdown
    from ablations.tracking.reader import Reader
    from ablations.tracking.results import Results

OF_TUNING = ("tuning", "tuning_verdicts")
"""The figures that stand in its section."""
SAMPLERS = {
    "tpe": "proposed by Optuna's TPE",
    "random": "drawn at random",
    "grid": "from a grid, in random order",
}

HOW = (
    "Each variant tried {} of {}, {}, each of them trained on {} ({}) that evaluate nothing. It is compared at the one "
    "with the best mean {}; the test images had no say in it.{}"
)
PRUNING = (
    " After {} complete trials of a variant, and from epoch {} on, a run was stopped when its best value so far was "
    "behind the median of these."
)
COST = "The trials took {} and {}; {} more show what fewer trials would have chosen ({})."
COST_ALONE = "The trials took {} and {}."
OPTIMISTIC = (
    "The {} at the choice is the best of so many, and so better than that of further runs will be; what is compared "
    "comes from seeds that had no part in the choice."
)
REPEATED = "A setting that was proposed twice was trained once: {} in all."
GONE = "The runs of the trials are not in the store, so that nothing can be said of them."
AT_EDGE = (
    "**At the edge of its range**: {}. A better value may lie beyond, so that such a variant may be better than it "
    "looks here."
)
WITHOUT = "**No choice**: none of the trials of {} was complete, so that it is compared at its defaults."
FEWER = (
    "What the verdict on the same seeds would be had everybody stopped after so many trials. Each column is a study by "
    "itself: nothing is corrected for looking at several of them. It is one path of trials: another "
    "`study.tuning.seed` draws others."
)


def runs_of_trials(reader: "Reader | Results", study: Study, everything: pd.DataFrame) -> pd.DataFrame:
    """The runs of a study's trials, and those that evaluate what fewer of them would have chosen, the oldest first."""
    experiment = str(everything["experiment"].iloc[-1])
    names = sweep_of_trials(study.name), sweep_of_prefixes(study.name)
    found = [reader.runs(experiment, tags={"sweep": name}) for name in names]
    return pd.concat([each for each in found if len(each)] or found[:1], ignore_index=True)


def with_trials(analysis: Analysis, runs: pd.DataFrame, at_seeds: Sequence[int] | None) -> Analysis:
    """The analysis with what the study's tuning came to.

    Args:
        analysis: of the runs at each variant's choice.
        runs: as `runs_of_trials` gives them.
        at_seeds: as `analyse` takes it.
    """
    study, tuning = analysis.study, analysis.study.tuning
    asked = tuning["ids"], study.factors, tuning["keys"], tuning["seeds"]
    found = trials(runs, *asked, study.tuned_on, study.smaller_tuned, tuning["trials"])
    tried = runs[column(runs, tag(TRIAL)).notna()]
    counting = set(zip(found["tuning"], found["trial"].map(str), strict=True))
    tried = _among(tried, [tag(TUNING), tag(TRIAL)], counting)
    evaluated = _prefix_runs(analysis, runs, found)
    tables = []
    for after in prefixes(tuning["trials"]) if tuning["curve"] else ():
        effects = _after(analysis, found, evaluated, after, at_seeds)
        tables.append(effects.assign(after=after))
    verdicts = pd.concat(tables, ignore_index=True) if tables else analysis.effects.iloc[:0].assign(after=0)
    kept = pd.concat([tried, evaluated], ignore_index=True)
    kept = kept.sort_values(["start_time", "run_id"], ignore_index=True)
    return replace(analysis, trials=Tuned(kept, found, verdicts))


def _prefix_runs(analysis: Analysis, runs: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The runs at what some number of trials would have chosen, on the seeds that evaluate, each once."""
    study, tuning = analysis.study, analysis.study.tuning
    rest = runs[column(runs, tag(TRIAL)).isna()]
    rest = rest[column(rest, param("seed")).isin(set(column(analysis.everything, param("seed"))))]
    keys = [param(key) for key in (*study.factors, *tuning["keys"])]
    wanted = [
        chosen(found, study.factors, study.smaller_tuned, after)[keys] for after in prefixes(tuning["trials"])
    ]
    settings = set(_settings(pd.concat(wanted), keys))
    rest = _among(rest, keys, settings)
    order = rest.assign(done=rest["status"] == "FINISHED").sort_values(["done", "start_time", "run_id"])
    rest = rest.loc[order.index]
    again = pd.Series(_settings(rest, [*keys, param("seed")]), rest.index, object).duplicated(keep="last")
    return rest[~again].sort_index()


def _among(runs: pd.DataFrame, keys: Sequence[str], settings: set[tuple[str, ...]]) -> pd.DataFrame:
    """The runs whose values of these columns are among others."""
    return runs[pd.Series([each in settings for each in _settings(runs, keys)], runs.index, bool)]


def _settings(runs: pd.DataFrame, keys: Sequence[str]) -> list[tuple[str, ...]]:
    return list(zip(*(column(runs, key).map(plain) for key in keys), strict=True))


def _after(
    analysis: Analysis,
    found: pd.DataFrame,
    evaluated: pd.DataFrame,
    after: int,
    at_seeds: Sequence[int] | None,
) -> pd.DataFrame:
    """The main effects in the study's metric as they would be after so many trials."""
    study = analysis.study
    everything = analysis.everything.drop(columns=["value", "outcome"])
    if after < study.tuning["trials"]:
        choice = chosen(found, study.factors, study.smaller_tuned, after)
        names = [param(key) for key in (*study.factors, *study.tuning["keys"])]
        settings = set(_settings(choice, names))
        pool = pd.concat([everything, evaluated], ignore_index=True)
        everything = _among(pool, names, settings).reset_index(drop=True)
    if everything.empty:
        return analysis.effects.iloc[:0]
    looks = [look.invocation for look in analysis.looks if look.invocation]
    alone = replace(study, claims=(), tuning=None)
    effects = analyse(alone, everything, (), False, looks, at_seeds).effects
    return effects[(effects["metric"] == study.metric) & (effects["factors"].map(len) == 1)]


def tuning(analysis: Analysis, figures: Sequence[Markdown]) -> Iterator[Markdown]:
    """The section on tuning with its figures; nothing where nothing was tuned."""
    found = analysis.trials
    if found is None:
        return
    study, tuned = analysis.study, analysis.study.tuning
    yield md("## Tuning")
    seeds = many(len(tuned["seeds"]), "seed"), ", ".join(map(str, tuned["seeds"]))
    prune = tuned.get("prune")
    stopped = md(PRUNING, prune["after_trials"], prune["after_epochs"] + 1) if prune else md("")
    what = many(tuned["trials"], "setting"), ", ".join(tuned["keys"])
    how = SAMPLERS.get(tuned["sampler"], tuned["sampler"])
    yield md(HOW, *what, how, *seeds, label(study.tuned_on), stopped)
    if found.trials.empty:
        yield md(GONE)
        return
    head, rows = trial_rows(analysis)
    yield table(head, rows, numeric=5)
    yield md(" ").join(_legend(analysis, found))
    yield from figures
    if len(found.verdicts):
        yield table(*verdict_rows(analysis))
        yield md(FEWER)
        if changes := list(_changes(found.verdicts)):
            yield listed(changes)


def trial_rows(analysis: Analysis) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table of what each variant was offered, chose, and what that took."""
    study, found = analysis.study, analysis.trials.trials
    keys = study.tuning["keys"]
    best = chosen(found, study.factors, study.smaller_tuned, study.tuning["trials"]).to_dict("records")
    choices = {row["tuning"]: row for row in best}
    rows = []
    for _, own in found.groupby("tuning", sort=False):
        first = own.iloc[0].to_dict()
        choice = choices.get(first["tuning"], {})
        offered = "; ".join(
            f"{key}: {_range(first['offered'][key])}" for key in keys if key in first["offered"]
        )
        chose = "; ".join(
            f"{key}={plain(choice[param(key)])}{' (edge)' if _edged(choice, key) else ''}"
            for key in keys
            if choice and key in choice["offered"]
        )
        counts = [str(int((own["state"] == state).sum())) for state in (State.PRUNED, State.DIVERGED)]
        took = str(int(own["runs"].sum())), number(exact.total(own["seconds"]) / 60, 1)
        levels = (plain(first[param(key)]) for key in study.factors)
        value = number(choice.get("value", float("nan")), 4)
        rows.append((*levels, offered, chose or "none", *counts, *took, value))
    head = [
        *study.factors,
        "offered",
        "chosen",
        "pruned",
        "diverged",
        "runs",
        "minutes",
        f"{label(study.tuned_on)}",
    ]
    return tuple(head), rows


def _range(of: Mapping[str, Any]) -> str:
    """What was offered, in words."""
    if "values" in of:
        return ", ".join(map(plain, of["values"]))
    how = [*(["logarithmic"] if of.get("log") else []), *([f"step {of['step']:g}"] if "step" in of else [])]
    return f"{of['low']:g} to {of['high']:g}" + (f" ({', '.join(how)})" if how else "")


def _edged(row: Mapping[str, Any], key: str) -> bool:
    return at_edge(row[param(key)], row["offered"].get(key, {}))


def _legend(analysis: Analysis, found: Tuned) -> Iterator[Markdown]:
    study, table = analysis.study, found.trials
    count, seconds = int(table["runs"].sum()), exact.total(table["seconds"])
    evaluated = found.runs[column(found.runs, tag(TRIAL)).isna()]
    took = many(count, "run"), duration(seconds)
    if len(evaluated):
        more = duration(exact.total(evaluated["seconds"].dropna()))
        yield md(COST, *took, many(len(evaluated), "run"), more)
    else:
        yield md(COST_ALONE, *took)
    yield md(OPTIMISTIC, label(study.tuned_on))
    again = study.tuning["trials"] * table["tuning"].nunique() - len(table)
    if again > 0:
        yield md(REPEATED, many(again, "trial"))
    best = chosen(table, study.factors, study.smaller_tuned, study.tuning["trials"])
    edged = [
        f"{variant_name(row, study)} ({', '.join(keys)})"
        for row in best.to_dict("records")
        if (keys := [key for key in study.tuning["keys"] if _edged(row, key)])
    ]
    if edged:
        yield md(AT_EDGE, "; ".join(edged))
    lost = table[~table["tuning"].isin(best["tuning"])].drop_duplicates("tuning").to_dict("records")
    if lost:
        yield md(WITHOUT, "; ".join(variant_name(row, study) for row in lost))


def verdict_rows(analysis: Analysis) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table of verdicts by trials: the verdict and the difference."""
    form, found = forms(analysis)[analysis.study.metric], in_words(analysis.trials.verdicts)
    counts = sorted(set(found["after"]))
    rows = []
    for levels, own in found.groupby(["factor", "variant", "baseline"], sort=False):
        by_count = {row["after"]: row for row in own.to_dict("records")}
        cells = (
            f"{row['verdict']} ({form.difference(row['mean_diff'])})" if row and row["n"] else NO_SPREAD
            for row in map(by_count.get, counts)
        )
        rows.append((*levels, *cells))
    return ("factor", "variant", "against", *(f"after {many(each, 'trial')}" for each in counts)), rows


def _changes(verdicts: pd.DataFrame) -> Iterator[Markdown]:
    """The comparisons on which it depends how long was tuned, and how."""
    for _, own in verdicts.groupby(["factors", "variant", "baseline"], sort=False):
        rows = own.sort_values("after").to_dict("records")
        parts = [
            (verdict, [row["after"] for row in of])
            for verdict, of in groupby(rows, lambda row: row["verdict"])
        ]
        if len(parts) > 1:
            name = f"{crossed(rows[0]['variant'])} against {crossed(rows[0]['baseline'])}"
            said = (f"{verdict} after {_span(counts)}" for verdict, counts in parts)
            yield md("{}: {}.", name, "; ".join(said))


def _span(counts: Sequence[int]) -> str:
    if len(counts) == 1:
        return many(counts[0], "trial")
    return f"{counts[0]} to {counts[-1]} trials"
