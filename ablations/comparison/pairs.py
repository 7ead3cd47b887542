"""Pairs: the differences between two variants seed by seed, and the seeds that give none.

Differences always mean variant − baseline, in the metric's own unit.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from itertools import combinations, product
from typing import Any

import pandas as pd

from ablations.comparison import exact
from ablations.comparison.confounds import NOTHING, Found, Rules, differences, known, side_by_side
from ablations.comparison.looks import LOOK
from ablations.comparison.outcomes import Outcome, with_outcomes
from ablations.comparison.variants import EPOCHS_TO_TARGET
from ablations.errors import InputError
from ablations.tracking.columns import NOT_LOGGED, natural, number, param, tag, text

ROUNDING = 2**10 * sys.float_info.epsilon
"""Of the values that are subtracted: an error of 0.1 % was an accuracy, with a last place a thousand times as large."""
STORED = {"test/error_pct": 0.5e-10}
"""How far a value can be from what was meant: errors in % are stored with ten decimals."""

KNOWN = object()
"""The key under which a run's record holds what is known of it."""

FINGERPRINTS = ("stream", "data_sha256")
"""Tags in which the runs of a pair must agree."""


LOOKED_AT = ("run_id", "status", "value", "outcome", LOOK, *map(tag, (*FINGERPRINTS, "failure")))
LOOKED_AT += (param("trainer.epochs"),)
"""What a comparison takes from a run, besides its setting."""


class Reason(Enum):
    """Why a seed gave no pair."""

    NEVER_MEET = auto()
    """No setting of the other factors has runs of both sides."""
    NO_SEED = auto()
    """The runs logged none."""
    NOT_ONE_RUN = auto()
    """At a setting there is no finished run, or more than one."""
    FINGERPRINTS = auto()
    """The runs had other random streams or other data."""


@dataclass(frozen=True)
class Gap:
    """A setting at which a pair lacks its one finished run.

    Attributes:
        setting: the level of each factor.
        outcome: of the last run there.
        finished: how many runs finished.
    """

    setting: Mapping[str, str]
    outcome: Outcome
    finished: int


