"""Does the machinery keep its promises? Verdicts on simulated studies whose truth is known.

`pytest -m slow tests/comparison/test_verdicts_simulation.py` holds the promises to fewer studies;
`python tests/comparison/test_verdicts_simulation.py` prints the tables of docs/statistics.md.

`p_values` gives those of many samples at each of many looks: a simulation needs millions. With random sets of pairs, to
which each new pair is added, as `sign_flip` has it beyond 16 pairs.
"""

import gc
import math
import sys

import numpy as np
import pytest
from statsmodels.stats.power import ttest_power

from ablations.comparison.looks import FIRST, Looked, can_reach, share
from ablations.comparison.tests import ALPHA, FLIPS, sign_flip
from ablations.comparison.verdicts import Verdict, judge, seeds_needed, verdict

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


EXACT = 13  # up to so many pairs all sets are looked at, as `sign_flip` does up to 16


def p_values(
    samples: np.ndarray, looks: list[int], rng: np.random.Generator, flips: int = FLIPS
) -> np.ndarray:
    """Of each sample (rows) at each look (columns), at so many of its first pairs; no sum is 0 but for rounding."""
    sets = (rng.random((samples.shape[1], flips), dtype=np.float32) < 0.5).astype(np.float32)
    every = {n: (np.arange(1, 2**n) >> np.arange(n)[:, None] & 1).astype(float) for n in looks if n <= EXACT}
    found = []
    for some in np.array_split(samples, math.ceil(len(samples) / 50)):
        sums, p = np.zeros((len(some), flips), np.float32), []
        for begun, n in zip([0, *looks], looks, strict=False):
            sums += some[:, begun:n].astype(np.float32) @ sets[begun:n]
            of = some[:, :n] @ every[n] if n in every else sums
            extreme = np.minimum(np.count_nonzero(of <= 0, axis=1), np.count_nonzero(of >= 0, axis=1))
            p.append(np.minimum(1, 2 * (1 + extreme) / (of.shape[1] + 1)))
        found.append(np.array(p).T)
    return np.concatenate(found)


def over_looks(p: np.ndarray, looks: list[int]) -> np.ndarray:
    """The sequential p-values after each look, by rule; columns as in `p`."""
    shares = [share(n, looks[:k]) for k, n in enumerate(looks)]
    return np.minimum.accumulate(np.minimum(p / shares, 1), axis=-1)


def false_over_looks(
    outcomes, looks: list[int], comparisons: int, studies: int, seed: int = 7
) -> tuple[float, ...]:
    """Share of studies with any false better or worse in any report, as it is and if every look were the only one;
    and coverage of the intervals at the stop, when a comparison is settled or at the last look."""
    rng = np.random.default_rng([seed, comparisons, len(looks)])
    variants, baseline = outcomes(rng, studies, looks[-1])
    samples = (variants - baseline)[:, :comparisons].reshape(-1, looks[-1])
    p = p_values(samples, looks, rng)
    q = over_looks(p, looks)
    # Holm's correction finds something where it finds the smallest p.
    false = (comparisons * q[:, -1].reshape(studies, comparisons).min(axis=1) < ALPHA).mean()
    naive = (comparisons * p.min(axis=1).reshape(studies, comparisons).min(axis=1) < ALPHA).mean()
    # The intersection of the intervals holds 0 where no look at its own level rejects it.
    settled = q * comparisons < ALPHA
    stop = np.where(settled.any(axis=1), settled.argmax(axis=1), len(looks) - 1)
    covered = q[np.arange(len(q)), stop] > ALPHA
    return float(false), float(naive), float(covered.mean())


def one_look(sample: np.ndarray) -> Looked:
    return Looked().again(sample, 1)


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
    looked = [one_look(sample) for sample in (variants - baseline).reshape(-1, n)]
    covered = np.mean([each.low <= 0 <= each.high for each in looked])
    smallest = np.array([each.p for each in looked]).reshape(studies, COMPARISONS).min(axis=1)
    possible = can_reach(n, COMPARISONS)
    return float(np.mean(possible & (COMPARISONS * smallest < ALPHA))), float(covered)


def found(effect: float, n: int, studies: int, seed: int = 1) -> tuple[float, float]:
    """Share of single comparisons in which a planted effect (mean / sd) is found, and would be if one look were all
    that anybody ever takes."""
    samples = np.random.default_rng([seed, n]).normal(-effect, 1, (studies, n))
    looked = [one_look(sample) for sample in samples]
    verdicts = [verdict(each, each.p, 0.0, True) for each in looked]
    return float(np.mean(np.array(verdicts) == BETTER)), float(
        np.mean([each.p * FIRST < ALPHA for each in looked])
    )


