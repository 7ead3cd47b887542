"""Plan a sweep, store its study, launch its runs, compile its report."""

import gc
import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ablations.commands import about, duration, here, many, module_command, run_command, say, say_doing
from ablations.commands.signals import Terminated, last_words, watch_workers
from ablations.errors import InputError
from ablations.experiment.finished import Planned, adopt_finished
from ablations.experiment.job import determining
from ablations.experiment.progress import sweep_bar
from ablations.sweep.command_line import REPORTS
from ablations.sweep.composing import PlannedRun, composed
from ablations.sweep.naming import name_of, require_own_name
from ablations.sweep.offers import offered_variants, read_tuning
from ablations.sweep.overrides import Given, quoted, read_overrides
from ablations.sweep.plan import Plan, plan, with_seed
from ablations.sweep.rounds import Course, End, Goal, goal_of, variants_of
from ablations.sweep.study import comparisons_of, keep, study_of
from ablations.sweep.tuning import tune
from ablations.tracking.outbox import deliver
from ablations.tracking.store import Store
from ablations.tracking.study import Study, look_tag
from ablations.tracking.views import share_views

if TYPE_CHECKING:
    from ablations.report.analysis import Analysis


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

    began = time.monotonic()
    section = OmegaConf.to_container(config.study, resolve=True)
    given = read_overrides(loader, arguments)
    goal = goal_of(config, given)
    tuning, section = read_tuning(section, given)
    planned = plan(section, given)
    if goal is not None:
        goal, planned = _first_round(goal, given, section, planned, config, loader)
    if config.dry_run:
        print(f"dry run of {many(len(planned.runs), 'run')}: nothing is trained or stored", flush=True)
    runs = composed(loader, config, planned.runs)  # all of them: mistakes are found before anything starts
    name = name_of(config, loader, given, planned, runs)
    study = study_of(name, section, planned, runs, run_command(sys.argv[1:]))
    formats = vector_formats(runs[0].config.figures.format)
    store = Store(config.tracking.uri)
    variants = [] if tuning is None else offered_variants(tuning, study, planned, runs)
    if tuning is not None:
        study = replace(study, tuning=tuning.record([each.id for each in variants]))
    require_own_name(name, planned, runs, store, study.chosen)
    for remark in planned.remarks:
        print(remark)
    if config.dry_run:
        from ablations.sweep.preview import at_most, preview, preview_tuning

        if tuning is not None:
            print(preview_tuning(tuning, variants, study, planned, runs, store, config.hydra.launcher))
        print(preview(study, runs, store, config.hydra.launcher))
        if goal is not None:
            print(at_most([run.config for run in runs], goal.at_most / goal.at_least, _at_once(config)))
        return None

    ongoing = Ongoing(config, launcher, planned, study, store, formats)
    if tuning is not None:
        ongoing.ready()
        aside = partial(ongoing.make_aside, ongoing.tell(runs))
        ongoing.planned = tune(tuning, variants, study, store, planned, runs, aside)
    if goal is None:
        ongoing.make(ongoing.planned.runs, runs)
        failed = ongoing.look()
    else:
        failed = _until_settled(ongoing, runs, goal, began, loader)
    for result in ongoing.results:
        _ = result.return_value  # raises what the job raised, if it did: not even its failure is in the store
    if failed:
        sys.exit(1)
    return ongoing.results


def _first_round(
    goal: Goal,
    given: Mapping[str, Given],
    section: Mapping[str, Any],
    planned: Plan,
    config: DictConfig,
    loader: ConfigLoader,
) -> tuple[Goal, Plan]:
    """The seeds of the first round: so many that it can settle something, unless their number was given."""
    if "seeds_at_least" not in given:
        from ablations.comparison.verdicts import fewest_seeds

        one = replace(planned, seeds=("0",))
        runs = composed(loader, config, one.runs)
        family = comparisons_of(study_of("", section, one, runs, ""), runs)
        least = max(goal.at_least, fewest_seeds(len(family)) if family else 0)
        goal = replace(goal, at_least=min(least, goal.at_most))
    return goal, replace(planned, seeds=tuple(map(str, range(goal.at_least))))


