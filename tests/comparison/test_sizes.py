"""How an outcome changes with the number of training examples: by hand, and against scipy's regression."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import linregress

from ablations.comparison.sizes import change_per_doubling, is_size, sizes_of

SIZES = {"1000": 1000.0, "2e3": 2000.0, "8000": 8000.0}


def runs_of(values: dict[int, list[float | None]]) -> pd.DataFrame:
    """By seed the outcome at each size."""
    rows = [
        (level, str(seed), value)
        for seed, reached in values.items()
        for level, value in zip(SIZES, reached, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=["params.n_train", "params.seed", "value"]).astype({"value": float})
    return frame.assign(finished=frame["value"].notna())


@pytest.mark.parametrize(
    "key", ["dataset.train_images", "n_train", "data/num_train_samples", "data.trainSize"]
)
def test_names_of_sizes(key):
    assert is_size(key)


@pytest.mark.parametrize(
    "key", ["train_batch_size", "trainer.epochs", "dataset", "image_size", "n_train_steps"]
)
def test_names_that_only_look_like_it(key):
    assert not is_size(key)


def test_levels_are_sizes_where_at_least_three_are_positive_numbers():
    assert list(sizes_of(["10000", "2e3", "500", "2e3"])) == ["500", "2e3", "10000"]
    for levels in (["1", "2"], ["1", "2", "all"], ["0", "1", "2"], ["1", "1.0", "2"], ["1", "2", "inf"], []):
        assert sizes_of(levels) == {}


def test_a_power_law_is_found_exactly():
    """Error 40, 20, 5: half with each doubling; and 1, 2, 8: twice."""
    falling = change_per_doubling(runs_of({seed: [40 + seed, (40 + seed) / 2, (40 + seed) / 8] for seed in range(6)}),
                                  "n_train", SIZES)  # fmt: skip
    assert (falling.mean, falling.low, falling.high, falling.n) == pytest.approx((-0.5, -0.5, -0.5, 6))
    rising = change_per_doubling(runs_of({0: [1, 2, 8]}), "n_train", SIZES)
    assert rising.mean == pytest.approx(1)
    assert math.isnan(rising.low)
    assert math.isnan(rising.high)


def test_slopes_are_those_of_a_regression_seed_by_seed_and_their_interval_is_that_of_their_mean():
    rng = np.random.default_rng(3)
    values = {seed: list(rng.uniform(1, 9, 3)) for seed in range(6)}
    found = change_per_doubling(runs_of(values), "n_train", SIZES)
    slopes = [linregress(np.log(list(SIZES.values())), np.log(each)).slope for each in values.values()]
    assert found.mean == pytest.approx(2 ** np.mean(slopes) - 1)
    # With six pairs the sign-flip interval at 95 % reaches from the lowest to the highest.
    assert (found.low, found.high) == pytest.approx((2 ** min(slopes) - 1, 2 ** max(slopes) - 1))


def test_a_size_in_two_spellings_is_one():
    runs = runs_of({0: [8, 4, 1], 1: [8, 4, 1]})
    runs.loc[1, "params.n_train"] = "2000"
    assert change_per_doubling(runs, "n_train", SIZES | {"2000": 2000.0}).n == 2


def test_only_seeds_count_with_a_positive_result_at_every_size():
    values = {0: [8, 4, 1], 1: [9, None, 1], 2: [9, 0, 1], 3: [None, None, None]}
    assert change_per_doubling(runs_of(values), "n_train", SIZES).n == 1
    assert change_per_doubling(runs_of({1: [9, None, 1]}), "n_train", SIZES) is None
