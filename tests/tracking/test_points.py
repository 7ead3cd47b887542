"""Logged values in compact columns, against a plain table of the same."""

import math

import numpy as np
import pandas as pd

from ablations.tracking.points import Points


def test_values_are_sorted_by_run_metric_and_step_and_then_by_time():
    rng = np.random.default_rng(0)
    rows = [
        (f"run{rng.integers(5)}", f"metric{rng.integers(3)}", int(step), float(value), int(time))
        for step, value, time in zip(
            rng.integers(4, size=500), rng.integers(3, size=500), rng.integers(3, size=500), strict=True
        )
    ]
    points = Points()
    for block in (rows[:100], [], rows[100:]):
        points.add([(run.encode(), name.encode(), *rest) for run, name, *rest in block])
    names = ["run_id", "metric", "step", "value", "timestamp"]
    table = pd.DataFrame(rows, columns=names).astype({"run_id": "str", "metric": "str"})
    order = ["run_id", "metric", "step", "timestamp", "value"]
    pd.testing.assert_frame_equal(points.frame(), table.sort_values(order, ignore_index=True)[names[:4]])


def test_what_is_no_number_and_what_stands_for_infinity():
    points = Points()
    points.add(
        [(b"r", b"m", step, x, 0) for step, x in enumerate((None, 1.7976931348623157e308, -math.inf, 1))]
    )
    values = points.frame()["value"]
    assert math.isnan(values[0])
    assert list(values[1:]) == [math.inf, -math.inf, 1.0]


def test_no_values_and_names_that_are_no_text():
    assert list(Points().frame()) == ["run_id", "metric", "step", "value"]
    points = Points()
    points.add([(b"r", b"loss\xff", 1, 0.5, 0)])
    assert list(points.frame()["metric"]) == ["loss\ufffd"]
