"""Names of sweeps: the settings are in them, and one name is one sweep's."""

from collections.abc import Callable

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from ablations.errors import InputError
from ablations.experiment.job import determining, digest, logged_params
from ablations.ground.paths import CONF
from ablations.sweep.command_line import command_lines
from ablations.sweep.composing import Composer, PlannedRun, composed
from ablations.sweep.naming import name_of, require_own_name
from ablations.sweep.overrides import read_overrides
from ablations.sweep.plan import Plan, plan
from ablations.tracking import Store, Tracker

Planned = tuple[str, Plan, list[PlannedRun]]


@pytest.fixture(scope="session")
def planned(composer: Composer) -> Callable[..., Planned]:
    """planned("pool=max,avg", …): the name, the plan and the runs of a command line, as the sweeper makes them."""

    def planned(*words: str) -> Planned:
        ((*words,),) = command_lines(["-m", *words])
        config = composer.load_configuration("config", words[1:], RunMode.MULTIRUN)
        given = read_overrides(composer, config.hydra.overrides.task)
        found = plan(OmegaConf.to_container(config.study, resolve=True), given)
        runs = composed(composer, config, found.runs)
        return name_of(config, composer, given, found, runs), found, runs

    return planned


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("activation=relu,tanh pool=max,avg", "activation-pool"),
        ("activation=relu,tanh pool=max,avg seed=0,1 hydra/launcher=joblib", "activation-pool"),
        ("activation=relu,tanh pool=max,avg tracking.uri=x dataset.root=y", "activation-pool"),
        ("activation=sigmoid,relu pool=avg,max", "activation-pool"),
        ("activation=relu,tanh pool=max,avg trainer.epochs=20 optimizer=adam", "activation-pool"),
        ("activation=relu,tanh pool=max,avg trainer.epochs=1", "activation-pool,trainer.epochs=1"),
        (
            "pool=max,avg trainer.epochs=1 c3=full,sparse dataset=mnist",
            "pool-c3,dataset=mnist,trainer.epochs=1",
        ),
        ("seed=0,1 optimizer.lr=1e-2", "seed,optimizer.lr=0.01"),
        ("activation=relu,tanh", "activation-sweep"),
        ("+study=activation", "activation"),
        ("+study=activation seed=0", "activation"),
        ("+study=activation study.margin=0.2", "activation"),
        ("+study=activation study.spread=0.2", "activation"),
        ("+study=ladder study.design=ladder", "ladder"),
        ("+study=ladder study.design=one_at_a_time", "ladder,study.design=one_at_a_time"),
        ("activation=relu,tanh pool=max,avg study.design=ladder", "activation-pool,study.design=ladder"),
        (
            "activation=relu,tanh pool=max,avg study.where=\"pool=='max'\"",
            "activation-pool,study.where=pool=='max'",
        ),
        ("+study=some_combinations study.where=null", "some_combinations,study.where=None"),
        ("+study=activation activation=relu,tanh", "activation,activation=relu+tanh"),
        ("+study=activation_x_pool activation=relu", "activation_x_pool,activation=relu"),
        (
            "+study=activation_x_pool trainer.epochs=1 activation=relu,tanh seed=0",
            "activation_x_pool,activation=relu+tanh,trainer.epochs=1",
        ),
        ("+study=activation pool=max,avg", "activation,pool=max+avg"),
        ("optimizer=adam,sgd optimizer.lr=0.001", "optimizer-sweep,optimizer.lr=0.001"),
        ("pool=max,avg +experiment=textbook_adam", "pool-sweep,experiment=textbook_adam"),
        (
            "dataset=images dataset.root=/a,/b trainer.epochs=1",
            "dataset.root,dataset=images,trainer.epochs=1",
        ),
        (
            "pool=max,avg dataset=images dataset.root=/data/scans",
            "pool-sweep,dataset.root=scans,dataset=images",
        ),
        ("pool=max,avg name=mine trainer.epochs=1", "mine"),
        ("pool=max,avg name=激活函数", "激活函数"),
    ],
)
def test_the_name_says_what_varies_and_what_is_not_as_usual(command, name, planned):
    assert planned(*command.split())[0] == name


