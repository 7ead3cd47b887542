"""Trials: budgets, seeds, a planted optimum, what goes on after a stop; on runs that are made up, and on real ones."""

import json
import math
import sys
from contextlib import nullcontext

import optuna
import pandas as pd
import pytest
from omegaconf import OmegaConf
from project import Project

from ablations.errors import InputError
from ablations.experiment.trial import PrunedError, Trial
from ablations.sweep import tuning as module
from ablations.sweep.composing import PlannedRun
from ablations.sweep.offers import grid, offered_variants, read_tuning
from ablations.sweep.overrides import Given
from ablations.sweep.plan import plan
from ablations.sweep.proposals import Proposals, opened, require_optuna
from ablations.sweep.study import study_of
from ablations.tracking.store import Store

OPTIMA = {"adam": 1e-3, "sgd": 1e-1}
RANGE = {"optimizer.lr": {"low": 1e-5, "high": 1.0, "log": True}}
DEFAULTS = {
    "seeds": 2,
    "sampler": "tpe",
    "seed": 0,
    "prune": None,
    "curve": True,
    "trials": 12,
    "space": RANGE,
}
EPOCHS = 4


class Killed(Exception):
    """What a test stops a tuning with."""


class World:
    """A store of made-up runs: their validation accuracy is a parabola of the rate's logarithm, and grows by epoch."""

    def __init__(self, compose, folder, **said: object) -> None:
        self.rows, self.points, self.launched, self.kill_at = [], [], [], None
        self.store = Store(f"sqlite:///{folder}/mlflow.db")
        section = {
            **{"design": "grid", "factors": {"optimizer": [*OPTIMA]}, "baseline": {"optimizer": "adam"}},
            **{"seeds": 3, "nuisance": [], "metric": "test/error_pct", "margin": 0.1, "claims": []},
            **{"where": None, "start": {}},
            **{"tuned_on": "val/accuracy", "reproduces": [], "tuning": {**DEFAULTS, **said}},
        }
        self.tuning, section = read_tuning(section, {})
        self.planned = plan(section, {})
        short = f"trainer.epochs={EPOCHS}"
        self.runs = [
            PlannedRun(OmegaConf.create(compose(*run, short)), {"optimizer": run[0].split("=")[1]})
            for run in self.planned.runs
        ]
        self.study = study_of("mine", section, self.planned, self.runs, "python run.py")
        self.variants = offered_variants(self.tuning, self.study, self.planned, self.runs)

    # What the tuning knows of a reader

    def read(self, experiment: str, tags: dict[str, str]) -> pd.DataFrame:
        columns = ["run_id", "run_name", "status", "start_time", "seconds", "params.seed", "params.optimizer"]
        columns += [
            "params.optimizer.lr",
            "metrics.val/accuracy",
            "tags.failure",
            "tags.sweep",
            "tags.tuning",
        ]
        columns += ["tags.trial", "tags.offered", "tags.config_hash", "tags.code_hash"]
        frame = pd.DataFrame(self.rows, columns=columns)
        return frame[frame["tags.sweep"] == tags["sweep"]].reset_index(drop=True)

    def histories(self, run_ids, metrics) -> pd.DataFrame:
        frame = pd.DataFrame(self.points, columns=["run_id", "metric", "step", "value"])
        return frame[frame["run_id"].isin(run_ids)].reset_index(drop=True)

    # What it has launched

    def launch(self, name, varied, hidden, overrides) -> None:
        if self.kill_at is not None and len(self.launched) + len(overrides) > self.kill_at:
            overrides = overrides[: self.kill_at - len(self.launched)]
        for run in overrides:
            self.train(name, dict(each.split("=", 1) for each in run), hidden)
        if len(self.launched) == self.kill_at:
            raise Killed

    def train(self, name: str, run: dict[str, str], hidden: dict[str, str]) -> None:
        rate, seed = float(run["optimizer.lr"]), int(run["seed"])
        best = 0.95 - (math.log10(rate / OPTIMA[run["optimizer"]]) / 5) ** 2 + 0.001 * (seed % 2)
        run_id = f"run{len(self.rows)}"
        self.launched.append((name, run["optimizer"], rate, seed))
        row = {"run_id": run_id, "run_name": run_id, "status": "FINISHED", "seconds": 6.0}
        row |= {"start_time": pd.Timestamp(len(self.rows), unit="s", tz="UTC"), "tags.sweep": name}
        row |= {"params.seed": run["seed"], "params.optimizer": run["optimizer"]}
        row["params.optimizer.lr"] = str(rate)
        trial = None
        if "sweep.trial" in run:
            told = OmegaConf.create({"trial": run["sweep.trial"], "tuning": hidden["sweep.tuning"][1:-1]})
            trial = Trial.of(OmegaConf.create({"seed": seed, "sweep": told}))
            row |= {f"tags.{key}": value for key, value in trial.tags.items()}
        history = []
        for epoch in range(1, EPOCHS + 1):
            history.append({"val/accuracy": best * epoch / EPOCHS})
            self.points.append((run_id, "val/accuracy", epoch, history[-1]["val/accuracy"]))
            try:
                if trial is not None:
                    trial.require_ahead(history)
            except PrunedError:
                row |= {"status": "KILLED", "tags.failure": "pruned"}
                break
        self.rows.append({**row, "metrics.val/accuracy": history[-1]["val/accuracy"]})

    def tune(self):
        return module.tune(
            self.tuning, self.variants, self.study, self.store, self.planned, self.runs, self.launch
        )

    def of_trials(self) -> list[tuple[str, float, int]]:
        return [rest for name, *rest in self.launched if name == "mine/tuning"]


