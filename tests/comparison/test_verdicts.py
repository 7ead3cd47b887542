"""Verdicts against scipy, statsmodels and numbers worked out by hand."""

import gc
import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablations.comparison.claims import DEPENDS, REFUTED, SUPPORTED, Claim, answer
from ablations.comparison.designs import dependences, tuned
from ablations.comparison.looks import Looked, can_reach
from ablations.comparison.outcomes import Outcome, with_outcomes
from ablations.comparison.pairs import Gap, Reason, Unpaired, comparisons
from ablations.comparison.tests import SignFlip, effect_size, holm, prob_better, sign_flip, smallest_p
from ablations.comparison.verdicts import (
    COLUMNS,
    MOST_SEEDS,
    Verdict,
    fewest_seeds,
    judge,
    seeds_needed,
    tabulate,
    verdict,
)
from ablations.errors import InputError

BETTER, WORSE, NO_DIFFERENCE, INCONCLUSIVE, TOO_FEW, CONFOUNDED = Verdict
ERROR = "test/error_pct"


def effects(runs, factors, baseline, metric, margin, smaller_is_better, interactions=True):
    found = comparisons(runs, factors, baseline, metric, interactions)
    return tabulate(found, margin, smaller_is_better)


def factors_in(table) -> list[str]:
    return [" × ".join(factors) for factors in table["factors"]]


def mean(x, axis):
    return np.mean(x, axis=axis)


@pytest.fixture(scope="module", autouse=True)
def _little_garbage():
    """Each correction by statsmodels collects garbage: with hypothesis and mlflow loaded, for a tenth of a second."""
    gc.freeze()
    yield
    gc.unfreeze()


def scipy_p(differences, rng=0):
    return stats.permutation_test(
        (np.asarray(differences, dtype=float),),
        mean,
        permutation_type="samples",
        vectorized=True,
        random_state=np.random.default_rng(rng),
    ).pvalue


# The test and its interval

# Percentages of a test set of 1,000 images, so that ties occur, and anything.
tied = st.integers(-20, 20).map(lambda k: k / 10)
anything = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-3)
samples = st.lists(tied, min_size=2, max_size=10) | st.lists(anything, min_size=2, max_size=10)


@given(samples)
@settings(max_examples=150)
def test_interval_and_p_never_contradict_each_other(differences):
    test = sign_flip(differences)
    assert (test.low <= 0 <= test.high) == (test.p > 0.05)
    rounding = max(1e-9, 1e-11 * abs(np.mean(differences)))  # to twelve digits
    assert test.low <= np.mean(differences) + rounding
    assert test.high >= np.mean(differences) - rounding


@given(st.lists(tied | anything, min_size=14, max_size=25))
@settings(max_examples=25)
def test_nor_do_they_with_random_flips(differences):
    test = sign_flip(differences)
    assert (test.low <= 0 <= test.high) == (test.p > 0.05)


@given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=9))
@settings(max_examples=60)
def test_p_is_that_of_scipy(differences):
    assert sign_flip(differences).p == pytest.approx(scipy_p(differences), abs=1e-12)


def test_many_pairs_are_tested_by_random_flips_always_the_same():
    differences = np.random.default_rng(1).normal(0.4, 1, 25)
    test = sign_flip(differences)
    assert test == sign_flip(differences[::-1])
    assert test.p == pytest.approx(scipy_p(differences, 5), abs=0.01)
    t = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (test.low, test.high) == pytest.approx((t.low, t.high), abs=0.1)


@given(st.lists(tied, min_size=6, max_size=8), tied)
@settings(max_examples=60)
def test_the_interval_holds_what_the_test_does_not_reject(differences, true):
    """p of the shifted differences, by scipy; exact in tenths."""
    test = sign_flip(differences)
    shifted = [round(10 * d) - round(10 * true) for d in differences]
    assert (test.low - 1e-9 <= true <= test.high + 1e-9) == (scipy_p(shifted) > 0.05)


def test_six_pairs_by_hand():
    """Of 64 patterns one at each end may be rejected: the interval goes from the smallest to the largest."""
    test = sign_flip([1.0, 2.0, 3.0, 4.0, 5.0, 7.0])
    assert test == SignFlip(2 / 64, 1.0, 7.0)
    # One pair against the others: {1, −1}, {−1} are the sets of at most 0; with the empty one 3 of 64.
    assert sign_flip([-1.0, 1.0, 3.0, 4.0, 5.0, 7.0]).p == 2 * 3 / 64


def test_eight_pairs_by_hand():
    """The sixth of the sorted means of all subsets of 1 … 8: 1, 1.5, 2, 2, 2, 7/3."""
    differences = np.arange(1.0, 9)
    subsets = [s for size in range(1, 9) for s in itertools.combinations(differences, size)]
    means = sorted(np.mean(s) for s in subsets)
    test = sign_flip(differences)
    assert (test.low, test.high) == pytest.approx((means[5], means[-6]))
    assert test.low == pytest.approx(7 / 3)


@pytest.mark.parametrize("n", range(6))
def test_below_six_pairs_there_is_no_finite_interval(n):
    test = sign_flip(np.arange(n) + 100.0)
    assert (test.low, test.high) == (-math.inf, math.inf)
    assert math.isnan(test.p) if n == 0 else test.p == smallest_p(n)


def test_equal_differences():
    assert sign_flip([0.3] * 8) == SignFlip(2 / 256, 0.3, pytest.approx(0.3))
    assert sign_flip([0.0] * 8) == SignFlip(1.0, 0.0, 0.0)


