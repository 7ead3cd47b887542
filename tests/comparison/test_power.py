"""How small a difference is settled: against the very rule, simulated, and against the noncentral t."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats
from test_verdicts import ERROR, runs_of

from ablations.comparison import tests
from ablations.comparison.looks import FIRST
from ablations.comparison.pairs import comparisons
from ablations.comparison.power import (
    PROBABILITY,
    SIMULATED,
    _ends,
    deviation,
    seeds_for,
    smallest_difference,
    spread,
)
from ablations.comparison.tests import ALPHA
from ablations.comparison.verdicts import MOST_SEEDS, Verdict, judge


def settled(n: int, comparisons: int, difference: float, margin: float, studies: int) -> float:
    """The share of studies in which the rule itself settles one difference among nothing."""
    rng = np.random.default_rng(0)
    found = 0
    for _ in range(studies):
        samples = rng.standard_normal((comparisons, n))
        samples[0] += difference
        found += judge(list(samples), margin, True)["verdict"][0] == Verdict.WORSE
    return found / studies


@pytest.mark.parametrize(("n", "m", "margin"), [(6, 1, 0.0), (8, 1, 1.0)])
def test_the_rule_itself_settles_the_smallest_difference_four_times_of_five(n, m, margin):
    difference = smallest_difference(n, m, 1.0, margin)
    share = settled(n, m, difference, margin, studies=80)
    assert share == pytest.approx(PROBABILITY, abs=3 * math.sqrt(0.16 / 80))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "m", "margin"), [(6, 1, 0.0), (8, 5, 0.0), (10, 1, 1.0), (12, 5, 0.5), (16, 5, 0.0)]
)
def test_the_rule_itself_settles_it_four_times_of_five_in_many_studies(n, m, margin):
    difference = smallest_difference(n, m, 1.0, margin)
    share = settled(n, m, difference, margin, studies=2000)
    assert share == pytest.approx(PROBABILITY, abs=3 * math.sqrt(0.16 / 2000) + 0.01)


@pytest.mark.parametrize("n", [6, 9, SIMULATED])
def test_the_ends_are_those_of_the_sign_flip_test(n):
    low, high = _ends(n, 1 if n == 6 else 4)
    samples = np.random.default_rng(n).standard_normal((len(low), n))
    for i in (0, 17, len(low) - 1):
        corrected = tests.sign_flip(samples[i], FIRST * ALPHA / (1 if n == 6 else 4))
        assert low[i] == pytest.approx(corrected.low)
        assert high[i] == pytest.approx(tests.sign_flip(samples[i], FIRST * ALPHA).high)


@pytest.mark.parametrize(("n", "m"), [(SIMULATED + 1, 1), (16, 5), (40, 10)])
def test_beyond_it_is_the_t_test_whose_power_is_known(n, m):
    limit = stats.t.ppf(1 - FIRST * ALPHA / m / 2, n - 1)
    exact = optimize.brentq(lambda d: stats.nct.sf(limit, n - 1, d * math.sqrt(n)) - PROBABILITY, 0.01, 5)
    assert smallest_difference(n, m, 1.0, 0.0) == pytest.approx(exact, rel=0.01)


def test_where_one_test_gives_way_to_the_other_nothing_jumps():
    for m in (1, 5):
        last, beyond = (smallest_difference(n, m, 1.0, 0.0) for n in (SIMULATED, SIMULATED + 1))
        assert 0.85 < beyond / last < 0.96  # √(10/11) = 0.953, and fewer degrees of freedom lost


def test_it_scales_with_the_spread_and_shrinks_with_seeds():
    assert smallest_difference(8, 1, 0.5, 0.0) == pytest.approx(smallest_difference(8, 1, 1.0, 0.0) / 2)
    sizes = [smallest_difference(n, 2, 1.0, 0.0) for n in range(7, 30)]
    assert sizes == sorted(sizes, reverse=True)
    assert smallest_difference(8, 1, 1.0, 2.0) > smallest_difference(
        8, 1, 1.0, 0.0
    )  # what is inside does not count
    assert smallest_difference(5, 1, 1.0, 0.0) == math.inf


def test_seeds_for_a_difference_are_the_fewest_that_settle_it():
    for m, sd in ((1, 1.0), (5, 0.4)):
        seeds = seeds_for(0.3, m, sd, 0.3)
        assert smallest_difference(seeds, m, sd, 0.3) <= 0.3 < smallest_difference(seeds - 1, m, sd, 0.3)
    assert seeds_for(100.0, 5, 1.0, 0.0) == 8
    assert seeds_for(0.01, 1, 1.0, 0.01) is None
    assert smallest_difference(MOST_SEEDS, 1, 1.0, 0.01) > 0.01


# Spread


def test_the_spread_is_pooled_over_all_pairs_of_variants_of_a_sweep():
    table = np.random.default_rng(3).normal(0, 1, (7, 3))
    runs = runs_of(lambda seed, a: 5 + 10 * seed + int(a) + table[seed, int(a)], 7, a="012")
    found, counted = spread(runs, ERROR)
    residuals = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    assert found == pytest.approx(
        math.sqrt(2 * (residuals**2).sum() / (6 * 2))
    )  # twice the mean square of the layout
    assert counted == 21


def test_sweeps_are_pooled_and_never_paired_with_each_other():
    one = runs_of(lambda seed, a: 5 + (seed % 2) * int(a), 4, a="01").assign(**{"tags.sweep": "one"})
    other = runs_of(lambda seed, a: 50 + 9 * (seed % 2), 4, a="23").assign(**{"tags.sweep": "other"})
    other["run_id"] = "o" + other["run_id"]
    # Differences 0, 1, 0, 1 (squares about their mean sum to 1), then four times 0: 1 over 3 + 3.
    assert spread(pd.concat([one, other], ignore_index=True), ERROR) == (pytest.approx(math.sqrt(1 / 6)), 16)


def test_runs_without_a_result_and_single_variants_say_nothing():
    runs = runs_of(lambda seed, a: 5.0 + seed * int(a), 4, a="01")
    assert math.isnan(spread(runs[runs["params.a"] == "0"], ERROR)[0])
    assert math.isnan(spread(runs.assign(status="FAILED"), ERROR)[0])
    assert math.isnan(spread(runs[runs["params.seed"] == "0"], ERROR)[0])
    assert math.isnan(spread(runs.assign(**{"tags.did_not_learn": "x"}), ERROR)[0])
    assert math.isnan(spread(runs, "other")[0])


def test_averages_over_settings_scatter_less_and_interactions_more():
    runs = runs_of(lambda seed, a, b: 5.0 + seed, 6, a="01", b="012")
    a, b, _, together, _ = comparisons(runs, ("a", "b"), {"a": "0", "b": "0"}, ERROR)
    assert deviation(a, 1.0) == pytest.approx(1 / math.sqrt(3))
    assert deviation(b, 1.0) == pytest.approx(1 / math.sqrt(2))
    assert deviation(together, 1.0) == pytest.approx(math.sqrt(2))
    assert math.isnan(deviation(replace(a, signs=()), 1.0))


def test_the_deviation_of_averages_is_what_independent_settings_give():
    rng = np.random.default_rng(2)
    runs = runs_of(lambda seed, a, b: rng.normal(seed, 1), 400, a="01", b="012")
    found = comparisons(runs, ("a", "b"), {"a": "0", "b": "0"}, ERROR)
    own = spread(runs, ERROR)[0]
    assert own == pytest.approx(math.sqrt(2), rel=0.05)
    for each in found:
        assert np.std(each.differences, ddof=1) == pytest.approx(deviation(each, own), rel=0.12)
