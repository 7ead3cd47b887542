"""What all published reports found, in sentences that need no table: composed by rules from their numbers.

Sentences are of a few kinds, the firmest first. No two say the same of the same choice, no report has more than a few,
and what is not settled is called so.
"""

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import pandas as pd

from ablations.commands import many
from ablations.comparison.claims import DEPENDS, REFUTED, SUPPORTED, alike
from ablations.comparison.designs import WHOLE
from ablations.comparison.variants import EPOCHS_TO_TARGET
from ablations.comparison.verdicts import Verdict
from ablations.plots.ladder import START
from ablations.report.analysis import Analysis, steps_of
from ablations.report.confounds import circumstances
from ablations.report.dependence import AtLevels, by_other, depends
from ablations.report.escaping import Markdown, enumerated, md
from ablations.report.lengths import GAINING, at_the_end
from ablations.report.numbers import ENOUGH_SEEDS, Form, forms, seeds_needed
from ablations.report.published import reached
from ablations.report.settled import Settled, about_choice, alone, comparison_of, of_own_runs, settled
from ablations.report.shelf import Shelved
from ablations.report.trade_offs import trade_off
from ablations.tracking.columns import column, param
from ablations.tracking.study import words

MOST = 10
"""Sentences in all."""
MOST_AT_FIRST, MOST_OF_REPORT = 2, 3
"""Of one report: as long as others may have something to say, and where there is room."""


class Kind(StrEnum):
    """What a sentence is about, in the order in which they stand."""

    DIFFERENCE = "a choice that matters"
    DEPENDENCE = "a choice whose effect depends on another"
    NO_DIFFERENCE = "a choice that does not matter"
    TRADE_OFF = "better in one outcome, worse in another"
    CLAIM = "a claim, supported or refuted"
    FIGURES = "published figures"
    OPEN = "not settled"


QUOTA = {
    Kind.DIFFERENCE: 3,
    Kind.DEPENDENCE: 1,
    Kind.NO_DIFFERENCE: 2,
    **dict.fromkeys((Kind.TRADE_OFF, Kind.CLAIM, Kind.FIGURES, Kind.OPEN), 1),
}
"""How many sentences of each kind, as long as there are enough of the others."""

DIFFERENT = {Verdict.BETTER, Verdict.WORSE}


@dataclass(frozen=True, eq=False)
class Finding:
    """A sentence about a choice.

    Attributes:
        kind: of the sentence.
        report: that says it.
        about: the same for two sentences that would say the same.
        choice: that it is about, as `about_choice` names it; None where that is not one alone.
        rank: smaller ones are said first, among those of its kind.
        text: without a full stop.
        basis: what it rests on: `10 seeds, 10 epochs of mnist`.
        same: other reports that come to the same verdict, from other runs.
        otherwise: other reports that settle the same choice in another way.
        depending: other reports where it depends on another choice.
    """

    kind: Kind
    report: Shelved
    about: Hashable
    rank: tuple[float, ...]
    text: Markdown
    basis: str = ""
    choice: Hashable = None
    same: tuple[Shelved, ...] = ()
    otherwise: tuple[Shelved, ...] = ()
    depending: tuple[Shelved, ...] = ()

    def said(self, prefix: str = "") -> Markdown:
        """The whole sentence with links to its reports; `prefix` leads to their folder."""
        parts = [md("{}{}", self.report.link(prefix), f", {self.basis}" if self.basis else "")]
        others = {
            "so too": self.same,
            "otherwise": self.otherwise,
            "depending on another choice": self.depending,
        }
        of = md("")
        if self.kind == Kind.TRADE_OFF:
            of = md("{} ", self.report.analysis.study.noun)
        elif self.kind == Kind.CLAIM:  # at settings that the claim may not be about
            of = md("{} ", "the comparison")
        for said, reports in others.items():
            if reports:
                links = md(", ").join(each.link(prefix) for each in reports)
                parts.append(md("{}{} in {}", of, said, links))
        return md("{} ({}).", self.text, md("; ").join(parts))


