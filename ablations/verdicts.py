"""From paired runs to verdicts: does this choice matter, and how sure can one be?

Differences are taken seed by seed and always mean variant − baseline, in the metric's own unit. The sign-flip test
asks how often differences of random sign would have a mean as far from zero; the interval holds every difference
that this same test does not reject, so that the two never contradict each other. Runs are rows as the store's
reader gives them. docs/statistics.md has the rules, the formulae and what simulation says about them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from itertools import combinations, count, product
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ablations.errors import InputError
from ablations.tracking.columns import (
    NOT_LOGGED,
    column,
    metrics_in,
    natural,
    number,
    numbers,
    param,
    tag,
    text,
)
from ablations.tracking.columns import metric as metric_column

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray


class Verdict(StrEnum):
    """What may be said of a comparison, what is settled first."""

    BETTER = "better"
    WORSE = "worse"
    NO_DIFFERENCE = "no difference that matters"
    INCONCLUSIVE = "inconclusive"
    TOO_FEW = "too few seeds"

    @property
    def settled(self) -> bool:
        """Whether further seeds are not needed."""
        return self not in (Verdict.INCONCLUSIVE, Verdict.TOO_FEW)


SUPPORTED, REFUTED = "supported", "refuted"

ALPHA = 0.05  # the interval's level is 1 − ALPHA
POWER = 0.8  # of the studies that `seeds_needed` proposes
MOST_SEEDS = 1000  # `seeds_needed` looks no further
FLIPS = 9999  # beyond so many sign patterns (14 pairs) the test draws this many at random
ROUNDING = 1e-9  # relative size below which a difference is taken for rounding

FINGERPRINTS = ("stream", "data_sha256")
"""Tags in which the runs of a pair must agree."""

COLUMNS = (
    "factors",
    "variant",
    "baseline",
    "metric",
    "n",
    "mean_diff",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "prob_better",
    "effect_size",
    "verdict",
    "seeds_needed",
)


# One comparison


@dataclass(frozen=True)
class SignFlip:
    """Two-sided p-value of "the mean difference is zero" and the interval of the means that are not rejected."""

    p: float
    low: float
    high: float


def sign_flip(differences: "ArrayLike", alpha: float = ALPHA, flips: int = FLIPS) -> SignFlip:
    """The paired sign-flip permutation test of a zero mean, and the same test inverted.

    Were the mean θ and the distribution symmetric, dᵢ − θ could as well have the other sign. Flipping the signs of
    a set S gives a mean as high as the observed one exactly where mean(dᵢ, i ∈ S) ≤ θ. The sorted means over all
    sets S are therefore the places where the p-value p(θ) steps: p = p(0), and the interval is {θ: p(θ) > α}.

    Of 2ⁿ sign patterns all are used where they are at most `flips`, else `flips` random ones, always the same. With
    fewer than 6 pairs nothing is rejected at α = 0.05 and the interval is (−inf, inf); without pairs p is NaN.

    Source: E. J. G. Pitman (1937), Supplement to the J. R. Stat. Soc. 4(1), 119–130.

    Args:
        differences: finite, one for each pair, in any unit, which is that of the interval.
        alpha: 1 − the level of the interval.
        flips: the most sign patterns looked at.

    Raises:
        ValueError: a difference is not finite.
    """
    from scipy.stats import permutation_test

    pairs = np.sort(_finite(differences))  # so that their order cannot matter
    if len(pairs) < 2:
        return SignFlip(1.0 if len(pairs) else math.nan, -math.inf, math.inf)

    def mean_of_flipped(signed: "NDArray", axis: int) -> "NDArray":
        flipped = np.signbit(signed) != np.signbit(pairs)
        with np.errstate(invalid="ignore"):  # no flip at all: 0 / 0
            return (flipped * pairs).sum(axis) / flipped.sum(axis)

    steps = permutation_test(
        (pairs,),
        mean_of_flipped,
        permutation_type="samples",
        vectorized=True,
        n_resamples=flips,
        random_state=np.random.default_rng(0),
    ).null_distribution
    steps = np.where(np.abs(steps) <= ROUNDING * np.abs(pairs).max(), 0.0, steps)
    # The observed signs are as extreme as themselves, whatever θ is.
    rising = np.sort(np.where(np.isnan(steps), -np.inf, steps))
    falling = np.sort(np.where(np.isnan(steps), -np.inf, -steps))

    observed = 0 if 2 ** len(pairs) <= flips else 1  # random patterns do not contain the observed one
    patterns = len(steps) + observed
    as_extreme = int(min((rising <= 0).sum(), (falling <= 0).sum())) + observed
    last = math.floor(alpha * patterns / 2 + ROUNDING) - observed
    return SignFlip(min(1.0, 2 * as_extreme / patterns), float(rising[last]), -float(falling[last]))


def smallest_p(n: int) -> float:
    """The smallest two-sided p-value that n pairs can reach: 2/2ⁿ."""
    return min(1.0, 2.0 ** (1 - n))


def can_reach(n: int, comparisons: int, alpha: float = ALPHA) -> bool:
    """Whether n pairs can be significant at all after the correction for so many comparisons."""
    return smallest_p(n) * comparisons < alpha


def fewest_seeds(comparisons: int) -> int:
    """The smallest number of seeds at which a study of so many comparisons can come to a verdict."""
    return next(n for n in count(2) if can_reach(n, comparisons))


def prob_better(differences: "ArrayLike", smaller_is_better: bool) -> float:
    """Share of the pairs in which the variant beats the baseline, ties counting half; NaN without pairs."""
    signs = np.sign(_finite(differences)) * (-1 if smaller_is_better else 1)
    return float((1 + signs.mean()) / 2) if len(signs) else math.nan


def effect_size(differences: "ArrayLike") -> float:
    """Paired standardised difference: mean / standard deviation (n − 1), with the sign of the mean.

    ±inf where all differences are equal, 0 where all are zero, NaN for fewer than two pairs.
    """
    mean, sd = _mean_and_sd(differences)
    if math.isnan(sd):
        return math.nan
    if sd == 0:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / sd


def holm(p: "ArrayLike") -> "NDArray[np.float64]":
    """Holm's correction of the p-values of one study. A planned comparison without pairs (NaN) counts as well."""
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p, dtype=float)
    if not len(p):
        return p
    corrected = multipletests(np.nan_to_num(p, nan=1.0), alpha=ALPHA, method="holm")[1]
    return np.where(np.isnan(p), np.nan, corrected)


