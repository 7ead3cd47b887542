"""From paired runs to verdicts: does this choice matter, and how sure can one be?

Differences are taken seed by seed and always mean variant − baseline, in the metric's own unit. The sign-flip test
asks how often differences of random sign would have a mean as far from zero; the interval holds every difference
that this same test does not reject, so that the two never contradict each other. Runs are rows as the store's
reader gives them (`params.<key>`, `metrics.<name>`, `tags.<key>`, `status`). docs/statistics.md has the rules, the
formulae and what simulation says about them.
"""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ablations.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

BETTER, WORSE = "better", "worse"
NO_DIFFERENCE = "no difference that matters"
INCONCLUSIVE = "inconclusive"
TOO_FEW = "too few seeds"
VERDICTS = (BETTER, WORSE, NO_DIFFERENCE, INCONCLUSIVE, TOO_FEW)

SUPPORTED, REFUTED = "supported", "refuted"

ALPHA = 0.05  # the interval's level is 1 − ALPHA
POWER = 0.8  # of the studies that `seeds_needed` proposes
MOST_SEEDS = 1000  # `seeds_needed` looks no further
FLIPS = 9999  # beyond so many sign patterns (14 pairs) the test draws this many at random
ROUNDING = 1e-9  # relative size below which a difference is taken for rounding

FINGERPRINTS = ("tags.stream", "tags.data_sha256")
DIFFER = "differ"  # what those of two runs do that are no pair
NOT_LOGGED = "(not logged)"
BETWEEN = " × "  # joins the two factors of an interaction, and their levels
# MLflow's stores write infinity as the largest float64.
INFINITE = 1e308

