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