@pytest.mark.parametrize("scale", [1e12, 1e-12, 1e300, 1e-300, 2.0**-1060])
def test_the_scale_of_a_metric_changes_nothing(scale):
    """Tenths and eighths alike: also where the smallest numbers have few digits left (the last one)."""
    exact = 2.0 ** round(math.log2(scale))
    for differences in ([1, 2, -3, 1, 2, -3, 7, 1], [5, -1, 4, 4, 2, 6, -2, 8], [0] * 8):
        plain, scaled = sign_flip(differences), sign_flip([exact * d for d in differences])
        assert scaled.p == plain.p == pytest.approx(scipy_p(differences))
        assert scaled.low == pytest.approx(exact * plain.low)
        assert effect_size([exact * d for d in differences]) == pytest.approx(
            effect_size(differences), rel=1e-3
        )


@pytest.mark.parametrize("giant", [1e9, 1e12, -1e9])
def test_one_giant_among_small_differences_does_not_make_them_ties(giant):
    """-1 against 1 … 6 and a giant: a sum is at most 0 in few patterns, whatever the giant is."""
    small = [-1.0, 1, 2, 3, 4, 5, 6]
    expected = sign_flip([*small, math.copysign(1e3, giant)])
    found = sign_flip([*small, giant])
    assert found.p == expected.p == pytest.approx(scipy_p([*small, math.copysign(1e3, giant)]))
    assert found.low == expected.low or giant < 0
    two = [1e9, -1e9, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert sign_flip(two).p == sign_flip([1000.0, -1000.0, *[1.0] * 6]).p


def test_rounding_of_the_values_makes_no_difference_of_differences():
    """Accuracies of 1,000 images and the same as errors: 0.003, -0.001, -0.002 … sum up to 0 in both."""
    base = np.array([0.912, 0.887, 0.905, 0.899, 0.921, 0.893, 0.917, 0.908])
    steps = np.array([3, -1, -2, 5, 4, -9, 2, 7])
    runs = runs_of(lambda seed, a: round(base[seed] + a * steps[seed] / 1000, 3), a=[0, 1])
    percent = runs.assign(**{f"metrics.{ERROR}": 100 * (1 - runs[f"metrics.{ERROR}"])})
    for frame, small in ((runs, False), (percent, True)):
        row = effects(frame, ["a"], {"a": 0}, ERROR, 0, small).loc[0]
        assert 0.8 * row["p"] == pytest.approx(scipy_p(steps))


def test_sums_that_are_zero_but_for_rounding_are_zero():
    differences = [0.1, 0.2, -0.3, 0.1, 0.2, -0.3, 0.7]
    assert sign_flip(differences).p == sign_flip([1, 2, -3, 1, 2, -3, 7]).p


@pytest.mark.parametrize("bad", [[1.0, math.nan], [math.inf], [[1.0, 2.0]]])
def test_what_is_not_a_difference_is_refused(bad):
    with pytest.raises(ValueError, match="one finite number for each pair"):
        sign_flip(bad)


# Sizes


def test_probability_of_improvement_counts_ties_half():
    assert prob_better([-1.0, -2.0, 0.0, 3.0], smaller_is_better=True) == 2.5 / 4
    assert prob_better([-1.0, -2.0, 0.0, 3.0], smaller_is_better=False) == 1.5 / 4
    assert math.isnan(prob_better([], True))


def test_effect_size_is_mean_by_standard_deviation():
    assert effect_size([1.0, 3.0]) == pytest.approx(2 / math.sqrt(2))
    sample = np.random.default_rng(0).normal(size=9)
    assert effect_size(sample) == pytest.approx(stats.ttest_1samp(sample, 0).statistic / 3)
    assert effect_size([-0.1 * 3] * 3) == -math.inf
    assert effect_size([0.0] * 3) == 0
    assert math.isnan(effect_size([1.0]))


# Correction and verdicts


def test_holm_is_that_of_statsmodels_and_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm([]).size == 0
    rng = np.random.default_rng(0)
    for count in range(1, 40):
        p = np.round(rng.random(count) ** 3, 2)  # with ties, zeros and ones
        np.testing.assert_array_equal(holm(p), multipletests(p, method="holm")[1])


def test_a_comparison_without_pairs_counts_in_the_correction():
    corrected = holm([0.01, math.nan])
    assert corrected[0] == pytest.approx(0.02)
    assert math.isnan(corrected[1])


@pytest.mark.parametrize(
    ("comparisons", "seeds"), [(1, 6), (2, 7), (5, 8), (6, 9), (10, 9), (11, 10), (20, 10)]
)
def test_the_fewest_seeds_that_can_reach_significance(comparisons, seeds):
    assert fewest_seeds(comparisons) == seeds
    assert can_reach(seeds, comparisons)
    assert not can_reach(seeds - 1, comparisons)
    certain = judge([np.arange(1.0, seeds + 1)] * comparisons, 0.1, True)
    assert set(certain["verdict"]) == {WORSE}
    fewer = judge([np.arange(1.0, seeds)] * comparisons, 0.1, True)
    assert set(fewer["verdict"]) == {TOO_FEW}


def test_more_comparisons_than_random_flips_usually_allow():
    differences = np.arange(1.0, 21)
    assert sign_flip(differences).p * 3000 > 0.05
    assert set(judge([differences] + [[]] * 2999, 0.1, True)["verdict"]) == {WORSE, TOO_FEW}


@pytest.mark.parametrize(
    ("low", "high", "p", "counts", "smaller_is_better", "expected"),
    [
        (-2.0, -0.5, 0.01, True, True, BETTER),
        (-2.0, -0.5, 0.01, True, False, WORSE),
        (0.5, 2.0, 0.01, True, True, WORSE),
        (0.5, 2.0, 0.01, True, False, BETTER),
        (0.01, 0.05, 0.01, True, True, NO_DIFFERENCE),
        (0.01, 0.05, 0.06, True, True, NO_DIFFERENCE),
        (-0.1, 0.1, 0.9, True, True, NO_DIFFERENCE),
        (-0.1, 0.11, 0.9, True, True, INCONCLUSIVE),
        (0.5, 2.0, 0.06, True, True, INCONCLUSIVE),
        (0.5, 2.0, 0.06, False, True, TOO_FEW),
        (-0.1, 0.1, 0.9, False, True, TOO_FEW),
        (-math.inf, math.inf, math.nan, False, True, TOO_FEW),
    ],
)
def test_the_five_verdicts(low, high, p, counts, smaller_is_better, expected):
    looked = Looked(p, low, high, (8,) if counts else (), 8)
    assert verdict(looked, p, 0.1, smaller_is_better) == expected


@given(st.lists(st.lists(tied, max_size=9), max_size=4), st.floats(0, 2), st.booleans())
@settings(max_examples=60)
def test_verdicts_keep_their_word(study, margin, smaller_is_better):
    table = judge(study, margin, smaller_is_better)
    mirrored = judge([[-d for d in sample] for sample in study], margin, not smaller_is_better)
    assert list(table["verdict"]) == list(mirrored["verdict"])
    for row in table.to_dict("records"):
        assert row["verdict"] in set(Verdict)
        unsettled = row["verdict"] in (INCONCLUSIVE, TOO_FEW)
        assert pd.isna(row["seeds_needed"]) != unsettled
        assert pd.isna(row["settled_at"]) == unsettled
        if unsettled:
            assert row["n"] < row["seeds_needed_at_least"] <= row["seeds_needed"] <= MOST_SEEDS
        if row["verdict"] in (BETTER, WORSE):
            assert row["p_holm"] < 0.05
            assert (row["mean_diff"] < 0) == (smaller_is_better == (row["verdict"] == BETTER))
        if row["verdict"] == TOO_FEW:
            assert row["n"] < 6 or len(study) > 1


@pytest.mark.parametrize("margin", [-0.1, math.nan])
def test_a_margin_is_a_size(margin):
    with pytest.raises(InputError, match="margin="):
        judge([[1.0]], margin, True)


# More seeds


@pytest.mark.parametrize(
    ("mean", "margin", "comparisons", "pairs"),
    [
        (1.0, 0.0, 1, ()),
        (0.5, 0.0, 1, (8,)),
        (0.7, 0.1, 5, (8,)),
        (0.1, 0.9, 2, (8,)),
        (0.0, 0.6, 1, (6, 8)),
    ],
)
def test_seeds_needed_are_those_of_drawn_futures(mean, margin, comparisons, pairs):
    """An independent way: draw truths that the pilot leaves open, their further seeds, and look at all of them."""
    n, rng = 8, np.random.default_rng(0)

    def settled(seeds: int) -> float:
        if seeds == n:
            return 0.0
        sd = np.sqrt((n - 1) / rng.chisquare(n - 1, 100_000))
        truth = rng.normal(mean, sd / math.sqrt(n))
        pooled = (n * mean + (seeds - n) * rng.normal(truth, sd / math.sqrt(seeds - n))) / seeds
        spent = 0.05 * (0.2 * (pairs[0] / pairs[-1] - pairs[0] / seeds) if pairs else 0.8)
        significant, inside = (
            stats.t.ppf(1 - level / 2, seeds - 1) / math.sqrt(seeds) for level in (spent / comparisons, spent)
        )
        return float(np.mean((np.abs(pooled) > significant) | (np.abs(pooled) + inside < margin)))

    for seeds, chance in zip(seeds_needed(mean, 1.0, n, margin, comparisons, pairs), (0.5, 0.8), strict=True):
        assert settled(seeds) > chance - 0.01
        assert settled(seeds - 1) < chance + 0.01


def test_seeds_needed_at_the_ends():
    assert seeds_needed(1.0, 0.0, 3, 0.1, 1) == (6, 6)
    assert seeds_needed(1.0, 0.0, 3, 0.1, 5) == (8, 8)
    assert seeds_needed(0.0, 0.0, 3, 0.1, 5) == (8, 8)
    assert seeds_needed(math.nan, math.nan, 0, 0.1, 5) == (8, 8)
    assert seeds_needed(9.0, 1.0, 12, 0.1, 5) == (13, 13)  # bad luck so far
    assert seeds_needed(0.0, 0.0, 8, 0.0) == (MOST_SEEDS, MOST_SEEDS)
    assert seeds_needed(0.1, 1.0, 8, 0.1) == seeds_needed(-0.1, 1.0, 8, 0.1)
    fresh, looked = seeds_needed(0.6, 1.0, 8, 0.1), seeds_needed(0.6, 1.0, 8, 0.1, pairs=(8,))
    assert fresh < looked  # what a first look has spent


@given(st.floats(-50, 50), st.floats(1e-3, 50), st.integers(2, 999), st.floats(0, 5), st.integers(1, 40))
@settings(max_examples=100)
def test_seeds_needed_stay_within_bounds(mean, sd, n, margin, comparisons):
    likely, needed = seeds_needed(mean, sd, n, margin, comparisons)
    assert n < likely <= needed <= MOST_SEEDS


# Runs


def runs_of(outcome, seeds=8, **levels) -> pd.DataFrame:
    """A full grid; `outcome(seed, **setting)` is the error in percent."""
    rows = []
    for number, (seed, *setting) in enumerate(itertools.product(range(seeds), *levels.values())):
        named = dict(zip(levels, setting, strict=True))
        rows.append(
            {
                "run_id": f"{number:03d}",
                "status": "FINISHED",
                **{f"params.{key}": level for key, level in named.items()},
                "params.seed": str(seed),
                "tags.stream": f"stream {seed}",
                "tags.data_sha256": "digits",
                "tags.failure": None,
                f"metrics.{ERROR}": outcome(seed, **named),
            }
        )
    return pd.DataFrame(rows)


NOISE = np.random.default_rng(7).normal(0, 0.05, (32, 4, 4))


def planted(seed, activation="relu", pool="max"):
    """relu is 1 better than tanh with max, and 2 worse with avg; seeds differ by more than that."""
    i, j = ["relu", "tanh", "sigmoid"].index(activation), ["max", "avg"].index(pool)
    effect = {(1, 0): 1.0, (1, 1): -2.0, (2, 0): 3.0, (2, 1): 3.0}.get((i, j), 0.0)
    return 5 + 3 * math.sin(seed) + effect + NOISE[seed, i, j]


def test_one_factor_against_a_baseline():
    runs = runs_of(planted, activation=["relu", "tanh", "sigmoid"])
    table = effects(runs, ["activation"], {"activation": "relu"}, ERROR, 0.1, True)
    assert tuple(table.columns) == COLUMNS
    assert table[["factors", "variant", "baseline", "metric"]].to_numpy().tolist() == [
        [("activation",), ("sigmoid",), ("relu",), ERROR],
        [("activation",), ("tanh",), ("relu",), ERROR],
    ]
    value = runs.pivot_table(index="params.seed", columns="params.activation", values=f"metrics.{ERROR}")
    difference = value["tanh"] - value["relu"]
    row = table.iloc[1]
    assert row["n"] == 8
    assert row["mean_diff"] == pytest.approx(difference.mean())
    assert row["effect_size"] == pytest.approx(difference.mean() / difference.std())
    assert 0.8 * row["p"] == pytest.approx(scipy_p(difference)) == 2 / 256
    assert row["p_holm"] == pytest.approx(4 / 256 / 0.8)
    interval = sign_flip(difference, 0.04)
    assert (row["ci_low"], row["ci_high"]) == (interval.low, interval.high)
    assert row["prob_better"] == 0
    assert row["verdict"] == WORSE
    assert pd.isna(row["seeds_needed"])


def test_larger_is_better_turns_the_verdict_round():
    runs = runs_of(planted, activation=["relu", "tanh"])
    table = effects(runs, ["activation"], {"activation": "relu"}, ERROR, 0.1, smaller_is_better=False)
    assert table.loc[0, ["verdict", "prob_better"]].tolist() == [BETTER, 1.0]
    assert table.loc[0, "mean_diff"] > 0


def test_several_factors_one_at_a_time():
    """Every other choice is at the baseline, and no interaction can be asked for."""
    grid = runs_of(planted, activation=["relu", "tanh"], pool=["max", "avg"])
    star = grid[(grid["params.activation"] == "relu") | (grid["params.pool"] == "max")]
    table = effects(star, ["activation", "pool"], {"activation": "relu", "pool": "max"}, ERROR, 0.1, True)
    assert factors_in(table) == ["activation", "pool"]
    assert table["mean_diff"].tolist() == pytest.approx([1.0, 0.0], abs=0.1)
    assert table["verdict"].tolist() == [WORSE, NO_DIFFERENCE]


def test_the_planted_interaction_of_a_grid_is_found_and_named():
    runs = runs_of(planted, activation=["relu", "tanh"], pool=["max", "avg"])
    table = effects(runs, ["activation", "pool"], {"activation": "relu", "pool": "max"}, ERROR, 0.1, True)
    assert factors_in(table) == ["activation", "pool", "activation × pool"]
    # tanh: (+1 − 2) / 2; avg: (0 − 3) / 2; the choice of tanh brings −2 − 1 more with avg.
    assert table["mean_diff"].tolist() == pytest.approx([-0.5, -1.5, -3.0], abs=0.1)
    assert table["verdict"].tolist() == [BETTER] * 3
    assert table.loc[2, ["variant", "baseline"]].tolist() == [("tanh", "avg"), ("relu", "max")]
    assert table.loc[2, "n"] == 8
    found = dependences(table)
    assert found[
        ["factor", "variant", "on", "on_variant", "on_baseline", "established"]
    ].to_numpy().tolist() == [
        ["activation", "tanh", "pool", "avg", "max", True],
        ["pool", "avg", "activation", "tanh", "relu", True],
    ]
    assert found.loc[0, ["main", "interaction"]].tolist() == table["mean_diff"][[0, 2]].tolist()


def test_a_small_interaction_is_not_named():
    runs = runs_of(
        lambda seed, a, b: seed + 2 * (a == "y") + 3 * (b == "y") + (a == b == "y"), a="xy", b="xy"
    )
    table = effects(runs, ["a", "b"], {"a": "x", "b": "x"}, ERROR, 0.1, True)
    assert table["mean_diff"].tolist() == [2.5, 3.5, 1.0]
    assert dependences(table).empty


def test_interactions_can_be_left_out_for_they_share_the_correction():
    runs = runs_of(planted, activation=["relu", "tanh", "sigmoid"], pool=["max", "avg"])
    baseline = {"activation": "relu", "pool": "max"}
    assert len(effects(runs, list(baseline), baseline, ERROR, 0.1, True)) == 5
    main = effects(runs, list(baseline), baseline, ERROR, 0.1, True, interactions=False)
    assert factors_in(main) == ["activation", "activation", "pool"]


def test_a_third_factor_is_averaged_over():
    runs = runs_of(
        lambda seed, a, b, c: 4 * a + 2 * a * b + a * b * c + 0 * seed, a=[0, 1], b=[0, 1], c=[0, 1]
    )
    table = effects(runs, ["a", "b", "c"], {"a": 0, "b": 0, "c": 0}, ERROR, 0.1, False)
    means = dict(zip(factors_in(table), table["mean_diff"], strict=True))
    expected = {"a": 5.25, "b": 1.25, "c": 0.25, "a × b": 2.5, "a × c": 0.5, "b × c": 0.5}
    assert means == pytest.approx(expected)


def test_numbers_as_levels_and_their_order():
    runs = runs_of(lambda seed, lr: seed + lr, lr=[10.0, 0.1, 1.0])
    table = effects(runs, ["lr"], {"lr": 0.1}, ERROR, 0.1, True)
    assert table["variant"].tolist() == [("1.0",), ("10.0",)]


# Pairs and failures


def two(**other) -> pd.DataFrame:
    return runs_of(planted, activation=["relu", "tanh"], **other)


def compared(runs) -> tuple:
    return comparisons(runs, ["activation"], {"activation": "relu"}, ERROR)[0]


def test_runs_with_foreign_fingerprints_are_not_paired():
    runs = two()
    runs.loc[1, "tags.stream"] = "another"
    runs.loc[2, "tags.data_sha256"] = "other digits"
    runs.loc[4, "tags.stream"] = None
    found = compared(runs)
    assert found.seeds == ("3", "4", "5", "6", "7")
    assert found.unpaired == tuple(
        Unpaired(seed, Reason.FINGERPRINTS, differing=(tag,))
        for seed, tag in (("0", "stream"), ("1", "data_sha256"), ("2", "stream"))
    )
    table = effects(runs, ["activation"], {"activation": "relu"}, ERROR, 0.1, True)
    assert table.loc[0, ["n", "verdict"]].tolist() == [5, TOO_FEW]


def test_runs_that_never_had_fingerprints_are_paired_by_seed_alone():
    assert compared(two()).fingerprinted
    found = compared(two().drop(columns=["tags.stream", "tags.data_sha256"]))
    assert len(found.seeds) == 8
    assert not found.fingerprinted


def without_run(seed: str, outcome: Outcome, finished: int = 0, **setting: str) -> Unpaired:
    return Unpaired(seed, Reason.NOT_ONE_RUN, gaps=(Gap(setting, outcome, finished),))


def test_failed_and_missing_runs_are_counted():
    runs = two()
    error = f"metrics.{ERROR}"
    runs.loc[1, ["status", "tags.failure", error]] = ["FAILED", "diverged", math.nan]
    runs.loc[3, ["status", "tags.failure", error]] = ["FAILED", "error", math.nan]
    runs.loc[5, ["status", error]] = ["RUNNING", math.nan]
    runs.loc[7, error] = 1.7976931348623157e308
    runs = runs.drop(index=[8])
    found = compared(runs)
    assert found.seeds == ("5", "6", "7")
    assert found.unpaired == (
        without_run("0", Outcome.DIVERGED, activation="tanh"),
        without_run("1", Outcome.CRASHED, activation="tanh"),
        without_run("2", Outcome.UNFINISHED, activation="tanh"),
        without_run("3", Outcome.WITHOUT_RESULT, activation="tanh"),
        without_run("4", Outcome.MISSING, activation="relu"),
    )
    assert found.run_ids == (("011", "010"), ("013", "012"), ("015", "014"))
    outcomes = with_outcomes(runs, ERROR)
    counts = outcomes[outcomes["params.activation"] == "tanh"]["outcome"].value_counts().to_dict()
    assert counts == {"finished": 4, "diverged": 1, "crashed": 1, "unfinished": 1, "without result": 1}
    assert compared(two()).unpaired == ()


def test_names_of_levels_are_never_read_as_reasons():
    """A level called `different_lr` whose runs were stopped can still be settled by more seeds."""
    runs = runs_of(planted, activation=["relu", "tanh"]).replace("tanh", "different_lr")
    runs.loc[runs["params.activation"] == "different_lr", ["status", "tags.failure"]] = [
        "FAILED",
        "interrupted",
    ]
    found = compared(runs)
    assert {each.reason for each in found.unpaired} == {Reason.NOT_ONE_RUN}
    assert not found.foreign
    table = effects(runs, ["activation"], {"activation": "relu"}, ERROR, 0.1, True)
    assert table.loc[0, ["n", "seeds_needed"]].tolist() == [0, 6]


@pytest.mark.parametrize(
    ("ended", "needed"),
    [
        ({"status": "FAILED", "tags.failure": "diverged"}, None),
        ({"status": "FAILED", "tags.failure": "error"}, None),
        ({"status": "FAILED"}, None),
        ({f"metrics.{ERROR}": math.inf}, None),
        ({"status": "FAILED", "tags.failure": "interrupted"}, 6),
        ({"status": "KILLED"}, 6),
        ({"status": "RUNNING"}, 6),
    ],
    ids=lambda value: str(value),
)
def test_a_variant_that_never_gives_a_result_needs_no_seeds(ended, needed):
    runs = two()
    for name, value in ended.items():
        runs.loc[runs["params.activation"] == "tanh", name] = value
    assert bool(compared(runs).hopeless) == (needed is None)
    row = effects(runs, ["activation"], {"activation": "relu"}, ERROR, 0.1, True).loc[0]
    assert row[["n", "verdict"]].tolist() == [0, INCONCLUSIVE if needed is None else TOO_FEW]
    assert pd.isna(row["seeds_needed"]) if needed is None else row["seeds_needed"] == needed


def test_runs_that_never_reached_the_target_need_more_epochs():
    runs = two().assign(**{"params.trainer.epochs": "5", "metrics.epochs_to_target": 3.0})
    tanh = runs["params.activation"] == "tanh"

    def judged(relu: float, other: float) -> list:
        runs["metrics.epochs_to_target"] = np.where(tanh, other, relu)
        table = effects(runs, ["activation"], {"activation": "relu"}, "epochs_to_target", 0, True)
        return table.loc[0, ["verdict", "seeds_needed"]].tolist()

    assert judged(3, 4)[0] == judged(3, 6)[0] == WORSE  # by two epochs or more
    assert judged(3, 3)[0] == NO_DIFFERENCE
    verdict, needed = judged(6, 6)  # no tie: neither ever got there
    assert verdict == INCONCLUSIVE
    assert pd.isna(needed)


def test_what_can_never_be_paired_needs_no_seeds():
    runs = two()
    runs.loc[runs["params.activation"] == "tanh", "tags.stream"] = "another"
    assert compared(runs).foreign
    assert pd.isna(
        effects(runs, ["activation"], {"activation": "relu"}, ERROR, 0.1, True).loc[0, "seeds_needed"]
    )


def test_a_cross_in_a_name_is_a_letter_like_any_other():
    names = {"activation": "size × depth", "relu": "2 × 2", "tanh": "4 × 4"}
    runs = runs_of(planted, activation=["relu", "tanh"], pool=["max", "avg"])
    plain = effects(runs, ["activation", "pool"], {"activation": "relu", "pool": "max"}, ERROR, 0.1, True)
    runs = runs.replace(names).rename(columns={"params.activation": "params.size × depth"})
    factors, baseline = ["size × depth", "pool"], {"size × depth": "2 × 2", "pool": "max"}
    crossed = effects(runs, factors, baseline, ERROR, 0.1, True)
    assert crossed["factors"].tolist() == [("size × depth",), ("pool",), ("size × depth", "pool")]
    assert crossed["variant"].tolist() == [("4 × 4",), ("avg",), ("4 × 4", "avg")]
    pd.testing.assert_frame_equal(crossed[list(COLUMNS[3:])], plain[list(COLUMNS[3:])])
    expected = dependences(plain).replace(names)
    pd.testing.assert_frame_equal(dependences(crossed), expected)
    assert expected["established"].tolist() == [True, True]


def test_of_two_finished_runs_none_is_picked():
    runs = two()
    found = compared(pd.concat([runs, runs.loc[[1]].assign(run_id="again")], ignore_index=True))
    assert found.unpaired == (without_run("0", Outcome.FINISHED, 2, activation="tanh"),)
    failed = runs.loc[[1]].assign(run_id="failed", status="FAILED")
    assert len(compared(pd.concat([runs, failed], ignore_index=True)).seeds) == 8


def test_a_seed_counts_in_a_grid_where_all_its_cells_finished():
    runs = runs_of(planted, activation=["relu", "tanh"], pool=["max", "avg"])
    runs.loc[3, ["status", "tags.failure"]] = ["FAILED", "diverged"]
    found = comparisons(runs, ["activation", "pool"], {"activation": "relu", "pool": "max"}, ERROR)
    lost = without_run("0", Outcome.DIVERGED, activation="tanh", pool="avg")
    assert [each.unpaired for each in found] == [(lost,)] * 3


def test_runs_without_seeds_or_levels_are_not_paired():
    found = compared(two(seeds=1).assign(**{"params.seed": None}))
    assert found.seeds == ()
    assert found.unpaired == (Unpaired("(not logged)", Reason.NO_SEED),)
    runs = two()
    stray = runs.loc[[0]].assign(**{"params.activation": "(not logged)"}, status="FAILED")
    runs = pd.concat([runs, stray], ignore_index=True)
    assert len(comparisons(runs, ["activation"], {"activation": "relu"}, ERROR)) == 1


def test_levels_that_never_meet_are_still_reported():
    runs = runs_of(planted, activation=["relu", "tanh"], pool=["max", "avg"])
    runs = runs[(runs["params.activation"] == "relu") == (runs["params.pool"] == "max")]
    found = comparisons(runs, ["activation", "pool"], {"activation": "relu", "pool": "max"}, ERROR)
    assert [each.factors for each in found] == [("activation",), ("pool",)]
    assert found[0].unpaired[0] == Unpaired("0", Reason.NEVER_MEET)


def test_one_pair():
    table = effects(two(seeds=1), ["activation"], {"activation": "relu"}, ERROR, 0.1, True)
    row = table.iloc[0]
    assert row[["n", "p", "ci_low", "ci_high", "verdict", "seeds_needed"]].tolist() == [
        1,
        1.0,
        -math.inf,
        math.inf,
        TOO_FEW,
        6,
    ]


def test_equal_results_up_to_rounding_are_ties():
    runs = runs_of(lambda seed, a: 0.1 + 0.2 if a == "x" else 0.3, a="xy")
    row = effects(runs, ["a"], {"a": "x"}, ERROR, 0.1, True).iloc[0]
    assert row[["mean_diff", "p", "prob_better", "effect_size", "verdict"]].tolist() == [
        0.0,
        1.0,
        0.5,
        0.0,
        NO_DIFFERENCE,
    ]


@given(st.randoms(use_true_random=False))
@settings(max_examples=10)
def test_the_order_of_the_rows_does_not_matter(random):
    runs = runs_of(planted, 6, activation=["relu", "tanh", "sigmoid"], pool=["max", "avg"])
    baseline = {"activation": "relu", "pool": "max"}
    order = list(range(len(runs)))
    random.shuffle(order)
    one = effects(runs, list(baseline), baseline, ERROR, 0.1, True)
    two = effects(runs.iloc[order], list(baseline), baseline, ERROR, 0.1, True)
    pd.testing.assert_frame_equal(one, two, check_exact=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": pd.DataFrame()}, "there are no runs"),
        ({"metric": "test/eror"}, "metric test/eror: no run has it; there are test/error_pct"),
        ({"baseline": {}}, "baseline: activation is varied and needs a level; there are relu, tanh"),
        ({"baseline": {"activation": "elu"}}, "baseline activation=elu: no run has it; there are relu, tanh"),
        ({"factors": [], "baseline": {}}, "nothing to compare"),
        (
            {"factors": ["pool"], "baseline": {"pool": "max"}},
            "baseline pool=max: no run has it; there are none",
        ),
    ],
)
def test_bad_input_is_one_line(change, message):
    given = {
        "runs": two(seeds=2),
        "factors": ["activation"],
        "baseline": {"activation": "relu"},
        "metric": ERROR,
    }
    with pytest.raises(InputError, match=message.replace("(", r"\(")) as error:
        comparisons(**given | change)
    assert "\n" not in str(error.value)


