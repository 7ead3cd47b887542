"""A report section by section, from numbers that are ready: what stands before its figures, and after them."""

import shlex
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

import pandas as pd

from ablations.commands import many
from ablations.comparison.pairs import Gap, Reason, Unpaired
from ablations.comparison.verdicts import Verdict, fewest_seeds
from ablations.report import progress, tables
from ablations.report.analysis import Analysis, more_seeds, one_image
from ablations.report.answer import answer
from ablations.report.attribution import shares_of_factors
from ablations.report.blocks import over_blocks
from ablations.report.confounds import differing, named_comparison
from ablations.report.dependence import simple_effects
from ablations.report.designs import design
from ablations.report.escaping import Markdown, code, enumerated, listed, md, table
from ablations.report.generalisation import named_row, on_other_images
from ablations.report.lengths import how_long
from ablations.report.naming import variant_name
from ablations.report.numbers import NO_SPREAD, seeds_needed
from ablations.report.published import published
from ablations.tracking.columns import column, natural, param, tag
from ablations.tracking.study import label

FOLDED = "<details><summary>{}</summary>\n\n{}\n\n</details>"
FOLDED_FROM = 30
MOST_NAMED = 6
MOST_LINES = 10

FILES = (
    "The verdicts for other programs: [effects.csv](effects.csv), for papers: [verdicts.tex](verdicts.tex)."
)
LEFT = "The {} interactions of these factors were left out: so many comparisons would cost the others their power."
CROSSED = (
    "*a × b*: how much the two choices together do beyond the sum of what each does alone (difference of "
    "differences)."
)
SECONDS = (
    "Seconds per epoch are means over the runs' median epochs, on a machine that may have done other work."
)
LOST = (
    "**{} of {} gave no result**, in {}; they are named under [Failed runs](#failed-runs). A mean over the seeds that "
    "survived can flatter a variant."
)
UNTAUGHT = (
    "**{} did not learn**, in {}: {} the test images no better than always answering the most frequent class would "
    "(see [Runs](#runs)). Another learning rate or other initial weights may help, more seeds will not."
)
CENSORED = (
    "**More epochs, not more seeds**: {} in {} {} runs that never got there, which count as one epoch more than they "
    "had. How much later they would, or whether at all, only a longer training can say."
)
NOT_PAIRED = "**Not paired**: {} {}{}. Runs with different fingerprints of their random streams or data are no pairs{}."
ON_TRUST = (
    "Paired by the number of the seed alone: the runs carry no fingerprints of their random streams, so that nobody "
    "can tell whether equal seeds meant equal splits and orders."
)
UNPAIRED = (
    "**Not paired**: the runs are compared group by group, because they were said to have no seed in common. Intervals "
    "are Welch's, *p* is that of a permutation test between the groups; *runs* is the size of the smaller one. What "
    "the groups owe to their random numbers cannot be taken off, so that smaller differences stay open than with seeds."
)
AT_LEAST = (
    "{} seeds that give a pair are needed at least to say anything of {}: how far seeds scatter is unknown."
)
SETTLED_BY = "If things are as they look now, {} seeds in all that give a pair would settle {} that {} open."
TOO_MANY = (
    "{} would take more seeds than are worth their time ({}). So small a difference can be left open, or the margin be "
    "widened."
)
ONE_LOOK = "One look: no seeds were added after an earlier report."
UNKNOWN_LOOKS = (
    "Whether somebody looked at fewer seeds before is not recorded with these runs: this counts as the only look "
    "(`--looks 8,12` tells of others)."
)
SEEN_APART = "One look: some of these runs were in earlier reports, but no pair of them."
LOOKS = (
    "{} were added after earlier reports: {} so far, at {} seeds. What is said holds however often one looks."
)
NUMBERS = (
    "*p*: how often chance alone would give such a mean, over all looks (sign-flip test); "
    "*p (Holm)*: corrected for the number of comparisons. *Beats it in*: the share of seeds in which the variant is "
    "ahead, ties counting half. *Effect size*: mean difference in its own standard deviations. *Seeds needed*: in all, "
    "for an even chance and for one of 80 % to settle it, if things are as they look now."
)
NUMBERS_UNPAIRED = (
    "*p*: how often chance alone would part the runs like this (permutation test), at this one look; *p (Holm)*: "
    "corrected for the number of comparisons. *Beats it in*: the share of pairs of a run of each in which the variant "
    "is ahead, ties counting half. *Effect size*: difference in standard deviations of the groups."
)
TUNED = (
    "Each variant is compared at the value of {} with the best mean {} over its seeds, among those that diverged least "
    "often; the test images had no say in it."
)
AT_EDGE = (
    "{} **At the edge of its grid**: {}. A better value may lie beyond, so that such a variant may be better than it "
    "looks here."
)


