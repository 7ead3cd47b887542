"""Designs: each one's runs against runs written out by hand, and the words of fractions."""

from itertools import combinations, pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.errors import InputError
from ablations.sweep.designs import GENERATORS
from ablations.sweep.overrides import Given
from ablations.sweep.plan import Plan, plan


def a_study(**said: object) -> dict:
    defaults = {"design": "grid", "factors": {}, "baseline": {}, "seeds": None, "nuisance": []}
    return defaults | {"where": None, "start": {}} | said


def held(line: str) -> Given:
    return Given((line.partition("=")[2],), False, "", line)


def jobs(planned: Plan) -> list[str]:
    return [" ".join(job) for job in planned.runs]


THREE = {"a": ["x", "y"], "b": [1, 2], "c": ["p", "q"]}


# Add one in


def test_add_one_in_starts_from_the_opposite_corner_and_adds_each_choice_of_the_baseline_alone():
    planned = plan(a_study(design="add_one_in", factors=THREE, baseline={"a": "x", "b": 2}), {})
    assert jobs(planned) == ["a=y b=1 c=q", "a=x b=1 c=q", "a=y b=2 c=q", "a=y b=1 c=p"]
    assert planned.baseline == {"a": "y", "b": "1", "c": "q"}


def test_of_more_levels_somebody_says_where_to_start():
    factors = {"a": ["x", "y", "z"], "b": [1, 2]}
    study = a_study(design="add_one_in", factors=factors, start={"a": "z"})
    assert jobs(plan(study, {})) == ["a=z b=2", "a=x b=2", "a=y b=2", "a=z b=1"]


# Ladder


def test_a_ladder_adds_one_change_on_top_of_the_other_in_the_order_of_its_factors():
    planned = plan(a_study(design="ladder", factors=THREE, baseline={"b": 2}), {})
    assert jobs(planned) == ["a=x b=2 c=p", "a=y b=2 c=p", "a=y b=1 c=p", "a=y b=1 c=q"]
    assert planned.baseline == {"a": "x", "b": "2", "c": "p"}


def test_each_further_level_is_a_step_of_its_own():
    study = a_study(
        design="ladder", factors={"a": ["x", "z", "y"], "b": [1, 2]}, baseline={"a": "z"}, seeds=2
    )
    steps = ["a=z b=1", "a=x b=1", "a=y b=1", "a=y b=2"]
    assert jobs(plan(study, {})) == [f"{step} seed={seed}" for seed in (0, 1) for step in steps]


# Fraction


def test_a_half_of_five_factors_is_two_to_the_five_minus_one_with_the_baseline_in_it():
    factors = {key: ["0", "1"] for key in "abcde"}
    rows = [
        tuple(line.split("=")[1] for line in run)
        for run in plan(a_study(design="fraction", factors=factors), {}).runs
    ]
    # Box, Hunter and Hunter's 2^(5-1): E = -ABCD in signs, so that the run of all minus signs is in it.
    assert rows == [
        *(tuple("00000"), tuple("00011"), tuple("00101"), tuple("00110")),
        *(tuple("01001"), tuple("01010"), tuple("01100"), tuple("01111")),
        *(tuple("10001"), tuple("10010"), tuple("10100"), tuple("10111")),
        *(tuple("11000"), tuple("11011"), tuple("11101"), tuple("11110")),
    ]


def test_a_half_of_four_factors():
    factors = {"a": ["x", "y"], "b": [1, 2], "c": ["p", "q"], "d": ["s", "t"]}
    planned = plan(a_study(design="fraction", factors=factors, baseline={"d": "t"}), {})
    assert jobs(planned) == [
        *("a=x b=1 c=p d=t", "a=x b=1 c=q d=s", "a=x b=2 c=p d=s", "a=x b=2 c=q d=t"),
        *("a=y b=1 c=p d=s", "a=y b=1 c=q d=t", "a=y b=2 c=p d=t", "a=y b=2 c=q d=s"),
    ]


RUNS = {4: 8, **dict.fromkeys(range(5, 9), 16), **dict.fromkeys(range(9, 17), 32)}
"""The fewest runs of a regular fraction of resolution IV: half of them hold as many factors."""


@pytest.mark.parametrize("size", range(4, 17))
def test_every_fraction_has_resolution_iv_at_least_and_as_few_runs_as_that_takes(size):
    factors = {f"f{i}": ["0", "1"] for i in range(size)}
    runs = plan(a_study(design="fraction", factors=factors), {}).runs
    signs = [[1 if line.endswith("1") else -1 for line in run] for run in runs]
    assert len(runs) == len(set(runs)) == RUNS[size]
    assert set(GENERATORS) == set(RUNS)
    columns = list(zip(*signs, strict=True))
    shortest = 4 if size != 5 else 5  # resolution V
    for words in range(1, shortest):
        for chosen in combinations(columns, words):
            products = [1] * len(runs)
            for column in chosen:
                products = [one * other for one, other in zip(products, column, strict=True)]
            assert abs(sum(products)) < len(runs)


