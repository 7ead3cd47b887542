"""What a dry run says of the smallest difference, and what the record of a study keeps of its design."""

import pandas as pd
import pytest
from omegaconf import OmegaConf

from ablations.comparison.power import seeds_for, smallest_difference
from ablations.errors import InputError
from ablations.experiment.job import determining
from ablations.ground.paths import CONF
from ablations.sweep import preview, sweep
from ablations.sweep.composing import PlannedRun
from ablations.sweep.plan import Plan, plan
from ablations.sweep.rounds import Goal
from ablations.sweep.study import study_of
from ablations.tracking.store import Store
from ablations.tracking.study import Study

DEFAULTS = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))["study"]
ONE = {"pool": ["max", "avg"]}
MANY = ONE | {
    "activation": ["relu", "tanh", "sigmoid"],
    "c3": ["full", "sparse"],
    "head": ["softmax", "mse"],
    "init": ["he", "xavier"],
}


def planned(compose, **said) -> tuple[Study, list[PlannedRun], Plan]:
    """A study with these keys and its runs, one composition for all of them."""
    section = DEFAULTS | said
    found = plan(section, {})
    runs = []
    for overrides in found.runs:
        values = dict(line.split("=", 1) for line in overrides)
        config = OmegaConf.merge(compose(), {"study": {"spread": section["spread"]}})
        for key, value in values.items():
            if key == "seed" or "." in key:
                OmegaConf.update(config, key, int(value))
        runs.append(
            PlannedRun(config, {"dataset": "digits", **{k: v for k, v in values.items() if "." not in k}})
        )
        runs[-1].choices.pop("seed", None)
    return study_of("mine", section, found, runs, "python run.py"), runs, found


def said(compose, monkeypatch, earlier: pd.DataFrame | None = None, **section) -> list[str]:
    monkeypatch.setattr(preview, "_earlier", lambda store: pd.DataFrame() if earlier is None else earlier)
    study, runs, _ = planned(compose, **section)
    return list(preview.power(study, runs, Store("sqlite:////nowhere/m.db")))


def earlier_runs(differences: list[float], **params: object) -> pd.DataFrame:
    rows = []
    for seed, difference in enumerate(differences):
        for pool, value in (("max", 5.0 + seed), ("avg", 5.0 + seed + difference)):
            row = {"dataset": "digits", "trainer.epochs": "20", "pool": pool, "seed": str(seed), **params}
            row |= {"dataset.val_fraction": "0.2", "dataset.name": "digits", "dataset.test_images": "360"}
            row |= {"dataset.classes": str([str(i) for i in range(10)])}
            found = {f"params.{key}": value for key, value in row.items()}
            rows.append(
                {**found, "run_id": str(len(rows)), "status": "FINISHED", "metrics.test/error_pct": value}
            )
    return pd.DataFrame(rows)


def test_the_smallest_difference_at_the_spread_that_is_said(compose, monkeypatch):
    lines = said(compose, monkeypatch, factors=ONE, seeds=8, spread=0.4)
    size, seeds = smallest_difference(8, 1, 0.4, 0.1), seeds_for(0.1, 1, 0.4, 0.1)
    assert lines == [
        f"with 8 seeds and 1 comparison a difference of {size:.2g} percentage points is settled with probability 0.8 "
        "(spread 0.4, as study.spread says)",
        f"a difference of the margin's size, 0.1 percentage points, would need about {seeds} seeds",
    ]


def test_averages_and_interactions_have_sizes_of_their_own(compose, monkeypatch):
    factors = {**ONE, "activation": ["relu", "tanh"]}
    first, _ = said(compose, monkeypatch, factors=factors, seeds=9, spread=1)
    main = smallest_difference(9, 3, 1 / 2**0.5, 0.1)
    assert f"3 comparisons a difference of {main:.2g} percentage points" in first
    assert f"an interaction of {smallest_difference(9, 3, 2**0.5, 0.1):.2g} percentage points" in first


def test_the_spread_is_that_of_earlier_runs_of_the_same_kind(compose, monkeypatch):
    alike = earlier_runs([0.0, 1.0, 0.0, 1.0])
    shorter = earlier_runs([0.0, 9.0, 0.0, 9.0], **{"trainer.epochs": "1"})
    other = earlier_runs([0.0, 9.0, 0.0, 9.0], dataset="mnist")
    runs = pd.concat([alike, shorter, other], ignore_index=True)
    first, second = said(compose, monkeypatch, runs, factors=ONE, seeds=8)
    assert "(spread 0.58, as in 8 earlier runs of this data set and length)" in first
    # One of 360 images is 0.28, which the margin of 0.1 is raised to.
    assert second.startswith("a difference of the margin's size, 0.28 percentage points, would need about ")


def test_the_spread_is_that_of_runs_with_as_many_training_images(compose, monkeypatch):
    every = earlier_runs([0.0, 1.0, 0.0, 1.0], **{"dataset.train_images": "1149"})
    fewer = earlier_runs([0.0, 9.0, 0.0, 9.0], **{"dataset.train_images": "200"})
    runs = pd.concat([every, fewer], ignore_index=True)
    first, _ = said(compose, monkeypatch, runs, factors=ONE, seeds=8)
    assert "(spread 0.58, as in 8 earlier runs of this data set and length)" in first
    first, _ = said(compose, monkeypatch, runs, factors=ONE | {"dataset.train_images": [200]}, seeds=8)
    assert "(spread 5.2, as in 8 earlier runs of this data set and length)" in first