@dataclass
class Ongoing:
    """A sweep that is under way, in one round or several.

    Attributes:
        config: composed without the swept keys.
        launcher: Hydra's, set up.
        planned: what is asked for.
        study: the record of it.
        store: of the runs.
        formats: of figures, besides PNG.
        below: lines that a terminal shows below the bar of a round.
        results: what each run came to that was launched.
        sweep_id: of the last round.
        experiment_id: of the runs, from the first round on.
    """

    config: DictConfig
    launcher: Launcher
    planned: Plan
    study: Study
    store: Store
    formats: Sequence[str]
    below: Sequence[str] = ()
    results: list[JobReturn] = field(default_factory=list)
    sweep_id: str = ""
    experiment_id: str = ""

    def ready(self) -> None:
        """Have the store and the record of the study in it, and there what an earlier command could not deliver."""
        self.experiment_id = self.experiment_id or self.store.prepare(self.config.tracking.experiment)
        self.keep(self.study)
        _deliver(self.store)

    def tell(self, runs: Sequence[PlannedRun]) -> dict[str, str]:
        """Tell runs which sweep they belong to, of which a further round begins; the same as hidden overrides."""
        self.sweep_id = self.config.sweep.id or datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
        return _told(self.study, self.planned, runs, self.sweep_id)

    def make(self, overrides: Sequence[Sequence[str]], runs: Sequence[PlannedRun]) -> int:
        """Launch what has no result yet of these runs, by their overrides and configurations; how many those are."""
        told = self.tell(runs)
        self.ready()
        left = _unfinished(overrides, runs, self.store)
        self.results += _launched(self.launcher, left, self.config, told, self.below)
        _deliver(self.store)
        return len(left)

    def make_aside(
        self,
        told: Mapping[str, str],
        name: str,
        varied: Sequence[str],
        more: Mapping[str, str],
        runs: Sequence[Sequence[str]],
    ) -> None:
        """Train runs of a sweep of their own, `name`, which vary these keys and are told `more`, and wait for them."""
        own = {**told, "name": quoted(name), "sweep.factors": _list(varied), **more}
        # A name that was given is that of the study.
        runs = [[each for each in run if not each.startswith("name=")] for run in runs]
        results = _launched(self.launcher, runs, self.config, own)
        _deliver(self.store)
        for result in results:
            _ = result.return_value  # raises what the job raised, if it did

    def keep(self, study: Study) -> None:
        """Leave the record of the study in the store."""
        self.study = study
        keep(study, self.store, self.experiment_id)

    def numbers(self, only_seen: bool = False) -> "Analysis | None":
        """What there is to compare, or what of it some report has shown; None where that is nothing."""
        from ablations.report.compile import compared_only
        from ablations.report.request import Request
        from ablations.tracking.reader import Reader

        try:
            return compared_only(Reader(self.store), self.study.name, Request(), only_seen).analysis
        except InputError:
            return None

    def look(self, last: bool = True) -> int:
        """Compile the report and count it as a look; how many of its runs have no result."""
        failed = _report(self.study.name, self.store, self.formats, last)
        with suppress(InputError):  # a store that went away since has a report that counts as none
            self.store.tag_experiment(self.experiment_id, look_tag(self.sweep_id), self.study.name)
        return failed