UNEQUAL = (
    "{} **Unequal tuning**: {} chose among {} combinations, the others among fewer. Where one of both is better, the "
    "choosing may have part in it."
)
CHOOSE_SEEDS = {"seed", "until", "budget", "seeds_at_least", "seeds_at_most"}
"""Words of a command that say which seeds there are."""


def before_figures(analysis: Analysis, forest: Sequence[Markdown]) -> Iterator[Markdown]:
    """Title, answer, the figure of all differences, verdicts, claims, what to do next, results."""
    study = analysis.study
    yield md("# {}", study.name)
    if study.question:
        yield md("*{}*", study.question)
    yield from progress.head(analysis)
    yield listed(answer(analysis))
    yield from published(analysis.runs, study)
    compared = [*forest, *_lost(analysis), *_compared(analysis)]
    if study.published and compared:  # which ask for no comparisons
        yield md(FOLDED, "The systems against each other", md("\n\n").join(compared))
    else:
        yield from compared
    yield from over_blocks(analysis)
    if analysis.answers:
        yield md("## Claims")
        yield table(("claim", "source", "verdict", "evidence"), tables.claim_rows(analysis))
    if not study.published:
        yield from _next_step(analysis)

    yield md("## Results")
    yield table(*tables.result_rows(analysis), numeric=len(tables.measures(analysis)))
    unknown = f"; {NO_SPREAD} where one run leaves it unknown" if (analysis.variants["n"] < 2).any() else ""
    spread = md("± is the standard deviation over {}{}.", "runs" if study.unpaired else "seeds", md(unknown))
    yield md("Sorted by mean {}. {} Best is the best single run.", study.noun, spread)
    yield from shares_of_factors(analysis)
    for remark in analysis.remarks:
        yield md("{}", remark)


def _compared(analysis: Analysis) -> Iterator[Markdown]:
    """The verdicts, what they rest on, and what is to be expected elsewhere."""
    if analysis.effects.empty:
        return
    yield md("## Verdicts")
    yield table(*tables.verdict_rows(analysis, tables.IN_SHORT), numeric=2)
    yield _legend(analysis)
    yield from design(analysis)
    yield from simple_effects(analysis)
    yield from differing(analysis)
    yield from _unpaired(analysis)
    yield from _censored(analysis)
    yield md(
        FOLDED, "Every number: p-values, effect sizes, seeds needed", md("\n\n").join(_in_full(analysis))
    )
    yield from on_other_images(analysis)


def after_figures(analysis: Analysis, again: Sequence[str]) -> Iterator[Markdown]:
    """Length, costs, tuning, failures, how it was made, run ids. `again`: the commands that compile and show it."""
    study = analysis.study
    yield from how_long(analysis)
    if costs := tables.cost_rows(analysis):
        yield md("## Costs")
        yield table(*costs, numeric=len(costs[0]) - max(len(study.factors), 1))
        yield _costs_legend(analysis)
    if analysis.tuned is not None:
        yield md("## What each variant was given")
        yield table(*tables.tuning_rows(analysis), numeric=4)
        yield _tuning_legend(analysis)

    yield md("## What was run")
    yield table(("", ""), tables.facts(analysis))
    if analysis.left_out:
        yield md("Left out: {}.", "; ".join(analysis.left_out))
    if len(analysis.failed):
        yield md("## Failed runs")
        yield table(("run", "seed", "status", "reason"), tables.failure_rows(analysis))

    yield md("## Runs")
    runs = tables.run_rows(analysis)
    listing = table(("run", "seed", "status", study.label, "run id"), runs)
    yield md(FOLDED, f"All {len(runs)} runs", listing) if len(runs) > FOLDED_FROM else listing
    files = [md("The same with every metric in full precision: [runs.csv](runs.csv).")]
    if len(analysis.effects):
        files.append(md(FILES))
    yield md(" ").join(files)
    yield md("## Again")
    in_order = analysis.everything.sort_values(["start_time", "run_id"])
    commands = column(in_order, tag("command")).dropna().unique()
    if len(commands):
        yield md("The runs, with the commit, data and versions above:")
        yield code(*commands)
    both = ", and the runs themselves in the MLflow UI" if len(again) > 1 else ""
    timed = analysis.everything["start_time"].notna().any()  # as all that were tracked
    source = "tracked runs" if timed else "table of results"
    yield md("This report from the {}{}:", source, both)
    yield code(*again)


