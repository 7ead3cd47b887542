"""Groups of runs without seeds, against scipy."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.comparison.confounds import Rules
from ablations.comparison.unpaired import groups, tabulate
from ablations.comparison.verdicts import COLUMNS, Verdict
from ablations.errors import InputError


def runs_of(**of: list[float]) -> pd.DataFrame:
    rows = [
        {"run_id": f"{arch}{i}", "status": "FINISHED", "params.arch": arch, "metrics.acc": value}
        for arch, values in of.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows)


def judged(runs: pd.DataFrame, margin: float = 0, baseline: str = "x", smaller: bool = False) -> pd.DataFrame:
    found = groups(runs, ["arch"], {"arch": baseline}, "acc", Rules({}))
    return tabulate(found, [margin] * len(found), [smaller] * len(found))


X, Y = [0.90, 0.91, 0.89, 0.92, 0.90, 0.88], [0.93, 0.95, 0.94, 0.92, 0.96]


def test_welch_and_the_permutation_test():
    table = judged(runs_of(x=X, y=Y))
    assert tuple(table.columns) == COLUMNS
    row = table.loc[0]
    interval = stats.ttest_ind(Y, X, equal_var=False).confidence_interval(0.95)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((interval.low, interval.high))
    # of the 462 ways to choose five of eleven, by hand
    every = np.array([*X, *Y])
    from itertools import combinations

    sums = [every[list(chosen)].sum() for chosen in combinations(range(11), 5)]
    assert row["p"] == pytest.approx(2 * np.mean(np.array(sums) >= sum(Y) - 1e-9))
    assert row[["n", "verdict"]].tolist() == [5, Verdict.BETTER]
    assert row["mean_diff"] == pytest.approx(np.mean(Y) - np.mean(X))
    assert row["prob_better"] == pytest.approx(stats.mannwhitneyu(Y, X).statistic / 30)
    assert row["effect_size"] == pytest.approx(
        (np.mean(Y) - np.mean(X)) / math.sqrt((np.var(X, ddof=1) + np.var(Y, ddof=1)) / 2)
    )
    assert pd.isna(row["seeds_needed"])
    assert judged(runs_of(x=X, y=Y), smaller=True).loc[0, "verdict"] == Verdict.WORSE
    assert judged(runs_of(x=X, y=Y), margin=0.2).loc[0, "verdict"] == Verdict.NO_DIFFERENCE


def test_either_side_has_its_runs():
    (found,) = groups(runs_of(x=X[:2], y=Y[:3]), ["arch"], {"arch": "x"}, "acc", Rules({}))
    assert (found.runs_of(1), found.runs_of(-1)) == (("y0", "y1", "y2"), ("x0", "x1"))


def test_holm_over_all_of_them():
    table = judged(runs_of(x=X, y=Y, z=[0.9, 0.91, 0.92, 0.9]))
    assert table["p_holm"].tolist() == pytest.approx([2 * table["p"][0], table["p"][1]])
    assert table["verdict"].tolist() == [Verdict.BETTER, Verdict.INCONCLUSIVE]


def test_small_groups():
    """Of three and three runs two of twenty orders are as extreme: p = 0.1 at least."""
    table = judged(runs_of(x=[1.0, 1.1, 1.2], y=[2.0, 2.1, 2.2]))
    assert table.loc[0, ["p", "verdict"]].tolist() == [0.1, Verdict.TOO_FEW]
    same = runs_of(x=[1.0, 1.1, 1.2], y=[1.0, 1.1, 1.2])
    assert judged(same, margin=9).loc[0, "verdict"] == Verdict.TOO_FEW  # as of pairs, whatever the margin
    table = judged(runs_of(x=[1.0, 1.1, 1.2], y=[2.0]))
    assert table.loc[0, ["p", "ci_low", "verdict"]].tolist() == [1.0, -math.inf, Verdict.TOO_FEW]


@pytest.mark.parametrize("scale", [1e12, 1e-12, 1e-200, 1e200])
def test_the_scale_changes_nothing(scale):
    plain, scaled = (judged(runs_of(x=[s * v for v in X], y=[s * v for v in Y])) for s in (1, scale))
    assert scaled.loc[0, "p"] == plain.loc[0, "p"]
    assert scaled.loc[0, ["verdict"]].tolist() == plain.loc[0, ["verdict"]].tolist()
    assert scaled.loc[0, "ci_low"] == pytest.approx(scale * plain.loc[0, "ci_low"])


def test_constants():
    table = judged(runs_of(x=[0.5] * 6, y=[0.75] * 6))
    assert table.loc[0, ["ci_low", "ci_high", "effect_size", "verdict"]].tolist() == [
        0.25,
        0.25,
        math.inf,
        Verdict.BETTER,
    ]
    assert judged(runs_of(x=[0.5] * 6, y=[0.5] * 6)).loc[0, ["p", "verdict"]].tolist() == [
        1.0,
        Verdict.NO_DIFFERENCE,
    ]


def test_groups_that_differ_in_more_than_the_factor():
    runs = runs_of(x=X, y=Y).assign(**{"params.lr": ["0.1"] * 6 + ["0.2"] * 5})
    (only,) = groups(runs, ["arch"], {"arch": "x"}, "acc", Rules({}))
    assert [(each.key, each.variant, each.baseline) for each in only.differing.confounds] == [
        ("lr", ("0.2",), ("0.1",))
    ]
    assert judged(runs).loc[0, "verdict"] == Verdict.CONFOUNDED


def test_a_group_without_a_result_and_no_group_at_all():
    runs = runs_of(x=X, y=Y)
    runs.loc[runs["params.arch"] == "y", "status"] = "FAILED"
    assert judged(runs).loc[0, ["n", "verdict"]].tolist() == [0, Verdict.INCONCLUSIVE]
    with pytest.raises(InputError, match="nothing to compare with arch=x"):
        judged(runs_of(x=X))


def test_the_other_factors_are_at_their_baseline():
    runs = pd.concat(
        [
            runs_of(x=X, y=Y).assign(**{"params.b": b, "run_id": range(n, n + 11)})
            for n, b in ((0, "1"), (20, "2"))
        ]
    )
    found = groups(runs, ["arch", "b"], {"arch": "x", "b": "1"}, "acc", Rules({}))
    assert [(each.factors, each.variant, tuple(map(len, each.groups))) for each in found] == [
        (("arch",), ("y",), (5, 6)),
        (("b",), ("2",), (6, 6)),
    ]


@pytest.mark.slow
def test_groups_with_nothing_between_them():
    """False verdicts of one comparison, 8 against 8: at most 5 %, Welch's interval holds the truth in 95 %."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        table = judged(runs_of(x=list(rng.normal(size=8)), y=list(rng.normal(size=8))))
        found.append(
            (
                table.loc[0, "verdict"] in (Verdict.BETTER, Verdict.WORSE),
                table.loc[0, "ci_low"] <= 0 <= table.loc[0, "ci_high"],
            )
        )
    wrong, covered = np.mean(found, axis=0)
    assert wrong <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)
    assert covered >= 0.92