def verdict(
    test: SignFlip, p_holm: float, n: int, comparisons: int, margin: float, smaller_is_better: bool
) -> Verdict:
    """The first that applies.

    *no difference that matters*: the whole interval lies inside ±margin, even where it excludes 0: a difference that
    is certain but small. *better* or *worse*: corrected p < 0.05 and the interval excludes 0. *too few seeds*: n pairs
    cannot reach 0.05 after the correction, however large the effect. *inconclusive*: none of these.

    Args:
        test: of the differences variant − baseline.
        p_holm: the p-value after correction.
        n: pairs.
        comparisons: of the study.
        margin: largest difference that does not matter, in the metric's unit.
        smaller_is_better: as for errors.
    """
    if -margin <= test.low and test.high <= margin:
        return Verdict.NO_DIFFERENCE
    if p_holm < ALPHA and not test.low <= 0 <= test.high:
        return Verdict.BETTER if (test.high < 0) == smaller_is_better else Verdict.WORSE
    return Verdict.INCONCLUSIVE if can_reach(n, comparisons) else Verdict.TOO_FEW


def seeds_needed(mean: float, sd: float, n: int, margin: float, comparisons: int = 1) -> int:
    """About how many seeds in all would settle a comparison that n seeds have not.

    The fewest seeds, more than n, at which a study would be expected (probability 0.8) to say *better* or *worse*, or
    else *no difference that matters*, if mean and standard deviation were as estimated. The power is that of the
    t-test at α / comparisons; never fewer than the sign-flip test needs to reach its level at all.

    Args:
        mean: of the differences, in the metric's unit.
        sd: standard deviation of the differences, same unit; NaN where there is none yet.
        n: pairs there are now.
        margin: largest difference that does not matter, same unit.
        comparisons: that share the error of 5 %.

    Returns:
        At most `MOST_SEEDS` (or n + 1), which stands for "so many or more".
    """
    settles: Callable[[int], bool]
    if math.isnan(sd):

        def settles(seeds: int) -> bool:
            return can_reach(seeds, comparisons)

    else:

        def settles(seeds: int) -> bool:
            found = can_reach(seeds, comparisons) and _power(mean, sd, seeds, ALPHA / comparisons) >= POWER
            return found or (can_reach(seeds, 1) and _confined(mean, sd, seeds, margin) >= POWER)

    more = range(n + 1, MOST_SEEDS)
    return n + 1 + bisect_left(more, True, key=settles)