def findings(reports: Sequence[Shelved]) -> list[Finding]:
    """At most `MOST` sentences, in the order in which they are to be read."""
    known = settled(reports)
    every = sorted(
        (each for report in reports for each in _of_report(report, known)),
        key=lambda each: (list(Kind).index(each.kind), each.rank, each.report.name),
    )
    chosen = _chosen(every)
    return [_with_others(each, known) for each in every if each in chosen]


def _chosen(every: Sequence[Finding]) -> list[Finding]:
    """First by the quota of each kind, one of a report each; where there is room then, by their order."""
    chosen: list[Finding] = []
    for strict in (True, False):
        for each in every:
            of_kind = [other for other in chosen if other.kind == each.kind]
            of_report = sum(other.report is each.report for other in chosen)
            enough = len(of_kind) >= QUOTA[each.kind]
            again = any(other.report is each.report for other in of_kind)
            if (
                len(chosen) >= MOST
                or any(other.about == each.about for other in chosen)
                or (enough and (strict or each.kind == Kind.OPEN))
                or (again and strict)
                or of_report >= (MOST_AT_FIRST if strict else MOST_OF_REPORT)
            ):
                continue
            chosen.append(each)
    return chosen


def _with_others(finding: Finding, known: Settled) -> Finding:
    """A sentence about one choice with the other reports that have settled it."""
    said = known.get(finding.choice, ())
    own = next(((how, runs) for report, how, runs in said if report is finding.report), None)
    if own is None:
        return finding
    how_here, runs_here = own
    others: dict[str, list[tuple[Shelved, frozenset[Hashable]]]] = {
        "same": [],
        "otherwise": [],
        "depending": [],
    }
    for report, how, runs in said:
        if report is not finding.report and not (how == how_here and runs & runs_here):
            name = "depending" if how == DEPENDS else "same" if how == how_here else "otherwise"
            others[name].append((report, runs))
    return replace(finding, **{name: tuple(of_own_runs(found)) for name, found in others.items()})


def _of_report(report: Shelved, known: Settled) -> Iterator[Finding]:
    """Everything that may be said of a report."""
    analysis = report.analysis
    if analysis.study.published:
        if text := reached(analysis.runs, analysis.study):
            yield Finding(Kind.FIGURES, report, report.name, (), Markdown(text.removesuffix(".")))
        return
    form = forms(analysis).get(analysis.study.metric, Form(2, analysis.study.unit))
    for row in alone(analysis):
        verdict, rest = Verdict(row["verdict"]), None
        if depends(analysis, row):
            yield from _dependences(report, row, form)
            continue
        if verdict.settled:
            rest = trade_off(analysis, row)
        if verdict in DIFFERENT:
            yield _difference(report, row, form)
        elif verdict == Verdict.NO_DIFFERENCE and rest is None:  # else the trade-off says that, too
            yield _no_difference(report, row, form)
        elif (found := _open(report, row)) and found.about not in known:
            yield found
        if rest is not None:
            choice = about_choice(report, row)
            about = choice if verdict == Verdict.NO_DIFFERENCE else ("both", choice)
            text = md("{} {}{}", _choice(report, row), rest, _over(report, row))
            yield Finding(Kind.TRADE_OFF, report, about, _size(row), text, _basis(report, row), choice)
    yield from _interactions(report, form)
    yield from _claims(report)


def _basis(report: Shelved, row: Mapping[str, Any]) -> str:
    """`10 seeds, 10 epochs of mnist`, as far as all runs have them in common."""
    analysis = report.analysis
    epochs, data = (_common(analysis, key) for key in ("trainer.epochs", "dataset"))
    parts = [many(row["n"], "run" if analysis.study.unpaired else "seed")]
    if epochs:
        parts.append(many(int(epochs), "epoch") if epochs.isdecimal() else f"{epochs} epochs")
    if data:
        parts[-1] += f" of {data}"
    for said, variants in (
        ("still improving when training ended", _gaining(analysis)),
        (f"{enumerated(analysis.study.nuisance)} at the edge of what was tried", _at_the_edge(analysis)),
    ):
        if levels := _levels_of(variants, report, row):
            parts.append(f"{said}: {' and '.join(levels)}")
    return ", ".join(parts)


