"""What the levels of a study bring by design, from its planned runs."""

from dataclasses import replace

from omegaconf import OmegaConf

from ablations.sweep.composing import PlannedRun
from ablations.sweep.plan import Plan
from ablations.sweep.study import _with_levels_of, brought
from ablations.tracking.study import Study


def planned(*runs: dict) -> list[PlannedRun]:
    """Runs with the choices of `optimizer` and `activation`, and a batch size."""
    found = []
    for run in runs:
        choices = {key: run[key] for key in ("optimizer", "activation") if key in run}
        config = {
            "seed": run.get("seed", 0),
            "optimizer": {"lr": run["lr"]},
            "trainer": {"batch_size": run["batch"]},
        }
        found.append(PlannedRun(OmegaConf.create(config), choices))
    return found


def levels(**rates_and_batches: tuple[float, int]) -> list[dict]:
    return [{"optimizer": name, "lr": lr, "batch": batch} for name, (lr, batch) in rates_and_batches.items()]


def test_settings_outside_of_the_factors_own_section():
    runs = levels(adam=(0.001, 32), sgd=(0.1, 32), sdlm=(0.01, 1))
    assert brought(Plan(("optimizer",), (), ()), planned(*runs)) == {
        "optimizer": {"sdlm": ["trainer.batch_size"]}
    }
    both = [run | {"activation": choice} for run in runs for choice in ("relu", "tanh")]
    found = brought(Plan(("optimizer", "activation"), (), ()), planned(*both))
    assert found == {"optimizer": {"sdlm": ["trainer.batch_size"]}}


def test_a_nuisance_factor_and_other_seeds_bring_nothing():
    runs = [
        run | {"lr": lr, "seed": seed}
        for run in levels(adam=(0, 32), sgd=(0, 32))
        for lr in (1, 2)
        for seed in (0, 1)
    ]
    assert brought(Plan(("optimizer",), ("optimizer.lr",), ()), planned(*runs)) == {}


def test_a_level_with_values_of_its_own_for_a_nuisance_factor_brings_the_rest_by_design():
    """SDLM's rates are no other rule's, so that no run of another rule has the same."""
    runs = [
        {"optimizer": "adam", "activation": "relu", "lr": 1, "batch": 32},
        {"optimizer": "adam", "activation": "relu", "lr": 2, "batch": 32},
        {"optimizer": "sgd", "activation": "relu", "lr": 2, "batch": 32},
        {"optimizer": "sgd", "activation": "relu", "lr": 3, "batch": 32},
        {"optimizer": "sdlm", "activation": "relu", "lr": 4, "batch": 1},
        {"optimizer": "adam", "activation": "tanh", "lr": 5, "batch": 32},
    ]
    plan = Plan(("optimizer", "activation"), ("optimizer.lr",), ())
    assert brought(plan, planned(*runs)) == {"optimizer": {"sdlm": ["trainer.batch_size"]}}
    within = Plan(("activation", "trainer.batch_size"), ("optimizer",), ())  # its rates are its own
    assert brought(within, planned(*runs)) == {}
    each = Plan(("activation",), ("optimizer",), ())
    assert brought(each, planned(runs[0], runs[2] | {"activation": "tanh"}), fraction=True) == {}


def test_one_factor_at_a_time():
    runs = [
        {"optimizer": "adam", "activation": "relu", "lr": 1, "batch": 32},
        {"optimizer": "sdlm", "activation": "relu", "lr": 1, "batch": 1},
        {"optimizer": "adam", "activation": "tanh", "lr": 2, "batch": 32},
    ]
    found = brought(Plan(("optimizer", "activation"), (), ()), planned(*runs))
    assert found == {"optimizer": {"sdlm": ["trainer.batch_size"]}, "activation": {"tanh": ["optimizer.lr"]}}


def test_levels_of_an_earlier_command_keep_what_they_brought():
    study = Study("s", ("a",), {}, "loss", 0, design="grid", tuned_on="loss", brings={"a": {"x": ["n"]}})
    later = replace(study, brings={"a": {"y": ["m"]}})
    assert _with_levels_of(study.to_json(), later).brings == {"a": {"x": ["n"], "y": ["m"]}}
    assert _with_levels_of(replace(study, brings=None).to_json(), later).brings == {"a": {"y": ["m"]}}
    assert _with_levels_of(None, later) == later
    assert _with_levels_of("no study", later).brings == {"a": {"y": ["m"]}}
