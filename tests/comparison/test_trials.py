"""Trials as tables: states, values, choices by hand; medians as Optuna's own pruner takes them."""

import numpy as np
import optuna
import pandas as pd
import pytest

from ablations.comparison.tuning import State, at_edge, bounds, chosen, prefixes, trials
from ablations.experiment.trial import PrunedError, Trial

LOG = {"low": 1e-4, "high": 1.0, "log": True}


def run(
    variant: str, trial: int, seed: int, value: float | None, failure: str | None = None, **more: object
) -> dict:
    status = "FINISHED" if failure is None else "KILLED" if failure == "pruned" else "FAILED"
    row = {
        "run_id": f"{variant}{trial}-{seed}",
        "status": status,
        "seconds": 2.0,
        "metrics.val/accuracy": value,
    }
    row |= {"start_time": pd.Timestamp(trial, unit="s"), "params.a": variant, "params.lr": f"0.{trial}"}
    row |= {"params.seed": str(seed), "tags.failure": failure, "tags.tuning": f"id-{variant}"}
    return row | {"tags.trial": str(trial), "tags.offered": '{"lr": {"low": 0, "high": 1}}'} | more


RUNS = pd.DataFrame(
    [
        *(run("y", 1, 7, 0.5), run("y", 1, 8, 0.7), run("y", 2, 7, 0.9, "pruned"), run("y", 2, 8, 0.2)),
        *(run("y", 3, 7, 0.6), run("y", 3, 8, 0.8), run("y", 4, 7, 0.7), run("y", 4, 8, 0.7)),
        *(
            run("x", 1, 7, None, "diverged"),
            run("x", 1, 8, 0.9),
            run("x", 2, 7, 0.9, "error"),
            run("x", 2, 8, 0.9),
        ),
        *(run("x", 3, 7, 0.4), run("x", 3, 9, 0.8), run("x", 5, 7, 0.99), run("x", 5, 8, 0.99)),
    ]
)
HOW = ["a"], ["lr"], [7, 8], "val/accuracy", False