def test_without_a_spread_it_says_what_to_give_and_too_few_seeds_are_said(compose, monkeypatch):
    few, unknown = said(compose, monkeypatch, factors=ONE, seeds=3)
    assert few == "with 3 seeds and 1 comparison nothing can be settled: 6 seeds are needed at least"
    assert unknown.startswith(
        "how small a difference this finds is not known: there are no earlier runs of this data"
    )
    assert unknown.endswith("study.spread=NUMBER says by how much differences between two variants scatter from seed "
                            "to seed, in percentage points")  # fmt: skip
    (alone,) = said(compose, monkeypatch, earlier_runs([1.0]), factors=ONE, seeds=8)
    assert "no earlier runs of this data set and length have two variants with two seeds in common" in alone
    assert said(compose, monkeypatch, factors={"pool": ["max"]}, seeds=8) == []


@pytest.mark.parametrize("spread", [0, -1, True, "wide", float("inf")])
def test_a_spread_that_is_none_is_one_line(spread, compose, monkeypatch):
    with pytest.raises(
        InputError, match=r"^study.spread: must be a number above 0, in the metric's unit; got "
    ):
        said(compose, monkeypatch, factors=ONE, seeds=8, spread=spread)


def test_a_ladder_counts_its_steps_and_the_whole(compose, monkeypatch):
    factors = {**ONE, "activation": ["relu", "tanh"], "c3": ["full", "sparse"]}
    (first, _) = said(compose, monkeypatch, factors=factors, design="ladder", seeds=8, spread=1)
    assert first.startswith("with 8 seeds and 4 comparisons a difference of ")


# The record


def test_the_record_of_a_ladder_has_its_steps_as_runs_log_them(compose):
    factors = {"trainer.batch_size": [8, 32, 16], **ONE}
    study, _, _ = planned(compose, factors=factors, design="ladder", baseline={"trainer.batch_size": 32})
    assert study.steps == {"trainer.batch_size": ("32", "8", "16"), "pool": ("max", "avg")}
    assert study.baseline == {"trainer.batch_size": "32", "pool": "max"}
    assert Study.from_json(study.to_json()).steps == {key: list(of) for key, of in study.steps.items()}


def test_add_one_in_is_recorded_as_compared_with_its_start(compose):
    factors = {**ONE, "activation": ["relu", "tanh"]}
    study, runs, _ = planned(compose, factors=factors, design="add_one_in", baseline={"pool": "max"})
    assert study.baseline == {"pool": "avg", "activation": "tanh"}
    assert len(runs) == 3


def test_a_filter_is_recorded_and_keeps_the_baseline_that_was_said(compose):
    factors = {**ONE, "activation": ["relu", "tanh"]}
    where = "not (pool == 'max' and activation == 'relu')"
    study, _, _ = planned(compose, factors=factors, where=where, baseline={"pool": "avg"})
    assert study.where == where
    assert study.baseline == {"pool": "avg", "activation": "relu"}  # though tanh is run first


def test_what_a_level_of_a_fraction_brings_is_told_apart_from_what_others_do(compose):
    factors = {
        "pool": {"max": {}, "avg": {"trainer.batch_size": 16}},
        "activation": ["relu", "tanh"],
        "c3": ["full", "sparse"],
        "head": ["softmax", "mse"],
    }
    study, runs, _ = planned(compose, factors=factors, design="fraction")
    assert len(runs) == 8
    assert study.brings == {"pool": {"avg": ["trainer.batch_size"]}}


@pytest.mark.parametrize(
    ("given", "factors", "seeds"),
    [
        ({}, ONE, 8),
        ({}, MANY, 9),
        ({"seeds_at_least"}, MANY, 8),
    ],
    ids=["one comparison", "six of them", "as many as were given"],
)
def test_the_first_round_can_settle_something(compose, monkeypatch, given, factors, seeds):
    """Eight seeds can settle five comparisons, and not six."""
    section = DEFAULTS | {"factors": factors, "design": "one_at_a_time"}
    found = plan(section, {})
    _, runs, _ = planned(compose, **section | {"seeds": 1})
    monkeypatch.setattr(sweep, "composed", lambda *_: runs)
    goal, first = sweep._first_round(Goal(8, 40), given, section, found, None, None)
    assert goal == Goal(seeds, 40)
    assert first.seeds == tuple(map(str, range(seeds)))
    goal, first = sweep._first_round(Goal(8, 8), given, section, found, None, None)
    assert (goal.at_least, len(first.seeds)) == (8, 8)  # the most that are allowed


def test_a_value_that_no_run_can_begin_with_is_said(compose):
    config = compose("dataset.train_images=9")
    told = preview._how_long([(config, determining(config))], 1)
    assert told.startswith(
        "a time that is not known, because not every run can begin: dataset.train_images is 9; "
    )
