"""Ladders, fractions and grids with holes: each comparison against one that was worked out by hand."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from test_verdicts import ERROR, runs_of

from ablations.comparison.confounds import Rules
from ablations.comparison.designs import WHOLE, chains, contrasts, ladder
from ablations.comparison.pairs import comparisons

FIVE = dict.fromkeys("abcde", ("0", "1"))
FOUR = dict.fromkeys("abcd", ("0", "1"))
BASE = dict.fromkeys("abcde", "0")


def only(runs: pd.DataFrame, keep) -> pd.DataFrame:
    """The runs whose levels, as a text, `keep` wants."""
    keys = [name for name in runs if name.startswith("params.") and name != "params.seed"]
    return runs[["".join(row) in keep for row in runs[keys].to_numpy()]].reset_index(drop=True)


def means(found) -> list[tuple]:
    return [
        (each.factors, each.variant, each.baseline, round(float(np.mean(each.differences)), 9))
        for each in found
    ]


# Ladder

STEPS = {"a": ("x", "y"), "b": ("1", "3", "2")}
RUNGS = {"x1": 8.0, "y1": 6.0, "y3": 7.0, "y2": 4.5}


def on_a_ladder(seeds: int = 6) -> pd.DataFrame:
    def outcome(seed, a, b):
        return RUNGS.get(a + b, 99.0) + seed / 2 + (0.25 * seed if a + b == "y2" else 0.0)

    return only(runs_of(outcome, seeds, a=("x", "y"), b=("1", "2", "3")), RUNGS)


def test_each_step_is_compared_with_the_one_before_and_the_last_with_the_first():
    found = ladder(on_a_ladder(), STEPS, ERROR)
    # Seeds 0 to 5 add 0.25 each to the last step, 0.625 on average.
    assert means(found) == [
        (("a",), ("y",), ("x",), -2.0),
        (("b",), ("3",), ("1",), 1.0),
        (("b",), ("2",), ("3",), -2.5 + 0.625),
        (WHOLE, ("last",), ("first",), -3.5 + 0.625),
    ]
    assert found[2].differences == pytest.approx([-2.5 + 0.25 * seed for seed in range(6)])
    assert {each.signs for each in found} == {(1, -1)}
    assert {each.at for each in found} == {()}


def test_runs_beside_a_ladder_change_no_step():
    beside = runs_of(lambda seed, a, b: 50.0 + seed, 6, a=("x",), b=("2", "3")).assign(run_id="beside")
    runs = pd.concat([on_a_ladder(), beside], ignore_index=True)
    assert means(ladder(runs, STEPS, ERROR)) == means(ladder(on_a_ladder(), STEPS, ERROR))


def test_a_ladder_of_one_step_is_one_comparison_and_a_step_that_no_run_made_has_no_pair():
    runs = on_a_ladder()
    assert len(ladder(runs, {"a": ("x", "y"), "b": ("1",)}, ERROR)) == 1
    step = ladder(runs[runs["params.b"] != "3"], STEPS, ERROR)
    assert [len(each.seeds) for each in step] == [6, 0, 0, 6]


def test_what_confounds_a_step_confounds_the_whole():
    runs = on_a_ladder().assign(**{"params.lr": "0.1", "params.size": "9"})
    runs.loc[runs["params.b"] == "3", "params.lr"] = "0.2"
    runs.loc[runs["params.a"] == "x", "params.size"] = "8"
    rules = Rules(brings={"a": {"x": ["size"]}})
    found = ladder(runs, STEPS, ERROR, rules=rules)
    assert [each.confounded for each in found] == [False, True, True, True]
    assert [each.key for each in found[0].differing.varied_with] == ["size"]


# Fraction


def fraction_of_five() -> set[str]:
    return {"".join(map(str, (*four, sum(four) % 2))) for four in product((0, 1), repeat=4)}


def fraction_of_four() -> set[str]:
    return {"".join(map(str, (*three, sum(three) % 2))) for three in product((0, 1), repeat=3)}


def planted(seed, a="0", b="0", c="0", d="0", e="0"):
    """a costs 2, b brings 1; a and b together cost 3 more, d and e 1; the seed moves all."""
    a, b, d, e = (int(each) for each in (a, b, d, e))
    return 10 + 2 * a - b + 3 * a * b + d * e + seed


def test_main_effects_of_a_half_are_those_of_the_whole():
    whole = runs_of(planted, 6, **FIVE)
    half = only(whole, fraction_of_five())
    assert len(half) == len(whole) / 2
    found = contrasts(half, tuple(FIVE), BASE, ERROR)
    every = comparisons(whole, tuple(FIVE), BASE, ERROR, interactions=False)
    assert means(found) == means(every)
    # An interaction of two lends each of them half of it.
    assert means(found)[:2] == [(("a",), ("1",), ("0",), 2 + 1.5), (("b",), ("1",), ("0",), -1 + 1.5)]
    assert found[0].averaged == ("b", "c", "d", "e")
    assert found[0].signs == (1,) * 8 + (-1,) * 8


def test_a_half_of_five_tells_all_interactions_of_two_apart():
    found = chains(only(runs_of(planted, 6, **FIVE), fraction_of_five()), tuple(FIVE), BASE, ERROR)
    assert [each.pairs for each in found] == [
        ((one, other),) for i, one in enumerate("abcde") for other in "abcde"[i + 1 :]
    ]
    assert {each.pairs[0]: round(each.mean, 9) for each in found if each.mean} == {
        ("a", "b"): 3.0,
        ("d", "e"): 1.0,
    }
    assert {each.n for each in found} == {6}


def test_a_half_of_four_sees_interactions_in_pairs_and_what_they_come_to():
    def outcome(seed, a, b, c, d):
        return planted(seed, a, b) + 0.5 * int(c) * int(d)

    found = chains(only(runs_of(outcome, 6, **FOUR), fraction_of_four()), tuple(FOUR), BASE, ERROR)
    assert {each.pairs: round(each.mean, 9) for each in found} == {
        (("a", "b"), ("c", "d")): 3.5,
        (("a", "c"), ("b", "d")): 0.0,
        (("a", "d"), ("b", "c")): 0.0,
    }


def test_a_fraction_that_lost_a_setting_gives_no_pairs_and_no_chains():
    runs = only(runs_of(planted, 6, **FOUR), fraction_of_four() - {"1111"})
    assert [len(each.seeds) for each in contrasts(runs, tuple(FOUR), BASE, ERROR)] == [0] * 4
    assert chains(runs, tuple(FOUR), BASE, ERROR) == ()


def test_one_failed_run_costs_a_fraction_its_seed():
    runs = only(runs_of(planted, 6, **FOUR), fraction_of_four())
    runs.loc[3, ["status", f"metrics.{ERROR}"]] = "FAILED", None
    found = contrasts(runs, tuple(FOUR), BASE, ERROR)
    assert {each.seeds for each in found} == {("1", "2", "3", "4", "5")}


def test_what_another_factor_brings_does_not_confound_a_fraction_and_anything_else_does():
    runs = only(runs_of(planted, 6, **FOUR), fraction_of_four())
    runs["params.batch"] = runs["params.a"].map({"0": "32", "1": "1"})
    rules = Rules(brings={"a": {"1": ["batch"]}})
    clean = contrasts(runs, tuple(FOUR), BASE, ERROR, rules=rules)
    assert [each.confounded for each in clean] == [False] * 4
    assert [[of.key for of in each.differing.varied_with] for each in clean] == [["batch"], [], [], []]
    without = contrasts(runs, tuple(FOUR), BASE, ERROR, rules=Rules(brings={}))
    assert [each.confounded for each in without] == [True, False, False, False]
    runs["params.lr"] = (runs["params.b"] + runs["params.c"]).map(
        lambda both: "0.2" if both == "11" else "0.1"
    )
    (seed_0,) = {each.seeds for each in contrasts(runs, tuple(FOUR), BASE, ERROR, rules=rules)}
    assert seed_0 == tuple(map(str, range(6)))
    mixed = contrasts(runs, tuple(FOUR), BASE, ERROR, rules=rules)
    assert [each.confounded for each in mixed] == [False, True, True, False]
    (lr,) = mixed[1].differing.confounds
    assert (lr.key, lr.variant, lr.baseline) == ("lr", ("0.2",), ("0.1",))


# A grid with holes


def test_in_a_grid_with_holes_levels_are_compared_where_both_were_run():
    def outcome(seed, a, b):
        return {"00": 1.0, "01": 2.0, "02": 4.0, "10": 8.0, "12": 32.0}[a + b] + seed

    kept = {"00", "01", "02", "10", "12"}
    full = runs_of(lambda seed, a, b: outcome(seed, a, b) if a + b in kept else 0.0, 6, a="01", b="012")
    found = comparisons(only(full, kept), ("a", "b"), {"a": "0", "b": "0"}, ERROR)
    assert means(found) == [
        (("a",), ("1",), ("0",), ((8 - 1) + (32 - 4)) / 2),
        (("b",), ("1",), ("0",), 2.0 - 1.0),  # at a=0 alone
        (("b",), ("2",), ("0",), ((4 - 1) + (32 - 8)) / 2),
        (("a", "b"), ("1", "2"), ("0", "0"), (32 - 4) - (8 - 1)),
    ]
