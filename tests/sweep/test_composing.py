"""What is composed once for many runs, against what Hydra composes for each of them."""

import pickle
import re

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from ablations.sweep.composing import Composer, PlannedRun
from ablations.sweep.overrides import find_plugins

RUNS = [
    ["activation=relu", "pool=max", "seed=0"],
    ["activation=tanh", "pool=max", "seed=0"],
    ["activation=tanh", "pool=avg", "seed=1", "optimizer.lr=0.02"],
    ["activation=sigmoid", "pool=avg", "seed=1", "trainer.clip_norm=null"],
    ["seed=3", "activation=sigmoid", "trainer.epochs=2", "pool=subsample"],
    ["activation=sigmoid", "pool=avg", "optimizer=sgd", "head=rbf"],  # rbf brings more than its own section
    ["activation=relu", "pool=avg", "optimizer=sgd", "head=softmax"],
    ["activation=tanh", "pool=max", "optimizer=momentum", "head=mse"],
    ["pool=max", "activation=tanh", "head=mse", "optimizer=momentum"],
    ["+optimizer.more=1", "optimizer.more=2", "seed=1"],
    ["optimizer.lr=2", "++optimizer.lr=1", "seed=1"],  # the last one wins
    ["optimizer.lr=2", "++optimizer.lr=1", "optimizer.lr=3"],
    ["~optimizer.beta1", "activation=tanh"],
    ["name='a, b'", "sweep.factors=[activation,pool]", "sweep.command='python run.py -m x=\\'1\\''"],
    ["trainer.epochs=${seed}", "seed=4"],
    ["hydra.job.name=other", "seed=4"],
    ["+experiment=lenet5_1998", "trainer.epochs=2"],
    ["+experiment=im2col_sgd", "trainer.epochs=2"],
]
WRONG = [
    ["activation=relu", "optimizer.none=1"],
    ["activation=none", "seed=1"],
    ["none=1"],
    ["seed=1,2"],
    ["~optimizer.none"],
    ["activation@:head=relu"],
]


@pytest.fixture(scope="module")
def hydra():
    """Hydra's own loader, and the configuration of a sweep."""
    import hydra

    from ablations.ground.paths import CONF

    find_plugins()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3", job_name="run"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", ["hydra.job.chdir=false"], RunMode.MULTIRUN)
        yield loader, master


def test_each_run_gets_what_hydra_composes(hydra):
    loader, master = hydra
    composer = Composer.of(loader)
    for run in RUNS:
        # As a launcher hands it on.
        ours = pickle.loads(pickle.dumps(composer)).load_sweep_config(master, list(run))
        theirs = loader.load_sweep_config(master, list(run))
        assert OmegaConf.to_yaml(ours) == OmegaConf.to_yaml(theirs), run
        assert OmegaConf.is_struct(ours.trainer), run
        planned, expected = composer.planned(master, run), PlannedRun.composed(theirs)
        assert OmegaConf.to_yaml(planned.config) == OmegaConf.to_yaml(expected.config), run
        assert planned.choices == expected.choices, run


def test_choices_that_write_into_the_section_of_another(tmp_path):
    """What one writes there may be what is there already, and then be seen only beside another choice."""
    files = {
        "config": "defaults: [_self_, early: one, late: one]",
        "early/one": "x: 1",
        "early/two": "x: 2",
        "late/one": "z: 1",
        "late/two": "# @package _global_\nlate: {z: 2}\nearly: {x: 1}",
    }
    loader, master = own(tmp_path, files)
    composer = Composer.of(loader)
    for run in (["early=one", "late=one"], ["early=two", "late=two"], ["early=two", "late=one"]):
        theirs = loader.load_sweep_config(master, run)
        assert OmegaConf.to_yaml(composer.load_sweep_config(master, run)) == OmegaConf.to_yaml(theirs), run
    assert composer.planned(master, ["early=two", "late=two"]).config.early.x == 1


def test_groups_of_another_folder(tmp_path):
    files = {"config": "defaults: [_self_, part: one]\nseed: 0"}
    added = {"part/one": "x: 1", "part/two": "x: 2"}
    written(tmp_path / "added", added)
    loader, master = own(tmp_path / "conf", files, f"hydra.searchpath=['{(tmp_path / 'added').as_uri()}']")
    composer = Composer.of(loader)
    for run in (["seed=1"], ["part=one", "seed=1"], ["part=two", "seed=2"]):
        theirs = loader.load_sweep_config(master, run)
        assert OmegaConf.to_yaml(composer.load_sweep_config(master, run)) == OmegaConf.to_yaml(theirs), run
    assert composer.planned(master, ["part=two"]).config.part.x == 2


def test_a_run_that_cannot_be_composed_leaves_the_others_alone(hydra):
    loader, master = hydra
    composer = Composer.of(loader)
    with pytest.raises(HydraException):
        composer.planned(master, ["activation=none", "pool=max"])
    assert composer.planned(master, ["activation=tanh", "pool=avg"]).choices["activation"] == "tanh"


def written(folder, files):
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def own(folder, files, *overrides):
    """Hydra's loader of another configuration, and that of a sweep."""
    import hydra

    written(folder, files)
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder), version_base="1.3", job_name="run"):
        loader = GlobalHydra.instance().config_loader()
        return loader, loader.load_configuration("config", list(overrides), RunMode.MULTIRUN)


def test_hydra_composes_no_more_than_the_choices_take(hydra, monkeypatch):
    loader, master = hydra
    composer, composed = Composer.of(loader), []
    load = Composer.load_configuration
    monkeypatch.setattr(
        Composer,
        "load_configuration",
        lambda self, name, words, mode: composed.append(tuple(words)) or load(self, name, words, mode),
    )
    runs = [
        [f"activation={a}", f"pool={p}", f"c3={c}", f"seed={seed}", f"optimizer.lr={lr}"]
        for seed in range(3)
        for a in ("relu", "tanh", "sigmoid")
        for p in ("max", "avg")
        for c in ("full", "sparse")
        for lr in (0.1, 0.2)
    ]
    for run in runs:
        assert (
            composer.load_sweep_config(master, run).activation
            == composer.planned(master, run).config.activation
        )
    assert len(composed) == len(set(composed)) == 1 + 2 + 1 + 1


def test_runs_share_nothing_that_can_be_changed(hydra):
    loader, master = hydra
    composer = Composer.of(loader)
    run = ["activation=tanh", "pool=avg", "seed=1"]
    for other in (run, ["activation=relu", "pool=max", "seed=1"], run):
        config = composer.load_sweep_config(master, other)
        assert "broken" not in OmegaConf.to_yaml(config)
        OmegaConf.update(config, "activation", "broken")
        OmegaConf.update(config, "hydra.job.name", "broken")
        OmegaConf.update(composer.planned(master, other).config, "pool", "broken")


@pytest.mark.parametrize("run", WRONG, ids=" ".join)
def test_what_is_wrong_is_told_in_hydras_words(hydra, run):
    loader, master = hydra
    with pytest.raises(HydraException) as expected:
        loader.load_sweep_config(master, list(run))
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        Composer.of(loader).load_sweep_config(master, list(run))
    with pytest.raises(type(expected.value), match=re.escape(str(expected.value))):
        Composer.of(loader).planned(master, run)