@dataclass(frozen=True)
class Unpaired:
    """A seed that gave no pair.

    Attributes:
        seed: which one.
        reason: why.
        gaps: the settings without their one run.
        differing: the tags in which the runs differ.
    """

    seed: str
    reason: Reason
    gaps: tuple[Gap, ...] = ()
    differing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Hopeless:
    """A setting none of whose runs gave a result: further seeds would fare no better.

    Attributes:
        setting: the level of each factor.
        run_ids: its runs, the oldest first.
    """

    setting: Mapping[str, str]
    run_ids: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """One variant against another before the test: the differences seed by seed, and the seeds that gave none.

    Attributes:
        factors: what was varied: one factor, or the two of an interaction.
        variant: the level of each of them.
        baseline: the level of each that it is compared with.
        metric: its name.
        seeds: those that gave a difference.
        differences: variant − baseline for each of them, in the metric's unit, averaged over the settings of the
            other factors. For an interaction the difference of differences: how much more the one choice brings
            where the other is made as well.
        run_ids: for each seed the runs behind the difference.
        seen: for each seed the number of the look at which all of these were first there.
        unpaired: the seeds that gave none, and why.
        fingerprinted: whether every pair rests on recorded fingerprints, not on its seed alone.
        hopeless: the settings that it needs and that never give a result.
        censored: the seeds of whose runs one never reached the target: in epochs to it the difference is a bound.
        differing: what else the two sides of its pairs differ in.
        rounding: for each difference the largest error that rounding can have made in it.
        block: the data set or fold within which it is made, None where there are none.
        signs: for each run of a seed whether it counts for (1) or against (−1) the difference.
        averaged: the other factors of which several levels are averaged over.
        at: the level of another factor to which it is confined, of a simple effect; else empty.
        groups: the values of the variant's runs and of the baseline's, where nothing is paired.
        settings: those whose runs it takes, by the level of each factor, then of what is averaged over.
    """

    factors: tuple[str, ...]
    variant: tuple[str, ...]
    baseline: tuple[str, ...]
    metric: str
    seeds: tuple[str, ...]
    differences: tuple[float, ...]
    run_ids: tuple[tuple[str, ...], ...]
    seen: tuple[int, ...]
    unpaired: tuple[Unpaired, ...]
    fingerprinted: bool
    hopeless: tuple[Hopeless, ...] = ()
    censored: tuple[str, ...] = ()
    differing: Found = NOTHING
    rounding: tuple[float, ...] = ()
    block: str | None = None
    signs: tuple[int, ...] = ()
    averaged: tuple[str, ...] = ()
    at: tuple[tuple[str, str], ...] = ()
    groups: tuple[tuple[float, ...], ...] = ()
    settings: tuple[tuple[str, ...], ...] = ()

    def runs_of(self, sign: int) -> tuple[str, ...]:
        """The ids of the runs that count for the difference (1), or against it (−1)."""
        if self.groups:
            return self.run_ids[(1, -1).index(sign)]
        signed = (zip(self.signs, runs, strict=True) for runs in self.run_ids if self.signs)
        return tuple(run for pair in signed for own, run in pair if own == sign)

    @property
    def beyond_seeds(self) -> bool:
        """Whether no further seeds can settle it."""
        return self.foreign or self.confounded or bool(self.hopeless or self.censored)

    @property
    def confounded(self) -> bool:
        """Whether its sides differ in more than the factor and what that brings by design."""
        return bool(self.differing.confounds)

    @property
    def without_result(self) -> bool:
        """Whether one of its sides never gives a result, so that there is nothing to compare."""
        return bool(self.hopeless) and not self.seeds

    @property
    def foreign(self) -> bool:
        """Whether all its seeds were refused for their fingerprints: no further seeds can settle it."""
        refused = [each.reason is Reason.FINGERPRINTS for each in self.unpaired]
        return bool(refused) and not self.seeds and all(refused)


def comparisons(
    runs: pd.DataFrame,
    factors: Sequence[str],
    baseline: Mapping[str, object],
    metric: str,
    interactions: bool = True,
    averaged: Sequence[str] = (),
    rules: Rules = Rules(),  # noqa: B008  # frozen
) -> tuple[Comparison, ...]:
    """Every comparison that the runs' design holds: each level with the baseline's, then two-factor interactions.

    A level and the baseline's are compared at every setting of the other factors at which runs of both exist, with
    equal weight: the baseline alone where one factor at a time was varied, all settings in a full grid. A seed counts
    where every run that it takes finished and all of them have the same `FINGERPRINTS`.

    Args:
        runs: those of the study, as `looks.numbered` gives them where they were looked at more than once. A run that
            did not log one of the factors belongs to no variant.
        factors: the params that were varied.
        baseline: for each factor the level that the others are compared with.
        metric: name of the outcome.
        interactions: give those, too. All comparisons share the correction, so that more of them need more seeds.
        averaged: further params that were varied: a seed's difference is the mean over the settings of these that both
            sides have.
        rules: what the two sides may differ in.

    Raises:
        InputError: no run, no such metric, a baseline that no run has, or no factor with a second level.
    """
    cells = Cells(runs, (*factors, *averaged), metric, rules)
    for factor in factors:
        there = ", ".join(cells.levels[factor]) or "none: no run logged it"
        if factor not in baseline:
            raise InputError(f"baseline: {factor} is varied and needs a level; there are {there}")
        if text(baseline[factor]) not in cells.levels[factor]:
            raise InputError(f"baseline {factor}={baseline[factor]}: no run has it; there are {there}")
    base = {factor: str(baseline[factor]) for factor in factors}
    others = {factor: [x for x in cells.levels[factor] if x != base[factor]] for factor in factors}
    if not any(others.values()):
        listed = ", ".join(f"{factor}={base[factor]}" for factor in factors) or "no factor was varied"
        raise InputError(f"nothing to compare: there is one variant only ({listed})")

    found = [cells.compare({f: level}, {f: base[f]}) for f in factors for level in others[f]]
    if interactions:
        for a, b in combinations(factors, 2):
            for levels in product(others[a], others[b]):
                each = cells.compare(dict(zip((a, b), levels, strict=True)), {a: base[a], b: base[b]})
                found += [each] if each.seeds or each.unpaired else []
    return tuple(found)