@pytest.fixture
def world(compose, tmp_path, monkeypatch):
    """world(**tuning): a fresh one, which the tuning takes for the store; `at` another folder, where `file` is set."""

    def world(at: str = "a", file: bool = False, **said: object) -> World:
        (tmp_path / at).mkdir(exist_ok=True)
        made, storage = World(compose, tmp_path / at, **said), optuna.storages.InMemoryStorage()
        monkeypatch.setattr(module, "Reader", lambda store: Reading(made))
        monkeypatch.setattr(module, "opened", opened if file else lambda path: nullcontext(storage))
        monkeypatch.setattr(module, "share_views", lambda *_: None)
        return made

    return world


class Reading:
    def __init__(self, world: World) -> None:
        self.runs, self.histories = world.read, world.histories


def rates(planned) -> dict[str, float]:
    found = {}
    for run in planned.runs:
        settings = dict(each.split("=", 1) for each in run)
        found.setdefault(settings["optimizer"], set()).add(float(settings["optimizer.lr"]))
    assert all(len(of) == 1 for of in found.values())
    return {name: of.pop() for name, of in found.items()}


# What is found


def test_each_variant_finds_its_own_optimum(world):
    tuned = world(trials=16, curve=False)
    found = rates(tuned.tune())
    for name, best in OPTIMA.items():
        assert abs(math.log10(found[name] / best)) < 0.35, (name, found[name])
    assert [run.config.optimizer.lr for run in tuned.runs[:2]] == [found["adam"], found["sgd"]]


def test_tpe_comes_nearer_than_chance(world):
    """Over six seeds of the sampler: the mean distance from the optimum of the trials from the eleventh on."""

    def distance(sampler: str) -> float:
        far = []
        for seed in range(6):
            variant = world(sampler=sampler, seed=seed)
            storage = optuna.storages.InMemoryStorage()
            proposals = Proposals(storage, variant.tuning, variant.variants[1], smaller=False)
            for number in range(1, 21):
                off = math.log10(proposals.setting(number)["optimizer.lr"] / OPTIMA["sgd"])
                proposals.tell(number, 1 - off**2, {})
                far += [abs(off)] if number > 10 else []
        return sum(far) / len(far)

    assert distance("tpe") < 0.75 * distance("random")


def test_every_variant_has_the_same_budget_on_seeds_that_never_evaluate(world):
    tuned = world(trials=7, seeds=[50, 60])
    planned = tuned.tune()
    for name in OPTIMA:
        own = [(rate, seed) for variant, rate, seed in tuned.of_trials() if variant == name]
        assert len(own) == len(set(own)) == 7 * 2
        assert {seed for _, seed in own} == {50, 60}
    evaluated = {seed for name, *_, seed in tuned.launched if name == "mine/fewer-trials"}
    assert evaluated == {0, 1, 2}
    assert {run[-1] for run in planned.runs} == {"seed=0", "seed=1", "seed=2"}