def _lost(analysis: Analysis) -> Iterator[Markdown]:
    """How many runs gave no result, and how many one that is worth nothing."""
    runs, failed = analysis.everything, analysis.failed
    untaught = analysis.runs[column(analysis.runs, tag("did_not_learn")).notna()]
    if len(failed):
        yield md(LOST, len(failed), many(len(runs), "run"), _variants(failed, analysis))
    if len(untaught):
        verb = "it reads" if len(untaught) == 1 else "they read"
        yield md(UNTAUGHT, many(len(untaught), "run"), _variants(untaught, analysis), verb)


def _variants(runs: pd.DataFrame, analysis: Analysis) -> str:
    """In how many variants these runs are."""
    return many(len(runs[list(map(param, analysis.study.factors))].drop_duplicates()) or 1, "variant")


def _censored(analysis: Analysis) -> Iterator[Markdown]:
    """The comparisons that are open because runs never reached the target."""
    settled = (Verdict(verdict).settled for verdict in analysis.effects["verdict"])
    found = [
        each for each, done in zip(analysis.comparisons, settled, strict=True) if each.censored and not done
    ]
    if found:
        comparisons = many(len(found), "comparison")
        yield md(CENSORED, comparisons, label(found[0].metric), "has" if len(found) == 1 else "have")


def _legend(analysis: Analysis) -> Markdown:
    """How to read the first table of verdicts."""
    study, left = analysis.study, analysis.interactions_left_out
    unit = md(" in {}", study.unit) if study.unit else md("")
    side = "negative" if study.smaller else "positive"
    what = "Differences are variant − baseline of the {}{} ({} is better), {}{}."
    texts = [md(what, study.noun, unit, side, *_how(analysis)), _direction(analysis)]
    if study.unpaired:
        texts.append(md(UNPAIRED))
    inside = "*No difference that matters*: the whole interval lies within ±{}."
    without = "No margin was given, so that no difference is called too small to matter."
    shown = f"{analysis.margin:g} {study.unit}".rstrip()
    texts.append(md(inside if analysis.margin else without, shown))
    if analysis.margin > study.margin:
        images = many(
            one_image(analysis.everything, study.metric)[0], f"{study.metric.partition('/')[0]} image"
        )
        texts.append(md("The margin is {}: what one of {} changes.", shown, images))
    if left:
        texts.append(md(LEFT, left))
    if (analysis.effects["factors"].map(len) > 1).any():
        texts.append(md(CROSSED))
    return md(" ").join([*texts, _looks(analysis)])


def _looks(analysis: Analysis) -> Markdown:
    """How often somebody has looked, as far as that is known."""
    if len(analysis.looks) < 2:
        ours = column(analysis.everything, tag("sweep_id")).notna().any()
        return md(ONE_LOOK if ours else UNKNOWN_LOOKS)
    if {at for each in analysis.comparisons for at in each.seen} == {len(analysis.looks)}:
        return md(SEEN_APART)  # as a baseline that another sweep had
    seeds = list(accumulate((set(look.seeds) for look in analysis.looks), set.union))
    counts = [
        str(at) if times == 1 else f"{at} ({times} times)" for at, times in Counter(map(len, seeds)).items()
    ]
    added = "Seeds" if seeds[0] < seeds[-1] else "Runs"  # as after a tuning that chose something else
    return md(LOOKS, added, many(len(seeds), "look"), enumerated(counts))


