"""The numbers of the report, against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.comparison import variants as reached
from ablations.comparison.outcomes import with_outcomes
from ablations.comparison.selection import Selection, factors_of, select
from ablations.comparison.variants import best_run, with_times
from ablations.plots.curves import curves
from ablations.plots.run import confusion
from ablations.plots.values import grids

ERROR = "test/error_pct"


def a_run(number: int, error: float | None = 5.0, **other: object) -> dict:
    """A run as the reader gives it; keywords are params unless they are columns or tags."""
    columns = {"status": "FINISHED" if error is not None else "FAILED", "run_name": f"run {number}"}
    columns |= {key: other.pop(key) for key in ("status", "run_name") if key in other}
    tags = {"factors": "activation", "sweep_id": "1", "config_hash": f"hash {number}", "code_hash": "c"}
    tags |= {
        key: other.pop(key)
        for key in ("factors", "sweep_id", "config_hash", "code_hash", "data_sha256")
        if key in other
    }
    params = {
        "activation": "relu",
        "seed": "0",
        "trainer.epochs": "2",
        "network.parameters": "61706",
        **other,
    }
    return {
        "run_id": f"{number:03d}",
        "start_time": pd.Timestamp("2024-05-01", tz="UTC") + pd.Timedelta(minutes=number),
        **columns,
        **{f"params.{key}": value for key, value in params.items()},
        **{f"tags.{key}": value for key, value in tags.items()},
        "metrics.test/error_pct": math.nan if error is None else error,
        "metrics.test/accuracy": math.nan if error is None else 1 - error / 100,
    }


def frame(*runs: dict) -> pd.DataFrame:
    return pd.DataFrame(runs)


def select_all(*runs: dict) -> Selection:
    """As a report does it: what the newest invocation varied may differ."""
    return select(frame(*runs), factors_of(frame(*runs)))


def kept(*runs: dict) -> list[str]:
    return list(select_all(*runs).runs["run_id"])


def ranked(runs: pd.DataFrame, factors: list[str], metric: str = ERROR, smaller: bool = True) -> pd.DataFrame:
    return reached.ranked(with_outcomes(runs, metric), factors, smaller)


def variants(runs: pd.DataFrame, factors: list[str], smaller: bool = True) -> pd.DataFrame:
    return reached.variants(runs, factors, smaller)


# Which runs


def test_the_newest_invocation_says_what_was_varied():
    old = a_run(1, factors="pool", sweep_id="1", pool="max")
    new = a_run(
        2, factors="activation,optimizer.lr,seed", sweep_id="2", pool="max", **{"optimizer.lr": "0.1"}
    )
    assert factors_of(frame(old, new)) == ("activation", "optimizer.lr")
    assert factors_of(frame(new, old)) == ("activation", "optimizer.lr")


@pytest.mark.parametrize("factors", ["", None, math.nan, "seed"])
def test_a_sweep_over_seeds_has_no_factors(factors):
    assert factors_of(frame(a_run(1, factors=factors))) == ()


def test_runs_of_an_older_invocation_with_the_same_settings_count():
    assert kept(a_run(1, sweep_id="1", seed="0"), a_run(2, sweep_id="2", seed="1")) == ["001", "002"]


def test_runs_of_an_older_invocation_with_other_settings_do_not():
    old = [a_run(i, sweep_id="1", seed=str(i), **{"trainer.epochs": "9"}) for i in (1, 2)]
    selection = select_all(*old, a_run(3, sweep_id="2"))
    assert list(selection.runs["run_id"]) == ["003"]
    assert selection.other_settings == ("params.trainer.epochs",) * 2


def test_a_setting_that_only_one_side_knows_is_another_setting():
    assert kept(a_run(1, sweep_id="1", clip="1"), a_run(2, sweep_id="2")) == ["002"]
    assert kept(a_run(1, sweep_id="1"), a_run(2, sweep_id="2", clip="1")) == ["002"]


def test_an_older_invocation_may_have_other_levels():
    assert kept(a_run(1, sweep_id="1", activation="tanh"), a_run(2, sweep_id="2")) == ["001", "002"]


def test_settings_that_come_with_a_level_are_compared_within_it():
    new = [
        a_run(3, sweep_id="2", factors="optimizer", optimizer="adam", **{"optimizer.lr": "0.001"}),
        a_run(4, sweep_id="2", factors="optimizer", optimizer="sgd", **{"optimizer.lr": "0.1"}),
    ]
    same = a_run(1, sweep_id="1", seed="1", optimizer="sgd", **{"optimizer.lr": "0.1"})
    other = a_run(2, sweep_id="1", seed="2", optimizer="sgd", **{"optimizer.lr": "0.2"})
    third = a_run(0, sweep_id="1", seed="2", optimizer="rmsprop", **{"optimizer.decay": "0.9"})
    assert kept(third, same, other, *new) == ["000", "001", "003", "004"]


def test_runs_on_other_data_do_not_count():
    selection = select_all(a_run(1, sweep_id="1", data_sha256="a"), a_run(2, sweep_id="2", data_sha256="b"))
    assert selection.other_settings == ("tags.data_sha256",)


def test_of_repeated_runs_the_newest_finished_one_counts():
    finished = [a_run(1, config_hash="h"), a_run(2, config_hash="h"), a_run(3, None, config_hash="h")]
    assert kept(*finished) == ["002"]
    assert select_all(*finished).repeated == 2
    assert kept(a_run(1, None, config_hash="h"), a_run(2, None, config_hash="h")) == ["002"]


def test_without_a_config_hash_runs_with_the_same_params_are_repetitions():
    assert kept(a_run(1, config_hash=None), a_run(2, config_hash=None)) == ["002"]
    assert kept(a_run(1, config_hash=None), a_run(2, config_hash=None, clip="1")) == ["001", "002"]
    assert kept(a_run(1, config_hash=None), a_run(2, None, config_hash=None)) == ["001"]


def test_runs_of_the_version_before_are_repeated_by_new_ones_of_the_same_params():
    """Hashes of configurations name classes, and these moved: only code that differs can have made the same twice."""
    before = [a_run(i, seed=str(i), code_hash="before", **{"dataset.root": "/old"}) for i in (1, 2)]
    since = [a_run(2 + i, seed=str(i), code_hash="since", **{"dataset.root": "/new"}) for i in (1, 2)]
    assert kept(*before, *since) == ["003", "004"]
    assert select_all(*before, *since).repeated == 2
    failed = a_run(5, None, seed="2", code_hash="since", **{"dataset.root": "/new"})
    assert kept(*before, since[0], failed) == ["002", "003"]
    assert kept(a_run(1), a_run(2)) == ["001", "002"]  # one code, two hashes: two configurations
    roots = [
        a_run(i, config_hash=None, factors="dataset.root", **{"dataset.root": root})
        for i, root in ((1, "a"), (2, "b"))
    ]
    assert kept(*roots) == ["001", "002"]


def test_runs_that_logged_no_seed_are_no_repetitions():
    unseeded = [{**a_run(i, config_hash=None), "params.seed": None} for i in (1, 2)]
    assert kept(*unseeded) == ["001", "002"]


def test_a_failed_run_without_its_params_is_kept_and_said_to_have_none():
    selection = select_all(a_run(1), a_run(2, None, activation=None))
    assert list(selection.runs["params.activation"]) == ["relu", "(not logged)"]


# What they reached


def the_table() -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = frame(
        *(a_run(i, error, activation="relu", seed=str(i)) for i, error in enumerate([4.0, 5.0, 9.0])),
        a_run(3, 2.0, activation="tanh"),
        a_run(4, None, activation="tanh", seed="1"),
        a_run(5, None, activation="sigmoid"),
    ).assign(epoch_s=[1.0, 2.0, 3.0, 7.0, 100.0, 100.0])
    runs = ranked(runs, ["activation"])
    return runs, variants(runs, ["activation"])


def test_the_table_per_variant():
    _, table = the_table()
    assert list(table["params.activation"]) == ["tanh", "relu", "sigmoid"]
    assert list(table["n"]) == [1, 3, 0]
    assert list(table["planned"]) == [2, 3, 1]
    relu = table.loc[1]
    assert relu["mean"] == pytest.approx(6.0)
    assert relu["sd"] == pytest.approx(math.sqrt(7))  # (4 + 1 + 9) / (3 - 1)
    assert relu["best"] == 4.0
    assert relu["epoch_s"] == pytest.approx(2.0)
    assert relu["parameters"] == 61706


def test_one_run_has_no_spread_and_a_failed_variant_no_mean():
    _, table = the_table()
    assert math.isnan(table.loc[0, "sd"])
    assert table.loc[0, "epoch_s"] == 7.0
    assert table.loc[2, ["mean", "sd", "best"]].isna().all()


def test_runs_that_did_not_log_a_factor_never_lead():
    runs = select_all(a_run(1, 9.0), a_run(2, 1.0, activation=None), a_run(3, None, activation="tanh")).runs
    order = ranked(runs, ["activation"])
    assert list(order["params.activation"]) == ["relu", "tanh", "(not logged)"]
    assert best_run(order, True)[0]["run_id"] == "001"
    assert best_run(order[order["run_id"] == "002"], True)[0]["run_id"] == "002"


def test_runs_come_by_rank_then_seed():
    runs, _ = the_table()
    assert list(runs["run_id"]) == ["003", "004", "000", "001", "002", "005"]
    assert list(runs["variant"]) == [0, 0, 1, 1, 1, 2]
    assert list(runs["finished"]) == [True, False, True, True, True, False]


@pytest.mark.parametrize("error", [math.nan, math.inf, 1.7976931348623157e308])
def test_a_finished_run_without_a_finite_result_is_none(error):
    assert not ranked(frame(a_run(1, error)), ["activation"])["finished"].any()


def test_no_factors_make_one_variant():
    runs = ranked(frame(a_run(1, 2.0), a_run(2, 4.0)).assign(epoch_s=1.0), [])
    table = variants(runs, [])
    assert len(table) == 1
    assert table.loc[0, "mean"] == 3.0


def test_equal_means_are_ordered_by_level():
    runs = frame(*(a_run(i, 5.0, lr=level) for i, level in enumerate(["10", "0.1", "1e-3"])))
    assert list(ranked(runs, ["lr"])["params.lr"]) == ["1e-3", "0.1", "10"]


@given(st.lists(st.floats(0.01, 90), min_size=1, max_size=12))
@settings(deadline=None)
def test_the_order_of_the_rows_does_not_matter(errors):
    runs = frame(*(a_run(i, e, activation="ab"[i % 2], seed=str(i)) for i, e in enumerate(errors)))
    runs = runs.assign(epoch_s=1.0)
    one = variants(ranked(runs, ["activation"]), ["activation"])
    two = variants(ranked(runs.iloc[::-1], ["activation"]), ["activation"])
    pd.testing.assert_frame_equal(one, two, check_exact=True)
    assert one["mean"].is_monotonic_increasing
    assert one["n"].sum() == len(errors)


def history(*points: tuple) -> pd.DataFrame:
    return pd.DataFrame(points, columns=["run_id", "metric", "step", "value"])


def test_times_are_per_epoch_and_per_run():
    points = history(
        ("000", "time/epoch_s", 1, 1.0), ("000", "time/epoch_s", 2, 3.0), ("000", "val/loss", 1, 9.0)
    )
    timed = with_times(frame(a_run(0), a_run(1)), points)
    assert timed.loc[0, ["epoch_s", "train_s"]].tolist() == [2.0, 4.0]
    assert timed.loc[1, ["epoch_s", "train_s"]].isna().all()


def test_curves_are_mean_and_extremes_over_the_finished_seeds():
    runs = ranked(frame(a_run(0, seed="0"), a_run(1, seed="1"), a_run(2, None, seed="2")), ["activation"])
    points = [(f"{run:03d}", "val/loss", step, 10.0 * run + step) for run in range(3) for step in (1, 2)]
    found = curves(history(*points, ("001", "val/loss", 3, math.inf), ("000", "val/loss", 3, 7.0)), runs)
    assert found.to_dict("list") == {
        "metric": ["val/loss"] * 3,
        "variant": [0, 0, 0],
        "step": [1, 2, 3],
        "mean": [6.0, 7.0, 7.0],
        "low": [1.0, 2.0, 7.0],
        "high": [11.0, 12.0, 7.0],
        "n": [2, 2, 1],
    }


def test_curves_of_nothing_are_empty():
    assert curves(history(), ranked(frame(a_run(0)), ["activation"])).empty


def factorial(*factors: str) -> pd.DataFrame:
    """Two levels each; the error is the binary number of the levels."""
    rows = [[(i >> bit) & 1 for bit in range(len(factors))] for i in range(2 ** len(factors))]
    table = pd.DataFrame(rows, columns=[f"params.{key}" for key in factors]).astype(str)
    return table.assign(mean=np.arange(len(rows), dtype=float))


def test_the_grid_of_two_factors():
    grid = grids(factorial("a", "b"), ["a", "b"])[""]
    assert grid.to_numpy().tolist() == [[0, 2], [1, 3]]
    assert list(grid.index) == ["0", "1"]


def test_a_third_factor_makes_facets_and_a_fourth_is_averaged():
    facets = grids(factorial("a", "b", "c", "d"), ["a", "b", "c", "d"])
    assert list(facets) == ["0", "1"]
    assert facets["0"].to_numpy().tolist() == [[4, 6], [5, 7]]  # the fourth adds 0 or 8
    assert facets["1"].to_numpy().tolist() == [[8, 10], [9, 11]]
    averaged = grids(factorial("a", "b", "c"), ["a", "b", "c"], facets=1)
    assert averaged[""].to_numpy().tolist() == [[2, 4], [3, 5]]


def test_a_failed_cell_stays_empty():
    table = factorial("a", "b")
    table.loc[3, "mean"] = math.nan
    grid = grids(table, ["a", "b"])[""]
    assert math.isnan(grid.loc["1", "1"])
    table.loc[2, "mean"] = math.nan
    assert grids(table, ["a", "b"])[""].shape == (2, 2)


def test_the_best_run_is_chosen_on_validation_where_there_is_one():
    runs = ranked(frame(a_run(0, 2.0), a_run(1, 3.0, seed="1"), a_run(2, None, seed="2")), ["activation"])
    best, by_validation = best_run(runs, True)
    assert (best["run_id"], by_validation) == ("000", False)
    best, by_validation = best_run(runs.assign(**{"metrics.val/accuracy": [0.90, 0.91, 0.99]}), True)
    assert (best["run_id"], by_validation) == ("001", True)
    assert best_run(runs[runs["status"] == "FAILED"], True) is None


def test_confusion_has_the_truth_in_its_rows():
    assert confusion([0, 0, 1, 2], [0, 1, 1, 1], 4).tolist() == [
        [1, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 1, 0, 0],
        [0, 0, 0, 0],
    ]