def test_one_level_is_nothing_to_compare():
    runs = runs_of(planted, activation=["relu"])
    with pytest.raises(InputError, match=r"one variant only \(activation=relu\)"):
        comparisons(runs, ["activation"], {"activation": "relu"}, ERROR)


# Nuisance factors


def rates() -> pd.DataFrame:
    """sgd is best at 0.1 by validation (at 1.0 by test), adam at 0.001, the smallest it was given."""
    validation = {("sgd", "0.01"): 0.8, ("sgd", "0.1"): 0.9, ("sgd", "1.0"): 0.7}
    validation |= {("adam", "0.001"): 0.95, ("adam", "0.01"): 0.9}
    runs = runs_of(
        lambda seed, optimizer, lr: 5 - float(lr),
        3,
        optimizer=["sgd", "adam"],
        lr=["1.0", "0.1", "0.01", "0.001"],
    )
    pairs = list(zip(runs["params.optimizer"], runs["params.lr"], strict=True))
    runs["metrics.val/accuracy"] = [validation.get(pair, math.nan) for pair in pairs]
    return runs[[pair in validation for pair in pairs]].reset_index(drop=True)


def test_each_variant_is_compared_at_its_own_best_value():
    kept, given_to = tuned(rates(), ["optimizer"], ["lr"])
    assert given_to.to_dict("records") == [
        {
            "params.optimizer": "adam",
            "params.lr": "0.001",
            "tried": {"lr": ("0.001", "0.01")},
            "combinations": 2,
            "runs": 6,
            "diverged": 0,
            "validation": pytest.approx(0.95),
            "edge": ("lr",),
        },
        {
            "params.optimizer": "sgd",
            "params.lr": "0.1",
            "tried": {"lr": ("0.01", "0.1", "1.0")},
            "combinations": 3,
            "runs": 9,
            "diverged": 0,
            "validation": pytest.approx(0.9),
            "edge": (),
        },
    ]
    assert sorted(set(zip(kept["params.optimizer"], kept["params.lr"], strict=True))) == [
        ("adam", "0.001"),
        ("sgd", "0.1"),
    ]
    table = effects(kept, ["optimizer"], {"optimizer": "sgd"}, ERROR, 0.01, True)
    assert table.loc[0, "mean_diff"] == pytest.approx(0.099)