def test_what_fewer_trials_would_have_chosen_is_evaluated_and_nothing_else(world):
    tuned = world(trials=8)
    final = rates(tuned.tune())
    accuracy = {}
    for name, rate, _ in tuned.of_trials():
        accuracy.setdefault(name, {})[rate] = -abs(math.log10(rate / OPTIMA[name]))
    expected = set()
    for name, tried in accuracy.items():
        for after in (1, 2, 4):
            first = dict(list(tried.items())[:after])
            expected.add((name, max(first, key=first.get)))
        assert final[name] == max(tried, key=tried.get)
    expected -= set(final.items())
    done = [rest for name, *rest in tuned.launched if name == "mine/fewer-trials"]
    assert sorted(map(tuple, done)) == sorted((*each, seed) for each in expected for seed in (0, 1, 2))

    without = world("b", trials=8, curve=False)
    assert rates(without.tune()) == final
    assert {name for name, *_ in without.launched} == {"mine/tuning"}


# Going on


def test_the_same_command_again_trains_nothing(world):
    tuned = world(trials=5)
    first, count = rates(tuned.tune()), len(tuned.launched)
    # What fewer trials chose is recognised by its hashes, which a real run logs.
    left = [each for each in tuned.launched if each[0] == "mine/tuning"]
    assert rates(tuned.tune()) == first
    assert len([each for each in tuned.launched if each[0] == "mine/tuning"]) == len(left)
    assert count >= len(left)


@pytest.mark.parametrize("kill_at", [1, 9, 14])
def test_a_tuning_that_is_stopped_goes_on_as_if_it_had_not_been(world, kill_at):
    prune = {"after_trials": 2, "after_epochs": 1}
    whole = world("whole", trials=6, prune=prune, curve=False)
    expected = rates(whole.tune())
    tuned = world("stopped", file=True, trials=6, prune=prune, curve=False)
    tuned.kill_at = kill_at
    with pytest.raises(Killed):
        tuned.tune()
    tuned.kill_at = None
    assert rates(tuned.tune()) == expected
    assert sorted(tuned.launched) == sorted(whole.launched)  # nothing twice


def test_more_trials_go_on_from_those_that_are_there(world):
    whole = world("whole", trials=9, curve=False)
    expected = rates(whole.tune())
    tuned = world("more", trials=4, curve=False)
    tuned.tune()
    before = len(tuned.launched)
    tuned.tuning = read_tuning(
        {
            "factors": {},
            "nuisance": [],
            "tuned_on": "val/accuracy",
            "tuning": {**DEFAULTS, "trials": 9, "curve": False},
        },
        {},
    )[0]
    assert rates(tuned.tune()) == expected
    assert len(tuned.launched) - before == 2 * 5 * 2
    assert sorted(tuned.launched) == sorted(whole.launched)


def test_runs_that_the_store_lost_are_trained_again_at_the_same_settings(world):
    tuned = world(trials=4, curve=False)
    first = rates(tuned.tune())
    made = list(tuned.launched)
    tuned.rows, tuned.points, tuned.launched = [], [], []
    assert rates(tuned.tune()) == first
    assert sorted(tuned.launched) == sorted(made)


def test_a_dry_run_counts_what_is_left_and_stores_nothing(world, tmp_path):
    tuned = world(file=True, trials=5, curve=False)
    asked = tuned.tuning, tuned.variants, tuned.study, tuned.store, "lenet5"
    assert module.foreseen(*asked) == (None, 10)
    assert list((tmp_path / "a").iterdir()) == []
    tuned.kill_at = 12
    with pytest.raises(Killed):
        tuned.tune()
    assert module.foreseen(*asked) == (None, 6)  # the third trials are trained, and not told
    tuned.kill_at = None
    chosen = rates(tuned.tune())
    known, left = module.foreseen(*asked)
    assert left == 0
    assert {
        name.split("=")[1]: setting["optimizer.lr"] for name, setting in known.chosen(5).items()
    } == chosen