def _gaining(analysis: Analysis) -> set[str]:
    """The variants that longer training would have brought further."""
    return {variant for variant, judged in at_the_end(analysis).items() if judged == GAINING}


def _at_the_edge(analysis: Analysis) -> set[str]:
    """The variants whose chosen value is the smallest or the largest that they were offered."""
    if analysis.tuned is None:
        return set()
    keys = [param(key) for key in analysis.study.factors]
    edged = {tuple(row[key] for key in keys) for row in analysis.tuned.to_dict("records") if row["edge"]}
    runs = analysis.runs
    return {run["variant"] for run in runs.to_dict("records") if tuple(run[key] for key in keys) in edged}


def _levels_of(variants: set[str], report: Shelved, row: Mapping[str, Any]) -> list[str]:
    """Of the two levels of a comparison those that some of these variants have."""
    comparison = comparison_of(report, row)
    if len(comparison.factors) > 1:
        return []
    names = (*comparison.variant, *comparison.baseline)
    if comparison.factors == WHOLE:
        names = "the last step", f"the {START}"
    variant_of = report.analysis.runs.set_index("run_id")["variant"]
    sides = zip(names, (comparison.runs_of(1), comparison.runs_of(-1)), strict=True)
    return [name for name, runs in sides if variants.intersection(variant_of[[*runs]])]


def _common(analysis: Analysis, key: str) -> str:
    values = {str(value) for value in column(analysis.runs, param(key)).dropna()}
    return values.pop() if len(values) == 1 else ""


def _size(row: Mapping[str, Any]) -> tuple[float, ...]:
    """The largest first; percentage points of error before what other studies measure."""
    return (float(row["metric"] != "test/error_pct"), -abs(row["mean_diff"]))


def _choice(report: Shelved, row: Mapping[str, Any], inside: bool = False) -> Markdown:
    """`**pool=avg** instead of max`; what its verb says of it stands in the singular. A ladder's whole begins a
    sentence, unless it stands inside one."""
    if row["factors"] == WHOLE:
        return md("**{}aking all steps of the ladder** instead of none", "t" if inside else "T")
    ((factor,), (level,), (other,)) = row["factors"], row["variant"], row["baseline"]
    where = circumstances(comparison_of(report, row), report.analysis.study)
    return md("**{}={}** instead of {}{}", factor, level, other, md(" ({})", where) if where else md(""))


def _noun(analysis: Analysis, metric: str) -> str:
    target = analysis.study.target
    if metric == EPOCHS_TO_TARGET and target is not None:
        reaching = words(target["metric"])[0]
        return f"number of epochs to a {reaching} of {target['value']:g}"
    return words(metric)[0]


def _effect(analysis: Analysis, row: Mapping[str, Any], form: Form) -> Markdown:
    """`lowers the test error by 0.20 percentage points (95 % interval 0.10 to 0.31)`, of an established difference."""
    counted = row["metric"] == EPOCHS_TO_TARGET  # "the number of epochs by 2.1 epochs"
    size = form.value(abs(row["mean_diff"])) if counted else form.with_unit(row["mean_diff"])
    noun = _noun(analysis, row["metric"])
    return md("{} the {} by {} (95 % interval {} to {})", _verb(row), noun, size, *_limits(row, form))


def _verb(row: Mapping[str, Any]) -> str:
    return "lowers" if row["mean_diff"] < 0 else "raises"


def _limits(row: Mapping[str, Any], form: Form) -> Iterator[str]:
    """Of the size of an established difference."""
    return map(form.value, sorted((abs(row["ci_low"]), abs(row["ci_high"]))))


