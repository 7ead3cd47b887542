"""Shares of variance and Shapley values, against independent implementations and planted truths.

`python tests/comparison/test_attribution.py` prints the table of docs/statistics.md.
"""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest

from ablations.comparison.attribution import grid, shapley, shares
from ablations.comparison.outcomes import Outcome
from ablations.comparison.tests import mean_and_sd, sign_flip

FACTORS = ("a", "b", "c")
BASE = dict.fromkeys(FACTORS, "0")


def runs_of(values: np.ndarray, factors=FACTORS) -> pd.DataFrame:
    """Runs of a grid; values: (levels of each factor …, seeds)."""
    rows = []
    for *setting, seed in np.ndindex(values.shape):
        row = {f"params.{key}": str(level) for key, level in zip(factors, setting, strict=True)}
        value = values[(*setting, seed)]
        rows.append(row | {"params.seed": str(seed), "value": value, "outcome": Outcome.FINISHED})
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def planted(rng: np.random.Generator, seeds: int, three: float = 0.0, skewed: bool = False) -> np.ndarray:
    """Two-level factors: main effects 1, −0.5, 0; a × b of 0.8; `three` for all of them; noise that seeds share, noise
    of their own in the effects of the factors, and in every run."""

    def noise(*shape: int) -> np.ndarray:
        return np.exp(rng.standard_normal(shape)) - np.exp(0.5) if skewed else rng.standard_normal(shape)

    values = np.zeros((2, 2, 2, seeds))
    effects = np.array([1.0, -0.5, 0.0])[:, None] + 0.5 * noise(3, seeds)
    for a, b, c in product(range(2), repeat=3):
        fixed = (np.array([a, b, c])[:, None] * effects).sum(axis=0)
        values[a, b, c] = 5 + fixed + 0.8 * a * b + three * a * b * c
    return values + noise(seeds) + 0.3 * noise(2, 2, 2, seeds)


TRUTH = {"a": 1.4, "b": -0.1, "c": 0.0}  # of `planted` without an effect of all three: half of a × b to each


def by_orders(values: np.ndarray) -> np.ndarray:
    """(factors, seeds): what each factor brings, averaged over all orders, literally."""
    many = values.ndim - 1
    found = np.zeros((many, values.shape[-1]))
    orders = list(permutations(range(many)))
    for order in orders:
        at = [0] * many
        for factor in order:
            before = values[tuple(at)]
            at[factor] = 1
            found[factor] += values[tuple(at)] - before
    return found / len(orders)


@pytest.mark.parametrize("three", [0.0, 2.0])
def test_shapley_values_are_means_over_all_orders_and_sum_to_the_total(three):
    values = planted(np.random.default_rng(0), 7, three)
    table, other = shapley(runs_of(values), FACTORS, BASE)
    expected = by_orders(values)
    assert other == dict.fromkeys(FACTORS, "1")
    assert table["factor"].tolist() == [*FACTORS, ""]
    assert table["mean"].iloc[:3].tolist() == pytest.approx(expected.mean(axis=1).tolist(), rel=1e-10)
    assert table["mean"].iloc[3] == pytest.approx((values[1, 1, 1] - values[0, 0, 0]).mean(), rel=1e-10)
    assert table["mean"].iloc[:3].sum() == pytest.approx(table["mean"].iloc[3], rel=1e-10)
    for i, row in enumerate(table.iloc[:3].itertuples()):
        test = sign_flip(expected[i])
        assert (row.low, row.high, row.n) == pytest.approx((test.low, test.high, 7), rel=1e-9)


def test_with_interactions_of_two_factors_alone_they_are_the_main_effects():
    values = planted(np.random.default_rng(1), 6)
    additive = values - 0  # noise of single runs has interactions of three
    for a, b, c in product(range(2), repeat=3):
        additive[a, b, c] = 5 + np.arange(6) * (a - 2 * b + c) + a * b - 3 * b * c
    table, _ = shapley(runs_of(additive), FACTORS, BASE)
    for i, factor in enumerate(FACTORS):
        levels = np.moveaxis(additive, i, 0)
        main = (levels[1] - levels[0]).mean(axis=(0, 1))
        assert table.set_index("factor")["mean"][factor] == pytest.approx(mean_and_sd(main)[0], abs=1e-9)