@pytest.mark.parametrize(
    "words",
    [
        ["activation=relu,scaled_tanh", "optimizer.lr=0.1,[0.1,0.2]", "c3=full,sparse", "seed=0,3"],
        ["head=softmax,rbf", "c3=full,sparse", "dataset=images,digits"],
        ["+experiment=textbook_adam,lenet5_1998", "activation=relu,tanh", "c3=full,sparse"],
        ["+study=modernise", "seed=0"],
    ],
)
def test_runs_are_composed_as_hydra_composes_them(words):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", words, RunMode.MULTIRUN)
        found = plan(OmegaConf.to_container(config.study, resolve=True), read_overrides(loader, words))
        for run, ours in zip(found.runs, composed(loader, config, found.runs), strict=True):
            theirs = PlannedRun.composed(loader.load_sweep_config(config, list(run)))
            assert (ours.config, ours.choices) == (theirs.config, theirs.choices)
            assert OmegaConf.is_struct(ours.config)


def test_a_name_is_one_sweeps(tmp_path, planned):
    store = Store(f"sqlite:///{tmp_path}/mlflow.db")
    five = planned("pool=max,avg", "trainer.epochs=5", "name=mine")
    require_own_name("mine", *five[1:], store)  # nothing is there yet
    for run in five[2]:
        params = {**logged_params(run.config, run.choices), "network.parameters": 1}
        Tracker.start(store, "lenet5", "a run", params, {"sweep": "mine"}).finish()
    require_own_name("mine", *five[1:], store)
    more = planned("pool=max,subsample", "trainer.epochs=5", "name=mine", "seed=4,5")
    require_own_name("mine", *more[1:], store)
    one = planned("pool=max,avg", "trainer.epochs=1", "name=mine")
    with pytest.raises(
        InputError,
        match=r"^name=mine: its runs have trainer.epochs=5, these 1; give these another name, as name=mine-2$",
    ):
        require_own_name("mine", *one[1:], store)
    require_own_name("mine-2", *one[1:], store)


# A swept key is a factor, or it is refused


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "trainer={epochs:1,batch_size:16},{epochs:1,batch_size:64}",
            "^trainer: sections cannot be swept, only single values: trainer.epochs=1 trainer.batch_size=16,64$",
        ),
        (
            "trainer={epochs:1,batch_size:16},{epochs:2,batch_size:64}",
            r"^trainer: .*: trainer.epochs=1,2 trainer.batch_size=16,64 \(every combination; values that belong",
        ),
        ("tracking.every_steps=1,2", "^tracking.every_steps: it does not change what a run is"),
        ("study.margin=0.1,0.2", "^study.margin: it does not change what a run is"),
        ("name=a,b", "^name: it does not change what a run is"),
        ("dataset.mirrors=[a],[b]", "^dataset.mirrors: it does not change what a run is"),
        (
            "optimizer=momentum,sgd optimizer.momentum=0.8,0.9",
            "^optimizer.momentum: optimizer=sgd has no such key, so that it cannot be swept beside optimizer; "
            "accepted: one value, or optimizer=momentum$",
        ),
        ("optimizer=sgd,adagrad optimizer.momentum=0.8", "^optimizer.momentum: there is no such key"),
    ],
)
def test_what_cannot_be_a_factor_is_refused(command, message, planned):
    with pytest.raises(InputError, match=message):
        planned(*command.split())


def test_folders_of_a_data_set_are_a_factor(planned):
    _, found, runs = planned("dataset=images", "dataset.root=/a,/b")
    assert found.factors == ("dataset.root",)
    for run in runs:
        run.config.sweep.factors = found.factors
    assert len({digest(determining(run.config)) for run in runs}) == 2
    for run in runs:
        run.config.sweep.factors = []  # of a run of its own the folder is but a place
    assert len({digest(determining(run.config)) for run in runs}) == 1


def test_a_key_of_one_choice_is_set_where_it_is(planned):
    _, found, runs = planned("optimizer=momentum,sgd", "optimizer.momentum=0.8")
    assert found.factors == ("optimizer",)
    assert found.runs == (("optimizer=momentum", "optimizer.momentum=0.8"), ("optimizer=sgd",))
    assert [run.config.optimizer.get("momentum") for run in runs] == [0.8, None]
    assert found.remarks == ("optimizer.momentum=0.8: optimizer=sgd has no such key; it is set for momentum",)


def test_all_training_images_are_the_configuration_that_they_were_before_they_could_be_fewer(compose):
    usual, fewer = compose(), compose("dataset.train_images=100")
    for of in (determining, lambda config: logged_params(config, {})):
        assert "dataset.train_images" not in of(usual)
        assert of(fewer)["dataset.train_images"] == 100