def _over(report: Shelved, row: Mapping[str, Any]) -> Markdown:
    """What else varied: the factors that are averaged over, or the steps of a ladder that were gone before."""
    averaged = comparison_of(report, row).averaged
    if steps_of(report.analysis.study) and row["factors"] != WHOLE:
        return md(", on top of the steps before it on a ladder")
    return md(", on average over {}", enumerated(averaged)) if averaged else md("")


def _difference(report: Shelved, row: Mapping[str, Any], form: Form) -> Finding:
    text = md("{} {}{}", _choice(report, row), _effect(report.analysis, row, form), _over(report, row))
    # Whoever asks for a ladder asks what all of it is worth.
    rank = (-1.0,) if row["factors"] == WHOLE else _size(row)
    return _on_choice(Kind.DIFFERENCE, report, row, rank, text)


def _on_choice(
    kind: Kind, report: Shelved, row: Mapping[str, Any], rank: tuple[float, ...], text: Markdown
) -> Finding:
    """A sentence that says of a choice what there is to say."""
    choice = about_choice(report, row)
    return Finding(kind, report, choice, rank, text, _basis(report, row), choice)


def _no_difference(report: Shelved, row: Mapping[str, Any], form: Form) -> Finding:
    ends = map(form.difference, (row["ci_low"], row["ci_high"]))
    text = md(
        "{} does not matter: it changes the {} by {} (95 % interval {} to {}){}",
        *(_choice(report, row), report.analysis.study.noun, _less(report.analysis.margin, form), *ends),
        _over(report, row),
    )
    furthest = max(abs(row["ci_low"]), abs(row["ci_high"]))
    return _on_choice(Kind.NO_DIFFERENCE, report, row, (_size(row)[0], furthest), text)


def _less(margin: float, form: Form) -> Markdown:
    return md("less than {}", form.limit(margin)) if margin else md("nothing")


def _dependences(report: Shelved, row: Mapping[str, Any], form: Form) -> Iterator[Finding]:
    """A main effect that depends on another choice: what it is at each level of that."""
    for on, rows in by_other(report.analysis, row).items():
        verdicts = {Verdict(each["verdict"]) for _, each in rows} & {*DIFFERENT, Verdict.NO_DIFFERENCE}
        if not verdicts:
            continue
        text = md("What {}", _depending(report, row, on, rows, form))
        means = [each["mean_diff"] for _, each in rows]
        about = ("depends", frozenset((*row["factors"], on)))
        rank = (-float(len(verdicts)), min(means) - max(means))
        yield Finding(Kind.DEPENDENCE, report, about, rank, text, _basis(report, row))


def _depending(report: Shelved, row: Mapping[str, Any], on: str, rows: AtLevels, form: Form) -> Markdown:
    """`pool=avg instead of max does to the test error depends on activation (…): with relu it lowers it by …`."""
    parts = md("; ").join(_at_level(report.analysis, level, each, form) for level, each in rows)
    unit = md("in {}, ", form.unit) if form.unit else md("")
    does = "{} does to the {} depends on {} ({}with 95 % intervals): {}"
    return md(does, _choice(report, row), report.analysis.study.noun, on, unit, parts)


def _at_level(analysis: Analysis, level: str, row: Mapping[str, Any], form: Form) -> Markdown:
    """`with relu it lowers it by 0.20 (0.10 to 0.31)`."""
    if row["verdict"] in DIFFERENT:
        size = form.value(abs(row["mean_diff"]))
        return md("with {} it {} it by {} ({} to {})", level, _verb(row), size, *_limits(row, form))
    if row["verdict"] == Verdict.NO_DIFFERENCE:
        return md("with {} it changes it by {}", level, _less(analysis.margin, form))
    return md("with {} that is not settled", level)


