"""Sums that every processor rounds alike."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from test_verdicts import runs_of

from ablations.comparison import exact
from ablations.comparison.pairs import comparisons
from ablations.comparison.tests import sign_flip


def test_twelve_digits_are_kept():
    assert exact.digits(0.12041666666666678) == 0.120416666667
    assert exact.digits(-1.2041666666666678e-9) == -1.20416666667e-9
    assert exact.digits(123456789012345.0) == 123456789012000.0
    assert exact.digits(0.99 - 1.38) == -0.39  # -0.3899999999999999 as a float
    assert math.isinf(exact.digits(math.inf))
    assert math.isnan(exact.digits(math.nan))
    assert math.copysign(1, exact.digits(0.0)) == 1


def test_a_sum_does_not_depend_on_its_order():
    values = [1e16, 1.0, -1e16, 0.1, 0.2, -0.3]
    sums = {exact.total(np.random.default_rng(seed).permutation(values)) for seed in range(50)}
    assert sums == {float(sum(map(Fraction, values)))}
    assert len({float(np.random.default_rng(seed).permutation(values).sum()) for seed in range(50)}) > 1


def test_a_sum_beyond_all_floats_is_infinite():
    assert exact.total([1e308, 1e308, 1e308]) == math.inf


def test_mean_and_deviation_are_those_of_the_numbers():
    assert exact.mean([1.38, 1.26, 1.31]) == 1.31666666667
    # √(32 / 7) = 2.13808993529939…
    assert exact.deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == 2.1380899353
    assert exact.deviation([0.1, 0.1, 0.1]) == 0.0
    assert exact.deviation(np.array([1e12 + 1, 1e12 + 2, 1e12 + 3])) == 1.0
    assert exact.mean([1e308] * 5) == 1e308  # whose sum is none
    assert exact.mean([math.inf, 1.0]) == math.inf
    assert math.isnan(exact.mean([]))
    assert math.isnan(exact.deviation([1.0]))


def test_a_table_keeps_what_is_no_float():
    table = pd.DataFrame({"factors": [("a",), ("b",)], "n": [1, 2], "p": [1 / 3, math.nan]})
    table["needed"] = pd.array([3, None], dtype="Int64")
    rounded = exact.rounded(table)
    assert rounded["p"].tolist() == pytest.approx([0.333333333333, math.nan], abs=0, nan_ok=True)
    pd.testing.assert_frame_equal(rounded.drop(columns="p"), table.drop(columns="p"))


def test_errors_that_were_stored_with_ten_decimals_have_the_ties_of_their_images():
    """Of 360 images: the differences are -2, 1, 1, … images, whose sums are often 0."""
    images = [-2, 1, 1, -1, 2, -1, 3, 4]
    runs = runs_of(
        lambda seed, net: round(100 * (17 + (images[seed] if net == "b" else 0)) / 360, 10), net="ab"
    )
    (found,) = comparisons(runs, ["net"], {"net": "a"}, "test/error_pct")
    stored = sign_flip(found.differences, rounding=found.rounding)
    counted = sign_flip(images)
    assert stored.p == counted.p
    assert (stored.low, stored.high) == pytest.approx((counted.low / 3.6, counted.high / 3.6), rel=1e-8)
    assert sign_flip(found.differences).p != counted.p  # without the limit they are broken
