"""Everything that a report says in numbers, from the study and its runs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations, groupby
from typing import Any

import pandas as pd

from ablations.comparison import claims, designs, pairs, unpaired, variants, verdicts
from ablations.comparison.blocks import Ranks, ranked_over
from ablations.comparison.claims import Claim
from ablations.comparison.confounds import Rules
from ablations.comparison.images import over_seeds_and_images
from ablations.comparison.looks import LOOK, first_invocations, numbered, numbered_by_seeds
from ablations.comparison.outcomes import Outcome, with_outcomes
from ablations.comparison.pairs import Comparison
from ablations.comparison.verdicts import COLUMNS, Verdict
from ablations.errors import InputError
from ablations.report.request import OF_THE_STUDY, params_of, require_seed
from ablations.tracking.columns import NOT_LOGGED, column, metric, natural, numbers, param, tag, text
from ablations.tracking.secondary import GROUPS, PICTURES
from ablations.tracking.study import Study

OPTIONAL = ("metric", "direction")
"""What a claim need not say."""

IMAGES = {
    "test/error_pct": ("dataset.test_images", 100),
    "test/accuracy": ("dataset.test_images", 1),
    "val/accuracy": ("dataset.val_images", 1),
}
"""Metrics that count images: the param with their number, and the value of all of them."""

GRID, ONE_AT_A_TIME, ADD_ONE_IN = "grid", "one_at_a_time", "add_one_in"
LADDER, FRACTION = "ladder", "fraction"
"""Designs, as a study names them."""

MOST_INTERACTIONS = 24
"""Beyond so many a report compares main effects alone: each comparison costs the others seeds."""


@dataclass(frozen=True)
class Answer:
    """What a study says of one claim.

    Attributes:
        claim: as its source makes it.
        finding: supported, refuted, depends, or the verdict itself.
        row: of the table of effects, the evidence.
    """

    claim: Claim
    finding: str
    row: Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """A look at the study, the last one at all there is now.

    Attributes:
        invocation: the id of the newest of the sweep that made its runs, '' where it is not known.
        seeds: those whose runs were first there.
    """

    invocation: str
    seeds: tuple[str, ...]


@dataclass(frozen=True)
class Tuned:
    """What a study's tuning came to.

    Attributes:
        runs: of all trials, and those that evaluate what fewer trials would have chosen.
        trials: as `comparison.tuning.trials` gives them.
        verdicts: the table of main effects as it would be `after` 1, 2, 4, 8 … trials; columns `verdicts.COLUMNS`.
    """

    runs: pd.DataFrame
    trials: pd.DataFrame
    verdicts: pd.DataFrame


@dataclass(frozen=True)
class Group:
    """Outcomes of one kind beside the study's own: main effects alone, a family of their own.

    Attributes:
        name: as in `tracking.secondary.GROUPS`.
        comparisons: those with a pair, in the order of `effects`.
        effects: their verdict table.
        without: how many have no pair.
    """

    name: str
    comparisons: tuple[Comparison, ...]
    effects: pd.DataFrame
    without: int


@dataclass(frozen=True)
class Analysis:
    """The numbers of a report.

    Attributes:
        study: what was asked.
        margin: largest difference that does not matter, in the metric's unit: the study's, or what one image changes.
        everything: all runs, those at nuisance values that were not chosen as well, with `outcome`.
        left_out: runs that do not count, in words.
        tuned: as `designs.tuned` gives it; None without nuisance factors.
        runs: ranked, with `value`, `finished`, `variant`; at the nuisance values that were chosen.
        variants: as `variants.variants` gives them.
        comparisons: all of them, in the order of `effects`.
        effects: the verdict table, columns `verdicts.COLUMNS`.
        interactions_left_out: how many were not looked at.
        dependences: as `designs.dependences` gives them.
        answers: to the study's claims.
        looks: at which seeds were added.
        simple: where an established interaction outweighs a main effect, the comparisons that answer in its place.
        simple_effects: their verdict table; the levels of one other factor are a family of their own.
        images: for each of the comparisons and then of the simple ones the interval over seeds and images, as
            `images.over_seeds_and_images` gives it.
        remarks: which values of the runs count, in words.
        ranks: of the variants over blocks; None without blocks.
        trials: what each variant chose for itself, and how; None without tuning.
    """

    study: Study
    margin: float
    everything: pd.DataFrame
    left_out: tuple[str, ...]
    tuned: pd.DataFrame | None
    runs: pd.DataFrame
    variants: pd.DataFrame
    comparisons: tuple[Comparison, ...]
    effects: pd.DataFrame
    interactions_left_out: int
    dependences: pd.DataFrame
    answers: tuple[Answer, ...]
    looks: tuple[Look, ...]
    simple: tuple[Comparison, ...]
    simple_effects: pd.DataFrame
    images: pd.DataFrame
    remarks: tuple[str, ...] = ()
    ranks: Ranks | None = None
    trials: Tuned | None = None

    @property
    def all_effects(self) -> pd.DataFrame:
        """The verdict table, below it that of the simple effects (with the level `at` which each was taken), and
        beside both what `images` says."""
        tables = (
            self.effects.assign(at=""),
            self.simple_effects.assign(at=[at_level(each) for each in self.simple]),
        )
        table = pd.concat([each for each in tables if len(each)] or tables[:1], ignore_index=True)
        return table.join(self.images.reindex(table.index))

    @cached_property
    def secondary(self) -> tuple[Group, ...]:
        """The other outcomes that these runs have, and nobody asked for; looked at where somebody reads of them."""
        asked = {each.metric for each in self.comparisons}
        found = (
            _group(self.study, self.runs, name, asked)
            for name in GROUPS
            if asked and not self.study.published
        )
        return tuple(each for each in found if each.comparisons)

    @property
    def failed(self) -> pd.DataFrame:
        """Of everything the runs without a result."""
        return self.everything[self.everything["outcome"] != Outcome.FINISHED]


def analyse(
    study: Study,
    everything: pd.DataFrame,
    left_out: Sequence[str],
    strict: bool,
    invocations: Sequence[str] = (),
    at_seeds: Sequence[int] | None = None,
    remarks: Sequence[str] = (),
) -> Analysis:
    """Every comparison that the study asks for.

    Args:
        study: the question; a baseline that it does not name is completed here.
        everything: the runs that belong together, with the columns of `with_times`.
        left_out: in words.
        invocations: the ids of those whose report was compiled, as far as the store knows.
        at_seeds: at how many seeds somebody says that he looked, instead.
        strict: whether runs that cannot be compared at all are an error, or a report without verdicts.
        remarks: which values of the runs count, in words.

    Raises:
        InputError: where strict, no run has the metric, the seed or two levels; a baseline that no run has.
    """
    if not strict:  # a sweep all of whose runs failed has a report, too
        asked = {study.metric, *(claim.get("metric", study.metric) for claim in study.claims)}
        lacking = sorted(set(map(metric, asked)) - set(everything))
        everything = everything.assign(**dict.fromkeys(lacking, float("nan")))
    if strict and study.factors and not study.unpaired and param("seed") not in everything:
        require_seed(everything, study.seed_param)
    everything = with_outcomes(everything, study.metric)
    everything, looks = _looked_at(everything, invocations, at_seeds)
    runs, tuned = everything, None
    if study.nuisance:
        chosen = study.tuned_on, study.smaller_tuned
        runs, tuned = designs.tuned(everything, study.factors, study.nuisance, *chosen)
    ranked = variants.ranked(runs, study.factors, study.smaller)
    study, comparisons, left_alone = _compared(study, ranked, strict)
    effects = _judged(study, comparisons, everything)
    reached = variants.variants(ranked, study.factors, study.smaller, apart=_apart(study))
    clear = effects[(effects["metric"] == study.metric) & (effects["verdict"] != Verdict.CONFOUNDED)]
    dependences = designs.dependences(clear)
    established = dependences[dependences["established"].astype(bool)]
    simple = pairs.simple_effects(
        ranked, (*study.factors, *study.average_over), study.metric, established, _rules(study)
    )
    effects = _without_seeds_for(effects, simple)
    margin = raised(study.margin, one_image(everything, study.metric)[1])
    at_levels = _judged_apart(study, simple, everything)
    answers, unanswered = _answers(study, effects, at_levels)
    # Where it is kept with the report, it is there already.
    left_out = tuple(dict.fromkeys([*left_out, *unanswered]))
    asked = study, margin, everything, left_out, tuned, ranked, reached
    judged = comparisons, effects, left_alone, dependences, answers, looks, simple, at_levels
    images = over_seeds_and_images((), lambda run_id: None)
    return Analysis(*asked, *judged, images, tuple(remarks), _ranks(study, ranked))


def _apart(study: Study) -> tuple[str, ...]:
    """The params whose runs are one seed of a variant together."""
    return study.average_over if study.blocks is None else (*study.average_over, study.blocks)


def _ranks(study: Study, runs: pd.DataFrame) -> Ranks | None:
    if study.blocks is None or not study.baseline:
        return None
    base = [study.baseline[key] for key in study.factors]
    return ranked_over(runs, study.factors, study.blocks, base, study.smaller)


def _looked_at(
    runs: pd.DataFrame, invocations: Sequence[str], at_seeds: Sequence[int] | None
) -> tuple[pd.DataFrame, tuple[Look, ...]]:
    """The runs with the number of the look at which each was first there, and the looks."""
    if at_seeds is None:
        runs = numbered(runs, invocations)
    else:
        runs = numbered_by_seeds(runs, at_seeds)
    looks = []
    for _, seen in runs.groupby(LOOK):
        seeds = column(seen, param("seed")).dropna().map(str)
        last = first_invocations(seen).max() if at_seeds is None else ""
        looks.append(Look(last, tuple(sorted(set(seeds), key=natural))))
    return runs, tuple(looks)


def _judged(study: Study, comparisons: Sequence[Comparison], runs: pd.DataFrame) -> pd.DataFrame:
    """The verdict table of one family."""
    rules = rules_of(study, comparisons, runs)
    tabulate = unpaired.tabulate if study.unpaired else verdicts.tabulate
    table = tabulate(comparisons, [margin for margin, _ in rules], [small for _, small in rules])
    blocks = [each.block for each in comparisons]
    return table.assign(block=blocks) if any(each is not None for each in blocks) else table


def rules_of(study: Study, comparisons: Sequence[Comparison], runs: pd.DataFrame) -> list[tuple[float, bool]]:
    """The margin of each comparison, and whether smaller is better in its metric."""
    least = {each.metric: one_image(runs, each.metric)[1] for each in comparisons}
    return [_rule(study, each, least[each.metric]) for each in comparisons]


def family(simple: Comparison) -> tuple[object, ...]:
    """What the simple effects of one main effect at the levels of one other factor have in common."""
    return simple.factors, simple.variant, simple.baseline, tuple(on for on, _ in simple.at)


def _judged_apart(study: Study, simple: Sequence[Comparison], runs: pd.DataFrame) -> pd.DataFrame:
    """The verdict table of simple effects, each family of them corrected by itself."""
    families = (list(each) for _, each in groupby(simple, family))  # they stand together
    tables = [_judged(study, each, runs) for each in families]
    return pd.concat(tables or [_judged(study, (), runs)], ignore_index=True)


def _without_seeds_for(effects: pd.DataFrame, simple: Sequence[Comparison]) -> pd.DataFrame:
    """The verdict table, which asks for no seeds for an average that simple effects answer in place of."""
    averages = pd.Series(answered_at_levels(effects, simple), effects.index, bool)
    needed = ("seeds_needed", "seeds_needed_at_least")
    return effects.assign(**{name: effects[name].mask(averages) for name in needed})


def answered_at_levels(effects: pd.DataFrame, simple: Sequence[Comparison]) -> list[bool]:
    """For each row of a verdict table whether it is an average that simple effects answer in place of."""
    apart = {tuple(getattr(each, name) for name in COLUMNS[:4]) for each in simple}
    return [key in apart for key in zip(*(effects[name] for name in COLUMNS[:4]), strict=True)]


def simple_rows(analysis: Analysis, row: Mapping[str, Any]) -> list[tuple[Comparison, Mapping[str, Any]]]:
    """The simple effects that answer in place of a row of the verdict table, and their own rows."""
    found = zip(analysis.simple, analysis.simple_effects.to_dict("records"), strict=True)
    return [pair for pair in found if all(pair[1][name] == row[name] for name in COLUMNS[:4])]


def at_level(comparison: Comparison) -> str:
    """Where a simple effect was taken, `activation=relu`; '' for any other."""
    return " ".join(f"{key}={level}" for key, level in comparison.at)


def _compared(study: Study, runs: pd.DataFrame, strict: bool) -> tuple[Study, tuple[Comparison, ...], int]:
    """The study with its whole baseline, its comparisons, and how many interactions are left out."""
    logged = {key: set(column(runs, param(key)).dropna()) - {NOT_LOGGED} for key in study.factors}
    levels = {key: sorted(values, key=natural) for key, values in logged.items()}
    if strict:
        for key in study.factors:
            if not levels[key]:
                raise InputError(f"factor {key}: no run has such a param; there are {params_of(runs)}")
    baseline = {key: str(study.baseline.get(key, levels[key][0])) for key in study.factors if levels[key]}
    study = replace(study, baseline=baseline)
    if not strict and (
        not any(len(of) > 1 for of in levels.values())
        or not all(levels.values())
        or any(baseline[key] not in levels[key] for key in levels)
    ):
        return study, (), 0

    # Interactions are only in a grid, and only as many as their number does not drown the main effects.
    many = sum((len(levels[a]) - 1) * (len(levels[b]) - 1) for a, b in combinations(study.factors, 2))
    asked = study.design == GRID and many <= MOST_INTERACTIONS
    comparisons = _by_design(study, runs, asked)
    if study.unpaired or study.blocks is not None:
        return study, comparisons, 0
    left_alone = 0 if asked or study.design != GRID else many
    return study, (*comparisons, *_claimed(study, runs, comparisons)), left_alone


def _by_design(study: Study, runs: pd.DataFrame, interactions: bool) -> tuple[Comparison, ...]:
    """The comparisons that a study with its whole baseline makes in its metric."""
    if study.unpaired:
        return unpaired.groups(runs, study.factors, study.baseline, study.metric, _rules(study))
    if study.blocks is not None:
        return tuple(_within_blocks(study, runs))
    if steps := steps_of(study):
        return designs.ladder(runs, steps, study.metric, study.average_over, _rules(study))
    return _against_baseline(study, runs, study.metric, interactions)


def _group(study: Study, runs: pd.DataFrame, name: str, asked: set[str]) -> Group:
    """The secondary outcomes of one kind, but for those that are `asked` for by the study itself."""
    if name in PICTURES:  # what was measured on other pictures is no pair
        data, pictures = (column(runs, tag(key)) for key in ("data_sha256", PICTURES[name]))
        both = data.map(str) + " " + pictures.map(str)
        runs = runs.assign(**{tag("data_sha256"): data.where(pictures.isna(), both)})
    metrics = [
        each for each in GROUPS[name] if each not in asked and numbers(runs, metric(each)).notna().any()
    ]
    found = [one for each in metrics for one in _by_design(replace(study, metric=each), runs, False)]
    found = [each for each in found if len(each.factors) == 1 or steps_of(study)]  # no aliases of a fraction
    paired = tuple(each for each in found if each.seeds or all(each.groups or ((),)))
    return Group(name, paired, _judged(study, paired, runs), len(found) - len(paired))


def planned_comparisons(study: Study, runs: pd.DataFrame) -> tuple[Comparison, ...]:
    """The comparisons that a study will make of these runs, whatever they measure.

    Args:
        study: the question.
        runs: the params of each.
    """
    metrics = {study.metric, *(claim.get("metric", study.metric) for claim in study.claims)}
    ids = [str(i) for i in range(len(runs))]
    runs = runs.assign(run_id=ids, status="FINISHED", **dict.fromkeys(map(metric, metrics), 0.0))
    runs = runs.drop_duplicates([*map(param, study.factors), param("seed")])
    return _compared(study, runs.reset_index(drop=True), strict=False)[1]


def steps_of(study: Study) -> Mapping[str, Sequence[str]]:
    """Of a ladder the levels of each factor in the order in which they are added; of another design nothing."""
    steps = {key: tuple(map(str, of)) for key, of in (study.steps or {}).items() if of}
    return steps if study.design == LADDER and set(steps) == set(study.factors) else {}


def _against_baseline(
    study: Study, runs: pd.DataFrame, name: str, interactions: bool
) -> tuple[Comparison, ...]:
    """Each level with the baseline's in the metric of this name, as the study's design does it."""
    rest = study.average_over, _rules(study)
    if study.design == FRACTION:
        return designs.contrasts(runs, study.factors, study.baseline, name, *rest)
    return pairs.comparisons(runs, study.factors, study.baseline, name, interactions, *rest)


def _within_blocks(study: Study, runs: pd.DataFrame) -> Iterator[Comparison]:
    """The main effects within each data set or fold that has two variants; none where each has one run."""
    blocks = column(runs, param(study.blocks)).map(text)
    if runs[param("seed")].nunique() < 2:
        return
    for block in sorted(set(blocks.dropna()), key=natural):
        own = runs[blocks == block]
        levels = [set(column(own, param(key)).map(text).dropna()) for key in study.factors]
        there = [study.baseline[key] in of for key, of in zip(study.factors, levels, strict=True)]
        if all(there) and any(len(of) > 1 for of in levels):
            found = _against_baseline(study, own, study.metric, interactions=False)
            yield from (replace(each, block=block) for each in found)


def _rules(study: Study) -> Rules:
    """What the two sides of a comparison may differ in."""
    return Rules(study.brings, study.ignore, study.chosen)


def _claims(study: Study) -> list[Claim]:
    found = []
    for claim in study.claims:
        sides = {side: str(claim[side]) for side in ("variant", "baseline")}
        other = {"metric": study.metric} | {key: claim[key] for key in OPTIONAL if key in claim}
        found.append(Claim(claim["text"], claim["source"], claim["factor"], **sides, **other))
    return found


def _answers(
    study: Study, effects: pd.DataFrame, simple: pd.DataFrame
) -> tuple[tuple[Answer, ...], list[str]]:
    """What is said of each claim, and in words those of which nothing can be."""
    answers, unanswered = [], []
    for claim in _claims(study):
        try:
            answers.append(Answer(claim, *claims.answer(claim, effects, simple)))
        except InputError as error:
            unanswered.append(OF_THE_STUDY.format(error))
    return tuple(answers), unanswered


def _claimed(study: Study, runs: pd.DataFrame, comparisons: Sequence[Comparison]) -> Iterator[Comparison]:
    """The comparisons that claims need besides: of other metrics, or with another level than the baseline."""
    known = {(each.factors, each.metric, frozenset((each.variant, each.baseline))) for each in comparisons}
    for claim in _claims(study):
        key = ((claim.factor,), claim.metric, frozenset(((claim.variant,), (claim.baseline,))))
        if key in known:
            continue
        known.add(key)
        other = replace(study, baseline={**study.baseline, claim.factor: claim.baseline})
        found = _against_baseline(other, runs, claim.metric, interactions=False)
        wanted = (claim.factor,), (claim.variant,)
        yield from (each for each in found if (each.factors, each.variant) == wanted)


def one_image(runs: pd.DataFrame, name: str) -> tuple[int, float]:
    """How many images a metric counts, of several data sets in the smallest, and what one of them changes, rounded up
    to two digits; nothing where that is not known."""
    of, whole = IMAGES.get(name, ("", 0))
    images = numbers(runs, param(of)).min()
    if not images > 0:
        return 0, 0.0
    digit = 10.0 ** (math.floor(math.log10(whole / images)) - 1)
    return int(images), digit * math.ceil(whole / images / digit - 1e-9)


def raised(margin: float, least: float) -> float:
    """A margin that is at least what one image changes; none where none was given."""
    rounding = 1 + 1e-9
    return least * rounding if 0 < margin * rounding < least else margin


def _rule(study: Study, comparison: Comparison, least: float) -> tuple[float, bool]:
    """The margin of a comparison, and whether smaller is better in its metric."""
    if comparison.metric == study.metric:
        return raised(study.margin, least), study.smaller
    margins = [
        claim["margin"]
        for claim in study.claims
        if claim.get("metric") == comparison.metric and claim.get("margin") is not None
    ]
    return raised(float(margins[0] if margins else 0), least), study.smaller_in(comparison.metric)


def more_seeds(analysis: Analysis, affordable: int = 50) -> tuple[int, pd.DataFrame, pd.DataFrame]:
    """How many seeds in all would settle what is open with a good chance, the comparisons that they would settle, and
    those that would take more than is affordable."""
    table = analysis.all_effects
    open_ones = table[table["seeds_needed"].notna()]
    within = open_ones[open_ones["seeds_needed"] <= affordable]
    seeds = int(within["seeds_needed"].max()) if len(within) else 0
    return seeds, within, open_ones[open_ones["seeds_needed"] > affordable]