def test_a_setting_that_is_proposed_again_is_not_trained_again(world):
    tuned = world(trials=6, space={"optimizer.lr": [1e-4, 1e-3, 1e-2]}, curve=False)
    found = rates(tuned.tune())
    assert found == {"adam": 1e-3, "sgd": 1e-2}
    for name in OPTIMA:
        tried = [rate for variant, rate, seed in tuned.of_trials() if variant == name and seed == 10_000]
        assert len(tried) == len(set(tried)) <= 3


def test_a_grid_is_tried_whole_and_once(world):
    values = [1e-4, 1e-3, 1e-2, 1e-1]
    tuned = world(trials=4, sampler="grid", space={"optimizer.lr": values}, curve=False)
    assert rates(tuned.tune()) == OPTIMA
    for name in OPTIMA:
        assert (
            sorted(rate for each, rate, seed in tuned.of_trials() if (each, seed) == (name, 10_000)) == values
        )


def test_pruning_spares_epochs_and_not_the_best(world):
    prune = {"after_trials": 3, "after_epochs": 1}
    whole = world("b", trials=12, curve=False)
    whole.tune()
    pruned = world("a", trials=12, prune=prune, curve=False)
    found = rates(pruned.tune())
    assert len(pruned.points) < 0.9 * len(whole.points)
    assert {row.get("tags.failure") for row in pruned.rows} == {None, "pruned"}
    for name, best in OPTIMA.items():
        assert abs(math.log10(found[name] / best)) < 0.5


def test_a_trial_that_failed_otherwise_is_said_and_tried_again(world, monkeypatch):
    tuned = world(trials=3, curve=False)
    train = tuned.train

    def fails(name, run, hidden):
        train(name, run, hidden)
        if len(tuned.rows) == 6:
            tuned.rows[-1] |= {"status": "FAILED", "tags.failure": "error", "tags.failure_reason": "no room"}

    monkeypatch.setattr(tuned, "train", fails)
    with pytest.raises(
        InputError, match=r"^tuning, trial 2 of optimizer=sgd optimizer.lr=\S+: .*same command goes on"
    ):
        tuned.tune()
    whole = world("b", trials=3, curve=False)
    expected = rates(whole.tune())
    monkeypatch.setattr(module, "Reader", lambda store: Reading(tuned))
    assert rates(tuned.tune()) == expected


def test_a_trial_that_diverged_is_the_worst_and_never_chosen(world, monkeypatch):
    tuned = world(file=True, trials=8, curve=False)
    train = tuned.train

    def diverges(name, run, hidden):
        train(name, run, hidden)
        if float(run["optimizer.lr"]) > 0.01:
            tuned.rows[-1] |= {"status": "FAILED", "tags.failure": "diverged"}

    monkeypatch.setattr(tuned, "train", diverges)
    assert rates(tuned.tune())["sgd"] <= 0.01
    study = optuna.load_study(
        study_name=f"optimizer=sgd ({tuned.variants[1].id})",
        storage=f"sqlite:///{tuned.store.path.parent}/optuna.db",
    )
    for trial in study.trials:
        assert (trial.value == -math.inf) == (trial.params["optimizer.lr"] > 0.01)


# What is offered


def given(key: str, *values: str, swept: bool = False) -> dict[str, Given]:
    return {key: Given(values, swept, "", f"{key}={','.join(values)}")}


def offered(section: dict, given: dict | None = None, **said: object):
    whole = {"factors": {}, "nuisance": [], "tuned_on": "val/accuracy", "tuning": {**DEFAULTS, **said}}
    return read_tuning(whole | section, given or {})


@pytest.mark.parametrize("space", ["abc", ["optimizer.lr"], 3])
def test_a_space_is_by_key(space):
    with pytest.raises(InputError, match=r"^study.tuning.space: by key what may be chosen"):
        offered({}, space=space)


def test_what_the_command_line_sets_is_said_to_leave_nothing(capsys):
    found, _ = offered({}, given("optimizer.lr", "0.01"), space={"optimizer.lr": [0.01, 0.1]})
    assert found is None
    assert "tuning: the command line sets optimizer.lr, so that nothing is left" in capsys.readouterr().out
    with pytest.raises(InputError, match="two ways to choose"):
        offered(
            {"nuisance": ["optimizer.lr"]}, given("optimizer.lr", "0.01"), space={"optimizer.lr": [0.01, 0.1]}
        )