def test_they_turn_round_with_the_baseline():
    values = planted(np.random.default_rng(2), 6, 1.0)
    there, _ = shapley(runs_of(values), FACTORS, BASE)
    back, other = shapley(runs_of(values), FACTORS, dict.fromkeys(FACTORS, "1"))
    assert other == BASE
    assert back["mean"].tolist() == pytest.approx((-there["mean"]).tolist())
    assert back["low"].tolist() == pytest.approx((-there["high"]).tolist())


def test_a_grid_counts_the_seeds_that_have_every_setting():
    runs = runs_of(np.arange(24.0).reshape(2, 3, 4), ("a", "b")).sort_index()
    levels, seeds, values = grid(runs, ("a", "b"))
    assert levels == [["0", "1"], ["0", "1", "2"]]
    assert seeds == ["0", "1", "2", "3"]
    assert values.tolist() == np.arange(24.0).reshape(2, 3, 4).tolist()
    runs.loc[5, "outcome"] = Outcome.DIVERGED  # a=0, b=1, seed 1
    twice = pd.concat([runs, runs[(runs["params.seed"] == "3") & (runs["params.b"] == "0")]])
    assert grid(twice, ("a", "b"))[1] == ["0", "2"]


@pytest.mark.parametrize(
    "drop", ["`params.a` == '1' and `params.b` == '1'", "`params.seed` == `params.seed`", "`params.b` == '1'"]
)
def test_what_is_no_full_grid_has_neither(drop):
    runs = runs_of(planted(np.random.default_rng(0), 6)[:, :, 0], ("a", "b"))
    lost = runs.query(drop).index
    runs.loc[lost, "outcome"] = Outcome.CRASHED
    assert grid(runs, ("a", "b")) is None
    assert shapley(runs, ("a", "b"), {"a": "0", "b": "0"}) is None


def test_three_levels_or_one_factor_have_no_shapley_values():
    assert shapley(runs_of(np.ones((2, 3, 4)), ("a", "b")), ("a", "b"), {"a": "0", "b": "0"}) is None
    assert shapley(runs_of(np.ones((2, 4)), ("a",)), ("a",), {"a": "0"}) is None


def test_shares_are_the_sums_of_squares_of_statsmodels():
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    values = np.random.default_rng(5).standard_normal((3, 2, 5)) + np.arange(3)[:, None, None]
    frame = runs_of(values, ("a", "b"))
    frame.columns = [name.removeprefix("params.") for name in frame]
    table = anova_lm(ols("value ~ C(a) * C(b) + C(seed)", frame).fit())["sum_sq"]
    found = shares(values, ("a", "b")).set_index("factors")["share"]
    expected = table / table.sum()
    assert found[[("a",), ("b",), ("a", "b"), ("seed",), ()]].tolist() == pytest.approx(
        expected[["C(a)", "C(b)", "C(a):C(b)", "C(seed)", "Residual"]].tolist()
    )
    assert found.sum() == pytest.approx(1)


def test_shares_by_hand():
    values = np.array([[1.0, 3.0], [5.0, 7.0]])[:, None, :]  # factor a: ±2, seed: ±1
    found = shares(np.repeat(values, 2, axis=1), ("a", "b")).set_index("factors")["share"]
    assert found.to_dict() == {("a",): 0.8, ("b",): 0.0, ("a", "b"): 0.0, ("seed",): 0.2, (): 0.0}


def test_nothing_varies_and_one_seed_have_no_shares():
    assert shares(np.full((2, 2, 3), 0.1), ("a", "b")) is None
    assert shares(np.random.default_rng(0).random((2, 2, 1)), ("a", "b")) is None


def coverage(seeds: int, skewed: bool, studies: int) -> list[float]:
    """How often the interval of each factor holds what was planted."""
    rng = np.random.default_rng(6)
    held = np.zeros(3)
    for _ in range(studies):
        parts = by_orders(planted(rng, seeds, skewed=skewed))  # those of `shapley`, as tested above
        tests = [sign_flip(each) for each in parts]
        held += [test.low <= truth <= test.high for test, truth in zip(tests, TRUTH.values(), strict=True)]
    return (held / studies).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(("skewed", "least"), [(False, 0.93), (True, 0.87)])
def test_the_intervals_hold_what_was_planted(skewed, least):
    assert min(coverage(8, skewed, 600)) >= least


if __name__ == "__main__":
    print("| effects of seeds | n | a | b | c |\n| --- | ---: | ---: | ---: | ---: |")
    for name, many in product(("normal", "strongly skewed"), (8, 12)):
        held = coverage(many, name != "normal", 1500)
        print(f"| {name} | {many} | {' | '.join(f'{each:.1%}' for each in held)} |")