COLUMNS = (
    "factor",
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
) -> str:
    """One of `VERDICTS`, the first that applies.

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
        return NO_DIFFERENCE
    if p_holm < ALPHA and not test.low <= 0 <= test.high:
        return BETTER if (test.high < 0) == smaller_is_better else WORSE
    return INCONCLUSIVE if can_reach(n, comparisons) else TOO_FEW


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
    open_comparisons = m - sum(said in (BETTER, WORSE) for said in verdicts)
    rows = []
    for sample, test, p_holm, said, each, small in zip(
        samples, tests, corrected, verdicts, margins, smaller, strict=True
    ):
        mean, sd = _mean_and_sd(sample)
        n = len(sample)
        unsettled = said in (INCONCLUSIVE, TOO_FEW)
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
                "verdict": said,
                "seeds_needed": seeds_needed(mean, sd, n, each, open_comparisons) if unsettled else pd.NA,
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS[4:]).astype({"n": int, "seeds_needed": "Int64"})


@dataclass(frozen=True)
class Contrast:
    """A comparison before its test: the differences seed by seed, and the seeds that could not be paired.

    Attributes:
        factor: what was varied; `a × b` for the interaction of a and b.
        variant: its level, `level of a × level of b` for an interaction.
        baseline: the level or levels compared with.
        metric: its name.
        seeds: those that gave a difference.
        differences: variant − baseline for each of them, in the metric's unit, averaged over the settings of the
            other factors. For an interaction the difference of differences: how much more the one choice brings
            where the other is made as well.
        run_ids: for each seed the runs behind the difference.
        unpaired: (seed, reason) for each seed that gave none.
        fingerprinted: whether every pair rests on recorded fingerprints, not on its seed alone.
    """

    factor: str
    variant: str
    baseline: str
    metric: str
    seeds: tuple[str, ...]
    differences: tuple[float, ...]
    run_ids: tuple[tuple[str, ...], ...]
    unpaired: tuple[tuple[str, str], ...]
    fingerprinted: bool

    @property
    def foreign(self) -> bool:
        """Whether all its seeds were refused for their fingerprints: no further seeds can settle it."""
        return bool(self.unpaired) and not self.seeds and all(DIFFER in why for _, why in self.unpaired)

    @property
    def caveat(self) -> str:
        """What must be said beside the numbers where seeds are lacking; empty where none is."""
        if not self.unpaired:
            return ""
        reasons = "; ".join(f"seed {seed}: {reason}" for seed, reason in self.unpaired)
        seeds = len(self.seeds) + len(self.unpaired)
        return f"rests on {len(self.seeds)} of {seeds} seeds ({reasons})"


def effects(
    runs: pd.DataFrame,
    factors: Sequence[str],
    baseline: Mapping[str, object],
    metric: str,
    margin: float,
    smaller_is_better: bool,
    interactions: bool = True,
) -> pd.DataFrame:
    """The verdict table of one study: one row for each of its `contrasts`, with exactly the columns `COLUMNS`.

    Args:
        runs: those of the study, as `ablations.statistics.select` gives them.
        factors: the keys that were varied, without `params.`.
        baseline: for each factor the level that the others are compared with.
        metric: name of the outcome, without `metrics.`.
        margin: largest difference that does not matter, in the metric's unit.
        smaller_is_better: as for errors.
        interactions: compare those, too. All comparisons share the correction, so that more of them need more seeds.

    Raises:
        InputError: there is nothing to compare, as `contrasts` says, or the margin is negative.
    """
    return tabulate(contrasts(runs, factors, baseline, metric, interactions), margin, smaller_is_better)


def tabulate(
    comparisons: Sequence[Contrast], margin: float | Sequence[float], smaller_is_better: bool | Sequence[bool]
) -> pd.DataFrame:
    """`effects` of contrasts that are at hand; together they are one study. As in `judge`, one rule or one for each."""
    judged = judge([contrast.differences for contrast in comparisons], margin, smaller_is_better)
    judged.loc[np.array([contrast.foreign for contrast in comparisons], bool), "seeds_needed"] = pd.NA
    names = {name: [getattr(contrast, name) for contrast in comparisons] for name in COLUMNS[:4]}
    return judged.assign(**names)[list(COLUMNS)]


def contrasts(
    runs: pd.DataFrame,
    factors: Sequence[str],
    baseline: Mapping[str, object],
    metric: str,
    interactions: bool = True,
) -> tuple[Contrast, ...]:
    """Every comparison that the runs' design holds: each level with the baseline's, then two-factor interactions.

    A level and the baseline's are compared at every setting of the other factors at which runs of both exist, with
    equal weight: the baseline alone where one factor at a time was varied, all settings in a full grid. A seed counts
    where every run that it takes finished and all of them have the same fingerprints (`stream`, `data_sha256`).

    Args:
        runs: those of the study. A run that did not log one of the factors belongs to no variant.
        factors: the keys that were varied, without `params.`.
        baseline: for each factor the level that the others are compared with.
        metric: name of the outcome, without `metrics.`.
        interactions: give those, too.

    Raises:
        InputError: no run, no such metric, a baseline that no run has, or no factor with a second level.
    """
    cells = _Cells(runs, factors, metric)
    for factor in factors:
        if factor not in baseline:
            raise InputError(
                f"baseline: {factor} is varied and needs a level; there are {cells.named(factor)}"
            )
        if _text(baseline[factor]) not in cells.levels[factor]:
            raise InputError(
                f"baseline {factor}={baseline[factor]}: no run has it; there are {cells.named(factor)}"
            )
    base = {factor: str(_text(baseline[factor])) for factor in factors}
    others = {factor: [x for x in cells.levels[factor] if x != base[factor]] for factor in factors}
    if not any(others.values()):
        listed = ", ".join(f"{factor}={base[factor]}" for factor in factors) or "no factor was varied"
        raise InputError(f"nothing to compare: there is one variant only ({listed})")

    found = [cells.contrast({f: level}, {f: base[f]}) for f in factors for level in others[f]]
    if interactions:
        for a, b in combinations(factors, 2):
            for levels in product(others[a], others[b]):
                contrast = cells.contrast(dict(zip((a, b), levels, strict=True)), {a: base[a], b: base[b]})
                found += [contrast] if contrast.seeds or contrast.unpaired else []
    return tuple(found)


class _Cells:
    """Runs by setting of all factors and by seed, as differences are taken from them."""

    def __init__(self, runs: pd.DataFrame, factors: Sequence[str], metric: str) -> None:
        if runs.empty:
            raise InputError("there are no runs to compare")
        self.factors, self.metric = tuple(factors), metric
        runs = with_outcomes(runs, metric)
        self.at: dict[tuple[tuple[str, ...], str], list[dict]] = {}
        self.settings: dict[tuple[str, ...], None] = {}
        seeds = set()
        for run in runs.to_dict("records"):
            setting = tuple(_text(run.get(f"params.{factor}")) for factor in factors)
            if None not in setting:
                seed = _text(run.get("params.seed")) or NOT_LOGGED
                seeds.add(seed)
                self.settings[setting] = None
                self.at.setdefault((setting, seed), []).append(run)
        self.seeds = sorted(seeds, key=_in_order)
        self.levels = {
            factor: sorted({setting[i] for setting in self.settings}, key=_in_order)
            for i, factor in enumerate(factors)
        }

    def named(self, factor: str) -> str:
        return ", ".join(self.levels[factor]) or "none: no run logged it"

    def contrast(self, variant: Mapping[str, str], baseline: Mapping[str, str]) -> Contrast:
        """The main effect of one factor, or the interaction of two."""
        corners: list[tuple[dict[str, str], int]] = [({}, 1)]
        for factor in variant:
            signed = (variant[factor], 1), (baseline[factor], -1)
            corners = [(at | {factor: level}, sign * s) for at, sign in corners for level, s in signed]
        rest = {self._setting(setting, corners[0][0]) for setting in self.settings}
        contexts = [
            setting
            for setting in sorted(rest, key=lambda levels: [_in_order(level) for level in levels])
            if all(self._setting(setting, corner) in self.settings for corner, _ in corners)
        ]
        weights = {
            self._setting(context, corner): sign / len(contexts)
            for context in contexts
            for corner, sign in corners
        }
        seeds, differences, run_ids, unpaired, fingerprinted = [], [], [], [], True
        for seed in self.seeds if weights or len(variant) == 1 else []:
            chosen, reason = self._runs(list(weights), seed)
            if reason:
                unpaired.append((seed, reason))
                continue
            values = np.array([run["value"] for run in chosen])
            difference = float(np.dot(list(weights.values()), values))
            seeds.append(seed)
            differences.append(difference if abs(difference) > 1e-12 * np.abs(values).max() else 0.0)
            run_ids.append(tuple(str(run.get("run_id", "")) for run in chosen))
            fingerprinted &= all(_text(run.get(tag)) is not None for run in chosen for tag in FINGERPRINTS)
        return Contrast(
            BETWEEN.join(variant),
            BETWEEN.join(variant.values()),
            BETWEEN.join(baseline.values()),
            self.metric,
            tuple(seeds),
            tuple(differences),
            tuple(run_ids),
            tuple(unpaired),
            fingerprinted and bool(seeds),
        )

    def _setting(self, setting: tuple[str, ...], changed: Mapping[str, str]) -> tuple[str, ...]:
        return tuple(changed.get(factor, level) for factor, level in zip(self.factors, setting, strict=True))

    def _runs(self, settings: Sequence[tuple[str, ...]], seed: str) -> tuple[list[dict], str]:
        """One finished run for each setting, or the reason why there is no such pair."""
        if not settings:
            return [], "no setting of the other factors has runs of both"
        if seed == NOT_LOGGED:
            return [], "without a seed nothing can be paired"
        chosen, reasons = [], []
        for setting in settings:
            runs = self.at.get((setting, seed), [])
            finished = [run for run in runs if run["outcome"] == "finished"]
            if len(finished) == 1:
                chosen += finished
                continue
            name = " ".join(f"{factor}={level}" for factor, level in zip(self.factors, setting, strict=True))
            several = f"has {len(finished)} finished runs" if finished else ""
            reasons.append(f"{name} {several or (runs[-1]['outcome'] if runs else 'missing')}")
        if not reasons:
            foreign = [tag for tag in FINGERPRINTS if len({_text(run.get(tag)) for run in chosen}) > 1]
            reasons = [f"the runs' {tag.removeprefix('tags.')} {DIFFER}" for tag in foreign]
        return chosen, ", ".join(reasons)


def unpaired(comparisons: Sequence[Contrast]) -> pd.DataFrame:
    """What was not paired and why: `factor`, `variant`, `baseline`, `seed`, `reason`, one row for each seed."""
    rows = [
        (contrast.factor, contrast.variant, contrast.baseline, seed, reason)
        for contrast in comparisons
        for seed, reason in contrast.unpaired
    ]
    return pd.DataFrame(rows, columns=["factor", "variant", "baseline", "seed", "reason"])


def dependences(table: pd.DataFrame) -> pd.DataFrame:
    """The main effects that an interaction outweighs, and what they depend on.

    Args:
        table: as `effects` gives it.

    Returns:
        One row for each main effect and interaction of larger size: `factor`, `variant`, `baseline`, `main` (its
        mean difference), `on`, `on_variant`, `on_baseline` (the other factor and its two levels), `interaction`
        (the mean difference of differences) and `established` (whether the interaction's corrected p is below 0.05;
        else it may be chance).
    """
    rows = []
    main = table[~table["factor"].str.contains(BETWEEN, regex=False)].to_dict("records")
    for row in table[table["factor"].str.contains(BETWEEN, regex=False)].to_dict("records"):
        sides = list(zip(*(row[name].split(BETWEEN) for name in COLUMNS[:3]), strict=True))
        for (factor, variant, base), (on, on_variant, on_baseline) in (sides, sides[::-1]):
            for effect in main:
                same = (effect["factor"], effect["variant"], effect["baseline"]) == (factor, variant, base)
                if same and abs(row["mean_diff"]) > abs(effect["mean_diff"]):
                    other = on, on_variant, on_baseline, row["mean_diff"], row["p_holm"] < ALPHA
                    rows.append((factor, variant, base, effect["mean_diff"], *other))
    columns = ["factor", "variant", "baseline", "main", "on", "on_variant", "on_baseline", "interaction"]
    return pd.DataFrame(rows, columns=[*columns, "established"])


# Failures are outcomes


def with_outcomes(runs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Runs with `value` (of the metric, NaN where it is absent or not finite) and `outcome`.

    The outcome is `finished`, `diverged`, `crashed` (errors and interruptions), `unfinished` (still running, as far
    as the store knows) or `without result` (ended well, but with no finite value of the metric).

    Raises:
        InputError: no run has the metric.
    """
    name = f"metrics.{metric}"
    if name not in runs:
        there = ", ".join(sorted(key[8:] for key in runs if key.startswith("metrics."))) or "none"
        raise InputError(f"metric {metric}: no run has it; there are {there}")
    value = pd.to_numeric(runs[name], errors="coerce").astype(float)
    value = value.where(value.abs() < INFINITE)
    failure = runs["tags.failure"] if "tags.failure" in runs else pd.Series("", index=runs.index)
    ended = runs["status"] == "FINISHED"
    outcome = np.select(
        [failure == "diverged", ended & value.notna(), ended, runs["status"].isin(["RUNNING", "SCHEDULED"])],
        ["diverged", "finished", "without result", "unfinished"],
        "crashed",
    )
    return runs.assign(value=value, outcome=outcome)