def test_a_value_that_diverges_is_chosen_only_where_all_do():
    runs = rates()
    runs.loc[(runs["params.lr"] == "0.1") & (runs["params.seed"] == "0"), ["status", "tags.failure"]] = [
        "FAILED",
        "diverged",
    ]
    _, given_to = tuned(runs, ["optimizer"], ["lr"])
    assert given_to.loc[1, ["params.lr", "diverged", "edge"]].tolist() == ["0.01", 1, ("lr",)]
    runs.loc[runs["params.optimizer"] == "sgd", ["status", "tags.failure"]] = ["FAILED", "diverged"]
    kept, given_to = tuned(runs, ["optimizer"], ["lr"])
    assert pd.isna(given_to.loc[1, "params.lr"])
    assert given_to.loc[1, "edge"] == ()
    found = comparisons(kept, ["optimizer"], {"optimizer": "sgd"}, ERROR)[0]
    assert found.unpaired[0] == without_run("0", Outcome.DIVERGED, optimizer="sgd")


def test_a_loss_chooses_the_smallest_and_words_have_no_edge():
    runs = runs_of(lambda seed, a, how: seed, 2, a="xy", how=["lines", "cosine"])
    runs["metrics.val/loss"] = [1.0 if how == "lines" else 2.0 for how in runs["params.how"]]
    kept, given_to = tuned(runs, ["a"], ["how"], "val/loss", smaller_is_better=True)
    assert set(kept["params.how"]) == {"lines"}
    assert given_to["edge"].tolist() == [(), ()]


