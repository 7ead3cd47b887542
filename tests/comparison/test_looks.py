"""Looks by hand: what each may spend, what they say together, and which runs were there at which."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablations.comparison.looks import LOOK, Looked, can_reach, numbered, numbered_by_seeds, share
from ablations.comparison.tests import sign_flip
from ablations.comparison.verdicts import Verdict, judge
from ablations.errors import InputError


def test_shares_of_the_error_by_hand():
    assert share(8) == 0.8
    assert share(12, (8,)) == pytest.approx(0.2 * (1 - 8 / 12))
    assert share(18, (8, 12)) == pytest.approx(0.2 * (8 / 12 - 8 / 18))


@given(st.lists(st.integers(2, 500), min_size=1, max_size=40, unique=True).map(sorted))
def test_however_often_one_looks_the_shares_are_less_than_the_whole(pairs):
    shares = [share(n, pairs[:k]) for k, n in enumerate(pairs)]
    assert all(each > 0 for each in shares)
    assert sum(shares) < 1


def test_where_a_look_begins_to_count():
    """Six pairs do for one comparison, 8 for 5, 9 for 10, 10 for 20: m · 2^(1 − n) < 0.04."""
    fewest = {m: next(n for n in range(1, 20) if can_reach(n, m)) for m in (1, 5, 10, 20)}
    assert fewest == {1: 6, 5: 8, 10: 9, 20: 10}


def test_one_look_by_hand():
    """Of 64 patterns two are as extreme: 1/32 of the four fifths."""
    looked = Looked().again([1.0, 2.0, 3.0, 4.0, 5.0, 7.0], 1)
    assert looked == Looked(1 / 32 / 0.8, 1.0, 7.0, (6,), 6)


def test_two_looks_by_hand():
    """At 8 pairs p = 2/256 of 0.8; at 12 two of 4,096 patterns of 1/15: the smaller of both counts."""
    first = Looked().again(np.arange(1.0, 9), 1)
    assert first.p == pytest.approx(2 / 256 / 0.8)
    second = first.again(np.arange(1.0, 13), 1)
    assert second.p == pytest.approx(2 / 4096 * 15)
    assert second.pairs == (8, 12)
    # The interval of the second look alone, at 1 − 0.05/15, is wider below; the first one's lower end stays.
    alone = sign_flip(np.arange(1.0, 13), 0.05 / 15)
    assert (second.low, second.high) == (max(first.low, alone.low), min(first.high, alone.high))


def test_a_look_before_a_verdict_is_possible_is_forgotten():
    early = Looked().again(np.arange(1.0, 7), 5)
    assert early.pairs == ()
    assert early.p == pytest.approx(1 / 32 / 0.8)
    assert early.again(np.arange(1.0, 9), 5) == Looked().again(np.arange(1.0, 9), 5)


def test_the_same_pairs_again_are_no_look():
    once = Looked().again(np.arange(1.0, 9), 1)
    assert once.again(np.arange(1.0, 9), 1) is once


def test_looks_that_contradict_each_other_leave_the_last_interval():
    first = Looked().again(np.full(8, 1.0), 1)
    assert (first.low, first.high) == (1, 1)
    second = first.again([*np.full(8, 1.0), *np.full(40, -1.0)], 1)
    assert second.high < 0


def textbook(samples, schedule, margin=0.0):
    """Rule by rule: at each look the verdict and the corrected p of each comparison, smaller values being better."""
    m, history = len(samples), []
    for k in range(1, len(schedule) + 1):
        counting = [n for n in schedule[:k] if m * 2.0 ** (1 - n) < 0.04]
        q, ends = [], []
        for sample in samples:
            ps, lows, highs = [], [], []
            for j, n in enumerate(counting):
                spent = 0.8 if j == 0 else 0.2 * (counting[0] / counting[j - 1] - counting[0] / n)
                one = sign_flip(sample[:n], 0.05 * spent)
                ps.append(min(1, one.p / spent))
                lows.append(one.low)
                highs.append(one.high)
            q.append(min(ps, default=1.0))
            ends.append((max(lows, default=-math.inf), min(highs, default=math.inf)))
        holm = multipletests(q, method="holm")[1]
        history.append([])
        for p, (low, high) in zip(holm, ends, strict=True):
            found = "too few seeds" if not counting else "inconclusive"
            if p < 0.05 and not low <= 0 <= high:
                found = "better" if high < 0 else "worse"
            if counting and -margin <= low and high <= margin:
                found = "no difference that matters"
            history[-1].append((found, p, low, high))
    return history


@pytest.mark.parametrize("seed", range(12))
def test_verdicts_over_looks_are_those_of_the_textbook(seed):
    rng = np.random.default_rng(seed)
    schedule = sorted(rng.choice(np.arange(4, 20), 4, replace=False).tolist())
    samples = rng.normal(rng.choice([0.0, 0.7, -1.5], 3)[:, None], 1, (3, schedule[-1]))
    seen = [[1 + sum(i >= n for n in schedule) for i in range(schedule[-1])]] * 3
    table, history = judge(samples, 0.5, True, seen), textbook(samples, schedule, 0.5)
    for i, row in table.iterrows():
        found, p, low, high = history[-1][i]
        assert row["verdict"] == found
        assert row["looks"] == sum(3 * 2.0 ** (1 - n) < 0.04 for n in schedule)
        if row["looks"]:
            assert row["p_holm"] == pytest.approx(p)
            if low <= high:
                assert (row["ci_low"], row["ci_high"]) == (low, high)
        settled = [Verdict(each[i][0]).settled for each in history]
        since = next((k + 1 for k in range(len(schedule)) if all(settled[k:])), pd.NA)
        assert row["settled_at"] is since or row["settled_at"] == since


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=12))
@settings(max_examples=40)
def test_one_look_is_the_test_at_four_fifths(sample):
    row, alone = judge([sample], 0.0, True).iloc[0], sign_flip(sample, 0.04)
    assert row["p"] == pytest.approx(min(1, alone.p / 0.8))
    assert (row["ci_low"], row["ci_high"]) == (alone.low, alone.high)


def test_p_over_looks_is_that_of_scipy():
    sample = np.random.default_rng(3).normal(0.6, 1, 12)

    def p(x):
        mean = lambda x, axis: np.mean(x, axis=axis)  # noqa: E731
        return stats.permutation_test((x,), mean, permutation_type="samples", vectorized=True).pvalue

    seen = [1] * 8 + [2] * 4
    assert judge([sample], 0.0, True, [seen]).loc[0, "p"] == pytest.approx(
        min(p(sample[:8]) / 0.8, p(sample) * 15)
    )


# Which runs were there


def of(**tags) -> dict:
    return {f"tags.{key}": value for key, value in tags.items()}


def looks_of(looks, *runs):
    return numbered(pd.DataFrame(runs), looks)[LOOK].tolist()


def test_runs_belong_to_the_look_of_their_first_invocation():
    runs = [of(first_sweep_id=first, sweep_id="9") for first in ("1", "1", "2", "9")]
    assert looks_of(["1", "2", "9"], *runs) == [1, 1, 2, 3]


def test_an_invocation_without_a_report_was_no_look():
    """It was interrupted: the next look saw its runs first."""
    runs = [of(first_sweep_id=first) for first in ("1", "2", "3")]
    assert looks_of(["1", "3"], *runs) == [1, 2, 2]


def test_what_is_there_since_the_last_look_is_seen_now():
    assert looks_of(["1"], of(first_sweep_id="1"), of(first_sweep_id="2")) == [1, 2]


def test_a_look_at_the_same_runs_is_none():
    assert looks_of(["1", "2", "3"], of(first_sweep_id="1"), of(first_sweep_id="3")) == [1, 2]


def test_runs_without_a_first_invocation_are_of_the_one_that_is_known():
    assert looks_of(["1", "2"], of(sweep_id="1"), of(sweep_id="2", first_sweep_id="1")) == [1, 1]
    assert looks_of([], {"run_id": "a"}, {"run_id": "b"}) == [1, 1]


def test_somebody_says_at_how_many_seeds_he_looked():
    """The order is that in which seeds were there whole: seed 2 began last."""
    rows = [
        ("a", "0", 1),
        ("b", "0", 2),
        ("a", "1", 3),
        ("b", "1", 4),
        ("a", "2", 0),
        ("b", "2", 9),
        ("a", "7", 5),
    ]
    runs = pd.DataFrame(
        [{"run_id": f"{arm}{seed}", "params.seed": seed, "start_time": time} for arm, seed, time in rows]
    )
    found = numbered_by_seeds(runs, (1, 3)).set_index("run_id")[LOOK]
    assert found.to_dict() == {"a0": 1, "b0": 1, "a1": 2, "b1": 2, "a7": 2, "a2": 3, "b2": 3}


@pytest.mark.parametrize("seeds", [(8, 8), (12, 8), (0, 3), (-1,)])
def test_looks_that_cannot_be(seeds):
    with pytest.raises(InputError, match="--looks"):
        numbered_by_seeds(pd.DataFrame(), seeds)