def failures(runs: pd.DataFrame, factors: Sequence[str], metric: str) -> pd.DataFrame:
    """How the runs of each variant ended.

    Returns:
        One row per variant: `params.<factor>`, `planned` (runs, and one for each seed that others have and it has
        not), `finished`, `diverged`, `crashed`, `unfinished`, `without_result`, `missing` (such seeds), and
        `survivors_only` (whether its numbers rest on fewer runs than were planned).

    Raises:
        InputError: no run has the metric.
    """
    keys = [f"params.{factor}" for factor in factors]
    runs = with_outcomes(runs, metric)
    levels = {key: (runs[key] if key in runs else pd.Series(index=runs.index)).map(_text) for key in keys}
    seed = (runs["params.seed"] if "params.seed" in runs else pd.Series(index=runs.index)).map(_text)
    runs = runs.assign(**{key: level.fillna(NOT_LOGGED) for key, level in levels.items()}, seed=seed)
    seeds = runs["seed"].nunique()
    rows = []
    for _, own in runs.groupby(keys or (lambda _: 0), sort=False):
        counts = own["outcome"].value_counts()
        missing = seeds - own["seed"].nunique()
        row = {key: own[key].iloc[0] for key in keys} | {"planned": len(own) + missing}
        row |= {
            name.replace(" ", "_"): int(counts.get(name, 0))
            for name in ("finished", "diverged", "crashed", "unfinished", "without result")
        }
        rows.append(row | {"missing": missing, "survivors_only": row["finished"] < row["planned"]})
    rows.sort(key=lambda row: [_in_order(row[key]) for key in keys])
    return pd.DataFrame(rows)


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
        factors: the keys that are compared, without `params.`.
        nuisance: the keys that are chosen for each variant, without `params.`, such as `optimizer.lr`.
        metric: the validation metric that chooses, without `metrics.`.
        smaller_is_better: whether it is a loss or an error.

    Returns:
        The runs at the chosen values (all runs of a variant none of whose runs finished), and one row per variant:
        `params.<factor>`, `params.<nuisance>` (chosen, missing where none finished), `<nuisance> values` (the space:
        every value tried, in order), `combinations`, `runs` (the budget), `diverged`, `validation` (mean of the
        metric at the choice) and `edge` (the nuisance factors, comma-separated, whose chosen value is the smallest or
        largest number tried: a better one may lie beyond).

    Raises:
        InputError: no run has the metric.
    """
    frame = with_outcomes(runs, metric).reset_index(drop=True)
    settings = [
        tuple(_text(run.get(f"params.{key}")) or NOT_LOGGED for key in (*factors, *nuisance))
        for run in frame.to_dict("records")
    ]
    variants = sorted({s[: len(factors)] for s in settings}, key=lambda s: [_in_order(x) for x in s])
    kept, rows = [], []
    for variant in variants:
        own = frame[[s[: len(factors)] == variant for s in settings]]
        at = pd.Series([settings[i][len(factors) :] for i in own.index], index=own.index, dtype=object)
        candidates = []
        for values in sorted(set(at), key=lambda s: [_in_order(x) for x in s]):
            tried = own[[x == values for x in at]]
            mean = tried.loc[tried["outcome"] == "finished", "value"].mean()
            if not math.isnan(mean):
                diverged = int((tried["outcome"] == "diverged").sum())
                candidates.append(((diverged, mean if smaller_is_better else -mean), values, mean))
        best = min(candidates, key=lambda candidate: candidate[0], default=None)
        chosen = best[1] if best else (None,) * len(nuisance)
        kept += list(own.index if best is None else own.index[[x == chosen for x in at]])
        space = {key: sorted({x[i] for x in at}, key=_in_order) for i, key in enumerate(nuisance)}
        edge = [key for key, value in zip(nuisance, chosen, strict=True) if _at_edge(value, space[key])]
        rows.append(
            {f"params.{key}": level for key, level in zip(factors, variant, strict=True)}
            | {f"params.{key}": value for key, value in zip(nuisance, chosen, strict=True)}
            | {f"{key} values": ", ".join(space[key]) for key in nuisance}
            | {
                "combinations": at.nunique(),
                "runs": len(own),
                "diverged": int((own["outcome"] == "diverged").sum()),
                "validation": best[2] if best else math.nan,
                "edge": ", ".join(edge),
            }
        )
    return runs.iloc[sorted(kept)].reset_index(drop=True), pd.DataFrame(rows)


def _at_edge(value: str | None, space: Sequence[str]) -> bool:
    numbers = sorted(number for text in space if (number := _number(text)) is not None)
    return value is not None and _number(value) in numbers[:1] + numbers[-1:]


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
    direction: str = BETTER

    def __post_init__(self) -> None:
        if self.direction not in (BETTER, WORSE):
            raise InputError(f"claim '{self.text}': direction={self.direction}; accepted: {BETTER}, {WORSE}")


def answer(claim: Claim, table: pd.DataFrame) -> tuple[str, pd.Series]:
    """What a study says of a claim, and the row of its verdict table that says it.

    The verdict in the claim's direction makes it *supported*, the opposite one *refuted*; every other verdict is the
    answer itself. A row that compares the same two levels the other way round answers as well.

    Args:
        claim: on a comparison that the table has.
        table: as `effects` gives it, possibly of several metrics one below the other.

    Raises:
        InputError: the table has no such comparison.
    """
    opposite = {BETTER: WORSE, WORSE: BETTER}
    for variant, baseline, expected in (
        (str(claim.variant), str(claim.baseline), claim.direction),
        (str(claim.baseline), str(claim.variant), opposite[claim.direction]),
    ):
        wanted = {"factor": claim.factor, "variant": variant, "baseline": baseline, "metric": claim.metric}
        rows = table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]
        if len(rows):
            row = rows.iloc[0]
            answers = {expected: SUPPORTED, opposite[expected]: REFUTED}
            return answers.get(row["verdict"], row["verdict"]), row
    there = "; ".join(f"{f}: {v} against {b} in {m}" for f, v, b, m in table[list(COLUMNS[:4])].to_numpy())
    raise InputError(
        f"claim '{claim.text}': the study does not compare {claim.factor}={claim.variant} with "
        f"{claim.baseline} in {claim.metric}; it compares {there or 'nothing'}"
    )


# Texts and numbers


def _text(value: object) -> str | None:
    """A param or tag as text; None where it is missing or was not logged."""
    if (
        value is None
        or value is pd.NA
        or value == NOT_LOGGED
        or (isinstance(value, float) and math.isnan(value))
    ):
        return None
    return str(value)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _in_order(text: str) -> tuple[bool, float, str]:
    """Sort key: numbers first, in numeric order, then words."""
    number = _number(text)
    return (True, 0.0, text) if number is None or math.isnan(number) else (False, number, text)
