"""Plan a sweep, store its study, launch its runs, compile its report."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ablations.commands import about, here, many, module_command, run_command, say, say_doing
from ablations.commands.signals import watch_workers
from ablations.errors import InputError
from ablations.experiment.finished import Planned, adopt_finished
from ablations.experiment.progress import sweep_bar
from ablations.sweep.naming import name_of, require_own_name
from ablations.sweep.offers import read_tuning, variants_of
from ablations.sweep.overrides import quoted, read_overrides
from ablations.sweep.plan import Plan, PlannedRun, composed, plan
from ablations.sweep.study import keep, study_of
from ablations.sweep.tuning import tune
from ablations.tracking.outbox import deliver
from ablations.tracking.store import Store
from ablations.tracking.study import Study, look_tag
from ablations.tracking.views import share_views


def sweep(config: DictConfig, loader: ConfigLoader, launcher: Launcher, arguments: Sequence[str]) -> Any:
    """Plan, launch and report; exit code 1 where a run failed.

    Args:
        config: composed without the swept keys.
        loader: Hydra's, for the configuration of each run.
        launcher: Hydra's, set up.
        arguments: the overrides of the command line.

    Raises:
        InputError: a plan that makes no sense, a store that cannot be used, runs that cannot be compared.
    """
    from ablations.report.compile import vector_formats

    section = OmegaConf.to_container(config.study, resolve=True)
    given = read_overrides(loader, arguments)
    tuning, section = read_tuning(section, given)
    planned = plan(section, given)
    if config.dry_run:
        print(f"dry run of {many(len(planned.runs), 'run')}: nothing is trained or stored", flush=True)
    runs = composed(loader, config, planned.runs)  # all of them: mistakes are found before anything starts
    name = name_of(config, loader, given, planned, runs)
    study = study_of(name, section, planned, runs, run_command(sys.argv[1:]))
    formats = vector_formats(runs[0].config.figures.format)
    store = Store(config.tracking.uri)
    variants = [] if tuning is None else variants_of(tuning, study, planned, runs)
    if tuning is not None:
        study = replace(study, tuning=tuning.record([each.id for each in variants]))
    require_own_name(name, planned, runs, store, study.chosen)
    for remark in planned.remarks:
        print(remark)
    if config.dry_run:
        from ablations.sweep.preview import preview, preview_tuning

        if tuning is not None:
            print(preview_tuning(tuning, variants, study, planned, runs, store, config.hydra.launcher))
        print(preview(study, runs, store, config.hydra.launcher))
        return None

    sweep_id = config.sweep.id or datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    told = _told(study, planned, runs, sweep_id)
    experiment_id = store.prepare(config.tracking.experiment)
    keep(study, store, experiment_id)
    _deliver(store)  # what an earlier command could not
    if tuning is not None:
        launch = partial(_launch_aside, config, launcher, told)
        planned = tune(tuning, variants, study, store, planned, runs, launch)
    left = _unfinished(planned, runs, store)
    results = _launched(launcher, left, config, told)
    _deliver(store)
    failed = _report(name, store, formats)
    with suppress(InputError):  # a store that went away since has a report that counts as none
        store.tag_experiment(experiment_id, look_tag(sweep_id), name)
    for result in results:
        _ = result.return_value  # raises what the job raised, if it did: not even its failure is in the store
    if failed:
        sys.exit(1)
    return results


def _told(study: Study, planned: Plan, runs: Sequence[PlannedRun], sweep_id: str) -> dict[str, str]:
    """Tell each planned run which sweep it belongs to; the same as overrides, for those that are launched."""
    for run in runs:
        with open_dict(run.config):
            run.config.name, run.config.sweep.id = study.name, sweep_id
            run.config.sweep.factors, run.config.sweep.command = list(planned.varied), study.command
    return {
        "name": quoted(study.name),
        "sweep.id": quoted(sweep_id),
        "sweep.factors": _list(planned.varied),
        "sweep.command": quoted(study.command),
    }


def _list(keys: Sequence[str]) -> str:
    return f"[{','.join(map(quoted, keys))}]"


def _unfinished(planned: Plan, runs: Sequence[PlannedRun], store: Store) -> list[list[str]]:
    """The overrides of the runs that are to be launched: the others have their results, which is said."""
    overrides = [list(each) for each in planned.runs]
    config = runs[0].config
    if config.tracking.rerun is not False:
        return overrides
    wanted = [Planned(run.config, store, each) for run, each in zip(runs, overrides, strict=True)]
    done = adopt_finished(wanted, store, config.tracking.experiment)
    return [each for each, finished in zip(overrides, done, strict=True) if not finished]


def _launch_aside(
    config: DictConfig,
    launcher: Launcher,
    told: Mapping[str, str],
    name: str,
    varied: Sequence[str],
    more: Mapping[str, str],
    runs: Sequence[Sequence[str]],
) -> None:
    """Train runs of a sweep of their own, `name`, which vary these keys and are told `more`, and wait for them."""
    own = {**told, "name": quoted(name), "sweep.factors": _list(varied), **more}
    runs = [
        [each for each in run if not each.startswith("name=")] for run in runs
    ]  # what was given is the study's
    results = _launched(launcher, runs, config, own)
    _deliver(Store(config.tracking.uri))
    for result in results:
        _ = result.return_value  # raises what the job raised, if it did


def _launched(
    launcher: Launcher, runs: Sequence[Sequence[str]], config: DictConfig, told: Mapping[str, str]
) -> Sequence[JobReturn]:
    """What the runs came to; raises InputError where the launcher or one of its processes failed."""
    if not runs:
        return []
    name, folder = config.hydra.runtime.choices["hydra/launcher"], Path(config.hydra.sweep.dir)
    if name == "joblib":
        watch_workers()
    first = len(list(folder.glob("[0-9]*")))
    # Hydra hands these on to every run, whatever the launcher, and prints them nowhere.
    before, every = config.hydra.overrides.hydra, [f"{key}={value}" for key, value in told.items()]
    with read_write(config.hydra.overrides):
        config.hydra.overrides.hydra = [*before, *every]
    try:
        with sweep_bar(folder, len(runs), first):
            return launcher.launch(runs, initial_job_idx=first)
    except Exception as error:  # any: each launcher has its own; what a run raises is in its result
        what = next(iter(str(error).strip().splitlines()), "")[:300]
        raise InputError(
            f"hydra/launcher={name}: {type(error).__name__}: {what}; the same command goes on from here"
        ) from error
    finally:
        with read_write(config.hydra.overrides):
            config.hydra.overrides.hydra = before


def _deliver(store: Store) -> None:
    for delivery in deliver(store):
        if delivery.problem is not None:
            say(
                here(
                    f"a run is not in the store yet: {delivery.problem}; `python -m ablations.sync` sends it"
                )
            )


def _report(name: str, store: Store, formats: Sequence[str]) -> int:
    """Compile and show the report; how many of its runs have no result."""
    from ablations.comparison.selection import belonging
    from ablations.report import compile_report
    from ablations.report.console import coloured
    from ablations.report.stored import keep_in_store

    say_doing("writing the report")
    share_views(store, name, belonging)
    report = compile_report(name, store, formats=formats)
    print(f"\n{coloured(report.summary)}\n")
    print(f"report: {report.path}")
    if report.remark:
        print(report.remark)
    if problem := keep_in_store(report, store):
        print(f"the report is not in the store: {problem}; the same command puts it there")
    print(f"look at the runs: {module_command('ui', *about(report.name, store.option))}")
    return report.failed
