"""Prospects: the probability that further seeds settle a comparison, held against the rule of the verdicts itself."""

import math

import numpy as np
import pytest

from ablations.comparison.looks import Looked, counted, next_look
from ablations.comparison.pairs import Comparison
from ablations.comparison.prospects import SoFar, Standing, approximate_p, chance_of_settling, prospects
from ablations.comparison.tests import sign_flip
from ablations.comparison.verdicts import tabulate, verdict


def comparison(differences, seen=None) -> Comparison:
    n = len(differences)
    return Comparison(
        ("a",),
        ("y",),
        ("x",),
        "test/error_pct",
        tuple(map(str, range(n))),
        tuple(map(float, differences)),
        ((),) * n,
        tuple(seen or [1] * n),
        (),
        True,
        rounding=(0.0,) * n,
    )


def chance(differences, looks, margin, left=1, family=1, seen=None) -> float:
    each = comparison(differences, seen)
    looked = looked_at(each, family)
    so_far = SoFar(each, looked.low, looked.high, looked.p, family)
    return chance_of_settling(so_far, looks, margin, left)


def looked_at(each: Comparison, family: int) -> Looked:
    looked = Looked()
    for look in sorted(set(each.seen)):
        looked = looked.again(
            [d for d, at in zip(each.differences, each.seen, strict=True) if at <= look], family
        )
    return looked


def exactly(differences, looks, margin, left, family, seen, draws) -> float:
    """The same with the sign-flip test and the intervals that verdicts rest on, on differences drawn one by one."""
    each, n = comparison(differences, seen), len(differences)
    mean, sd, rng = np.mean(differences), np.std(differences, ddof=1), np.random.default_rng(1)
    settled = 0
    for _ in range(draws):
        sigma = sd * math.sqrt((n - 1) / rng.chisquare(n - 1))
        mu = rng.normal(mean, sigma / math.sqrt(n))
        sample = [*each.differences, *rng.normal(mu, sigma, looks[-1] - n)]
        looked = looked_at(each, family)
        for at in looks:
            looked = looked.again(sample[:at], family)
            if verdict(looked, min(1.0, looked.p * left), margin, True).settled:
                settled += 1
                break
    return settled / draws


SAMPLE = np.array([0.9, -0.4, 0.6, 0.1, 1.2, -0.2, 0.5, 0.3])
CASES = {
    "one comparison": (SAMPLE, (12, 16), 0.0, 1, 1, None),
    "four of five": (SAMPLE + 0.1, (12, 16), 0.0, 4, 5, None),
    "close to none": (SAMPLE - 0.375, (12, 16), 0.5, 1, 1, None),
    "after two looks": (SAMPLE + 0.1, (16,), 0.0, 1, 1, [1] * 6 + [2] * 2),
    "before the first that counts": (SAMPLE[:5] + 0.5, (8, 12), 0.0, 3, 3, None),
}


@pytest.mark.parametrize("n", [8, 12, 16, 40])
def test_p_values_are_those_of_the_sign_flip_test(n):
    rng = np.random.default_rng(n)
    samples = rng.normal(rng.uniform(0, 1.2, (150, 1)) * math.sqrt(8 / n), 1, (150, n))
    samples[:3] = np.abs(samples[:3])  # all of one sign
    exact = np.array([sign_flip(each).p for each in samples])
    ratios = approximate_p(samples) / exact
    sure = ratios[exact > 1e-3]  # beyond 16 pairs the test itself takes random signs
    assert np.median(sure) == pytest.approx(1, abs=0.03)
    low, high = np.quantile(sure, [0.05, 0.95])
    assert 0.8 < low <= high < 1.3
    if n <= 16:
        assert ratios[:3] == pytest.approx(1)


def test_p_values_do_not_depend_on_the_unit_nor_the_sign():
    samples = np.random.default_rng(0).normal(0.5, 1, (20, 12))
    assert approximate_p(-1e-9 * samples) == pytest.approx(approximate_p(samples))
    assert (approximate_p(samples) <= 1).all()


