"""The tables of a report as rows of cells, which the page escapes and the console cuts."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ablations.commands import duration, many
from ablations.comparison import exact
from ablations.comparison.claims import alike
from ablations.comparison.pairs import Comparison
from ablations.comparison.selection import Selection
from ablations.comparison.variants import EPOCHS_TO_TARGET
from ablations.report.analysis import Analysis, at_level, simple_rows
from ablations.report.escaping import crossed, plain
from ablations.report.numbers import NO_SPREAD, Form, effect_size, forms, number, p_value, seeds_needed, whole
from ablations.tracking.columns import column, natural, param, params_in, tag, text
from ablations.tracking.study import Study, label

SHARED = ("optimizer.lr", "trainer.batch_size", "trainer.schedule", "dropout.rate")
"""Params that are named among what all runs share, beside the choice of each group."""

IN_SHORT = ("factor", "variant", "against", "metric", "verdict", "difference [95 % interval]", "seeds")
"""Of the verdict table, where it stands beside the answer."""
IN_FULL = (
    *("factor", "variant", "against", "metric", "verdict", "seeds", "difference", "95 % interval"),
    *("p", "p (Holm)", "beats it in", "effect size", "seeds needed"),
)

Rows = list[tuple[str, ...]]


def in_words(effects: pd.DataFrame) -> pd.DataFrame:
    """The verdict table with the names of `factor`, `variant` and `baseline` as text; `factors` stay as they are."""
    names = {"factor": "factors", "variant": "variant", "baseline": "baseline"}
    named = effects.assign(**{name: [crossed(each) for each in effects[of]] for name, of in names.items()})
    if "block" in named:  # a data set or fold, within which the comparison is made
        named["factor"] = [
            f"{key} ({block})" for key, block in zip(named["factor"], named["block"], strict=True)
        ]
    return named


def verdict_rows(
    analysis: Analysis, names: Sequence[str], simple: bool = False
) -> tuple[tuple[str, ...], Rows]:
    """Head and rows of the verdict table, or of that of simple effects: those of its columns that are named.

    `metric` is one where there are several only; seeds are called runs where groups are compared.
    """
    effects, comparisons = analysis.effects, analysis.comparisons
    if simple:
        effects, comparisons = analysis.simple_effects, analysis.simple
    form = forms(analysis)
    cells = [
        _verdict_cells(row, comparison, form[row["metric"]], analysis.study)
        for row, comparison in zip(in_words(effects).to_dict("records"), comparisons, strict=True)
    ]
    shown = [name for name in names if name != "metric" or effects["metric"].nunique() > 1]
    head = ("runs" if name == "seeds" and analysis.study.unpaired else name for name in shown)
    return tuple(head), [tuple(each[name] for name in shown) for each in cells]


def outcome(metric: str, study: Study) -> str:
    """An outcome in a table, with its unit: `test error (%)`, `epochs to validation accuracy 0.98`."""
    if metric == EPOCHS_TO_TARGET and study.target:
        return f"epochs to {label(study.target['metric'])} {study.target['value']}"
    return label(metric)


def _verdict_cells(
    row: Mapping[str, Any], comparison: Comparison, form: Form, study: Study
) -> dict[str, str]:
    """All that a table may say of a comparison."""
    paired = row["n"] > 0
    difference, ends = form.difference(row["mean_diff"]), form.ends(row["ci_low"], row["ci_high"])
    return {
        "factor": row["factor"],
        "variant": row["variant"],
        "against": row["baseline"],
        "at": at_level(comparison),
        "metric": outcome(row["metric"], study),
        "verdict": _verdict(row, comparison),
        "seeds": str(row["n"]),
        "difference": difference,
        "95 % interval": form.interval(row["ci_low"], row["ci_high"]) if paired else NO_SPREAD,
        "difference [95 % interval]": f"{difference} [{ends}]" if paired and ends else difference,
        "p": p_value(row["p"]),
        "p (Holm)": p_value(row["p_holm"]),
        "beats it in": f"{100 * row['prob_better']:.0f} %" if paired else NO_SPREAD,
        "effect size": effect_size(row["effect_size"]),
        "seeds needed": seeds_needed(row["seeds_needed_at_least"], row["seeds_needed"]),
    }


def _verdict(row: Mapping[str, Any], comparison: Comparison) -> str:
    """The verdict, with the look at which it was settled where there was more than one."""
    if comparison.without_result:
        return "no result"
    late = row["looks"] > 1 and pd.notna(row["settled_at"])
    return f"{row['verdict']} (look {row['settled_at']})" if late else row["verdict"]


def measures(analysis: Analysis) -> dict[str, str]:
    """What the table per variant gives: its name in the report and, shorter, in the console."""
    table = analysis.variants
    found = {"n": "n", analysis.study.label: analysis.study.label, "best": "best"}
    if table["epoch_s"].notna().any():
        found["seconds/epoch"] = "s/epoch"
    if table["parameters"].notna().any():
        found["parameters"] = "parameters"
    return found


def result_rows(analysis: Analysis) -> tuple[tuple[str, ...], Rows]:
    """Head and rows of the table per variant."""
    study, table, form = analysis.study, analysis.variants, forms(analysis)[analysis.study.metric]
    shown, digits = measures(analysis), _digits(table)
    rows = []
    for row in table.to_dict("records"):
        cells = {
            "n": f"{row['n']}" if row["n"] == row["planned"] else f"{row['n']} of {row['planned']}",
            study.label: form.spread(row["mean"], row["sd"]) if row["n"] else "failed",
            "best": form.value(row["best"]),
            "s/epoch": number(row["epoch_s"], digits),
            "parameters": whole(row["parameters"]),
        }
        levels = (row[param(key)] for key in study.factors)
        rows.append((*levels, *(cells[name] for name in shown.values())))
    return (*study.factors, *shown), rows


def _digits(table: pd.DataFrame) -> int:
    """Of seconds per epoch."""
    return 3 if table["epoch_s"].min() < 1 else 2


def cost_rows(analysis: Analysis) -> tuple[tuple[str, ...], Rows] | None:
    """What each variant costs; None where no run logged anything of it."""
    study, table = analysis.study, analysis.variants
    headings = {
        **{"parameters": "parameters", "connections": "connections", "macs": "MACs per image"},
        **{"epoch_s": "seconds/epoch", "train_s": "seconds of training"},
        EPOCHS_TO_TARGET: outcome(EPOCHS_TO_TARGET, study),
    }
    digits = {"epoch_s": _digits(table), "train_s": 1, EPOCHS_TO_TARGET: 1}
    there = [name for name in headings if table[name].notna().any()]
    rows = []
    for row in table.to_dict("records"):
        levels = [row[param(key)] for key in study.factors] or ["all runs"]
        costs = (number(row[name], digits[name]) if name in digits else whole(row[name]) for name in there)
        rows.append((*levels, *costs))
    head = (*(study.factors or ("",)), *(headings[name] for name in there))
    return (head, rows) if there else None


def tuning_rows(analysis: Analysis) -> tuple[tuple[str, ...], Rows]:
    """What each variant was given, and what was chosen."""
    study, keys = analysis.study, analysis.study.nuisance
    head = [*study.factors, *(f"{key} chosen" for key in keys), *(f"{key} tried" for key in keys)]
    head += ["combinations", "runs", "diverged", f"{label(study.tuned_on)} at the choice"]
    rows = []
    for row in analysis.tuned.to_dict("records"):
        edge = {key: " (edge of its grid)" if key in row["edge"] else "" for key in keys}
        chosen = ((plain(row[param(key)]) or "none finished") + edge[key] for key in keys)
        tried = (", ".join(row["tried"][key]) for key in keys)
        budget = (str(row[name]) for name in ("combinations", "runs", "diverged"))
        levels = (row[param(key)] for key in study.factors)
        rows.append((*levels, *chosen, *tried, *budget, number(row["validation"], 4)))
    return tuple(head), rows


def claim_rows(analysis: Analysis) -> Rows:
    """Claims, where they come from, what the study says of each, and the evidence."""
    form = forms(analysis)
    found = ((each.claim, each.finding, each.row) for each in analysis.answers)
    return [
        (claim.text, claim.source, finding, _evidence(analysis, row, form[claim.metric]))
        for claim, finding, row in found
    ]


def _evidence(analysis: Analysis, row: Mapping[str, Any], form: Form) -> str:
    """The comparison that answers a claim, or those at each level of another factor that answer in its place, or
    within each data set or fold."""
    blocks = alike(row, analysis.effects)
    if not any(each["n"] for each in blocks):
        return "no pairs"
    sides = (
        f"{outcome(row['metric'], analysis.study)}, {crossed(row['variant'])} − {crossed(row['baseline'])}"
    )
    own = [f"{at_level(each)}: {_measured(of, form)}" for each, of in simple_rows(analysis, row)]
    if row.get("block"):
        own = [f"{each['block']}: {_measured(each, form)}" for each in blocks]
    return f"{sides}: {_measured(row, form)}" if not own else f"{sides}, at {'; at '.join(own)}"


def _measured(row: Mapping[str, Any], form: Form) -> str:
    if not row["n"]:
        return "no pairs"
    difference = f"{form.difference(row['mean_diff'])} {form.interval(row['ci_low'], row['ci_high'])}"
    p = f"p (Holm) = {p_value(row['p_holm'])}".replace("= <", "<")
    return f"{difference}, {p}, n = {row['n']}"


def facts(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """What was run, where and how long."""
    runs, study = analysis.everything, analysis.study
    parts = {"training": "train", "validation": "val", "test": "test"}
    sizes = {name: _values(runs, param(f"dataset.{part}_images")) for name, part in parts.items()}
    sizes = {name: whole(float(size)) if size.isdecimal() else size for name, size in sizes.items()}
    counted = ", ".join(f"{size} {name}" for name, size in sizes.items() if size)
    if dataset := _values(runs, param("dataset")):
        yield "data set", dataset + (f": {counted} images" if counted else "")
    if digests := _values(runs, tag("data_sha256"), width=12):
        yield "data sha256", digests
    for key in study.varied:
        yield f"varied: {key}", _values(runs, param(key), 40)
    if study.baseline:
        yield "baseline", " ".join(f"{key}={level}" for key, level in study.baseline.items())
    if shared := _shared(runs, study):
        yield "the same for all", shared
    yield "seeds", _values(runs, param("seed"), 40)
    if epochs := _values(runs, param("trainer.epochs")):
        yield "epochs", epochs
    yield "runs", f"{len(runs)}, of which {len(runs) - len(analysis.failed)} finished"
    begun = runs.groupby(column(runs, tag("sweep_id")).fillna(""))
    wall = (begun["end_time"].max() - begun["start_time"].min()).dt.total_seconds().clip(lower=0).sum()
    trained = exact.total(runs["train_s"].dropna())
    alone = f"; training alone {duration(trained)} over all runs" if trained else ""
    if runs["start_time"].notna().any():
        yield "wall time", duration(wall) + alone
    for name, key in (("machine", "machine"), ("commit", "code"), ("versions", "versions")):
        if values := _values(runs, tag(key)):
            yield name, values


def _values(runs: pd.DataFrame, name: str, most: int = 12, width: int | None = None) -> str:
    """The values of a column in order, each cut to a width."""
    found = sorted({str(value) for value in column(runs, name).dropna()} - {""}, key=natural)
    more = [f"… ({len(found)} in all)"] if len(found) > most else []
    return ", ".join([*(value[:width] for value in found[:most]), *more])


def _shared(runs: pd.DataFrame, study: Study) -> str:
    """The choices that all runs have in common: groups are the params without a dot."""
    groups = sorted(key for key in params_in(runs) if "." not in key and key not in ("dataset", "seed"))
    keys = [key for key in (*groups, *SHARED) if key not in study.varied]
    shared = (key for key in keys if column(runs, param(key)).nunique() == 1)
    return ", ".join(f"{key}={_values(runs, param(key))}" for key in shared)


def failure_rows(analysis: Analysis) -> Rows:
    """Name, seed, status and reason of runs without a result."""
    failed = analysis.failed.sort_values(["start_time", "run_id"]).to_dict("records")
    return [(run["run_name"], seed_of(run), *failure(run, analysis.study)) for run in failed]


def failure(run: Mapping[str, Any], study: Study) -> tuple[str, str]:
    """Status and reason of a run without a result."""
    kind, reason = (plain(run.get(tag(key))) for key in ("failure", "failure_reason"))
    if run["status"] in ("RUNNING", "SCHEDULED") and not kind:
        return run["status"], "still running, or killed before it could say why"
    if run["status"] == "FINISHED" and not kind:
        return run["status"], f"no finite {study.metric} was logged"
    found = ": ".join(filter(None, (kind, reason))) or "no reason was logged"
    return run["status"], textwrap.shorten(found, 300, placeholder=" …")


def run_rows(analysis: Analysis) -> Rows:
    """Name, seed, status, value and id of the runs that are compared."""
    form = forms(analysis)[analysis.study.metric]
    looked_at = ("run_name", param("seed"), "status", tag("did_not_learn"), "value", "run_id")
    runs = analysis.runs[[name for name in looked_at if name in analysis.runs]]
    return [
        (run["run_name"], seed_of(run), _status(run), form.value(run["value"]), run["run_id"])
        for run in runs.to_dict("records")
    ]


def _status(run: Mapping[str, Any]) -> str:
    return f"{run['status']}, did not learn" if text(run.get(tag("did_not_learn"))) else run["status"]


def seed_of(run: Mapping[str, Any]) -> str:
    """A run's seed; a dash where it logged none."""
    return plain(run.get(param("seed"))) or NO_SPREAD


def left_out(selection: Selection) -> list[str]:
    """The runs that do not count, in words."""
    found, other = [], selection.other_settings
    if other:
        keys = sorted({*params_in(other), *(["the data"] if tag("data_sha256") in other else [])})
        named = ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")
        found.append(f"{many(len(other), 'earlier run')} with other settings ({named})")
    if selection.repeated:
        repeated = many(selection.repeated, "run")
        found.append(f"{repeated} repeated by another of the same configuration and seed")
    return found
