"""What a report says, section by section, from numbers that are ready."""

import math
import re
import shlex
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations import markdown as md
from ablations.report.analysis import Analysis, more_seeds
from ablations.report.numbers import Form, p_value
from ablations.reproductions import published
from ablations.statistics import column, natural
from ablations.study import Study, label, unit
from ablations.verdicts import (
    ALPHA,
    BETTER,
    BETWEEN,
    DIFFER,
    INCONCLUSIVE,
    NO_DIFFERENCE,
    TOO_FEW,
    VERDICTS,
    WORSE,
    can_reach,
    unpaired,
    with_outcomes,
)

COMPONENTS = ("dataset", "activation", "pool", "c3", "head", "optimizer", "init", "normalization")
FOLDED_FROM = 30
MOST_SENTENCES = 10  # of the answer
ENOUGH_SEEDS = 1000


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        text: markdown.
        from_store: whether it needs more than the table of runs: figures and their captions.
    """

    text: str
    from_store: bool = False


def forms(analysis: Analysis) -> dict[str, Form]:
    """How each metric's numbers are written."""
    table = analysis.effects
    found = {
        metric: Form.fitting(rows["mean_diff"].tolist(), unit(metric))
        for metric, rows in table.groupby("metric")
    }
    study = analysis.study
    spread = analysis.variants["sd"].dropna().tolist()
    return {study.metric: Form.fitting(spread or analysis.variants["mean"].tolist(), study.unit)} | found


def before_figures(analysis: Analysis) -> Iterator[Section]:
    """Title, answer, verdicts, claims, what to do next, results."""
    study, form = analysis.study, forms(analysis)
    yield Section(f"# {md.escaped(study.name)}")
    if study.question:
        yield Section(f"*{md.escaped(study.question)}*")
    yield Section("\n".join(f"- {sentence}" for sentence in answer(analysis)))
    failed = analysis.everything[~finished(analysis)]
    if len(failed):
        lost = failed[[f"params.{key}" for key in study.factors]].drop_duplicates().shape[0] or 1
        yield Section(
            f"**{len(failed)} of {md.many(len(analysis.everything), 'run')} gave no result**, in "
            f"{md.many(lost, 'variant')}; they are named under [Failed runs](#failed-runs). "
            "A mean over the seeds that survived can flatter a variant."
        )
    for text in published(analysis.runs, study):
        yield Section(text)

    if len(analysis.effects):
        yield Section("## Verdicts")
        yield Section(md.table(*verdict_rows(analysis), numeric=8))
        yield Section(_legend(analysis))
        for text in _unpaired(analysis):
            yield Section(text)
    if analysis.answers:
        yield Section("## Claims")
        head = ("claim", "source", "verdict", "evidence")
        rows = [
            (each.claim.text, each.claim.source, each.said, _evidence(each.row, form[each.row["metric"]]))
            for each in analysis.answers
        ]
        yield Section(md.table(head, rows))
    for text in _next_step(analysis):
        yield Section(text)

    yield Section("## Results")
    yield Section(md.table(*result_rows(analysis), numeric=len(_measures(analysis))))
    legend = f"Sorted by mean {md.escaped(study.noun)}. ± is the standard deviation over seeds"
    legend += (
        f"; {md.NO_SPREAD} where one run leaves it unknown" if (analysis.variants["n"] < 2).any() else ""
    )
    yield Section(f"{legend}. Best is the best single run.")