def _in_full(analysis: Analysis) -> Iterator[Markdown]:
    """The verdicts with every number, and how these were made."""
    study, m = analysis.study, len(analysis.effects)
    yield table(*tables.verdict_rows(analysis, tables.IN_FULL), numeric=8)
    if study.unpaired:
        yield md(
            "{} comparisons share an error of 5 % (Holm). {}" if m > 1 else "{1}", m, md(NUMBERS_UNPAIRED)
        )
        return
    shared = "{} comparisons share an error of 5 % (Holm), which takes {} seeds at least."
    alone = "At an error of 5 % a comparison takes {1} seeds at least."
    yield md(" ").join([md(shared if m > 1 else alone, m, fewest_seeds(m)), md(NUMBERS)])


def _how(analysis: Analysis) -> tuple[str, str]:
    """How differences are taken, and over what they are averaged."""
    study = analysis.study
    if study.unpaired:
        return "of the means of two groups", ", the other factors at their baseline" if len(
            study.factors
        ) > 1 else ""
    averaged = any(set(each.averaged) - set(study.average_over) for each in analysis.comparisons)
    over = ["the other factors"] if averaged and not study.blocks else []
    over += list(study.average_over)
    averaged = f", averaged over {' and '.join(over)}" if over else ""
    within = f", within each {study.blocks}" if study.blocks else ""
    return "seed by seed", averaged + within


def _direction(analysis: Analysis) -> Markdown:
    """Which values are better, and who says so."""
    study = analysis.study
    said = "as its name says" if study.smaller_is_better is None else "as was said"
    return md("{} values of {} are better, {}.", "Smaller" if study.smaller else "Larger", study.noun, said)


def _unpaired(analysis: Analysis) -> Iterator[Markdown]:
    """Seeds that could not be paired, and why; pairs that rest on seeds alone."""
    refused: list[tuple[str, str]] = []
    rest: dict[str, list[Unpaired]] = {}
    for comparison in analysis.comparisons:
        for each in comparison.unpaired:
            if each.reason is Reason.FINGERPRINTS:
                refused.append((named_comparison(comparison), each.seed))
            elif not progress.was_spared(analysis, each):
                rest.setdefault(named_comparison(comparison), []).append(each)
    if refused:
        yield _refused(analysis, refused)
    if rest:
        lines = [_without(name, unpaired) for name, unpaired in rest.items()][:MOST_LINES]
        if len(rest) > MOST_LINES:
            lines.append(md("… and {} more comparisons", len(rest) - MOST_LINES))
        yield md("Comparisons that rest on fewer seeds than there are:\n\n{}", listed(lines))
    paired = [each for each in analysis.comparisons if each.seeds]
    if paired and not all(each.fingerprinted for each in paired):
        yield md(ON_TRUST)


def _refused(analysis: Analysis, refused: Sequence[tuple[str, str]]) -> Markdown:
    """Which seeds, of which comparisons, were no pairs for their fingerprints."""
    seeds = sorted({seed for _, seed in refused}, key=natural)
    names = list(dict.fromkeys(name for name, _ in refused))
    where = "; ".join(names[:MOST_NAMED])
    where += f"; and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    shown = ", ".join(seeds[:12]) + (f", … ({len(seeds)} in all)" if len(seeds) > 12 else "")
    where = md(" ({})", where) if len(names) < len(analysis.comparisons) else md("")
    never = "; where that is all there is, further seeds give none either"
    never = never if any(each.foreign for each in analysis.comparisons) else ""
    return md(NOT_PAIRED, "seeds" if len(seeds) > 1 else "seed", shown, where, never)


def _without(name: str, unpaired: Sequence[Unpaired]) -> Markdown:
    """The seeds that a comparison is without, and why."""
    first = {each.seed: textwrap.shorten(_why(each), 80, placeholder=" …") for each in unpaired[:3]}
    reasons = "; ".join(f"seed {seed}: {why}" for seed, why in first.items())
    more = f"; and {len(unpaired) - 3} more" if len(unpaired) > 3 else ""
    return md("{} is without {} ({}{})", name, many(len(unpaired), "seed"), reasons, more)


