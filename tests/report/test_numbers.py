"""Numbers as they are written."""

import numpy as np
import pytest

from ablations.plots.axes import number_form
from ablations.report.numbers import Form, effect_size, number


@pytest.mark.parametrize("value", [-0.001, 0.0, -0.0, 0.001])
def test_what_rounds_to_nothing_has_one_sign_in_table_and_figure(value):
    form = Form(2, "percentage points")
    drawn = format(value, number_form(np.array([value, 1.5]), sign="+"))
    assert form.difference(value) == drawn[: len("+0.00")] == "+0.00"
    assert form.interval(value, 0.5) == "[+0.00, +0.50]"
    assert number(value) == form.value(value) == "0.00"
    assert effect_size(value) == "+0.0"


@pytest.mark.parametrize(
    ("sizes", "value", "shown", "difference"),
    [
        ([3e-13], 4.994e-12, "4.99e-12", "+4.99e-12"),
        ([3e11], 5.0083e12, "5.01e+12", "+5.01e+12"),
        ([3e11], 2e9, "2e+09", "+2e+09"),
        ([1.0, 2.0, 1e9], 1e9, "1000000000.0", "+1000000000.0"),
        ([1.0, 2.0, 1e300], 1e300, "1.000000000000000e+300", "+1.000000000000000e+300"),
        ([3e-13], 0.0, "0", "+0"),
        ([5e-324], 1e-323, "9.9e-324", "+9.9e-324"),
        ([0.002], 0.91, "0.9100", "+0.9100"),
        ([20000.0], 61706, "61706", "+61706"),
    ],
)
def test_digits_say_something_at_any_scale(sizes, value, shown, difference):
    form = Form.fitting(sizes, "")
    assert form.value(value) == shown
    assert form.difference(value) == difference
    assert form.with_unit(-value) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1, "0.10"), (0.125, "0.125"), (0.004, "0.004"), (2.0, "2.00")]
)
def test_a_limit_is_never_rounded(value, shown):
    assert Form(2, "percentage points").limit(value) == f"{shown} percentage points"