def promised(margin: float, pilots: int, seed: int = 3) -> tuple[int, float, float]:
    """Of pilots of eight seeds whose truth is anything (uniform within ±2 sd) and that are not settled: how many there
    are, and the shares of them that one more look at the range's two ends settles."""
    rng = np.random.default_rng(seed)
    reached = []
    for mean in rng.uniform(-2, 2, pilots):
        sample = rng.normal(mean, 1, 1000)
        pilot = Looked().again(sample[:8], 1)
        if verdict(pilot, pilot.p, margin, True).settled:
            continue
        first = sample[:8]
        ends = seeds_needed(first.mean(), first.std(ddof=1), 8, margin, 1, (8,))
        if ends[1] >= 400:
            continue
        later = [pilot.again(sample[:n], 1) for n in ends]
        reached.append([verdict(each, each.p, margin, True).settled for each in later])
    return len(reached), *np.mean(reached, axis=0).tolist()


# The tests


def tolerance(share: float, samples: int) -> float:
    """Three standard errors of a share."""
    return 3 * math.sqrt(share * (1 - share) / samples)


@pytest.mark.parametrize("looks", [[8], [8, 12], [9, 10, 16]])
def test_p_values_of_many_are_those_of_one(looks):
    rng = np.random.default_rng(5)
    samples = rng.normal(0.4, 1, (10, looks[-1]))
    found = p_values(samples, looks, rng)
    exact = [[sign_flip(sample[:n]).p for n in looks] for sample in samples]
    assert found == pytest.approx(np.array(exact), abs=0.008)  # 16 pairs: what 100,000 draws scatter
    seen = [[sum(i >= n for n in looks) + 1 for i in range(looks[-1])]]
    q = over_looks(np.array(exact), looks)[:, -1]
    assert q == pytest.approx([judge([sample], 0.0, True, seen).loc[0, "p"] for sample in samples])


FOLLOWED = [8, 12, 18, 27, 40, 60]
ONE_AT_A_TIME = list(range(8, 61))


@pytest.mark.parametrize("looks", [FOLLOWED, ONE_AT_A_TIME], ids=["as reports advise", "one at a time"])
@pytest.mark.parametrize("comparisons", [1, 5])
@pytest.mark.parametrize("outcomes", [normal, skewed])
def test_however_often_one_looks_nothing_is_found_where_nothing_is_there(outcomes, comparisons, looks):
    studies = 1000 if len(looks) < 10 else 500
    false, _, coverage = false_over_looks(outcomes, looks, comparisons, studies)
    assert false <= 0.055 + tolerance(0.05, studies)
    assert coverage >= 0.94 - tolerance(0.06, studies * comparisons)


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
    """At the level that a first look has; what that costs against a look that stays the only one is little."""
    sequential, single = found(effect, n, 1000)
    assert sequential == pytest.approx(float(ttest_power(effect, n, FIRST * ALPHA)), abs=0.06)
    assert single - 0.08 <= sequential <= single


@pytest.mark.parametrize("margin", [0.0, 0.5])
def test_the_range_of_seeds_keeps_its_chances(margin):
    pilots, even, good = promised(margin, 1200)
    assert pilots > 200
    assert even == pytest.approx(0.5, abs=0.12)
    assert good == pytest.approx(0.8, abs=0.1)


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
        sequential, single = found(effect, n, 2000)
        row(
            effect,
            n,
            *(f"{100 * each:.0f} %" for each in (sequential, single, ttest_power(effect, n, ALPHA))),
        )
    for outcomes in (normal, skewed, skewed_differences, strongly_skewed_differences):
        for comparisons in (1, 5):
            for name, looks, studies in (
                ("8, 12, …, 60", FOLLOWED, 3000),
                ("one at a time", ONE_AT_A_TIME, 1000),
            ):
                shares = false_over_looks(outcomes, looks, comparisons, studies)
                row(
                    outcomes.__name__, comparisons, name, studies, *(f"{100 * each:.1f} %" for each in shares)
                )
    for margin in (0.0, 0.5):
        pilots, even, good = promised(margin, 3000)
        row(margin, pilots, f"{100 * even:.0f} %", f"{100 * good:.0f} %")