@pytest.mark.parametrize(
    ("best", "edge"), [("[0.004, 0.002]", ("lr",)), ("[0.002, 0.001]", ()), ("[0.001, 0.0005]", ("lr",))]
)
def test_rates_by_epoch_have_an_edge_by_their_first(best, edge):
    tried = ["[0.002, 0.001]", "[0.004, 0.002]", "[0.001, 0.0005]"]
    runs = runs_of(lambda seed, a, lr: seed, 2, a="xy", lr=tried)
    runs["metrics.val/loss"] = [1.0 if lr == best else 2.0 for lr in runs["params.lr"]]
    _, given_to = tuned(runs, ["a"], ["lr"], "val/loss", smaller_is_better=True)
    assert given_to["edge"].tolist() == [edge, edge]


# Claims


@pytest.mark.parametrize(
    ("verdict", "direction", "expected"),
    [
        (BETTER, "better", SUPPORTED),
        (WORSE, "better", REFUTED),
        (WORSE, "worse", SUPPORTED),
        (BETTER, "worse", REFUTED),
        (NO_DIFFERENCE, "better", NO_DIFFERENCE),
        (INCONCLUSIVE, "worse", INCONCLUSIVE),
        (TOO_FEW, "better", TOO_FEW),
    ],
)
def test_claims_are_answered_either_way_round(verdict, direction, expected):
    row = [("c3",), ("sparse",), ("full",), ERROR, verdict]
    table = pd.DataFrame([row], columns=[*COLUMNS[:4], "verdict"])
    claim = Claim("as the paper says", "LeCun 1998, II.B", "c3", "sparse", "full", ERROR, direction)
    outcome, row = answer(claim, table)
    assert outcome == expected
    assert row["verdict"] == verdict
    reverse = Claim(
        "…", "…", "c3", "full", "sparse", ERROR, {"better": "worse", "worse": "better"}[direction]
    )
    assert answer(reverse, table)[0] == expected


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("better", "supported"),
        ("no difference that matters", "supported"),
        ("worse", "refuted"),
        ("inconclusive", "inconclusive"),
        ("confounded", "confounded"),
    ],
)
def test_no_worse_is_better_or_no_difference_that_matters(verdict, expected):
    row = [("trainer.epochs",), ("16",), ("8",), ERROR, verdict]
    table = pd.DataFrame([row], columns=[*COLUMNS[:4], "verdict"])
    assert answer(Claim("…", "…", "trainer.epochs", "16", "8", ERROR, "not_worse"), table)[0] == expected
    turned = {"better": "refuted", "worse": "supported"}.get(verdict, expected)
    assert answer(Claim("…", "…", "trainer.epochs", "8", "16", ERROR, "not_worse"), table)[0] == turned


