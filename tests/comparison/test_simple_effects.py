"""Comparisons at each level of another factor, where an interaction outweighs the average.

`python tests/comparison/test_simple_effects.py` prints the line of docs/statistics.md.
"""

import gc

import numpy as np
import pandas as pd
import pytest
from test_verdicts import ERROR, runs_of

from ablations.comparison.designs import dependences
from ablations.comparison.pairs import comparisons, simple_effects
from ablations.comparison.verdicts import Verdict, judge, tabulate

LEVELS = {"activation": ("relu", "sigmoid", "tanh"), "pool": ("max", "avg")}
BASELINE = {"activation": "relu", "pool": "max"}
POOLED = {"relu": -0.25, "sigmoid": 1.5, "tanh": 0.0}  # what average pooling costs


def outcome(seed: int, activation: str = "relu", pool: str = "max", c3: str = "full") -> float:
    cost = {"relu": 0.0, "sigmoid": 0.5, "tanh": 0.25}[activation]
    pooled = POOLED[activation] + (seed % 3 - 1) / 16 if pool == "avg" else 0.0
    return 4 + cost + pooled + (0.5 + seed / 8 if c3 == "sparse" else 0) + seed % 2 / 4


def found_in(runs: pd.DataFrame, factors=tuple(LEVELS), baseline=BASELINE):
    table = tabulate(comparisons(runs, factors, baseline, ERROR), 0.05, True)
    asked = dependences(table)
    return simple_effects(runs, factors, ERROR, asked[asked["established"].astype(bool)])


def test_a_choice_that_depends_on_another_is_compared_at_each_of_its_levels():
    found = found_in(runs_of(outcome, 9, **LEVELS))
    assert [(each.factors, each.variant, each.at) for each in found] == [
        (("activation",), ("sigmoid",), (("pool", "avg"),)),
        (("activation",), ("sigmoid",), (("pool", "max"),)),
        (("pool",), ("avg",), (("activation", "relu"),)),
        (("pool",), ("avg",), (("activation", "sigmoid"),)),
        (("pool",), ("avg",), (("activation", "tanh"),)),
    ]
    means = [np.mean(each.differences) for each in found]
    assert means == pytest.approx([0.5 + 1.5 + 0.25, 0.5, -0.25, 1.5, 0.0])
    assert all(each.seeds == tuple(map(str, range(9))) for each in found)
    assert {each.averaged for each in found} == {()}
    assert {each.signs for each in found} == {(1, -1)}


def test_a_third_factor_is_averaged_over_at_each_level():
    levels = {**LEVELS, "c3": ("full", "sparse")}
    found = found_in(runs_of(outcome, 9, **levels), tuple(levels), {**BASELINE, "c3": "full"})
    at_relu = next(each for each in found if each.at == (("activation", "relu"),))
    assert at_relu.averaged == ("c3",)
    assert np.mean(at_relu.differences) == pytest.approx(-0.25)
    assert len(at_relu.run_ids[0]) == len(at_relu.signs) == 4


def test_levels_that_have_no_run_of_both_sides_are_left_out():
    runs = runs_of(outcome, 9, **LEVELS)
    runs = runs[~((runs["params.activation"] == "tanh") & (runs["params.pool"] == "avg"))]
    assert ("activation", "tanh") not in [level for each in found_in(runs) for level in each.at]


def test_nothing_that_is_established_asks_for_none():
    parallel = runs_of(lambda seed, activation="relu", pool="max": 4 + (pool == "avg"), 9, **LEVELS)
    assert found_in(parallel) == ()


def test_averages_are_named_where_there_is_something_to_average():
    whole = comparisons(runs_of(outcome, 8, **LEVELS), tuple(LEVELS), BASELINE, ERROR, False)
    assert [each.averaged for each in whole] == [("pool",), ("pool",), ("activation",)]
    one_at_a_time = runs_of(outcome, 8, **LEVELS).query(
        "`params.activation` == 'relu' or `params.pool` == 'max'"
    )
    apart = comparisons(one_at_a_time, tuple(LEVELS), BASELINE, ERROR, False)
    assert [each.averaged for each in apart] == [(), (), ()]


def false_simple_verdicts(studies: int, seeds: int = 10) -> tuple[float, float]:
    """Two factors of two levels. Pooling matters with the one activation alone: how often a report says that it
    matters with the other one as well, and how often it comes to look."""
    gc.freeze()  # each correction by statsmodels collects garbage, which takes far longer than the rest
    rng = np.random.default_rng(8)
    wrong, looked = 0, 0
    for _ in range(studies):
        cells = rng.standard_normal((2, 2, seeds)) + rng.standard_normal(seeds)
        cells[1, 1] += 2.5
        pool, activation = (
            cells[:, 1].mean(0) - cells[:, 0].mean(0),
            cells[1].mean(0) - cells[0].mean(0),
        )
        both = cells[1, 1] - cells[0, 1] - cells[1, 0] + cells[0, 0]
        table = judge([activation, pool, both], 0.0, True)
        main, interaction = table["mean_diff"][1], table["mean_diff"][2]
        if abs(interaction) > abs(main) and table["p_holm"][2] < 0.05:
            looked += 1
            simple = judge([cells[0, 1] - cells[0, 0], cells[1, 1] - cells[1, 0]], 0.0, True)
            wrong += simple["verdict"][0] in (Verdict.BETTER, Verdict.WORSE)
    return wrong / studies, looked / studies


@pytest.mark.slow
def test_simple_effects_have_no_more_false_verdicts_than_they_may():
    wrong, looked = false_simple_verdicts(500)
    assert looked > 0.5
    assert wrong / looked <= 0.05 + 2 * (0.05 * 0.95 / (500 * looked)) ** 0.5


if __name__ == "__main__":
    print("false: {:.1%} of all studies, looked in {:.0%}".format(*false_simple_verdicts(2000)))