def _power(mean: float, sd: float, n: int, alpha: float) -> float:
    """Probability that a two-sided t-test of n differences rejects a zero mean."""
    if sd == 0:
        return float(mean != 0)
    from statsmodels.stats.power import ttest_power

    # The far tail adds nothing and is not computed reliably; neither is a power that is 1 anyway.
    effect = min(abs(mean) / sd, 30 / math.sqrt(n))
    return float(ttest_power(effect, n, alpha / 2, alternative="larger"))


def _confined(mean: float, sd: float, n: int, margin: float) -> float:
    """Probability that the 95 % interval of n differences lies inside ±margin (t instead of sign-flip)."""
    if sd == 0:
        return float(abs(mean) <= margin)
    from scipy.special import ndtr, stdtrit

    error = sd / math.sqrt(n)
    room = margin - stdtrit(n - 1, 1 - ALPHA / 2) * error
    return float(ndtr((room - mean) / error) - ndtr((-room - mean) / error)) if room > 0 else 0.0


def _finite(differences: "ArrayLike") -> "NDArray[np.float64]":
    values = np.asarray(differences, dtype=float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError(f"differences: one finite number for each pair is expected, got {differences!r}")
    return values


def _mean_and_sd(differences: "ArrayLike") -> tuple[float, float]:
    """NaN where there are too few pairs; a spread of the size of rounding is none."""
    values = _finite(differences)
    mean = float(values.mean()) if len(values) else math.nan
    sd = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return mean, 0.0 if len(values) > 1 and sd <= ROUNDING * np.abs(values).max() else sd


# All comparisons of a study


def judge(
    samples: Sequence["ArrayLike"],
    margin: "float | Sequence[float]",
    smaller_is_better: "bool | Sequence[bool]",
) -> pd.DataFrame:
    """Test, interval, effect sizes and verdict of each comparison of one study, one row each, in their order.

    Args:
        samples: for each comparison its differences variant − baseline, one for each pair, possibly none.
        margin: largest difference that does not matter, in the metric's unit; one for all or one for each.
        smaller_is_better: as for errors; one for all or one for each.

    Returns:
        Columns `n`, `mean_diff`, `ci_low`, `ci_high`, `p`, `p_holm`, `prob_better`, `effect_size`, `verdict`,
        `seeds_needed` (missing where the verdict is settled).

    Raises:
        InputError: the margin is negative or not a number.
    """
    m = len(samples)
    margins = np.broadcast_to(np.asarray(margin, dtype=float), m).tolist()
    smaller = np.broadcast_to(smaller_is_better, m).tolist()
    for each in np.atleast_1d(np.asarray(margin, dtype=float)):
        if not each >= 0:
            raise InputError(
                f"margin={each:g}: a number of at least 0 is expected, in the unit of the metric"
            )
    # Random sign patterns must be able to pass the correction, too.
    tests = [sign_flip(sample, flips=max(FLIPS, 80 * m)) for sample in samples]
    corrected = holm([test.p for test in tests])
    verdicts = [
        verdict(test, p, len(sample), m, each, small)
        for test, p, sample, each, small in zip(tests, corrected, samples, margins, smaller, strict=True)
    ]
    # Holm's correction asks less of the others once some are settled.
    open_comparisons = m - sum(each in (Verdict.BETTER, Verdict.WORSE) for each in verdicts)
    rows = []
    for sample, test, p_holm, found, each, small in zip(
        samples, tests, corrected, verdicts, margins, smaller, strict=True
    ):
        mean, sd = _mean_and_sd(sample)
        n = len(sample)
        rows.append(
            {
                "n": n,
                "mean_diff": mean,
                "ci_low": test.low,
                "ci_high": test.high,
                "p": test.p,
                "p_holm": p_holm,
                "prob_better": prob_better(sample, small),
                "effect_size": effect_size(sample),
                "verdict": found,
                "seeds_needed": pd.NA if found.settled else seeds_needed(mean, sd, n, each, open_comparisons),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS[4:]).astype({"n": int, "seeds_needed": "Int64"})


class Outcome(StrEnum):
    """How a run ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    """By an error, or interrupted."""
    UNFINISHED = "unfinished"
    """Still running, as far as the store knows."""
    WITHOUT_RESULT = "without result"
    """Ended well, but with no finite value of the metric."""
    MISSING = "missing"
    """There is no run at all."""


def with_outcomes(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Runs with `value` (of the metric, NaN where it is absent or not finite) and `outcome`, an `Outcome`.

    Raises:
        InputError: no run has the metric.
    """
    if metric_column(metric) not in runs:
        there = ", ".join(sorted(metrics_in(runs))) or "none"
        raise InputError(f"metric {metric}: no run has it; there are {there}")
    value = numbers(runs, metric_column(metric))
    ended = runs["status"] == "FINISHED"
    outcome = np.select(
        [
            column(runs, tag("failure")) == "diverged",
            ended & value.notna(),
            ended,
            runs["status"].isin(["RUNNING", "SCHEDULED"]),
        ],
        [Outcome.DIVERGED, Outcome.FINISHED, Outcome.WITHOUT_RESULT, Outcome.UNFINISHED],
        Outcome.CRASHED,
    )
    return runs.assign(value=value, outcome=outcome)


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
        unpaired: the seeds that gave none, and why.
        fingerprinted: whether every pair rests on recorded fingerprints, not on its seed alone.
    """

    factors: tuple[str, ...]
    variant: tuple[str, ...]
    baseline: tuple[str, ...]
    metric: str
    seeds: tuple[str, ...]
    differences: tuple[float, ...]
    run_ids: tuple[tuple[str, ...], ...]
    unpaired: tuple[Unpaired, ...]
    fingerprinted: bool

    @property
    def foreign(self) -> bool:
        """Whether all its seeds were refused for their fingerprints: no further seeds can settle it."""
        refused = [each.reason is Reason.FINGERPRINTS for each in self.unpaired]
        return bool(refused) and not self.seeds and all(refused)


def tabulate(
    comparisons: Sequence[Comparison],
    margin: float | Sequence[float],
    smaller_is_better: bool | Sequence[bool],
) -> pd.DataFrame:
    """The verdict table of one study: a row for each of its comparisons, with exactly the columns `COLUMNS`.

    `factors`, `variant` and `baseline` are tuples, as in a `Comparison`. As in `judge`, there is one rule for all or
    one for each; what can never be paired needs no seeds.

    Raises:
        InputError: a margin is negative or not a number.
    """
    judged = judge([each.differences for each in comparisons], margin, smaller_is_better)
    judged.loc[np.array([each.foreign for each in comparisons], bool), "seeds_needed"] = pd.NA
    names = {name: [getattr(each, name) for each in comparisons] for name in COLUMNS[:4]}
    return judged.assign(**names)[list(COLUMNS)]


def comparisons(
    runs: pd.DataFrame,
    factors: Sequence[str],
    baseline: Mapping[str, object],
    metric: str,
    interactions: bool = True,
) -> tuple[Comparison, ...]:
    """Every comparison that the runs' design holds: each level with the baseline's, then two-factor interactions.

    A level and the baseline's are compared at every setting of the other factors at which runs of both exist, with
    equal weight: the baseline alone where one factor at a time was varied, all settings in a full grid. A seed counts
    where every run that it takes finished and all of them have the same `FINGERPRINTS`.

    Args:
        runs: those of the study. A run that did not log one of the factors belongs to no variant.
        factors: the params that were varied.
        baseline: for each factor the level that the others are compared with.
        metric: name of the outcome.
        interactions: give those, too. All comparisons share the correction, so that more of them need more seeds.

    Raises:
        InputError: no run, no such metric, a baseline that no run has, or no factor with a second level.
    """
    cells = _Cells(runs, factors, metric)
    for factor in factors:
        if factor not in baseline:
            raise InputError(
                f"baseline: {factor} is varied and needs a level; there are {cells.named(factor)}"
            )
        if text(baseline[factor]) not in cells.levels[factor]:
            raise InputError(
                f"baseline {factor}={baseline[factor]}: no run has it; there are {cells.named(factor)}"
            )
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


class _Cells:
    """Runs by setting of all factors and by seed, as differences are taken from them."""

    def __init__(self, runs: pd.DataFrame, factors: Sequence[str], metric: str) -> None:
        if runs.empty:
            raise InputError("there are no runs to compare")
        self.factors, self.metric = tuple(factors), metric
        self.at: dict[tuple[tuple[str, ...], str], list[dict]] = {}
        self.settings: dict[tuple[str, ...], None] = {}
        seeds = set()
        for run in with_outcomes(runs, metric).to_dict("records"):
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

    def named(self, factor: str) -> str:
        return ", ".join(self.levels[factor]) or "none: no run logged it"

    def compare(self, variant: Mapping[str, str], baseline: Mapping[str, str]) -> Comparison:
        """The main effect of one factor, or the interaction of two."""
        weights = self._weights(variant, baseline)
        seeds, differences, run_ids, unpaired, fingerprinted = [], [], [], [], True
        for seed in self.seeds if weights or len(variant) == 1 else []:
            runs = self._pair(list(weights), seed)
            if isinstance(runs, Unpaired):
                unpaired.append(runs)
                continue
            values = np.array([run["value"] for run in runs])
            difference = float(np.dot(list(weights.values()), values))
            seeds.append(seed)
            differences.append(difference if abs(difference) > 1e-12 * np.abs(values).max() else 0.0)
            run_ids.append(tuple(str(run.get("run_id", "")) for run in runs))
            fingerprinted &= all(text(run.get(tag(key))) is not None for run in runs for key in FINGERPRINTS)
        return Comparison(
            tuple(variant),
            tuple(variant.values()),
            tuple(baseline.values()),
            self.metric,
            tuple(seeds),
            tuple(differences),
            tuple(run_ids),
            tuple(unpaired),
            fingerprinted and bool(seeds),
        )

    def _weights(
        self, variant: Mapping[str, str], baseline: Mapping[str, str]
    ) -> dict[tuple[str, ...], float]:
        """What each setting counts in the difference; none where no setting of the other factors has all sides."""
        corners: list[tuple[dict[str, str], int]] = [({}, 1)]
        for factor in variant:
            signed = (variant[factor], 1), (baseline[factor], -1)
            corners = [(at | {factor: level}, sign * s) for at, sign in corners for level, s in signed]
        rest = {self._setting(setting, corners[0][0]) for setting in self.settings}
        contexts = [
            setting
            for setting in sorted(rest, key=lambda levels: [natural(level) for level in levels])
            if all(self._setting(setting, corner) in self.settings for corner, _ in corners)
        ]
        return {
            self._setting(context, corner): sign / len(contexts)
            for context in contexts
            for corner, sign in corners
        }

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


def dependences(table: pd.DataFrame) -> pd.DataFrame:
    """The main effects that an interaction outweighs, and what they depend on.

    Args:
        table: as `tabulate` gives it.

    Returns:
        One row for each main effect and interaction of larger size: `factor`, `variant`, `baseline`, `main` (its
        mean difference), `on`, `on_variant`, `on_baseline` (the other factor and its two levels), `interaction`
        (the mean difference of differences) and `established` (whether the interaction's corrected p is below 0.05;
        else it may be chance).
    """
    rows = []
    effects = table.to_dict("records")
    main = {(*row["factors"], *row["variant"], *row["baseline"]): row["mean_diff"] for row in effects}
    for row in effects:
        sides = list(zip(row["factors"], row["variant"], row["baseline"], strict=True))
        for own, other in (sides, sides[::-1]) if len(sides) == 2 else ():
            if abs(row["mean_diff"]) > abs(main.get(own, math.inf)):
                rows.append((*own, main[own], *other, row["mean_diff"], row["p_holm"] < ALPHA))
    columns = ["factor", "variant", "baseline", "main", "on", "on_variant", "on_baseline", "interaction"]
    return pd.DataFrame(rows, columns=[*columns, "established"])


# Nuisance factors


def tuned(
    runs: pd.DataFrame,
    factors: Sequence[str],
    nuisance: Sequence[str],
    metric: str = "val/accuracy",
    smaller_is_better: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Each variant at the nuisance values that serve it best on validation images, and what it was given.

    Of the combinations of values tried, those that diverged in the fewest runs are considered, and of these the one
    with the best mean of the metric over its finished runs is chosen. The test set has no say.

    Args:
        runs: with every value that was tried.
        factors: the params that are compared.
        nuisance: the params that are chosen for each variant, such as `optimizer.lr`.
        metric: the validation metric that chooses.
        smaller_is_better: whether it is a loss or an error.

    Returns:
        The runs at the chosen values (all runs of a variant none of whose runs finished), and one row per variant:
        the params of factors and of nuisance factors (as chosen, missing where none finished), `tried` (of each
        nuisance factor every value, in order), `combinations`, `runs` (the budget), `diverged`, `validation` (mean
        of the metric at the choice) and `edge` (the nuisance factors whose chosen value is the smallest or largest
        number tried: a better one may lie beyond).

    Raises:
        InputError: no run has the metric.
    """
    frame = with_outcomes(runs, metric).reset_index(drop=True)
    levels = [
        [text(level) or NOT_LOGGED for level in column(frame, param(key))] for key in (*factors, *nuisance)
    ]
    settings = list(zip(*levels, strict=True))
    at = pd.Series([setting[len(factors) :] for setting in settings], dtype=object)
    by_variant: dict[tuple[str, ...], list[int]] = {}
    for i, setting in enumerate(settings):
        by_variant.setdefault(setting[: len(factors)], []).append(i)
    kept, rows = [], []
    for variant in sorted(by_variant, key=lambda levels: [natural(level) for level in levels]):
        own = frame.loc[by_variant[variant]]
        given = at[own.index]
        values, validation = _best_values(own, given, smaller_is_better)
        kept += list(own.index if values is None else own.index[[each == values for each in given]])
        chosen = dict(zip(nuisance, values or (None,) * len(nuisance), strict=True))
        tried = {
            key: tuple(sorted({each[i] for each in given}, key=natural)) for i, key in enumerate(nuisance)
        }
        rows.append(
            {param(key): level for key, level in zip(factors, variant, strict=True)}
            | {param(key): value for key, value in chosen.items()}
            | {
                "tried": tried,
                "combinations": given.nunique(),
                "runs": len(own),
                "diverged": int((own["outcome"] == Outcome.DIVERGED).sum()),
                "validation": validation,
                "edge": tuple(key for key, value in chosen.items() if _at_edge(value, tried[key])),
            }
        )
    return runs.iloc[sorted(kept)].reset_index(drop=True), pd.DataFrame(rows)


def _best_values(
    runs: pd.DataFrame, at: pd.Series, smaller_is_better: bool
) -> tuple[tuple[str, ...] | None, float]:
    """Of a variant's nuisance values, `at` those of its runs, the best ones and their mean on validation."""
    candidates = []
    for values in sorted(set(at), key=lambda levels: [natural(level) for level in levels]):
        tried = runs[[each == values for each in at]]
        mean = tried.loc[tried["outcome"] == Outcome.FINISHED, "value"].mean()
        if not math.isnan(mean):
            diverged = int((tried["outcome"] == Outcome.DIVERGED).sum())
            candidates.append(((diverged, mean if smaller_is_better else -mean), values, mean))
    _, values, mean = min(candidates, key=lambda candidate: candidate[0], default=(None, None, math.nan))
    return values, mean


def _at_edge(value: str | None, tried: Sequence[str]) -> bool:
    ordered = sorted(each for each in map(number, tried) if not math.isnan(each))
    return number(value) in ordered[:1] + ordered[-1:]


# Claims


@dataclass(frozen=True)
class Claim:
    """A comparison that a source has decided: "ReLU converges faster than sigmoid".

    Attributes:
        text: in words.
        source: where it was found.
        factor: what is varied.
        variant: the level that the claim is about.
        baseline: the level that it is compared with.
        metric: name of the outcome.
        direction: `better` or `worse`, what the source says of the variant.

    Raises:
        InputError: another direction.
    """

    text: str
    source: str
    factor: str
    variant: str
    baseline: str
    metric: str
    direction: str = Verdict.BETTER

    def __post_init__(self) -> None:
        accepted = (Verdict.BETTER, Verdict.WORSE)
        if self.direction not in accepted:
            raise InputError(
                f"claim '{self.text}': direction={self.direction}; accepted: {', '.join(accepted)}"
            )


def answer(claim: Claim, table: pd.DataFrame) -> tuple[str, Mapping[str, Any]]:
    """What a study says of a claim, and the row of its verdict table that says it.

    The verdict in the claim's direction makes it *supported*, the opposite one *refuted*; every other verdict is the
    answer itself. A row that compares the same two levels the other way round answers as well.

    Args:
        claim: on a comparison that the table has.
        table: as `tabulate` gives it, possibly of several metrics one below the other.

    Raises:
        InputError: the table has no such comparison.
    """
    opposite = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    direction = Verdict(claim.direction)
    rows = {tuple(row[name] for name in COLUMNS[:4]): row for row in table.to_dict("records")}
    for variant, baseline, expected in (
        (claim.variant, claim.baseline, direction),
        (claim.baseline, claim.variant, opposite[direction]),
    ):
        row = rows.get(((claim.factor,), (variant,), (baseline,), claim.metric))
        if row is not None:
            answers = {expected: SUPPORTED, opposite[expected]: REFUTED}
            return answers.get(row["verdict"], row["verdict"]), row
    there = "; ".join(f"{f[0]}: {v[0]} against {b[0]} in {m}" for f, v, b, m in rows if len(f) == 1)
    raise InputError(
        f"claim '{claim.text}': the study does not compare {claim.factor}={claim.variant} with "
        f"{claim.baseline} in {claim.metric}; it compares {there or 'nothing'}"
    )