@pytest.mark.parametrize(
    ("at_levels", "direction", "expected"),
    [
        ((BETTER, NO_DIFFERENCE), "not_worse", SUPPORTED),
        ((BETTER, NO_DIFFERENCE), "better", DEPENDS),
        ((BETTER, WORSE), "not_worse", DEPENDS),
        ((BETTER, INCONCLUSIVE), "better", DEPENDS),
        ((INCONCLUSIVE, INCONCLUSIVE), "better", DEPENDS),
        ((WORSE, WORSE), "better", REFUTED),
        ((WORSE, WORSE), "worse", SUPPORTED),
    ],
)
def test_effects_at_each_level_answer_a_claim_in_place_of_their_average(at_levels, direction, expected):
    named = [("trainer.epochs",), ("16",), ("8",), ERROR]
    columns = [*COLUMNS[:4], "verdict"]
    average = pd.DataFrame([[*named, BETTER]], columns=columns)
    other = [("pool",), ("avg",), ("max",), ERROR, WORSE]
    simple = pd.DataFrame([[*named, each] for each in at_levels] + [other], columns=columns)
    claim = Claim("…", "…", "trainer.epochs", "16", "8", ERROR, direction)
    assert answer(claim, average, simple)[0] == expected
    assert answer(claim, average, simple.tail(1))[0] == answer(claim, average)[0]  # of another choice


def test_a_claim_on_what_was_not_compared():
    table = effects(two(), ["activation"], {"activation": "relu"}, ERROR, 0.1, True)
    with pytest.raises(InputError, match="it compares activation: tanh against relu in test/error_pct"):
        answer(Claim("…", "…", "pool", "avg", "max", ERROR), table)
    with pytest.raises(InputError, match="direction=faster; accepted: better, worse, not_worse"):
        Claim("…", "…", "pool", "avg", "max", ERROR, "faster")