def test_a_number_is_chosen_among_numbers(world):
    with pytest.raises(InputError, match=r"optimizer.lr: abc is no number; accepted: numbers, as 0.001"):
        world(space={"optimizer.lr": [0.1, "abc"]}, trials=2)


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ({"low": 1, "high": 8}, {"low": 1, "high": 8, "log": False}),
        ({"low": 0, "high": 0.5}, {"low": 0.0, "high": 0.5, "log": False}),
        ({"low": 8, "high": 64, "step": 8}, {"low": 8, "high": 64, "log": False, "step": 8}),
        ([16, 32, 64], {"values": [16, 32, 64]}),
        ({"values": ["a", None, True]}, {"values": ["a", None, True]}),
    ],
)
def test_ranges_and_lists(of, expected):
    tuning, _ = offered({}, space={"trainer.batch_size": of})
    assert tuning.space == {"trainer.batch_size": expected}


@pytest.mark.parametrize(
    "of",
    [
        *(
            {"low": 1},
            {"low": 2, "high": 1},
            {"low": 0, "high": 1, "log": True},
            {"low": "a", "high": 1},
            [1],
            [1, 1],
        ),
        *(
            {"low": 1.0, "high": 2.0, "log": True, "step": 0.1},
            3,
            "abc",
            {"low": 1, "high": 2, "of": 3},
            [[1], [2]],
        ),
        *({"low": 1, "high": math.inf}, {"low": 1, "high": 2, "log": 1}, None),
    ],
)
def test_what_is_nothing_to_choose_from_is_said_in_one_line(of):
    with pytest.raises(
        InputError, match=r"^study.tuning.space.optimizer.lr: .* is nothing to choose from; accepted: "
    ):
        offered({}, space={"optimizer.lr": of})


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"trials": 0}, r"study.tuning.trials: must be a whole number of at least 1, got 0"),
        ({"sampler": "cmaes"}, r"study.tuning.sampler: must be tpe, random or grid, got cmaes"),
        ({"seeds": [1, 1]}, r"study.tuning.seeds: must be how many"),
        ({"prune": {"after": 3}}, r"study.tuning.prune: must be null or \{after_trials"),
        ({"budget": 3}, r"study.tuning.budget: there is no such key; accepted: space, trials"),
        ({"curve": 1}, r"study.tuning.curve: must be true or false"),
    ],
)
def test_other_mistakes_are_said_in_one_line(said, error):
    with pytest.raises(InputError, match=rf"^{error}"):
        offered({}, **said)


def test_a_level_brings_a_range_of_its_own():
    factors = {
        "optimizer": {"adam": {"optimizer.lr": RANGE["optimizer.lr"], "trainer.batch_size": 8}, "sgd": None}
    }
    tuning, section = offered({"factors": factors}, space={})
    assert tuning.own == {"optimizer": {"adam": RANGE}}
    assert section["factors"] == {"optimizer": {"adam": {"trainer.batch_size": 8}, "sgd": {}}}
    assert tuning.keys == ("optimizer.lr",)


def test_what_the_command_line_holds_is_not_chosen():
    assert offered({}, given("optimizer.lr", "0.1"))[0] is None
    both = {**RANGE, "trainer.batch_size": [8, 16]}
    assert offered({}, given("optimizer.lr", "0.1"), space=both)[0].keys == ("trainer.batch_size",)


def test_the_test_images_choose_nothing():
    with pytest.raises(InputError, match=r"^study.tuned_on: test/error_pct would choose on the test images"):
        offered({"tuned_on": "test/error_pct"})
    with pytest.raises(InputError, match=r"^study.tuning: beside study.nuisance"):
        offered({"nuisance": ["optimizer.beta1"]})


def test_seeds_that_evaluate_do_not_tune(world):
    with pytest.raises(InputError, match=r"^study.tuning.seeds: 2 is a seed that evaluates, too"):
        world(seeds=[2, 5])


