"""Ranks over data sets, against published tables, scipy and numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.comparison.blocks import cliques, critical_difference, ranked_over

# J. Demšar (2006), table 6: AUC of C4.5, with cross-validated m, cf and both, on 14 data sets. On voting the paper
# ranks by more digits than it prints: 0.975 and 0.975 have the ranks 2 and 3.
AUC = """
0.763 0.768 0.771 0.798
0.599 0.591 0.590 0.569
0.954 0.971 0.968 0.967
0.628 0.661 0.654 0.657
0.882 0.888 0.886 0.898
0.936 0.931 0.916 0.931
0.661 0.668 0.609 0.685
0.583 0.583 0.563 0.625
0.775 0.838 0.866 0.875
1.000 1.000 1.000 1.000
0.940 0.962 0.965 0.962
0.619 0.666 0.614 0.669
0.972 0.981 0.97501 0.975
0.957 0.978 0.946 0.970
"""
TABLE = np.array([line.split() for line in AUC.strip().splitlines()], dtype=float)
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")


def runs_of(table: np.ndarray, names=NAMES, seeds=(0,), noise=0.0) -> pd.DataFrame:
    rows = [
        {
            "params.method": name,
            "params.data": f"d{i}",
            "params.seed": str(seed),
            "outcome": "finished",
            "value": value + noise * (seed - np.mean(seeds)),
        }
        for i, line in enumerate(table)
        for name, value in zip(names, line, strict=True)
        for seed in seeds
    ]
    return pd.DataFrame(rows)


def ranked(runs: pd.DataFrame, baseline="C4.5", smaller=False):
    return ranked_over(runs, ["method"], "data", [baseline], smaller)


def by_name(found) -> dict[str, float]:
    return {found.variants[i][0]: rank for i, rank in found.ranks.items()}


def test_demsars_example():
    """Mean ranks 3.143, 2.000, 2.893, 1.964; CD of four classifiers on 14 data sets: 2.569 · √(4·5 / (6·14)) = 1.25."""
    found = ranked(runs_of(TABLE))
    expected = {"C4.5": 3.143, "C4.5+m": 2.000, "C4.5+cf": 2.893, "C4.5+m+cf": 1.964}
    assert by_name(found) == pytest.approx(expected, abs=5e-4)
    assert found.friedman == pytest.approx(stats.friedmanchisquare(*TABLE.T))
    rank = np.array(list(expected.values()))
    assert 12 * 14 / 20 * ((rank**2).sum() - 25) == pytest.approx(
        9.28, abs=0.01
    )  # as printed; scipy heeds the ties
    assert found.friedman[0] > 9.28
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert found.cliques == ((0, 3),)
    assert list(found.wilcoxon.index) == [found.variants.index((name,)) for name in sorted(NAMES[1:])]
    for name, p in zip(sorted(NAMES[1:]), found.wilcoxon["p"], strict=True):
        difference = np.round(TABLE[:, NAMES.index(name)] - TABLE[:, 0], 9)
        assert p == pytest.approx(stats.wilcoxon(difference, zero_method="zsplit").pvalue)


@pytest.mark.parametrize(
    ("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)]
)
def test_the_critical_values_of_demsars_table_5(k, q):
    assert critical_difference(k, 10) / math.sqrt(k * (k + 1) / 60) == pytest.approx(q, abs=1.1e-3)


def test_smaller_can_be_better_and_a_constant_factor_changes_nothing():
    found = ranked(runs_of(TABLE))
    for scale in (1e12, 1e-12, 1e-300):
        again = ranked(runs_of(TABLE * scale))
        assert by_name(again) == by_name(found)
        assert again.friedman == found.friedman
        assert again.wilcoxon["p"].tolist() == pytest.approx(found.wilcoxon["p"].tolist())
    turned = ranked(runs_of(1 - TABLE), smaller=True)
    assert by_name(turned) == by_name(found)


def test_rounding_parts_no_ties():
    tied = np.array([[0.3, 0.1 + 0.2], [0.7, 0.1 + 0.6], [0.5, 0.4]])
    assert by_name(ranked(runs_of(tied, "ab"), "a")) == {"a": pytest.approx(4 / 3), "b": pytest.approx(5 / 3)}


def test_a_block_counts_over_the_seeds_that_all_variants_have():
    runs = runs_of(TABLE[:3], seeds=range(3), noise=0.01)
    # the third seed of C4.5 failed on the first data set, all of C4.5+cf on the second
    runs.loc[
        (runs["params.method"] == "C4.5") & (runs["params.data"] == "d0") & (runs["params.seed"] == "2"),
        "outcome",
    ] = "crashed"
    runs.loc[(runs["params.method"] == "C4.5+cf") & (runs["params.data"] == "d1"), "outcome"] = "diverged"
    found = ranked(runs)
    assert found.seeds.to_dict() == {"d0": 2, "d1": 3, "d2": 3}
    assert found.blocks == ("d0", "d2")
    at = found.variants.index(("C4.5",))
    assert found.means.loc[at, "d0"] == pytest.approx(0.763 - 0.005)
    assert found.sds.loc[at, "d1"] == pytest.approx(0.01)
    assert np.isnan(found.means.loc[found.variants.index(("C4.5+cf",)), "d1"])


def test_too_little_to_rank():
    assert ranked(runs_of(TABLE[:1])) is None
    assert ranked(runs_of(TABLE[:, :1], NAMES[:1])) is None
    equal = ranked(runs_of(np.ones((4, 4))))
    assert math.isnan(equal.friedman[1])
    assert equal.wilcoxon["p"].tolist() == [1.0] * 3


def test_cliques():
    assert cliques(np.array([1.0, 1.5, 2.0, 3.5]), 1.0) == ((0, 2),)
    assert cliques(np.array([1.0, 1.6, 2.2, 2.8]), 1.0) == ((0, 1), (1, 2), (2, 3))
    assert cliques(np.array([1.0, 3.0]), 1.0) == ()
