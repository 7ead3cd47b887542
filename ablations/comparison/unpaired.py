"""Groups of runs without a seed: nothing can be paired, so whole groups are compared."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ablations.comparison import exact, tests
from ablations.comparison.confounds import Found, Rules, differences, known
from ablations.comparison.looks import Looked
from ablations.comparison.outcomes import Outcome, with_outcomes
from ablations.comparison.pairs import Comparison, Hopeless, is_lost
from ablations.comparison.tests import ALPHA
from ablations.comparison.verdicts import COLUMNS, hindered, typed, verdict
from ablations.errors import InputError
from ablations.tracking.columns import natural, param, text

PERMUTATIONS = 99_999  # beyond so many ways to part the runs this many are drawn, always the same


def groups(
    runs: pd.DataFrame,
    factors: Sequence[str],
    baseline: Mapping[str, str],
    metric: str,
    rules: Rules = Rules(),  # noqa: B008  # frozen
) -> tuple[Comparison, ...]:
    """Each level with the baseline's, the other factors at their baseline: `Comparison.groups` has the values.

    Raises:
        InputError: no run, no such metric, or no two variants that differ in one factor from the baseline.
    """
    if runs.empty:
        raise InputError("there are no runs to compare")
    cells: dict[tuple[str | None, ...], list[dict]] = {}
    records = with_outcomes(runs, metric).to_dict("records")
    for run, told in zip(records, known(runs, list(map(param, factors))), strict=True):
        levels = tuple(text(run.get(param(factor))) for factor in factors)
        cells.setdefault(levels, []).append(run | {"known": told})
    base = tuple(str(baseline[factor]) for factor in factors)
    found = []
    for i, factor in enumerate(factors):
        others = {levels[i] for levels in cells} - {base[i], None}
        for level in sorted(others, key=natural):
            setting = (*base[:i], level, *base[i + 1 :])
            if setting in cells and base in cells:
                sides = cells[setting], cells[base]
                found.append(
                    _compared(
                        factor, level, base[i], metric, dict(zip(factors, base, strict=True)), sides, rules
                    )
                )
    if not found:
        listed = ", ".join(f"{key}={level}" for key, level in baseline.items())
        raise InputError(
            f"nothing to compare with {listed}: no other variant differs from it in one factor alone"
        )
    return tuple(found)


def _compared(
    factor: str,
    variant: str,
    baseline: str,
    metric: str,
    base: Mapping[str, str],
    sides: tuple[Sequence[Mapping[str, Any]], Sequence[Mapping[str, Any]]],
    rules: Rules,
) -> Comparison:
    done = [[run for run in side if run["outcome"] == Outcome.FINISHED] for side in sides]
    hopeless = []
    for level, side, finished in zip((variant, baseline), sides, done, strict=True):
        if not finished and all(map(is_lost, side)):
            hopeless.append(Hopeless({**base, factor: level}, tuple(str(run["run_id"]) for run in side)))
    return Comparison(
        factors=(factor,),
        variant=(variant,),
        baseline=(baseline,),
        metric=metric,
        seeds=(),
        differences=(),
        run_ids=tuple(tuple(str(run["run_id"]) for run in side) for side in done),
        seen=(),
        unpaired=(),
        fingerprinted=False,
        hopeless=tuple(hopeless),
        differing=_differing(factor, variant, baseline, done, rules),
        groups=tuple(tuple(run["value"] for run in side) for side in done),
    )


def _differing(
    factor: str, variant: str, baseline: str, sides: Sequence[Sequence[Mapping[str, Any]]], rules: Rules
) -> Found:
    """What the two groups differ in: what is known of each as a whole, several values of a key in one text."""
    if not all(sides):
        return Found()
    whole = []
    for side in sides:
        names = {name for run in side for name in run["known"]}
        values = {name: sorted({run["known"].get(name, "") for run in side}, key=natural) for name in names}
        whole.append({name: ", ".join(of) for name, of in values.items()})
    return differences([("", factor, *whole)], {factor: (variant, baseline)}, rules)


def tabulate(
    comparisons: Sequence[Comparison], margin: Sequence[float], smaller_is_better: Sequence[bool]
) -> pd.DataFrame:
    """The verdict table as `verdicts.tabulate` gives it, from groups in place of pairs.

    `n` is the size of the smaller group, `mean_diff` the difference of the means, the interval Welch's, p that of the
    permutation test of the difference of means, `prob_better` the share of pairs of runs in which the variant is ahead,
    `effect_size` the difference in root mean square standard deviations of the groups. No seeds are advised.

    Source: B. L. Welch (1947), Biometrika 34, 28-35.
    """
    m = len(comparisons)
    looked = [_looked(*map(np.array, each.groups), m) for each in comparisons]
    corrected = tests.holm([each.p for each in looked])
    rows = []
    for each, seen, p_holm, room, small in zip(
        comparisons, looked, corrected, margin, smaller_is_better, strict=True
    ):
        ours, theirs = map(np.array, each.groups)
        mean = exact.total(ours) / len(ours) - exact.total(theirs) / len(theirs) if seen.n else math.nan
        ruling = verdict(seen, p_holm, room, small)
        sizes = _ahead(ours, theirs, small), _effect_size(ours, theirs)
        names = each.factors, each.variant, each.baseline, each.metric
        numbers = seen.n, mean, seen.low, seen.high, seen.p, p_holm, *sizes
        settled = 1 if ruling.settled else pd.NA
        rows.append((*names, *numbers, ruling, pd.NA, pd.NA, int(seen.n > 0), settled))
    return exact.rounded(hindered(typed(pd.DataFrame(rows, columns=COLUMNS)), comparisons))


def _looked(ours: np.ndarray, theirs: np.ndarray, comparisons: int) -> Looked:
    """The permutation test of the difference of means with Welch's interval, as the only look. It counts where groups
    so large can be told apart at all after the correction."""
    from scipy.stats import permutation_test, ttest_ind

    n = min(len(ours), len(theirs))
    if n == 0:
        return Looked()
    fewest = min(1.0, 2 / math.comb(len(ours) + len(theirs), n))
    counts = (n,) if fewest * comparisons < ALPHA else ()
    if n < 2:
        return Looked(1.0, pairs=counts, n=n)

    def difference(first: np.ndarray, second: np.ndarray, axis: int) -> np.ndarray:
        return first.mean(axis) - second.mean(axis)

    scale = max(np.abs(ours).max(), np.abs(theirs).max()) or 1.0
    samples = ours / scale, theirs / scale
    p = permutation_test(
        samples,
        difference,
        permutation_type="independent",
        vectorized=True,
        n_resamples=max(PERMUTATIONS, 80 * comparisons),
        rng=np.random.default_rng(0),
    ).pvalue
    if all(np.ptp(sample) <= tests.EPSILON for sample in samples):
        low = high = float(ours.mean() - theirs.mean())
    else:
        interval = ttest_ind(*samples, equal_var=False).confidence_interval(1 - ALPHA)
        low, high = float(interval.low) * scale, float(interval.high) * scale
    return Looked(float(p), low, high, counts, n)


def _ahead(ours: np.ndarray, theirs: np.ndarray, small: bool) -> float:
    """Share of the pairs of a run of each group in which ours is ahead, ties counting half."""
    if not len(ours) or not len(theirs):
        return math.nan
    signs = np.sign(ours[:, None] - theirs[None, :]) * (-1 if small else 1)
    return float((1 + signs.mean()) / 2)


def _effect_size(ours: np.ndarray, theirs: np.ndarray) -> float:
    if min(len(ours), len(theirs)) < 2:
        return math.nan
    scale = max(np.abs(ours).max(), np.abs(theirs).max()) or 1.0
    ours, theirs = ours / scale, theirs / scale
    mean, spread = float(ours.mean() - theirs.mean()), math.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2)
    if spread <= tests.EPSILON:
        return math.copysign(math.inf, mean) if mean else 0.0
    return mean / spread
