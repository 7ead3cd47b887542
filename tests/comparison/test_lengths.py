"""What the validation accuracy of runs did at their end, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from ablations.comparison.lengths import lengths


def histories(**runs: list[float]) -> pd.DataFrame:
    """Their validation accuracies, the epochs of all runs in no order."""
    rows = [
        {"run_id": run, "metric": metric, "step": step, "value": value}
        for run, values in runs.items()
        for step, value in enumerate(values, 1)
        for metric in ("val/accuracy", "train/accuracy")
    ]
    frame = pd.DataFrame(rows, columns=["run_id", "metric", "step", "value"]).sample(frac=1, random_state=0)
    return frame.assign(value=frame["value"].where(frame["metric"] == "val/accuracy", 0.0))


def test_the_last_fifth_against_the_fifth_before():
    found = lengths(
        histories(ten=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.95, 0.9], five=[0.5, 0.6, 0.7, 0.9, 0.8])
    )
    assert found.loc["ten"].tolist() == [10, 9, pytest.approx((0.95 + 0.9) / 2 - (0.7 + 0.8) / 2)]
    assert found.loc["five"].tolist() == [5, 4, pytest.approx(0.8 - 0.9)]


def test_eight_epochs_have_fifths_of_one():
    assert lengths(histories(run=[0, 0, 0, 0, 0.1, 0.3, 0.6, 0.8])).loc["run", "late_gain"] == pytest.approx(
        0.2
    )


def test_the_first_of_equal_epochs_is_the_best():
    assert lengths(histories(run=[0.1, 0.9, 0.9, 0.9, 0.2])).loc["run", "best_epoch"] == 2


def test_four_epochs_have_no_last_fifth_and_other_runs_no_row():
    found = lengths(histories(short=[0.1, 0.2, 0.3, 0.4]))
    assert found.loc["short"].tolist()[:2] == [4, 4]
    assert np.isnan(found.loc["short", "late_gain"])
    without = histories(run=[0.1] * 6)
    assert lengths(without[without["metric"] != "val/accuracy"]).empty
    assert lengths(pd.DataFrame({name: [] for name in without}, dtype=object)).empty


def test_percentages_are_the_same_as_fractions():
    run = [0.5, 0.6, 0.7, 0.92, 0.9]
    found = lengths(histories(percent=[100 * value for value in run]))
    assert found.loc["percent"].tolist() == [5, 4, pytest.approx(-0.02)]


@pytest.mark.parametrize("broken", [np.inf, np.nan])
def test_what_is_no_number_has_no_gain_and_is_not_the_best(broken):
    found = lengths(histories(broken=[0.5, 0.6, 0.7, 0.8, broken], whole=[0.5, 0.6, 0.7, 0.8, 0.9]))
    assert found.loc["broken"].tolist()[:2] == [5, 4]
    assert np.isnan(found.loc["broken", "late_gain"])
    assert found.loc["whole", "late_gain"] == pytest.approx(0.1)