def _interactions(report: Shelved, form: Form) -> Iterator[Finding]:
    """Interactions that are established, whether or not they outweigh what each choice does."""
    analysis = report.analysis
    effects = analysis.effects
    together = effects[(effects["metric"] == analysis.study.metric) & (effects["factors"].map(len) == 2)]
    for row in together[together["verdict"].isin(DIFFERENT)].to_dict("records"):
        first, second = row["factors"]
        pairs = (f"{key}={level}" for key, level in zip(row["factors"], row["variant"], strict=True))
        side = "lower" if row["mean_diff"] < 0 else "higher"
        text = md(
            "**{} and {} depend on each other**: {} together with {} makes the {} {} {} than the two alone let one "
            "expect",
            *(first, second, *pairs, analysis.study.noun, form.with_unit(row["mean_diff"]), side),
        )
        # After what was found at each level, which says more.
        rank = (0.0, -abs(row["mean_diff"]))
        yield Finding(
            *(
                Kind.DEPENDENCE,
                report,
                ("depends", frozenset(row["factors"])),
                rank,
                text,
                _basis(report, row),
            )
        )


def _claims(report: Shelved) -> Iterator[Finding]:
    """Claims that are settled; those that are refuted first, quotations from memory last."""
    analysis = report.analysis
    form = forms(analysis)
    for answer in analysis.answers:
        if answer.finding not in (SUPPORTED, REFUTED):
            continue
        claim, row = answer.claim, answer.row
        said = md("“{}” ({}) is **{}**", claim.text.removesuffix("."), claim.source, answer.finding)
        text = md("{}: {}", said, _evidence(report, row, form[claim.metric]))
        from_memory = float("from memory" in claim.source)  # what nobody could look up is no headline
        rank = (from_memory, float(answer.finding != REFUTED), *_size(row))
        yield _on_choice(Kind.CLAIM, report, row, rank, text)


def _evidence(report: Shelved, row: Mapping[str, Any], form: Form) -> Markdown:
    """What settles a claim: a difference, or at each level of another factor one that answers in place of the
    average."""
    analysis = report.analysis
    if apart := by_other(analysis, row):
        parts = (_depending(report, row, on, rows, form) for on, rows in apart.items())
        return md("; ").join(md("what {}", each) for each in parts)
    return md("; ").join(_of_claim(report, each, form) for each in alike(row, analysis.effects))


def _of_claim(report: Shelved, row: Mapping[str, Any], form: Form) -> Markdown:
    analysis = report.analysis
    if row["verdict"] in DIFFERENT:
        found = _effect(analysis, row, form)
    elif row["metric"] == analysis.study.metric:
        found = md("changes the {} by {}", _noun(analysis, row["metric"]), _less(analysis.margin, form))
    else:
        found = md("changes the {} too little to matter", _noun(analysis, row["metric"]))
    return md("{} {}{}", _choice(report, row), found, _over(report, row))


def _open(report: Shelved, row: Mapping[str, Any]) -> Finding | None:
    """What more seeds would settle, the fewest first; None where seeds are not what is lacking."""
    comparison = comparison_of(report, row)
    hindered = comparison.hopeless or comparison.censored or row["n"] < 2
    if hindered or row["verdict"] == Verdict.CONFOUNDED or pd.isna(row["seeds_needed"]):
        return None
    needed = int(row["seeds_needed_at_least"]), int(row["seeds_needed"])
    about = md("about ") if needed[1] < ENOUGH_SEEDS else md("")
    text = md(
        "Not settled: what {} does to the {}{}; {}{} seeds in all would settle it",
        *(
            _choice(report, row, inside=True),
            report.analysis.study.noun,
            _over(report, row),
            about,
            seeds_needed(*needed),
        ),
    )
    return _on_choice(Kind.OPEN, report, row, tuple(map(float, needed[::-1])), text)


def spread(found: Sequence[Finding], most: int) -> list[Finding]:
    """So many of these sentences, of as many kinds and reports as there are, in their order."""
    kinds, reports = Counter[str](), Counter[str]()
    left, chosen = list(found), []
    while left and len(chosen) < most:
        best = min(left, key=lambda each: (kinds[each.kind], reports[each.report.name], found.index(each)))
        left.remove(best)
        chosen.append(best)
        kinds[best.kind] += 1
        reports[best.report.name] += 1
    return [each for each in found if each in chosen]