def after_figures(analysis: Analysis, again: Sequence[str]) -> Iterator[Section]:
    """Costs, tuning, failures, how it was made, run ids. `again`: the commands that compile and show it."""
    factors, runs = analysis.study.factors, analysis.runs
    costs = _costs(analysis)
    if costs:
        yield Section("## Costs")
        yield Section(md.table(*costs, numeric=len(costs[0]) - max(len(factors), 1)))
        yield Section(_costs_legend(analysis))
    if analysis.tuned is not None:
        yield Section("## What each variant was given")
        yield from map(Section, _tuning(analysis))

    yield Section("## What was run")
    yield Section(md.table(("", ""), list(_facts(analysis))))
    if analysis.left_out:
        yield Section(f"Left out: {md.escaped('; '.join(analysis.left_out))}.")

    failed = analysis.everything[~finished(analysis)]
    if len(failed):
        yield Section("## Failed runs")
        rows = [
            (md.plain(run["run_name"]), _seed(run), *_failure(run, analysis.study))
            for run in failed.to_dict("records")
        ]
        yield Section(md.table(("run", "seed", "status", "reason"), rows))

    yield Section("## Runs")
    form = forms(analysis)[analysis.study.metric]
    listed = [
        (md.plain(run["run_name"]), _seed(run), run["status"], form.value(run["value"]), run["run_id"])
        for run in runs.to_dict("records")
    ]
    listing = md.table(("run", "seed", "status", md.plain(analysis.study.label), "run id"), listed)
    if len(listed) > FOLDED_FROM:
        listing = f"<details><summary>All {len(listed)} runs</summary>\n\n{listing}\n\n</details>"
    yield Section(listing)
    yield Section(
        "The same with every metric in full precision: [runs.csv](runs.csv)."
        + (
            " The verdicts for other programs: [effects.csv](effects.csv), for papers: [verdicts.tex](verdicts.tex)."
            if len(analysis.effects)
            else ""
        )
    )
    yield Section("## Again")
    commands = (
        column(analysis.everything.sort_values(["start_time", "run_id"]), "tags.command").dropna().unique()
    )
    if len(commands):
        yield Section("The runs, with the commit, data and versions above:")
        yield Section(md.code(*commands))
    both = ", and the runs themselves in the MLflow UI" if len(again) > 1 else ""
    yield Section(f"This report from the tracked runs{both}:")
    yield Section(md.code(*again))


# The answer


def answer(analysis: Analysis) -> list[str]:
    """Three to ten sentences that a busy reader can quote, each with its interval."""
    first = list(_leader(analysis))
    table = analysis.effects[analysis.effects["metric"] == analysis.study.metric]
    if table.empty:
        return first
    form = forms(analysis)[analysis.study.metric]
    together = table["factor"].str.contains(BETWEEN, regex=False)
    last = [*_interactions(analysis, table[together], form), _basis(analysis)]
    effects = list(_effects(analysis, table[~together], form, MOST_SENTENCES - len(first) - len(last)))
    return [*first, *effects, *last]