def test_a_variant_chooses_among_what_it_has(world):
    space = {**RANGE, "optimizer.beta1": [0.8, 0.9]}
    assert [list(each.offered) for each in world(space=space).variants] == [[*space], [*RANGE]]
    with pytest.raises(InputError, match=r"^study.tuning.space.optimizer.rho: no variant has such a key"):
        world(space={**RANGE, "optimizer.rho": [1, 2]})
    with pytest.raises(InputError, match=r"^study.tuning.space.tracking.uri: it does not change"):
        world(space={**RANGE, "tracking.uri": ["a", "b"]})
    with pytest.raises(InputError, match=r"^study.tuning.space.optimizer: it is compared"):
        world(space={"optimizer": ["adam", "sgd"]})


def test_grids_have_steps_or_lists(world):
    assert list(grid({"a": {"low": 8, "high": 20, "step": 4}, "b": {"values": [1, 2]}})) == [
        [8, 12, 16, 20],
        [1, 2],
    ]
    with pytest.raises(InputError, match=r"^study.tuning.trials: the grid of optimizer=adam has 2 settings"):
        world(sampler="grid", space={"optimizer.lr": [0.1, 0.2]}, trials=3)
    with pytest.raises(InputError, match=r"a grid takes a list of values, or a range with a step"):
        world(sampler="grid")


def test_an_id_stands_for_all_that_a_trial_depends_on(world):
    ids = [each.id for each in world().variants]
    assert len(set(ids)) == 2
    assert [each.id for each in world(trials=3, curve=False).variants] == ids
    for said in ({"seed": 1}, {"seeds": 3}, {"sampler": "random"}, {"space": {"optimizer.lr": [0.1, 0.2]}}):
        assert not set(ids) & {each.id for each in world(**said).variants}


def test_without_optuna_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        InputError, match=r'^study.tuning needs optuna; accepted: pip install -e "\.\[tuning\]"$'
    ):
        require_optuna()


def test_a_file_that_is_none_of_optunas_is_said(tmp_path):
    (tmp_path / "optuna.db").write_text("no database")
    with pytest.raises(InputError, match=r"^cannot use .*optuna.db: "), opened(tmp_path / "optuna.db"):
        pass


def test_proposed_numbers_are_short_and_within(world, tmp_path):
    tuned = world(space={"optimizer.lr": {"low": 0.012345, "high": 0.012346}})
    with opened(tmp_path / "optuna.db") as storage:
        proposals = Proposals(storage, tuned.tuning, tuned.variants[0], smaller=False)
        assert 0.012345 <= proposals.setting(1)["optimizer.lr"] <= 0.012346
    tuned = world()
    with opened(tmp_path / "optuna.db") as storage:
        rate = Proposals(storage, tuned.tuning, tuned.variants[0], smaller=False).setting(1)["optimizer.lr"]
    assert rate == float(f"{rate:.4g}")


# With real trainings


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return Project(tmp_path_factory.mktemp("tuned"))


TUNED = [
    *("-m", "optimizer=adam,sgd", "seed=0,1", "trainer.epochs=3", "name=tuned"),
    "+study.tuning.space={optimizer.lr:{low:1e-5,high:1e-1,log:true}}",
    *("study.tuning.trials=3", "study.tuning.seeds=1", "study.tuning.prune={after_trials:1,after_epochs:1}"),
]