def simple_effects(
    runs: pd.DataFrame,
    factors: Sequence[str],
    metric: str,
    dependences: pd.DataFrame,
    rules: Rules = Rules(),  # noqa: B008  # frozen
) -> tuple[Comparison, ...]:
    """The main effects that depend on another factor, one at each of its levels, averaged over the others still.

    Args:
        runs: those of the study, as for `comparisons`.
        factors: the params that were varied.
        metric: name of the outcome.
        dependences: with `factor`, `variant`, `baseline` and `on`, as `designs.dependences` gives them.
        rules: what the two sides of a comparison may differ in.
    """
    asked = dependences[["factor", "variant", "baseline", "on"]].drop_duplicates()
    if asked.empty:
        return ()
    cells = Cells(runs, factors, metric, rules)
    found = [
        cells.compare(
            {row["factor"]: row["variant"]}, {row["factor"]: row["baseline"]}, ((row["on"], level),)
        )
        for row in asked.to_dict("records")
        for level in cells.levels[row["on"]]
    ]
    return tuple(each for each in found if each.signs)


class Cells:
    """Runs by setting of all factors and by seed, as differences are taken from them."""

    def __init__(self, runs: pd.DataFrame, factors: Sequence[str], metric: str, rules: Rules) -> None:
        if runs.empty:
            raise InputError("there are no runs to compare")
        self.factors, self.metric, self.rules = tuple(factors), metric, rules
        apart = [*map(param, factors), param("seed")]
        self.at: dict[tuple[tuple[str, ...], str], list[dict]] = {}
        self.settings: dict[tuple[str, ...], None] = {}
        seeds = set()
        ours = with_outcomes(runs, metric)
        wanted = dict.fromkeys((*apart, *LOOKED_AT))  # a factor may be among them
        records = ours[[name for name in wanted if name in ours]].to_dict("records")
        for run, told in zip(records, known(runs, apart), strict=True):
            run[KNOWN] = told
            setting = tuple(text(run.get(param(factor))) for factor in factors)
            if None not in setting:
                seed = text(run.get(param("seed"))) or NOT_LOGGED
                seeds.add(seed)
                self.settings[setting] = None
                self.at.setdefault((setting, seed), []).append(run)
        self.seeds = sorted(seeds, key=natural)
        self.levels = {
            factor: sorted({setting[i] for setting in self.settings}, key=natural)
            for i, factor in enumerate(factors)
        }

    def compare(
        self,
        variant: Mapping[str, str],
        baseline: Mapping[str, str],
        at: tuple[tuple[str, str], ...] = (),
        jointly: bool = False,
    ) -> Comparison:
        """The main effect of one factor, or the interaction of two; everywhere, or `at` levels of other factors. Or, of
        several factors `jointly`, what it makes to change all of them at once."""
        weights = self._weights(variant, baseline, dict(at), jointly)
        found = self._compared(variant, baseline, weights)
        if jointly:  # its two sides differ in several factors
            return found
        differing = self._differing(variant, baseline, list(weights), self._pairs(found, weights))
        return replace(found, differing=differing, at=at)

    def contrast(self, factor: str, level: str, baseline: str) -> Comparison:
        """The main effect of a factor of a fraction; without any pair where its other factors are not balanced."""
        at = self.factors.index(factor)
        sides = [[each for each in self.settings if each[at] == side] for side in (level, baseline)]
        counts = [Counter((i, x) for each in of for i, x in enumerate(each) if i != at) for of in sides]
        whole = counts[0] == counts[1]
        weights = {
            each: sign / len(of) for of, sign in zip(sides, (1, -1), strict=True) for each in of if whole
        }
        found = self._compared({factor: level}, {factor: baseline}, weights)
        told = {seed: [run[KNOWN] for run in runs] for seed, runs in self._pairs(found, weights).items()}
        half = len(sides[0])
        compared = [
            (seed, factor, *each) for seed, of in told.items() for each in side_by_side(of[:half], of[half:])
        ]
        return replace(found, differing=differences(compared, {factor: (level, baseline)}, self.rules))

    def sums(self, weights: Mapping[tuple[str, ...], float]) -> list[float]:
        """The weighted sum of the settings' runs, for each seed that has one run of each."""
        found = (self._pair(list(weights), seed) for seed in self.seeds)
        return [
            _difference(list(weights.values()), runs, self.metric)[0]
            for runs in found
            if not isinstance(runs, Unpaired)
        ]

    def _pairs(
        self, comparison: Comparison, weights: Mapping[tuple[str, ...], float]
    ) -> dict[str, list[dict[str, Any]]]:
        """By seed the runs behind the differences of a comparison, in the order of its settings."""
        return {seed: self._pair(list(weights), seed) for seed in comparison.seeds}

    def _compared(
        self,
        variant: Mapping[str, str],
        baseline: Mapping[str, str],
        weights: Mapping[tuple[str, ...], float],
    ) -> Comparison:
        """The weighted sums of the settings' runs, seed by seed."""
        seeds = self.seeds if weights or len(variant) == 1 else []
        found = {seed: self._pair(list(weights), seed) for seed in seeds}
        pairs = {seed: runs for seed, runs in found.items() if not isinstance(runs, Unpaired)}
        used = [run for runs in pairs.values() for run in runs]
        measured = [_difference(list(weights.values()), runs, self.metric) for runs in pairs.values()]
        return Comparison(
            factors=tuple(variant),
            variant=tuple(variant.values()),
            baseline=tuple(baseline.values()),
            metric=self.metric,
            seeds=tuple(pairs),
            differences=tuple(difference for difference, _ in measured),
            rounding=tuple(rounding for _, rounding in measured),
            run_ids=tuple(tuple(str(run.get("run_id", "")) for run in runs) for runs in pairs.values()),
            seen=tuple(max(int(run.get(LOOK, 1)) for run in runs) for runs in pairs.values()),
            unpaired=tuple(each for each in found.values() if isinstance(each, Unpaired)),
            fingerprinted=bool(used) and all(text(run.get(tag(key))) for run in used for key in FINGERPRINTS),
            hopeless=tuple(filter(None, map(self._hopeless, weights))),
            censored=tuple(seed for seed, runs in pairs.items() if any(map(self._censored, runs))),
            signs=tuple(1 if weight > 0 else -1 for weight in weights.values()),
            averaged=self._averaged(weights, variant),
            settings=tuple(weights),
        )

    def _differing(
        self,
        variant: Mapping[str, str],
        baseline: Mapping[str, str],
        settings: Sequence[tuple[str, ...]],
        pairs: Mapping[str, Sequence[Mapping[Any, Any]]],
    ) -> Found:
        """What the runs differ in that differ in one factor alone."""
        at = {setting: i for i, setting in enumerate(settings)}
        edges = [
            (factor, i, at[self._setting(setting, {factor: baseline[factor]})])
            for factor, level in variant.items()
            for setting, i in at.items()
            if setting[self.factors.index(factor)] == level
        ]
        compared = [
            (seed, factor, runs[i][KNOWN], runs[j][KNOWN])
            for seed, runs in pairs.items()
            for factor, i, j in edges
        ]
        sides = {factor: (level, baseline[factor]) for factor, level in variant.items()}
        return differences(compared, sides, self.rules)

    def _averaged(self, settings: Iterable[tuple[str, ...]], varied: Mapping[str, str]) -> tuple[str, ...]:
        """The other factors of which these settings have several levels."""
        levels = dict(zip(self.factors, map(set, zip(*settings, strict=True)), strict=False))
        return tuple(key for key, found in levels.items() if key not in varied and len(found) > 1)

    def _hopeless(self, setting: tuple[str, ...]) -> Hopeless | None:
        """The setting, where all its runs have ended by themselves and none has a result."""
        runs = [run for seed in self.seeds for run in self.at.get((setting, seed), [])]
        if not all(is_lost(run) for run in runs):
            return None
        ids = tuple(str(run.get("run_id", "")) for run in runs)
        return Hopeless(dict(zip(self.factors, setting, strict=True)), ids)

    def _censored(self, run: Mapping[str, Any]) -> bool:
        """Whether the value, in epochs to a target, is one that the run did not have."""
        return self.metric == EPOCHS_TO_TARGET and run["value"] > number(run.get(param("trainer.epochs")))

    def _weights(
        self, variant: Mapping[str, str], baseline: Mapping[str, str], at: Mapping[str, str], jointly: bool
    ) -> dict[tuple[str, ...], float]:
        """What each setting counts in the difference; none where no setting of the other factors has all sides."""
        corners: list[tuple[dict[str, str], int]] = [({}, 1)]
        if jointly:
            corners = [(dict(variant), 1), (dict(baseline), -1)]
        for factor in variant if not jointly else ():
            signed = (variant[factor], 1), (baseline[factor], -1)
            corners = [
                (corner | {factor: level}, sign * s) for corner, sign in corners for level, s in signed
            ]
        settings = (each for each in self.settings if self._setting(each, at) == each)
        rest = {self._setting(setting, corners[0][0]) for setting in settings}
        rest = sorted(rest, key=lambda levels: [natural(level) for level in levels])
        cells = [{self._setting(each, corner): sign for corner, sign in corners} for each in rest]
        cells = [signs for signs in cells if self.settings.keys() >= signs.keys()]
        return {setting: sign / len(cells) for signs in cells for setting, sign in signs.items()}

    def _setting(self, setting: tuple[str, ...], changed: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(changed.get(factor, level) for factor, level in zip(self.factors, setting, strict=True))

    def _pair(self, settings: Sequence[tuple[str, ...]], seed: str) -> list[dict[str, Any]] | Unpaired:
        """One finished run for each setting, or why there is no such pair."""
        if not settings:
            return Unpaired(seed, Reason.NEVER_MEET)
        if seed == NOT_LOGGED:
            return Unpaired(seed, Reason.NO_SEED)
        chosen, gaps = [], []
        for setting in settings:
            runs = self.at.get((setting, seed), [])
            finished = [run for run in runs if run["outcome"] == Outcome.FINISHED]
            if len(finished) == 1:
                chosen += finished
                continue
            outcome = Outcome(runs[-1]["outcome"]) if runs else Outcome.MISSING
            gaps.append(Gap(dict(zip(self.factors, setting, strict=True)), outcome, len(finished)))
        if gaps:
            return Unpaired(seed, Reason.NOT_ONE_RUN, gaps=tuple(gaps))
        differing = tuple(key for key in FINGERPRINTS if len({text(run.get(tag(key))) for run in chosen}) > 1)
        return Unpaired(seed, Reason.FINGERPRINTS, differing=differing) if differing else chosen


def is_lost(run: Mapping[str, Any]) -> bool:
    """Whether a run ended without a result, and would again: it was not stopped from outside."""
    stopped = run["status"] == "KILLED" or text(run.get(tag("failure"))) == "interrupted"
    return run["outcome"] not in (Outcome.FINISHED, Outcome.UNFINISHED) and not stopped


def _difference(
    weights: Sequence[float], runs: Sequence[Mapping[str, Any]], metric: str
) -> tuple[float, float]:
    """The weighted sum of the runs' values, 0 where it is rounding alone, and the most that rounding can make of it,
    that of values that were computed from others included."""
    parts = [weight * run["value"] for weight, run in zip(weights, runs, strict=True)]
    rounding = STORED.get(metric, 0.0) * exact.total(map(abs, weights)) + ROUNDING * exact.total(
        map(abs, parts)
    )
    difference = exact.total(parts)
    return (difference if abs(difference) > rounding else 0.0), rounding