def _effects(analysis: Analysis, table: pd.DataFrame, form: Form, room: int) -> Iterator[str]:
    """Main effects, those that are settled first, of those the largest; what has no room is counted."""
    ranks = {said: rank for rank, said in enumerate((BETTER, WORSE, NO_DIFFERENCE, INCONCLUSIVE, TOO_FEW))}
    order = sorted(
        table.to_dict("records"),
        key=lambda row: (ranks[row["verdict"]] // 2, -abs(row["mean_diff"]) if row["n"] else 0),
    )
    shown = len(order) if len(order) <= room else room - 1
    for row in order[:shown]:
        yield _effect(analysis, row, form)
    if len(order) > shown:
        rest = pd.Series([row["verdict"] for row in order[shown:]]).value_counts()
        counted = ", ".join(f"{rest[said]} {said}" for said in VERDICTS if said in rest)
        yield f"The other {md.many(len(order) - shown, 'comparison')}: {counted}; see the table."


def _interactions(analysis: Analysis, table: pd.DataFrame, form: Form) -> Iterator[str]:
    """The largest that are established, or that none is; main effects that must not be read alone."""
    found = table[table["verdict"].isin((BETTER, WORSE))]
    found = found.loc[found["mean_diff"].abs().sort_values(ascending=False, kind="stable").index]
    for row in found.head(2).to_dict("records"):
        yield _interaction(row, form)
    if len(table) and (table["verdict"] == TOO_FEW).all():
        yield "Whether the effect of one factor depends on another cannot be said yet: too few seeds."
    elif len(table) and not len(found):
        none = "The interaction is not" if len(table) == 1 else f"None of the {len(table)} interactions is"
        yield f"{none} established: nothing says that the effect of one factor depends on another."
    if len(analysis.dependences):
        yield from _dependence(analysis.dependences, form)


def _basis(analysis: Analysis) -> str:
    """What all this rests on."""
    runs = analysis.everything
    seeds = column(runs, "params.seed").nunique()
    epochs = sorted(column(runs, "params.trainer.epochs").dropna().astype(str).unique(), key=natural)
    data = sorted(column(runs, "params.dataset").dropna().astype(str).unique(), key=natural)
    text = f"This rests on {md.many(len(runs), 'run')} with {md.many(seeds, 'seed')}"
    if epochs:
        shown = " or ".join(epochs) if len(epochs) <= 3 else f"{epochs[0]} to {epochs[-1]}"
        text += f", {md.escaped(shown)} epochs each"
    if data:
        shown = " and ".join(data) if len(data) <= 3 else f"{len(data)} data sets"
        text += f", on {md.escaped(shown)}"
    settled = analysis.effects["verdict"].isin((BETTER, WORSE, NO_DIFFERENCE))
    verb = "is" if len(settled) == 1 else "are"
    return f"{text}; {int(settled.sum())} of {md.many(len(settled), 'comparison')} {verb} settled."


def _leader(analysis: Analysis) -> Iterator[str]:
    """Which variant is ahead, and where that is all there is to say."""
    study, table = analysis.study, analysis.variants
    form = forms(analysis)[study.metric]
    done = table[table["n"] > 0].to_dict("records")
    if not done:
        yield "No run finished, so there is nothing to compare yet."
        return

    percent = " %" if study.label.endswith("(%)") else ""

    def reached(row: Mapping[str, Any]) -> str:
        if row["n"] == 1:
            return f"{form.value(row['mean'])}{percent} in its one run"
        spread = f"{form.value(row['mean'])} ± {form.value(row['sd'])}{percent}"
        return f"{spread} (mean and standard deviation, {row['n']} seeds)"

    best = done[0]
    said = md.escaped(study.noun)
    if len(table) == 1:
        yield f"One variant was run; its {said} is {reached(best)}. There is nothing to compare it with."
        return
    side = "lowest" if study.smaller else "highest"
    text = f"**{md.escaped(variant_label(best, study.factors))}** has the {side} mean {said}: {reached(best)}"
    if best["n"] < best["planned"]:
        text += f", though only {best['n']} of its {best['planned']} runs finished"
    yield f"{text}."
    if len(done) == 1:
        yield "No other variant has a finished run."


def _effect(analysis: Analysis, row: Mapping[str, Any], form: Form) -> str:
    """One main effect in words."""
    study = analysis.study
    what = (
        f"**{md.escaped(row['factor'])}: {md.escaped(row['variant'])}** against {md.escaped(row['baseline'])}"
    )
    if not row["n"]:
        return f"{what}: no seed gave a pair, so nothing can be said."
    side = "lower" if row["mean_diff"] < 0 else "higher"
    shown = form.with_unit(row["mean_diff"])
    size = f"{shown} {side}" if re.search("[1-9]", shown) else "the same to the digits shown"
    difference = f"its {md.escaped(study.noun)} is {size}"
    interval = f"95 % interval {form.interval(row['ci_low'], row['ci_high'])}"
    evidence = (
        f"{interval}, p = {p_value(row['p_holm'])} after Holm's correction, {md.many(row['n'], 'seed')}"
    )
    evidence = evidence.replace("p = <", "p <")
    others = [key for key in study.factors if key != row["factor"]]
    averaged = (
        f" on average over {md.escaped(', '.join(others))}" if others and study.design == "grid" else ""
    )
    said = row["verdict"]
    if said in (BETTER, WORSE):
        return f"{what} is {said}{averaged}: {difference} ({evidence})."
    if said == NO_DIFFERENCE:
        margin = form.with_unit(study.margin)
        return (
            f"{what} makes no difference that matters{averaged}: {difference} ({interval}, inside ±{margin})."
        )
    if said == INCONCLUSIVE:
        return f"{what} is not settled{averaged}: {difference} ({evidence}); {_needed(row)}."
    return (
        f"{what} has too few seeds for a verdict: {difference} in {md.many(row['n'], 'seed')}, which "
        "cannot reach "
        f"p < {ALPHA} whatever the difference; {_needed(row)}."
    )


def _needed(row: Mapping[str, Any]) -> str:
    seeds = int(row["seeds_needed"])
    if seeds >= ENOUGH_SEEDS:
        return f"{ENOUGH_SEEDS} seeds or more would be needed to settle it"
    return f"about {seeds} seeds in all would settle it"


def _interaction(row: Mapping[str, Any], form: Form) -> str:
    (a, b), (x, y) = row["factor"].split(BETWEEN), row["variant"].split(BETWEEN)
    return (
        f"**{md.escaped(a)} and {md.escaped(b)} depend on each other**: {md.escaped(x)} and {md.escaped(y)} "
        f"together do {form.with_unit(row['mean_diff'])} {row['verdict']} than their separate effects "
        f"add up to (95 % interval {form.interval(row['ci_low'], row['ci_high'])}, "
        f"p = {p_value(row['p_holm'])} after Holm's correction).".replace("p = <", "p <")
    )


def _dependence(table: pd.DataFrame, form: Form) -> Iterator[str]:
    """What a main effect depends on, where an interaction outweighs it."""
    firm = table[table["established"]]
    for row in firm.head(2).to_dict("records"):
        yield (
            f"The effect of {md.escaped(row['factor'])}={md.escaped(row['variant'])} must not be read "
            "alone: it "
            f"changes by {form.difference(row['interaction'])} {form.unit}".rstrip()
            + f" from {md.escaped(row['on'])}="
            f"{md.escaped(row['on_baseline'])} to {md.escaped(row['on_variant'])}, more than its mean of "
            f"{form.difference(row['main'])}."
        )


# Tables


def verdict_rows(analysis: Analysis) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the verdict table."""
    table, form = analysis.effects, forms(analysis)
    several = table["metric"].nunique() > 1
    head = ("factor", "variant", "against", *(("metric",) if several else ()), "verdict")
    head += (
        "seeds",
        "difference",
        "95 % interval",
        "p",
        "p (Holm)",
        "beats it in",
        "effect size",
        "seeds needed",
    )
    rows = []
    for row in table.to_dict("records"):
        shown = form[row["metric"]]
        rows.append(
            (
                *(md.plain(row[name]) for name in ("factor", "variant", "baseline")),
                *((md.plain(label(row["metric"])),) if several else ()),
                row["verdict"],
                str(row["n"]),
                shown.difference(row["mean_diff"]),
                shown.interval(row["ci_low"], row["ci_high"]) if row["n"] else md.NO_SPREAD,
                p_value(row["p"]),
                p_value(row["p_holm"]),
                f"{100 * row['prob_better']:.0f} %" if row["n"] else md.NO_SPREAD,
                _effect_size(row["effect_size"]),
                _seeds_needed(row["seeds_needed"]),
            )
        )
    return head, rows


def _effect_size(value: float) -> str:
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return f"{value:+.1f}" if value == value else md.NO_SPREAD


def _seeds_needed(value: Any) -> str:
    if pd.isna(value):
        return ""
    return str(value) if value < ENOUGH_SEEDS else f"{ENOUGH_SEEDS} or more"


def _legend(analysis: Analysis) -> str:
    study, table = analysis.study, analysis.effects
    m = len(table)
    seeds = next(n for n in range(2, 100) if can_reach(n, m))
    unit_said = f" in {study.unit}" if study.unit else ""
    side = "negative is better" if study.smaller else "positive is better"
    text = (
        f"Differences are variant − baseline of the {md.escaped(study.noun)}{unit_said} ({side}), seed "
        "by seed"
        + (", averaged over the other factors" if study.design == "grid" and len(study.factors) > 1 else "")
        + (
            f". {m} comparisons share an error of 5 % (Holm), which takes {seeds} seeds at least. "
            if m > 1
            else f". At an error of 5 % a comparison takes {seeds} seeds at least. "
        )
    )
    text += (
        "*No difference that matters*: the whole interval lies within "
        f"±{f'{study.margin:g} {study.unit}'.rstrip()}. "
        if study.margin
        else "No margin was given, so that no difference is called too small to matter. "
    )
    text += (
        "*Beats it in*: the share of seeds in which the variant is ahead, ties counting half. *Effect "
        "size*: mean "
        "difference in its own standard deviations."
    )
    if analysis.interactions_left_out:
        text += (
            f" The {analysis.interactions_left_out} interactions of these factors were left out: so many "
            "comparisons "
            "would cost the others their power."
        )
    if any("×" in each for each in table["factor"]):
        text += (
            " *a × b*: how much the two choices together do beyond the sum of what each does alone "
            "(difference of "
            "differences)."
        )
    return text


def _unpaired(analysis: Analysis) -> Iterator[str]:
    """Seeds that could not be paired, and why; pairs that rest on seeds alone."""
    table = unpaired(analysis.contrasts)
    if len(table):
        foreign = table[table["reason"].str.contains(DIFFER, regex=False)]
        if len(foreign):
            seeds = sorted(set(foreign["seed"]), key=natural)
            listed = ", ".join(seeds[:12]) + (f", … ({len(seeds)} in all)" if len(seeds) > 12 else "")
            names = foreign[["factor", "variant", "baseline"]].drop_duplicates().to_numpy().tolist()
            where = "; ".join(f"{factor}: {variant} against {base}" for factor, variant, base in names[:6])
            where += f"; and {len(names) - 6} more" if len(names) > 6 else ""
            never = any(contrast.foreign for contrast in analysis.contrasts)
            yield (
                f"**Not paired**: {'seeds' if len(seeds) > 1 else 'seed'} {md.escaped(listed)}"
                f"{f' ({md.escaped(where)})' if len(names) < len(analysis.contrasts) else ''}. Runs with different "
                "fingerprints of their random streams or data are no pairs"
                f"{'; where that is all there is, further seeds give none either' if never else ''}."
            )
        rest = table.drop(foreign.index)
        lines = []
        for (factor, variant, baseline), rows in rest.groupby(["factor", "variant", "baseline"], sort=False):
            why = "; ".join(
                f"seed {seed}: {textwrap.shorten(reason, 80, placeholder=' …')}"
                for seed, reason in rows[["seed", "reason"]].head(3).to_numpy()
            )
            more = f"; and {len(rows) - 3} more" if len(rows) > 3 else ""
            lines.append(
                f"- {md.escaped(factor)}: {md.escaped(variant)} against {md.escaped(baseline)} is without "
                f"{md.many(len(rows), 'seed')} ({md.escaped(why)}{more})"
            )
        if lines:
            shown = "\n".join(lines[:10])
            yield f"Comparisons that rest on fewer seeds than there are:\n\n{shown}" + (
                f"\n- … and {len(lines) - 10} more comparisons" if len(lines) > 10 else ""
            )
    paired = [each for each in analysis.contrasts if each.seeds]
    if paired and not all(each.fingerprinted for each in paired):
        yield (
            "The runs carry no fingerprints of their random streams and data: they were paired by their "
            "seed alone, "
            "on trust that equal seeds mean equal splits and orders."
        )


def _evidence(row: Mapping[str, Any], form: Form) -> str:
    if not row["n"]:
        return "no pairs"
    p = f"p = {p_value(row['p_holm'])}".replace("= <", "<")
    return (
        f"{label(row['metric'])}, {row['variant']} − {row['baseline']}: {form.difference(row['mean_diff'])} "
        f"{form.interval(row['ci_low'], row['ci_high'])}, {p}, n = {row['n']}"
    )


def _next_step(analysis: Analysis) -> Iterator[str]:
    """The command that adds the missing seeds."""
    seeds, within, beyond = more_seeds(analysis)
    if not len(within) and not len(beyond):
        return
    yield "## Add the seeds"
    command = analysis.study.command
    if len(within):
        have = sorted({int(s) for s in column(analysis.runs, "params.seed").dropna() if str(s).isdecimal()})
        first = have[-1] + 1 if have == list(range(len(have))) else 0
        # A seed that gave no pair, because a run failed, does not count towards those that are needed.
        last = first + int((within["seeds_needed"] - within["n"]).max()) if first else seeds
        fewest = int(within["seeds_needed"].min())
        sooner = f", {fewest} the clearest of them" if fewest < seeds else ""
        yield (
            f"If things are as they look now, about {seeds} seeds in all that give a pair would settle "
            f"{md.many(len(within), 'comparison')} that {'is' if len(within) == 1 else 'are'} open{sooner}."
        )
        if command:
            yield (
                f"{'This command adds' if first else 'This command makes'} them, and its report uses old "
                "and new runs together:"
            )
            yield md.code(with_seeds(command, f"range({first},{last})" if first else f"range({last})"))
        else:
            yield "Add runs with further seeds to the same experiment and compile this report again."
    if len(beyond):
        names = "; ".join(
            f"{md.escaped(row['factor'])}: {md.escaped(row['variant'])} against {md.escaped(row['baseline'])}, "
            f"{_seeds_needed(row['seeds_needed'])} seeds"
            for row in beyond.head(6).to_dict("records")
        )
        yield (
            f"{md.many(len(beyond), 'comparison')} would take more seeds than are worth their time "
            f"({names}). So small a difference can be left open, or the margin be widened."
        )


def with_seeds(command: str, seeds: str) -> str:
    """A command of run.py with other seeds."""
    words = [word for word in shlex.split(command) if not word.startswith("seed=")]
    flags = {"-m", "--multirun"} & set(words)
    if not flags and not any(word.startswith("+study=") for word in words):
        words.insert(2, "-m")
    return shlex.join([*words, f"seed={seeds}"])


def _measures(analysis: Analysis) -> dict[str, str]:
    """What the table per variant gives: its name in the report and, shorter, in the console."""
    study, table = analysis.study, analysis.variants
    said = md.plain(study.label)
    measures = {"n": "n", said: "mean ± sd", "best": "best"}
    if table["epoch_s"].notna().any():
        measures["seconds/epoch"] = "s/epoch"
    if table["parameters"].notna().any():
        measures["parameters"] = "parameters"
    return measures


def result_rows(analysis: Analysis) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Head and rows of the table per variant."""
    study, table, form = analysis.study, analysis.variants, forms(analysis)[analysis.study.metric]
    measures = _measures(analysis)
    digits = 3 if table["epoch_s"].min() < 1 else 2
    rows = []
    for row in table.to_dict("records"):
        cells = {
            "n": f"{row['n']}" if row["n"] == row["planned"] else f"{row['n']} of {row['planned']}",
            "mean ± sd": form.spread(row["mean"], row["sd"]) if row["n"] else "failed",
            "best": form.value(row["best"]),
            "s/epoch": md.number(row["epoch_s"], digits),
            "parameters": _whole(row["parameters"]),
        }
        rows.append(
            (
                *(md.plain(row[f"params.{key}"]) for key in study.factors),
                *(cells[name] for name in measures.values()),
            )
        )
    return (*(md.plain(key) for key in study.factors), *measures), rows


def _whole(value: float) -> str:
    return f"{value:,.0f}" if value == value else md.NO_SPREAD


def _costs(analysis: Analysis) -> tuple[tuple[str, ...], list[tuple[str, ...]]] | None:
    """What each variant costs; None where no run logged anything of it."""
    study, table = analysis.study, analysis.variants
    columns = {
        "parameters": ("parameters", _whole),
        "connections": ("connections", _whole),
        "macs": ("MACs per image", _whole),
        "epoch_s": ("seconds/epoch", lambda value: md.number(value, 3 if table["epoch_s"].min() < 1 else 2)),
        "train_s": ("seconds of training", lambda value: md.number(value, 1)),
        "epochs_to_target": (_target(study), lambda value: md.number(value, 1)),
    }
    there = {name: how for name, how in columns.items() if table[name].notna().any()}
    if not there:
        return None
    head = (
        *(map(md.plain, study.factors) if study.factors else ("",)),
        *(said for said, _ in there.values()),
    )
    rows = [
        (
            *([md.plain(row[f"params.{key}"]) for key in study.factors] or ["all runs"]),
            *(how(row[name]) for name, (_, how) in there.items()),
        )
        for row in table.to_dict("records")
    ]
    return head, rows


def _target(study: Study) -> str:
    target = study.target or {}
    return f"epochs to {label(str(target.get('metric')))} {target.get('value')}"


def _costs_legend(analysis: Analysis) -> str:
    there = analysis.variants.notna().any()
    said = []
    if there["connections"] or there["macs"]:
        said.append("Connections and multiply-accumulates (MACs) are for one image forward.")
    if there["epoch_s"]:
        said.append(
            "Seconds per epoch are means over the runs' median epochs, on a machine that may have done other work."
        )
    if there["epochs_to_target"]:
        said.append("A run that never got to the named value counts as one epoch more than it had.")
    return " ".join(said) or "Parameters are those that are trained."


def _tuning(analysis: Analysis) -> Iterator[str]:
    study, table = analysis.study, analysis.tuned
    keys = study.nuisance
    head = (
        *(md.plain(key) for key in study.factors),
        *(f"{md.plain(key)} chosen" for key in keys),
        *(f"{md.plain(key)} tried" for key in keys),
        *("combinations", "runs", "diverged", f"{md.plain(label(study.tuned_on))} at the choice"),
    )
    rows = [
        (
            *(md.plain(row[f"params.{key}"]) for key in study.factors),
            *(
                (md.plain(row[f"params.{key}"]) or "none finished")
                + (" (edge of its grid)" if key in row["edge"].split(", ") else "")
                for key in keys
            ),
            *(md.plain(row[f"{key} values"]) for key in keys),
            *(str(row[name]) for name in ("combinations", "runs", "diverged")),
            md.number(row["validation"], 4),
        )
        for row in table.to_dict("records")
    ]
    yield md.table(head, rows, numeric=4)
    text = (
        f"Each variant is compared at the value of {md.escaped(', '.join(keys))} with the best mean "
        f"{md.escaped(label(study.tuned_on))} over its seeds, among those that diverged least often; the "
        "test images had no "
        "say in it."
    )
    if (table["edge"] != "").any():
        edged = table[table["edge"] != ""].to_dict("records")
        names = "; ".join(md.escaped(variant_label(row, study.factors)) for row in edged)
        text += (
            f" **At the edge of its grid**: {names}. A better value may lie beyond, so that such a variant may be "
            "better than it looks here."
        )
    yield text


def _facts(analysis: Analysis) -> Iterator[tuple[str, str]]:
    """What was run, where and how long."""
    runs, factors = analysis.everything, analysis.study.varied

    def said(name: str, limit: int = 12) -> str:
        found = sorted({str(value) for value in column(runs, name).dropna()} - {""}, key=natural)
        return md.plain(
            ", ".join(found[:limit]) + (f", … ({len(found)} in all)" if len(found) > limit else "")
        )

    sizes = [(said(f"params.dataset.{part}_images"), part) for part in ("train", "val", "test")]
    names = {"train": "training", "val": "validation", "test": "test"}
    images = ", ".join(f"{md.grouped(size)} {names[part]}" for size, part in sizes if size)
    if dataset := said("params.dataset"):
        yield "data set", dataset + (f": {images} images" if images else "")
    if data := ", ".join(value[:12] for value in said("tags.data_sha256").split(", ")):
        yield "data sha256", data
    for key in factors:
        yield f"varied: {md.plain(key)}", said(f"params.{key}", 40)
    if analysis.study.baseline:
        yield (
            "baseline",
            md.plain(" ".join(f"{key}={level}" for key, level in analysis.study.baseline.items())),
        )
    fixed = [key for key in (*COMPONENTS[1:], "optimizer.lr", "trainer.batch_size") if key not in factors]
    held = [(key, said(f"params.{key}")) for key in fixed if column(runs, f"params.{key}").nunique() == 1]
    if held:
        yield "the same for all", ", ".join(f"{key}={value}" for key, value in held)
    yield "seeds", said("params.seed", 40)
    if epochs := said("params.trainer.epochs"):
        yield "epochs", epochs
    yield "runs", f"{len(runs)}, of which {int(finished(analysis).sum())} finished"
    begun = runs.groupby(column(runs, "tags.sweep_id").fillna(""))
    wall = (begun["end_time"].max() - begun["start_time"].min()).dt.total_seconds().sum()
    trained = runs["train_s"].sum()
    yield (
        "wall time",
        md.duration(wall) + (f"; training alone {md.duration(trained)} over all runs" if trained else ""),
    )
    for name, tag in (("machine", "machine"), ("commit", "code"), ("versions", "versions")):
        if value := said(f"tags.{tag}"):
            yield name, value


def finished(analysis: Analysis) -> pd.Series:
    """Of every run, those at other nuisance values as well, whether it has a result."""
    return with_outcomes(analysis.everything, analysis.study.metric)["outcome"] == "finished"


def _failure(run: Mapping[str, Any], study: Study) -> tuple[str, str]:
    """Status and reason of a run without a result."""
    kind, reason = (md.plain(run.get(f"tags.{tag}")) for tag in ("failure", "failure_reason"))
    if run["status"] in ("RUNNING", "SCHEDULED") and not kind:
        return run["status"], "still running, or killed before it could say why"
    if run["status"] == "FINISHED" and not kind:
        return run["status"], f"no finite {md.plain(study.metric)} was logged"
    said = ": ".join(filter(None, (kind, reason))) or "no reason was logged"
    return run["status"], textwrap.shorten(said, 300, placeholder=" …")


def variant_label(row: Mapping[str, Any], factors: Sequence[str]) -> str:
    """A variant by its levels: `activation=relu pool=max`."""
    return " ".join(f"{key}={md.plain(row[f'params.{key}'])}" for key in factors)


def _seed(run: Mapping[str, Any]) -> str:
    return md.plain(run.get("params.seed")) or md.NO_SPREAD


# The console


CONSOLE_WIDTH = 100
CONSOLE_ROWS = 40


def console(analysis: Analysis) -> str:
    """The results and, where runs were compared, the verdicts as small tables of plain text."""
    head, rows = result_rows(analysis)
    factors = len(analysis.study.factors)
    text = _aligned((*head[:factors], *_measures(analysis).values()), rows, range(factors))
    if len(analysis.effects):
        head, rows = verdict_rows(analysis)
        short = {"seeds": "n", "seeds needed": "needs"}
        kept = [
            i
            for i, name in enumerate(head)
            if name not in ("metric", "p", "p (Holm)", "beats it in", "effect size")
        ]
        rows = [
            tuple(row[i] for i in kept)
            for row, metric in zip(rows, analysis.effects["metric"], strict=True)
            if metric == analysis.study.metric
        ]
        text += "\n\n" + _aligned([short.get(head[i], head[i]) for i in kept], rows, range(3), left=4)
    if analysis.answers:
        text += "\n"
    for each in analysis.answers:
        claim = textwrap.shorten(md.plain(each.claim.text), CONSOLE_WIDTH - 30, placeholder=" …")
        text += f"\n{claim.removesuffix('.')}: {each.said}"
    return text


def _aligned(
    head: Sequence[str], rows: Sequence[Sequence[str]], may_shrink: range, left: int | None = None
) -> str:
    """Plain text whose names are cut where it would be too wide; the first `left` columns lean left."""
    left = len(may_shrink) if left is None else left
    lines = [head, *rows[:CONSOLE_ROWS]]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    names = widths[: len(may_shrink)]
    while (
        sum(names) + sum(widths[len(names) :]) + 2 * (len(widths) - 1) > CONSOLE_WIDTH
        and max(names, default=0) > 4
    ):
        names[names.index(max(names))] -= 1
    widths[: len(names)] = names
    text = ["  ".join(_fit(cell, widths[i], i >= left) for i, cell in enumerate(line)) for line in lines]
    if len(rows) > CONSOLE_ROWS:
        text.append(f"… and {len(rows) - CONSOLE_ROWS} more rows in the report")
    return "\n".join(line.rstrip()[:CONSOLE_WIDTH] for line in text)


def _fit(cell: str, width: int, right: bool) -> str:
    cell = cell if len(cell) <= width else cell[: width - 1] + "…"
    return cell.rjust(width) if right else cell.ljust(width)