def _until_settled(
    ongoing: Ongoing, runs: Sequence[PlannedRun], goal: Goal, began: float, loader: ConfigLoader
) -> int:
    """Round after round until all is settled or given up, or the next round would go beyond the budget.

    What is run next follows from what reports have shown, so that a command that was killed within a round goes on
    with the same round. Ctrl-C ends the runs in hand, and the report of what is there is compiled.

    Args:
        ongoing: the sweep.
        runs: the configurations of the first round.
        goal: what is to be reached.
        began: when the command did, by `time.monotonic`.
        loader: Hydra's.

    Returns:
        How many runs have no result.
    """
    variants = variants_of(ongoing.planned, runs)
    course = Course(goal, {key: len(of) for key, of in variants.items()}, _at_once(ongoing.config), began)
    seen, there = ongoing.numbers(only_seen=True), ongoing.numbers()
    seconds = _probed(runs) if there is None and goal.budget_s < math.inf else 0.0
    cells = course.first(seen, there, seconds)
    if seen is not None:
        ongoing.below = _standings(seen, course)
    while True:
        overrides = [with_seed(each, seed) for setting, seed in cells for each in variants[setting]]
        ongoing.study = replace(ongoing.study, until=course.told())
        started = time.monotonic()
        try:
            made = ongoing.make(overrides, composed(loader, ongoing.config, overrides))
        except KeyboardInterrupt as stop:
            if not isinstance(stop, Terminated):
                with last_words(), suppress(InputError):  # there may be no run yet
                    ongoing.look()
            raise
        course.took(made, time.monotonic() - started)
        numbers = ongoing.numbers()
        step = course.next(numbers, numbers)
        ongoing.keep(replace(ongoing.study, until=course.told(step)))
        failed = ongoing.look(last=isinstance(step, End))
        if isinstance(step, End):
            return failed
        ongoing.below, cells = _standings(numbers, course), step.cells
        say(f"next: {many(step.runs, 'run')}, about {duration(step.seconds)}")


def _standings(numbers: "Analysis", course: Course) -> list[str]:
    """One line for each comparison."""
    from ablations.report.console import standings

    return standings(replace(numbers, study=replace(numbers.study, until=course.told())))


def _probed(runs: Sequence[PlannedRun]) -> float:
    """Seconds that one of these takes on average, from short trainings."""
    from ablations.sweep.preview import estimate

    return estimate([(run.config, determining(run.config)) for run in runs])[0] / len(runs)


def _at_once(config: DictConfig) -> int:
    """How many runs go on at a time, as far as the launcher's configuration says it."""
    from joblib import cpu_count

    from ablations.sweep.preview import workers_of

    if config.hydra.runtime.choices["hydra/launcher"] == "submitit_local":
        return config.sweep.at_once or cpu_count()
    return workers_of(config.hydra.launcher)


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


def _unfinished(
    planned: Sequence[Sequence[str]], runs: Sequence[PlannedRun], store: Store
) -> list[list[str]]:
    """The overrides of the runs that are to be launched: the others have their results, which is said."""
    overrides = [list(each) for each in planned]
    config = runs[0].config
    if config.tracking.rerun is not False:
        return overrides
    wanted = [Planned(run.config, store, each) for run, each in zip(runs, overrides, strict=True)]
    done = adopt_finished(wanted, store, config.tracking.experiment)
    return [each for each, finished in zip(overrides, done, strict=True) if not finished]


def _launched(
    launcher: Launcher,
    runs: Sequence[Sequence[str]],
    config: DictConfig,
    told: Mapping[str, str],
    below: Sequence[str] = (),
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
        with sweep_bar(folder, len(runs), first, below):
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


def _report(name: str, store: Store, formats: Sequence[str], last: bool) -> int:
    """Compile the report, unless it is there as it would be, and show it, in short where it is not the last; how many
    of its runs have no result."""
    from ablations.report.console import coloured
    from ablations.report.stored import keep_in_store
    from ablations.report.unchanged import Making

    say_doing("writing the report")
    making = Making.of(name, store, formats) if last else None
    report, shared = making and making.there(), False
    if report is None:
        from ablations.comparison.selection import belonging
        from ablations.report import compile_report
        from ablations.report.console import in_short

        if last:
            # At each correction statsmodels has Python look for cycles among a million objects that stay to the end.
            gc.freeze()
        shared = share_views(store, name, belonging)
        report = compile_report(name, store, formats=formats)
    if not last:
        # On a terminal the table has its place below the bar.
        for line in in_short(report.analysis, with_table=not sys.stderr.isatty()):
            say(line)
        return report.failed
    print(f"\n{coloured(report.summary)}\n")
    print(f"report: {report.path}")
    REPORTS.append(str(report.path))
    if report.remark:
        print(report.remark)
    if problem := keep_in_store(report, store):
        print(f"the report is not in the store: {problem}; the same command puts it there")
    elif making and shared and making == Making.of(name, store, formats):  # nothing changed meanwhile
        making.note(report)
    print(f"look at the runs: {module_command('ui', *about(report.name, store.option))}")
    return report.failed