@pytest.mark.parametrize("case", CASES)
def test_the_chance_is_that_of_the_rule_itself(case):
    draws = 250
    differences, looks, margin, left, family, seen = CASES[case]
    rule = exactly(differences, looks, margin, left, family, seen, draws)
    error = math.sqrt(max(rule * (1 - rule), 0.05) / draws)
    assert chance(differences, looks, margin, left, family, seen) == pytest.approx(rule, abs=0.03 + 3 * error)
    assert 0.02 < rule < 0.98


@pytest.mark.slow
@pytest.mark.parametrize("case", range(24))
def test_the_chance_is_that_of_the_rule_for_studies_of_any_kind(case):
    """With random samples, family sizes and margins, and looks up to 40 pairs."""
    rng = np.random.default_rng(case)
    differences = rng.normal(rng.uniform(-0.8, 0.8), 1, 8)
    family, margin = int(rng.integers(1, 6)), float(rng.choice([0.0, 0.5, 1.0]))
    looks, draws = (12, 18, 27, 40), 300
    rule = exactly(differences, looks, margin, family, family, None, draws)
    found = chance(differences, looks, margin, family, family)
    assert found == pytest.approx(rule, abs=0.04 + 3 * math.sqrt(max(rule * (1 - rule), 0.05) / draws))


def test_it_is_the_same_every_time():
    assert chance(SAMPLE, (12, 18), 0.1) == chance(SAMPLE, (12, 18), 0.1)


@pytest.mark.parametrize(
    ("differences", "looks", "margin", "expected"),
    [
        ([1.0] * 8, (12,), 0.0, 1.0),  # always the same
        ([0.0] * 8, (12,), 0.0, 0.0),  # a tie, and no margin
        ([0.0] * 8, (12,), 0.1, 1.0),
        ([1.0], (8,), 0.0, 1.0),  # nobody knows how far seeds scatter
        ([1.0], (5,), 0.0, 0.0),  # but five never suffice
        (SAMPLE, (), 0.1, 0.0),
    ],
)
def test_what_needs_no_draw(differences, looks, margin, expected):
    assert chance(differences, looks, margin) == expected


def test_looks_grow_by_half():
    looks = [8]
    while len(looks) < 7:
        looks.append(next_look(looks[-1]))
    assert looks == [8, 12, 18, 27, 40, 60, 90]
    assert next_look(1) == 2


def test_the_looks_that_count_are_those_at_which_a_verdict_is_possible():
    assert counted([1] * 5 + [2] * 3 + [4] * 4, 1) == (8, 12)
    assert counted([1] * 8, 40) == ()
    assert counted([], 1) == ()


def test_where_each_comparison_of_a_family_stands():
    several = [
        comparison([3.0, 3.1, 2.9, 3.2, 3.0, 2.8, 3.1, 3.0]),
        comparison(SAMPLE),
        comparison([0.01, -0.01] * 4),
        comparison([1.0, -1.0] * 4),
    ]
    margins = [0.0, 0.0, 0.5, 0.0]
    found = prospects(several, tabulate(several, margins, True), margins, 8, 40)
    standings = [each.standing for each in found]
    assert standings == [Standing.SETTLED, Standing.OPEN, Standing.SETTLED, Standing.GIVEN_UP]
    assert found[1].spare == tuple(map(str, range(8, 40)))
    assert found[1].next == 4
    # What was not given its least seeds is not given up, whatever it looks like; an average whose simple effects
    # answer needs none.
    found = prospects(several, tabulate(several, margins, True), margins, 12, 40, at_levels={1})
    assert [each.standing for each in found][1::2] == [Standing.AT_LEVELS, Standing.OPEN]
    found = prospects(several, tabulate(several, margins, True), margins, 8, 8)
    assert found[1].standing is Standing.GIVEN_UP
    assert (found[1].chance, found[1].spare, found[1].next) == (0.0, (), 0)