# Filters


def test_a_filter_leaves_the_combinations_that_it_allows():
    study = a_study(factors=THREE, where="not (a == 'y' and b == 2) and (c == 'p' or b < 2)")
    assert jobs(plan(study, {})) == [
        "a=x b=1 c=p",
        "a=x b=1 c=q",
        "a=x b=2 c=p",
        "a=y b=1 c=p",
        "a=y b=1 c=q",
    ]


def test_a_filter_may_name_what_levels_bring_and_what_is_held():
    factors = {
        "optimizer": {"adam": {"optimizer.lr": [0.001, 0.01]}, "sgd": {"optimizer.lr": [0.1]}},
        "a": ["x", "y"],
    }
    study = a_study(factors=factors, where="optimizer.lr < 0.05 or a == 'y'")
    planned = plan(study, {})
    assert jobs(planned) == [
        *("optimizer=adam a=x optimizer.lr=0.001", "optimizer=adam a=x optimizer.lr=0.01"),
        *("optimizer=adam a=y optimizer.lr=0.001", "optimizer=adam a=y optimizer.lr=0.01"),
        "optimizer=sgd a=y optimizer.lr=0.1",
    ]
    assert jobs(plan(study, {"a": held("a=x")})) == [
        "optimizer=adam optimizer.lr=0.001 a=x",
        "optimizer=adam optimizer.lr=0.01 a=x",
    ]


def test_quoted_levels_are_what_they_say():
    study = a_study(factors={"a": ["it's", "two words"]}, where="a != 'two words'")
    assert jobs(plan(study, {})) == [r"a='it\'s'"]


@given(st.lists(st.integers(2, 4), min_size=1, max_size=4))
def test_designs_are_parts_of_the_grid_that_hold_their_start(sizes):
    factors = {f"f{i}": [f"l{j}" for j in range(size)] for i, size in enumerate(sizes)}
    grid = set(product(*([f"{key}={level}" for level in of] for key, of in factors.items())))
    start = {key: of[-1] for key, of in factors.items()}
    for design in ("add_one_in", "ladder"):
        planned = plan(a_study(design=design, factors=factors, start=start), {})
        assert set(planned.runs) <= grid
        assert len(planned.runs) == len(set(planned.runs)) == 1 + sum(size - 1 for size in sizes)
        assert planned.runs[0] == tuple(f"{key}={level}" for key, level in planned.baseline.items())
    ladder = plan(a_study(design="ladder", factors=factors), {}).runs
    for one, next_one in pairwise(ladder):
        assert sum(a != b for a, b in zip(one, next_one, strict=True)) == 1


TWICE = {"a": {"x": {"b": [1, 2]}, "y": {}}}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"where": "a == 'z'"}, "study.where: a == 'z': none of 8 combinations is left"),
        (
            {"where": "a == 'y'"},
            r"study.where: a == 'y': leaves out the baseline \(a=x b=1 c=p\), which the others are compared with",
        ),
        (
            {"where": "a == 'x'", "design": "ladder"},
            "study.where: of a grid combinations can be left out, of study.design=ladder none",
        ),
        (
            {"design": "add_one_in", "factors": {"a": ["x", "y", "z"]}},
            "study.design=add_one_in: a has 3 levels, so that it is not clear what is left without x; say it with "
            "study.start.a: y or z",
        ),
        ({"design": "add_one_in", "start": {"a": "x"}}, "study.start.a: nothing starts from x; accepted: y"),
        (
            {"design": "fraction"},
            "study.design=fraction: 4 to 16 factors are expected, got 3; .*: study.design=grid",
        ),
        (
            {"design": "fraction", "factors": {f"f{i}": [1, 2] for i in range(17)}},
            "study.design=fraction: 4 to 16 factors are expected, got 17",
        ),
        (
            {"design": "fraction", "factors": {**THREE, "d": [1, 2, 3]}},
            "study.design=fraction: two levels for each factor are expected; d has 3",
        ),
        (
            {"design": "ladder", "factors": TWICE},
            "study.design=ladder: a level brings several values of b, which this design has no place for; accepted: "
            r"one value, or study.nuisance: \[b\]",
        ),
        (
            {"design": "ladder", "nuisance": ["c"]},
            "study.design=ladder: c is no factor, but a nuisance; accepted: values that levels bring",
        ),
    ],
)
def test_a_design_that_makes_no_sense_is_one_clear_line(said, message):
    with pytest.raises(InputError, match=f"^{message}$"):
        plan(a_study(**{"factors": THREE, **said}), {})
