"""Does the machinery keep its promises? Verdicts on simulated studies whose truth is known.

`pytest -m slow tests/comparison/test_verdicts_simulation.py` holds the promises to fewer studies;
`python tests/comparison/test_verdicts_simulation.py` prints the tables of docs/statistics.md.

`sign_flips` is `sign_flip` of many samples at once, with the same flips: a simulation needs thousands.
"""

import gc
import math
import sys

import numpy as np
import pytest
from statsmodels.stats.power import ttest_power

from ablations.comparison.tests import ALPHA, SignFlip, holm, sign_flip
from ablations.comparison.verdicts import Verdict, can_reach, judge, seeds_needed, verdict

pytestmark = pytest.mark.slow

COMPARISONS = 5
BETTER, WORSE, NO_DIFFERENCE, INCONCLUSIVE, TOO_FEW, *_ = Verdict
SETTLED = (BETTER, WORSE, NO_DIFFERENCE)


@pytest.fixture(scope="module", autouse=True)
def _little_garbage():
    """Each correction by statsmodels collects garbage, which takes far longer than the rest."""
    gc.freeze()
    yield
    gc.unfreeze()


def sign_flips(samples: np.ndarray, alpha: float = ALPHA) -> list[SignFlip]:
    """`sign_flip` of each row."""
    return [sign_flip(sample, alpha) for sample in samples]


def lognormal(rng: np.random.Generator, size: tuple[int, ...], sigma: float) -> np.ndarray:
    """Mean 0, standard deviation 1; skewness 6.2 for sigma = 1, 1.75 for 0.5."""
    mean, variance = math.exp(sigma**2 / 2), math.exp(2 * sigma**2) - math.exp(sigma**2)
    return (rng.lognormal(0, sigma, size) - mean) / math.sqrt(variance)


# Studies of five variants and a baseline, all with the same mean: (studies, variants, n) and (studies, 1, n).


def normal(rng, studies, n):
    return rng.normal(size=(studies, COMPARISONS, n)), rng.normal(size=(studies, 1, n))


def skewed(rng, studies, n):
    """All variants alike, as in A/A data: the differences of skewed outcomes are symmetric."""
    return lognormal(rng, (studies, COMPARISONS, n), 1.0), lognormal(rng, (studies, 1, n), 1.0)


def tied(rng, studies, n):
    """Few distinct values: the step of the metric is half a standard deviation."""
    variants, baseline = normal(rng, studies, n)
    return np.round(variants * 2) / 2, np.round(baseline * 2) / 2


def skewed_differences(rng, studies, n):
    """The baseline alone is skewed: the differences have skewness 0.6."""
    return rng.normal(size=(studies, COMPARISONS, n)), lognormal(rng, (studies, 1, n), 0.5)


def strongly_skewed_differences(rng, studies, n):
    """The same with quiet variants: the differences have skewness 1.6 and nearly coincide."""
    return 0.25 * rng.normal(size=(studies, COMPARISONS, n)), lognormal(rng, (studies, 1, n), 0.5)


def nothing_there(outcomes, n: int, studies: int, seed: int = 0) -> tuple[float, float]:
    """Share of studies of five comparisons with a false better or worse, and coverage of the intervals."""
    variants, baseline = outcomes(np.random.default_rng([seed, n]), studies, n)
    tests = sign_flips((variants - baseline).reshape(-1, n))
    covered = np.mean([test.low <= 0 <= test.high for test in tests])
    # Holm's correction finds something where it finds the smallest p.
    smallest = np.array([test.p for test in tests]).reshape(studies, COMPARISONS).min(axis=1)
    return float(np.mean(COMPARISONS * smallest < ALPHA)), float(covered)


def found(effect: float, n: int, studies: int, seed: int = 1) -> float:
    """Share of single comparisons in which a planted effect (mean / sd) is found."""
    tests = sign_flips(np.random.default_rng([seed, n]).normal(-effect, 1, (studies, n)))
    return float(np.mean([verdict(test, test.p, n, 1, 0.0, True) == BETTER for test in tests]))


def settled(mean: float, margin: float, comparisons: int, n: int, studies: int, seed: int = 2) -> float:
    """Share of studies that settle a comparison, the others having no effect: their p-values are uniform."""
    rng = np.random.default_rng([seed, n])
    tests = sign_flips(rng.normal(mean, 1, (studies, n)))
    others = rng.uniform(size=(studies, comparisons - 1))
    verdicts = [
        verdict(test, holm([test.p, *p])[0], n, comparisons, margin, True)
        for test, p in zip(tests, others, strict=True)
    ]
    return float(np.isin(verdicts, SETTLED).mean())