def _why(unpaired: Unpaired) -> str:
    """Why a seed gave no pair."""
    match unpaired.reason:
        case Reason.NEVER_MEET:
            return "no setting of the other factors has runs of both"
        case Reason.NO_SEED:
            return "without a seed nothing can be paired"
        case Reason.FINGERPRINTS:
            return ", ".join(f"the runs' {key} differ" for key in unpaired.differing)
        case Reason.NOT_ONE_RUN:
            return ", ".join(map(_gap, unpaired.gaps))


def _gap(gap: Gap) -> str:
    setting = " ".join(f"{factor}={level}" for factor, level in gap.setting.items())
    return f"{setting} has {gap.finished} finished runs" if gap.finished else f"{setting} {gap.outcome}"


def _next_step(analysis: Analysis) -> Iterator[Markdown]:
    """The command that adds the missing seeds."""
    seeds, within, beyond = more_seeds(analysis)
    if progress.goes_on(analysis) or (not len(within) and not len(beyond)):
        return
    yield md("## Add the seeds")
    if len(within):
        logged = column(analysis.runs, param("seed")).dropna()
        have = sorted({int(seed) for seed in logged if str(seed).isdecimal()})
        first = len(have) if have == list(range(len(have))) else 0
        # A seed that gave no pair, because a run failed, does not count towards those that are needed.
        last = first + int((within["seeds_needed"] - within["n"]).max()) if first else seeds
        fewest, settled = int(within["seeds_needed_at_least"].min()), many(len(within), "comparison")
        about = f"about {fewest} to {seeds}" if fewest < seeds else f"about {seeds}"
        if (within["n"] < 2).all():
            yield md(AT_LEAST, seeds, settled)
        else:
            yield md(SETTLED_BY, about, settled, "is" if len(within) == 1 else "are")
        if analysis.study.command:
            verb = "adds" if first else "makes"
            yield md("This command {} them, and its report uses old and new runs together:", verb)
            wanted = f"range({first},{last})" if first else f"range({last})"
            yield code(with_seeds(analysis.study.command, wanted))
        else:
            yield md("Add runs with further seeds to the same experiment and compile this report again.")
    if len(beyond):
        names = "; ".join(
            f"{_in_outcome(row, analysis)}, {seeds_needed(row['seeds_needed_at_least'], row['seeds_needed'])} seeds"
            for row in tables.in_words(beyond).head(MOST_NAMED).to_dict("records")
        )
        yield md(TOO_MANY, many(len(beyond), "comparison"), names)


def _in_outcome(row: Mapping[str, Any], analysis: Analysis) -> str:
    """A comparison, and its outcome where that is another than the study's."""
    own = row["metric"] == analysis.study.metric
    return named_row(row) if own else f"{named_row(row)} in {tables.outcome(row['metric'], analysis.study)}"


def with_seeds(command: str, seeds: str) -> str:
    """A command of run.py with other seeds."""
    words = [word for word in shlex.split(command) if word.partition("=")[0] not in CHOOSE_SEEDS]
    flags = {"-m", "--multirun"} & set(words)
    if not flags and not any(word.startswith("+study=") for word in words):
        words.insert(2, "-m")
    return shlex.join([*words, f"seed={seeds}"])


def _costs_legend(analysis: Analysis) -> Markdown:
    there = analysis.variants.notna().any()
    texts = []
    if there["connections"] or there["macs"]:
        texts.append(md("Connections and multiply-accumulates (MACs) are for one image forward."))
    if there["epoch_s"]:
        texts.append(md(SECONDS))
    if there["epochs_to_target"]:
        texts.append(md("A run that never got to the named value counts as one epoch more than it had."))
    return md(" ").join(texts or [md("Parameters are those that are trained.")])


def _tuning_legend(analysis: Analysis) -> Markdown:
    study, given = analysis.study, analysis.tuned
    text = md(TUNED, ", ".join(study.nuisance), label(study.tuned_on))
    rows = given.to_dict("records")
    if edged := [variant_name(row, study) for row in rows if row["edge"]]:
        text = md(AT_EDGE, text, "; ".join(edged))
    most = given["combinations"].max()
    if (given["combinations"] < most).any():
        chose = [variant_name(row, study) for row in rows if row["combinations"] == most]
        text = md(UNEQUAL, text, "; ".join(chose), most)
    return text