def test_a_trial_is_worth_the_mean_over_its_seeds_where_all_of_them_finished():
    table = trials(RUNS, ["id-x", "id-y"], *HOW, 4)
    found = [tuple(row) for row in table[["params.a", "trial", "state"]].itertuples(index=False)]
    assert found == [
        *(("x", 1, State.DIVERGED), ("x", 2, State.UNFINISHED), ("x", 3, State.UNFINISHED)),
        *(
            ("y", 1, State.COMPLETE),
            ("y", 2, State.PRUNED),
            ("y", 3, State.COMPLETE),
            ("y", 4, State.COMPLETE),
        ),
    ]
    np.testing.assert_allclose(table["value"], [np.nan] * 3 + [0.6, np.nan, 0.7, 0.7], rtol=1e-12)
    np.testing.assert_allclose(table["best"], [np.nan] * 3 + [0.6, 0.6, 0.7, 0.7], rtol=1e-12)
    assert list(table["runs"]) == [2, 2, 1, 2, 2, 2, 2]
    assert list(table["seconds"]) == [4.0, 4.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    assert table["offered"].iloc[0] == {"lr": {"low": 0, "high": 1}}


def test_of_equal_values_the_earlier_trial_is_chosen_and_later_ones_do_not_count_yet():
    table = trials(RUNS, ["id-x", "id-y"], *HOW, 9)
    assert [*chosen(table, ["a"], False, 9)["params.lr"]] == ["0.5", "0.3"]
    assert [*chosen(table, ["a"], False, 4)["params.lr"]] == ["0.3"]  # x has none
    assert [*chosen(table, ["a"], False, 1)["params.lr"]] == ["0.1"]
    assert [*chosen(table, ["a"], True, 9)["params.lr"]] == ["0.5", "0.1"]
    assert chosen(table, ["a"], False, 0).empty


def test_a_run_that_was_repeated_counts_once_and_other_tunings_do_not():
    again = run("y", 1, 8, 0.9, start_time=pd.Timestamp(99, unit="s"), run_id="again")
    old = [run("y", 1, seed, 0.1, **{"tags.tuning": "before"}) for seed in (7, 8)]
    table = trials(pd.concat([RUNS, pd.DataFrame([again, *old])]), ["id-y", "before"], *HOW, 1)
    assert len(table) == 1
    assert table["value"].iloc[0] == pytest.approx(0.7)
    assert trials(RUNS.iloc[:0], ["id-y"], *HOW, 4).empty


def test_prefixes_are_powers_of_two_and_all():
    assert [prefixes(n) for n in (1, 2, 5, 8, 12)] == [
        [1],
        [1, 2],
        [1, 2, 4, 5],
        [1, 2, 4, 8],
        [1, 2, 4, 8, 12],
    ]


@pytest.mark.parametrize(
    ("value", "of", "expected"),
    [
        *(("0.000108", LOG, True), ("0.00012", LOG, False), ("0.93", LOG, True), ("0.9", LOG, False)),
        *(("0.9", {"low": 0, "high": 1}, False), ("0.991", {"low": 0, "high": 1}, True)),
        *(("8", {"low": 8, "high": 64}, True), ("64", {"values": [16, 64, 32]}, True)),
        *(("32", {"values": [16, 64, 32]}, False), ("16", {"values": [16, 32]}, False)),
        *(("relu", {"values": ["relu", "tanh", "sigmoid"]}, False), (None, LOG, False), ("0.5", {}, False)),
    ],
)
def test_the_edge_of_a_range_is_one_per_cent_of_it_on_its_own_scale(value, of, expected):
    assert at_edge(value, of) is expected


# Pruning


def test_medians_are_those_of_each_epoch_but_the_first_and_the_last():
    points = [
        ("a", 1, 0.1),
        ("a", 2, 0.4),
        ("a", 3, 0.5),
        ("b", 1, 0.3),
        ("b", 2, 0.6),
        ("b", 3, 0.6),
        ("c", 2, 9.0),
    ]
    histories = pd.DataFrame(points, columns=["run_id", "step", "value"])
    assert bounds(histories, ["a", "b"], 4, 1) == [None, 0.5, pytest.approx(0.55), None]
    assert bounds(histories, ["a", "b"], 3, 0) == [pytest.approx(0.2), 0.5, None]
    assert bounds(histories, [], 3, 0) == [None, None, None]


@pytest.mark.parametrize("smaller", [False, True])
def test_what_is_stopped_is_what_optunas_median_pruner_stops(smaller):
    """On 200 random trainings of 6 epochs, after 5 earlier ones each."""
    draw, epochs, skipped, stopped = np.random.default_rng(0), 6, 1, 0
    for _ in range(200):
        earlier, own = draw.random((5, epochs)), draw.random(epochs)
        pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=skipped + 1)
        study = optuna.create_study(direction="minimize" if smaller else "maximize", pruner=pruner)
        for values in earlier:
            by_epoch = {epoch: float(value) for epoch, value in enumerate(values, 1)}
            study.add_trial(optuna.trial.create_trial(value=float(values[-1]), intermediate_values=by_epoch))
        asked, expected = study.ask(), None
        for epoch, value in enumerate(own[:-1], 1):
            asked.report(float(value), epoch)
            if asked.should_prune():
                expected = epoch
                break
        rows = [(str(i), epoch, value) for i, of in enumerate(earlier) for epoch, value in enumerate(of, 1)]
        histories = pd.DataFrame(rows, columns=["run_id", "step", "value"])
        trial = Trial("id", 6, "{}", "v", smaller, bounds(histories, [*map(str, range(5))], epochs, skipped))
        found = None
        for epoch in range(1, epochs + 1):
            try:
                trial.require_ahead([{"v": float(value)} for value in own[:epoch]])
            except PrunedError:
                found = epoch
                break
        assert found == expected
        stopped += found is not None
    assert 20 < stopped < 180


def test_a_pruned_training_says_why():
    trial = Trial("id", 3, "{}", "val/accuracy", False, [None, 0.5])
    trial.require_ahead([{"val/accuracy": 0.1}])
    trial.require_ahead([{"val/accuracy": 0.6}, {"val/accuracy": 0.1}])  # its best counts
    trial.require_ahead([{"val/accuracy": 0.1}, {"val/accuracy": 0.5}])
    trial.require_ahead([{"val/accuracy": 0.1}] * 3)  # beyond the bounds
    trial.require_ahead([{"train/loss": 0.1}] * 2)
    said = r"^pruned after epoch 2: the best val/accuracy so far, 0.4, is behind 0.5, the median of the trials before$"
    with pytest.raises(PrunedError, match=said):
        trial.require_ahead([{"val/accuracy": 0.4}, {"val/accuracy": 0.3}])


def test_states_are_words():
    assert [*map(str, State)] == ["complete", "pruned", "diverged", "unfinished"]
