"""What a sweep is called: its name stands for its settings, and no other sweep has it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from ablations.errors import InputError
from ablations.experiment.job import NOT_DETERMINING, is_below, leaves, logged_params
from ablations.ground.paths import choice_file
from ablations.sweep.composing import PlannedRun, composed
from ablations.sweep.overrides import Given, override_value
from ablations.sweep.plan import SEED, Plan
from ablations.tracking.columns import PARAM, param
from ablations.tracking.store import Store

UNSAID = (SEED, "hydra", *NOT_DETERMINING)
"""Keys that are no settings of a sweep: more seeds, another folder or store leave it what it is."""
SAID = ("study.design", "study.where", "study.start")
"""Of them those that ask for other combinations, and so another question."""


def name_of(
    config: DictConfig,
    loader: ConfigLoader,
    given: Mapping[str, Given],
    planned: Plan,
    runs: Sequence[PlannedRun],
) -> str:
    """The name that was given, else what varies or the study's, with what is held elsewhere than usual.

    `activation-pool`, or `activation-pool,dataset=mnist,trainer.epochs=5`.

    Args:
        config: that of the sweep.
        loader: Hydra's.
        given: the overrides of the command line by key.
        planned: the runs that are wanted.
        runs: their configurations.
    """
    if "name" in given and config.name is not None:
        return config.name
    study = given["study"].values[0] if "study" in given else None
    stem = config.name or study or "-".join(planned.varied) or SEED
    if study is None and choice_file("study", stem):
        stem += "-sweep"
    return ",".join([stem, *sorted(set(_deviations(config, loader, given, planned, runs)))])


def _deviations(
    config: DictConfig,
    loader: ConfigLoader,
    given: Mapping[str, Given],
    planned: Plan,
    runs: Sequence[PlannedRun],
) -> Iterator[str]:
    """What is held elsewhere than conf/ and the study have it, and the factors whose levels are not the study's."""
    held = {key: own for key, own in given.items() if key not in planned.levels and key not in UNSAID}
    held = {
        key: own
        for key, own in held.items()
        if is_below(key, SAID) or not (is_below(key, UNSAID) or key.startswith("hydra/"))
    }
    groups = [own.line for key, own in held.items() if loader.get_group_options(key)]
    asked = [given["study"].line] if "study" in given else []
    (usual,) = composed(loader, config, [asked])
    (chosen,) = composed(loader, config, [[*asked, *groups]]) if groups else [usual]
    factors = {key.lstrip("+"): of for key, of in usual.config.study.factors.items()}
    brought = {
        key
        for of in factors.values()
        if isinstance(of, DictConfig)
        for own in of.values()
        for key in own or ()
    }
    for key, own in held.items():
        # A study's factor, or what a level has its own value of: never usual, whatever the value.
        compared = (
            key in factors
            or key in brought
            or is_below(key, planned.levels)
            or "experiment" in planned.levels
        )
        if own.line in groups:
            if compared or usual.choices.get(key) != chosen.choices.get(key):
                yield f"{key}={own.values[0]}"
            continue
        found = (OmegaConf.select(run.config, key) for run in runs)
        value = next((each for each in found if each is not None), None)
        for name, ours in leaves({key: _plain(value)}):
            if compared or ours != _plain(OmegaConf.select(chosen.config, name)):
                yield f"{name}={str(ours).replace(' ', '')}"
    root = config.dataset.root
    if (
        root is not None
        and chosen.choices.get("dataset") == "images"
        and "dataset.root" not in planned.levels
    ):
        yield f"dataset.root={PurePath(root).name}"  # is what the data set is, and not where it is kept
    if "study" in given:
        for key, of in planned.levels.items():
            if set(of) != set(map(override_value, factors.get(key, ()))):
                yield f"{key}={'+'.join(of)}"


def _plain(value: object) -> object:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def require_own_name(
    name: str, planned: Plan, runs: Sequence[PlannedRun], store: Store, chosen: Sequence[str] = ()
) -> None:
    """Raises InputError where the store has runs of another sweep of this name, which one report would mix up; keys
    that are `chosen` may differ."""
    from ablations.tracking.reader import Reader

    try:
        there = Reader(store).records(tags={"sweep": name})
    except InputError:  # no store yet
        return
    params = [logged_params(run.config, run.choices) for run in runs]
    wanted = [{param(key): str(value) for key, value in each.items()} for each in params]
    varied = [param(key) for key in (*planned.varied, *chosen)]
    twins = {tuple(each.get(key) for key in varied): each for each in wanted}
    there = [
        row
        for row in there
        if row["status"] == "FINISHED" and not _is_as(twins.get(tuple(row.get(key) for key in varied)), row)
    ]
    if not there:
        return
    import pandas as pd

    from ablations.comparison.selection import disagreements

    found = disagreements(pd.DataFrame(there), pd.DataFrame(wanted), (*planned.varied, *chosen))
    for each in found:
        # What either did not log came with another version, or with a choice that is compared itself.
        for key, theirs, ours in each:
            if None not in (theirs, ours):
                raise InputError(
                    f"name={name}: its runs have {key.removeprefix(PARAM)}={theirs}, these {ours}; give these "
                    f"another name, as name={name}-2"
                )


def _is_as(twin: Mapping[str, str] | None, row: Mapping[str, object]) -> bool:
    """Whether a run of the store has all params of its twin but the seed, as those of a sweep have that is asked for
    again: for these pandas need not be imported."""
    return twin is not None and all(
        row.get(key) == value for key, value in twin.items() if key != param(SEED)
    )