def fewest(mean: float, margin: float, comparisons: int, studies: int) -> int:
    """The fewest seeds that settle four studies of five, by simulation and bisection."""
    too_few, enough = 5, 12
    while settled(mean, margin, comparisons, enough, studies) < 0.8:
        too_few, enough = enough, 2 * enough
    while enough - too_few > 1:
        n = (too_few + enough) // 2
        if settled(mean, margin, comparisons, n, studies) < 0.8:
            too_few = n
        else:
            enough = n
    return enough


def guesses(mean: float, truth: int, pilots: int, seed: int = 3) -> np.ndarray:
    """`seeds_needed` / truth from pilots of eight seeds that settled nothing; the margin is 0."""
    samples = np.random.default_rng(seed).normal(mean, 1, (pilots, 8))
    open_ones = samples[[test.p >= ALPHA for test in sign_flips(samples)]]
    return np.array([seeds_needed(s.mean(), s.std(ddof=1), 8, 0.0) / truth for s in open_ones])


# The tests


def tolerance(share: float, samples: int) -> float:
    """Three standard errors of a share."""
    return 3 * math.sqrt(share * (1 - share) / samples)


@pytest.mark.parametrize("n", [5, 6, 8, 10, 20])
def test_many_samples_at_once_are_tested_as_one_is(n):
    for outcomes in (normal, skewed, tied):
        variants, baseline = outcomes(np.random.default_rng(5), 2, n)
        for sample in (variants - baseline).reshape(-1, n):
            one, (many,) = sign_flip(sample), sign_flips(sample[None])
            assert (many.p, many.low, many.high) == pytest.approx((one.p, one.low, one.high))


@pytest.mark.parametrize("n", [6, 8, 10, 20])
@pytest.mark.parametrize("outcomes", [normal, skewed, tied, skewed_differences])
def test_where_nothing_is_there_nothing_is_found(outcomes, n):
    studies = 1000 if n < 20 else 400
    false, coverage = nothing_there(outcomes, n, studies)
    assert false <= 0.05 + tolerance(0.05, studies)
    assert coverage >= 0.93
    if n >= 8 and outcomes is not tied:
        assert coverage <= 0.97


@pytest.mark.parametrize(("effect", "n"), [(1.0, 8), (1.5, 8), (1.0, 10), (0.7, 20)])
def test_a_planted_effect_is_found_as_often_as_by_the_t_test(effect, n):
    assert found(effect, n, 1000) == pytest.approx(float(ttest_power(effect, n, ALPHA)), abs=0.06)


# (mean and margin in standard deviations of the differences, comparisons)
QUESTIONS = [(1.5, 0.1, 1), (1.5, 0.1, 5), (1.0, 0.1, 5), (0.6, 0.1, 1), (0.0, 1.0, 5), (0.2, 0.8, 1)]


@pytest.mark.parametrize(("mean", "margin", "comparisons"), QUESTIONS)
def test_the_seeds_needed_are_right_within_a_factor_of_two(mean, margin, comparisons):
    needed = seeds_needed(mean, 1.0, 2, margin, comparisons)
    assert settled(mean, margin, comparisons, 2 * needed, 200) >= 0.8
    assert settled(mean, margin, comparisons, math.ceil(needed / 2) - 1, 200) <= 0.8


def test_too_few_seeds_are_named_however_large_the_effect():
    for n, comparisons in [(5, 1), (6, 2), (7, 5), (8, 7)]:
        assert not can_reach(n, comparisons)
        samples = np.random.default_rng(4).normal(100, 1, (comparisons, n))
        assert set(judge(samples, 0.1, True)["verdict"]) == {TOO_FEW}


if __name__ == "__main__":
    gc.freeze()

    def row(*cells: object) -> None:
        print("|", *(f"{cell} |" for cell in cells))
        sys.stdout.flush()

    for outcomes in (normal, skewed, tied, skewed_differences, strongly_skewed_differences):
        for n, studies in {6: 4000, 8: 4000, 10: 2000, 20: 1000}.items():
            false, coverage = nothing_there(outcomes, n, studies)
            row(outcomes.__name__, n, studies, f"{100 * false:.1f} %", f"{100 * coverage:.1f} %")
    for effect, n in [(1.0, 8), (1.5, 8), (1.0, 10), (0.7, 20)]:
        row(
            effect, n, f"{100 * found(effect, n, 2000):.0f} %", f"{100 * ttest_power(effect, n, ALPHA):.0f} %"
        )
    for question in QUESTIONS:
        needed, truth = seeds_needed(question[0], 1.0, 2, *question[1:]), fewest(*question, 400)
        row(*question, needed, truth, f"{needed / truth:.2f}")
    for mean in (1.0, 0.6):
        ratios = guesses(mean, fewest(mean, 0.0, 1, 400), 500)
        within = np.mean((ratios >= 0.5) & (ratios <= 2))
        row(mean, len(ratios), f"{np.median(ratios):.2f}", f"{100 * within:.0f} %")