@pytest.mark.slow
def test_from_the_command_line_to_the_report_and_its_check(project):
    done = project.run(*TUNED)
    assert done.returncode == 0, done.stderr
    trials = project.runs("tuned/tuning")
    assert len(trials) == 2 * 3
    assert set(trials["params.seed"]) == {"10000"}
    assert sorted(trials["tags.trial"]) == ["1", "1", "2", "2", "3", "3"]
    assert set(trials["status"]) <= {"FINISHED", "KILLED"}
    pruned = trials[trials["status"] == "KILLED"]
    assert len(pruned)
    assert set(pruned["tags.failure"]) == {"pruned"}
    assert (
        pruned["tags.failure_reason"].str.match(r"pruned after epoch 2: the best val/accuracy so far, ").all()
    )
    steps = project.reader.histories(list(pruned["run_id"]), ["val/accuracy"])["step"]
    assert steps.max() == 2
    assert json.loads(trials["tags.offered"].iloc[0]) == {
        "optimizer.lr": {"low": 1e-5, "high": 0.1, "log": True}
    }
    assert list((project.root / "mlruns" / "checkpoints").iterdir()) == []

    complete = trials[trials["status"] == "FINISHED"]
    best = complete.loc[complete.groupby("params.optimizer")["metrics.val/accuracy"].idxmax()]
    chosen = best.set_index("params.optimizer")["params.optimizer.lr"].to_dict()
    evaluated = project.runs("tuned")
    assert len(evaluated) == 4
    assert set(zip(evaluated["params.optimizer"], evaluated["params.optimizer.lr"], strict=True)) == set(
        chosen.items()
    )
    assert set(evaluated["params.seed"]) == {"0", "1"}
    assert set(evaluated["tags.factors"]) == {"optimizer"}

    report = (project.root / "reports" / "tuned" / "README.md").read_text("utf-8")
    assert "## Tuning" in report
    for name, rate in chosen.items():
        assert f"tuning: optimizer={name} chose optimizer.lr={float(rate)}" in done.stdout
        assert f"optimizer.lr={rate}" in report
    for figure in ("tuning", "tuning_verdicts"):
        assert f"figures/{figure}.png" in report

    # After all trials it is the comparison itself.
    (effect,) = pd.read_csv(project.root / "reports" / "tuned" / "effects.csv").to_dict("records")
    (row,) = [
        line for line in report.splitlines() if line.startswith("| optimizer | sgd | adam |") and "(" in line
    ][-1:]
    assert f"| {effect['verdict']} ({effect['mean_diff']:+.2f}) |" in row

    count = len(project.reader.runs())
    again = project.run(*TUNED)
    assert again.returncode == 0, again.stderr
    assert len(project.reader.runs()) == count
    assert "tuning: trial" not in again.stdout
    assert (project.root / "reports" / "tuned" / "README.md").read_text("utf-8") == report

    last = project.python("-m", "ablations.report")  # that of the sweep, and not of its trials
    assert "reports/tuned/README.md" in last.stdout
    check = project.python("-m", "ablations.report", "--check", "tuned")
    assert (check.returncode, "tuning.csv" in check.stdout) == (0, True), check.stderr
    store = "sqlite:///nowhere.db"
    check = project.python("-m", "ablations.report", "--check", "tuned", "--tracking-uri", store)
    assert (check.returncode, "follow from its runs.csv" in check.stdout) == (0, True), check.stderr
    assert project.python("-m", "ablations.report", "--again", "tuned").returncode == 0
    assert (project.root / "reports" / "tuned" / "README.md").read_text("utf-8") == report
    table = project.root / "reports" / "tuned" / "tuning.csv"
    frame = pd.read_csv(table)
    frame.loc[frame["status"] == "FINISHED", "val_accuracy"] -= 0.01
    frame.to_csv(table, index=False)
    check = project.python("-m", "ablations.report", "--check", "tuned")
    assert check.returncode == 2
    assert "tuning.csv, line 2: " in check.stderr


def test_a_dry_run_says_what_the_tuning_takes(project):
    done = project.run(*TUNED, "name=other", "dry_run=true")
    assert done.returncode == 0, done.stderr
    assert "tuning: 2 variants with 3 trials of 1 seed each, 6 of them to be made" in done.stdout
    assert (
        "at most 6 runs, as some are pruned; then at most 8 runs with what fewer trials chose: about "
        in done.stdout
    )
    assert not (project.root / "mlruns" / "mlflow.db").exists() or project.runs("other/tuning").empty


@pytest.mark.slow
def test_launchers_and_a_kill_change_no_choice(project):
    """One after the other; two at a time, killed in the middle and started again."""
    import signal
    import subprocess
    import time

    done = project.run(*TUNED, "name=one", "study.tuning.trials=5")
    assert done.returncode == 0, done.stderr
    words = [*TUNED, "name=two", "study.tuning.trials=5", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    words += ["tracking.uri=sqlite:///" + str(project.root / "mlruns" / "other.db")]
    command = [sys.executable, str(project.root / "run.py"), *words]
    process = subprocess.Popen(command, env=project.environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("tuning: trial 3"):
            time.sleep(1)
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    again = project.run(*words)
    assert again.returncode == 0, again.stderr

    def chosen(text: str) -> list[str]:
        return [line for line in text.splitlines() if " chose " in line]

    assert chosen(again.stdout) == chosen(done.stdout) != []
