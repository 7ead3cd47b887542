"""The names of columns, missing cells, and the one order of levels."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.tracking.columns import column, natural, number, numbers, text


def test_natural_order_is_numbers_first_then_words_with_their_digits_as_numbers():
    levels = ["10", "v10", "1e-3", "b", "v2", "-1", "b2", "inf", "2", "v2.5", "v", "nan"]
    expected = ["-1", "1e-3", "2", "10", "inf", "b", "b2", "nan", "v", "v2", "v2.5", "v10"]
    assert sorted(levels, key=natural) == expected


@given(
    st.lists(st.text(max_size=6) | st.floats().map(str) | st.sampled_from(["1", "1.0", "01", "v1", "v01"]))
)
def test_the_order_of_levels_does_not_depend_on_where_they_stood(levels):
    assert sorted(dict.fromkeys(levels), key=natural) == sorted(dict.fromkeys(levels[::-1]), key=natural)


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA, "(not logged)"])
def test_what_was_not_logged_is_no_text(missing):
    assert text(missing) is None


def test_cells_as_text_and_as_numbers():
    assert (text(0.1), text("relu"), number("1e-3")) == ("0.1", "relu", 0.001)
    assert math.isnan(number("relu"))
    runs = pd.DataFrame({"metrics.a": [1.0, math.inf, 1.7976931348623157e308, math.nan]})
    assert numbers(runs, "metrics.a").tolist()[0] == 1.0
    assert numbers(runs, "metrics.a").isna().tolist() == [False, True, True, True]
    assert column(runs, "params.b").isna().all()
