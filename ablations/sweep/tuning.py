"""Tuning: in rounds, each of one trial of every variant on all its seeds at once; then what each variant chose.

The trials of one variant come one after the other, whatever launches them, so that they are the same under every
launcher. A trial is a set of ordinary runs of a sweep of their own; Optuna proposes settings and is told their values.
"""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from ablations.commands import many, say
from ablations.errors import InputError, printable
from ablations.experiment.job import checkpoints, determining, digest
from ablations.experiment.lease import leased
from ablations.experiment.provenance import code_hash
from ablations.ground.paths import draft_folder
from ablations.sweep.composing import PlannedRun
from ablations.sweep.offers import Tuning, Variant, without_seed
from ablations.sweep.overrides import override_value, quoted
from ablations.sweep.plan import SEED, Plan
from ablations.sweep.proposals import Proposals, file_of, opened, require_optuna
from ablations.tracking.columns import TRIAL, TUNING, column, param, tag
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.study import Study, sweep_of_prefixes, sweep_of_trials
from ablations.tracking.views import share_views

if TYPE_CHECKING:
    import pandas as pd

Launch = Callable[[str, Sequence[str], Mapping[str, str], Sequence[Sequence[str]]], None]
"""Trains runs and waits for them: the name of their sweep, what they vary, hidden overrides, and those of each run."""

DONE = ("diverged", "pruned")


@dataclass(frozen=True)
class Tuned:
    """What came of the trials.

    Attributes:
        tuning: how it was done.
        variants: of the study.
        study: whose.
        table: of all trials, as `comparison.tuning.trials` gives it.
        settings: by the id of a variant's tuning and the trial's number what was tried.
    """

    tuning: Tuning
    variants: Sequence[Variant]
    study: Study
    table: "pd.DataFrame"
    settings: Mapping[tuple[str, int], Mapping[str, Any]]

    def chosen(self, after: int) -> dict[str, Mapping[str, Any]]:
        """By variant its choice after so many trials; nothing for one none of whose trials is complete."""
        from ablations.comparison.tuning import chosen

        best = chosen(self.table, self.study.factors, self.study.smaller_tuned, after)
        trials = dict(zip(best["tuning"], best["trial"], strict=True))
        return {
            each.name: self.settings[each.id, trials[each.id]] for each in self.variants if each.id in trials
        }

    def applied(self, planned: Plan, runs: Sequence[PlannedRun]) -> Plan:
        """A plan with each variant at its choice; `runs`, its configurations, are changed alike."""
        choices = self.chosen(self.tuning.trials)
        for overrides, run in zip(planned.runs, runs, strict=True):
            _set(run.config, choices.get(self._name(overrides), {}))
        settings = [(*each, *as_overrides(choices.get(self._name(each), {}))) for each in planned.settings]
        return replace(planned, settings=tuple(settings))

    def of_prefixes(self, planned: Plan, runs: Sequence[PlannedRun]) -> list[tuple[str, list[str]]]:
        """The runs of a plan at what would be chosen after 1, 2, 4, 8 … trials, and is not in the end: `config_hash`
        and overrides of each."""
        from ablations.comparison.tuning import prefixes

        last, earlier = self.chosen(self.tuning.trials), {}
        for after in prefixes(self.tuning.trials)[:-1]:
            for name, setting in self.chosen(after).items():
                if setting not in [last[name], *earlier.get(name, [])]:
                    earlier.setdefault(name, []).append(setting)
        found = []
        for overrides, run in zip(planned.runs, runs, strict=True):
            for setting in earlier.get(self._name(overrides), []):
                config = OmegaConf.merge(run.config, {})
                _set(config, setting)
                found.append((digest(determining(config)), [*overrides, *as_overrides(setting)]))
        return found

    def told(self) -> Iterator[str]:
        """Line by line what each variant chose."""
        choices = self.chosen(self.tuning.trials)
        for each in self.variants:
            if not each.offered:
                yield f"tuning: {each.name} has nothing to choose"
            elif each.name not in choices:
                yield f"tuning: no trial of {each.name} was complete; it keeps the defaults"
            else:
                setting = ", ".join(as_overrides(choices[each.name]))
                counted = many(self.tuning.trials, "trial")
                yield f"tuning: {each.name} chose {setting} by {self.study.tuned_on} in {counted}"

    def _name(self, overrides: Sequence[str]) -> str:
        own = without_seed(overrides)
        return next(each.name for each in self.variants if each.overrides == own)


def _set(config: DictConfig, setting: Mapping[str, Any]) -> None:
    for key, value in setting.items():
        OmegaConf.update(config, key, value)


def tune(
    tuning: Tuning,
    variants: Sequence[Variant],
    study: Study,
    store: Store,
    planned: Plan,
    runs: Sequence[PlannedRun],
    launch: Launch,
) -> Plan:
    """The plan with what each variant chose in its trials, which are made where they were not; `runs`, its
    configurations, are changed alike. With them what would be chosen after fewer trials is evaluated.

    Raises InputError where Optuna is not there, or a trial came to nothing that could be told.
    """
    from ablations.comparison.selection import belonging

    require_optuna()
    folder = checkpoints(store) / f"tuning-{digest({'name': study.name, 'store': store.shown})}"
    experiment = runs[0].config.tracking.experiment
    with leased(folder, _say_busy), opened(file_of(store)) as storage:
        tuned = _Rounds(tuning, variants, study, store, experiment, storage, launch).made()
    for line in tuned.told():
        say(line)
    share_views(store, sweep_of_trials(study.name), belonging)
    if tuning.curve:
        _evaluate(tuned.of_prefixes(planned, runs), tuned, store, experiment, launch)
    return tuned.applied(planned, runs)


def foreseen(
    tuning: Tuning, variants: Sequence[Variant], study: Study, store: Store, experiment: str
) -> tuple[Tuned | None, int]:
    """What came of the trials, None where some are left, and how many these are; nothing is stored.

    Raises InputError where Optuna is not there.
    """
    require_optuna()
    offered = [each for each in variants if each.offered]
    known = file_of(store)
    if not known.exists():
        return None, len(offered) * tuning.trials
    with draft_folder() as folder:
        with closing(sqlite3.connect(known)) as db, closing(sqlite3.connect(folder / known.name)) as copy:
            db.backup(copy)
        with opened(folder / known.name) as storage:
            try:
                rounds = _Rounds(tuning, variants, study, store, experiment, storage, _nothing)
            except InputError:  # no store yet
                return None, len(offered) * tuning.trials
            left = rounds.left()
            return (None if left else rounds.made()), left


def _nothing(*_: object) -> None:
    raise AssertionError("a dry run launches nothing")


def _evaluate(
    wanted: Sequence[tuple[str, list[str]]], tuned: Tuned, store: Store, experiment: str, launch: Launch
) -> None:
    """Train, on the seeds that evaluate, what fewer trials would have chosen."""
    name = sweep_of_prefixes(tuned.study.name)
    there = Reader(store).runs(experiment, tags={"sweep": name})
    done = (there["status"] == "FINISHED") | (column(there, tag("failure")) == "diverged")
    done &= column(there, tag("code_hash")) == code_hash()
    known = set(column(there[done], tag("config_hash")))
    left = [overrides for config_hash, overrides in wanted if config_hash not in known]
    if left:
        say(f"tuning: {many(len(left), 'run')} to see what fewer trials would have given")
        launch(name, (*tuned.study.varied, *tuned.tuning.keys), {}, left)


def _say_busy(process: str) -> None:
    say(f"the same study is being tuned by process {process}, waiting for it")


class _Rounds:
    """The trials of all variants, the first of each first."""

    def __init__(
        self,
        tuning: Tuning,
        variants: Sequence[Variant],
        study: Study,
        store: Store,
        experiment: str,
        storage: Any,
        launch: Launch,
    ) -> None:
        self._tuning, self._variants, self._study, self._launch = tuning, variants, study, launch
        self._reader = lambda: trial_runs(Reader(store), study, experiment)
        self._histories = lambda ids: Reader(store).histories(ids, [study.tuned_on])
        offered = [variant for variant in variants if variant.offered]
        self._proposals = [Proposals(storage, tuning, each, study.smaller_tuned) for each in offered]
        self._read()

    def made(self) -> "Tuned":
        """What came of all trials, once they are made and Optuna knows of them."""
        numbers = range(1, self._tuning.trials + 1)
        for number in numbers:
            self._round(number)
        settings = {(each.variant.id, n): each.setting(n) for each in self._proposals for n in numbers}
        return Tuned(self._tuning, self._variants, self._study, self._table, settings)

    def left(self) -> int:
        """How many trials are to be made, or lack a result in the store."""
        numbers = range(1, self._tuning.trials + 1)
        return sum(
            not each.is_told(n) or (each.same_as(n) == n and bool(self._missing(each, n)))
            for each in self._proposals
            for n in numbers
        )

    def _round(self, number: int) -> None:
        wanted, spec = [], {}
        for each in self._proposals:
            if each.same_as(number) < number:
                continue
            if missing := self._missing(each, number):
                wanted += [(each, seed) for seed in missing]
                spec[each.variant.id] = {
                    "offered": each.variant.offered,
                    "bounds": self._bounds(each, number),
                }
        if wanted:
            self._train(number, wanted, spec)
        histories = None
        for each in self._proposals:
            if each.is_told(number):
                continue
            if (first := each.same_as(number)) < number:
                each.tell_same(number, first)
                continue
            if histories is None:
                histories = self._histories(list(self._runs["run_id"]))
            self._tell(each, number, histories)

    def _train(self, number: int, wanted: Sequence[tuple[Proposals, int]], spec: Mapping[str, Any]) -> None:
        """Train what a round lacks. Seed by seed, so that one that is stopped holds whole seeds."""
        say(f"tuning: trial {number} of {self._tuning.trials}, {many(len(wanted), 'run')}")
        wanted = sorted(wanted, key=lambda each: self._tuning.seeds.index(each[1]))
        overrides = [
            [
                *each.variant.overrides,
                *as_overrides(each.setting(number)),
                f"{SEED}={seed}",
                f"sweep.trial={each.variant.id}/{number}",
            ]
            for each, seed in wanted
        ]
        told = {"metric": self._study.tuned_on, "smaller": self._study.smaller_tuned, "of": spec}
        varied = (*self._study.varied, *self._tuning.keys)
        hidden = {"sweep.tuning": quoted(json.dumps(told))}
        self._launch(sweep_of_trials(self._study.name), varied, hidden, overrides)
        self._read()

    def _read(self) -> None:
        """The runs of all trials, and what these came to."""
        from ablations.comparison.tuning import trials

        study, tuning = self._study, self._tuning
        self._runs = self._reader()
        ids = [each.variant.id for each in self._proposals]
        how = study.tuned_on, study.smaller_tuned, tuning.trials
        self._table = trials(self._runs, ids, study.factors, tuning.keys, tuning.seeds, *how)

    def _missing(self, each: Proposals, number: int) -> list[int]:
        """The seeds on which a trial has no result."""
        there = _results(self._runs, each.variant.id, number)
        return [seed for seed in self._tuning.seeds if str(seed) not in set(column(there, param(SEED)))]

    def _bounds(self, each: Proposals, number: int) -> dict[str, list[float | None]]:
        """By seed and epoch what a run of this trial must not be behind."""
        from ablations.comparison.tuning import State, bounds

        table = self._table[self._table["tuning"] == each.variant.id]
        complete = table.loc[(table["state"] == State.COMPLETE) & (table["trial"] < number), "trial"]
        if self._tuning.after_trials is None or len(complete) < self._tuning.after_trials:
            return {}
        runs = self._runs[column(self._runs, tag(TUNING)) == each.variant.id]
        runs = runs[column(runs, tag(TRIAL)).isin(complete.map(str))]
        histories = self._histories(list(runs["run_id"]))
        found, epochs = {}, int(each.variant.config.trainer.epochs)
        for seed in map(str, self._tuning.seeds):
            own = runs.loc[runs[param(SEED)] == seed, "run_id"]
            found[seed] = bounds(histories, list(own), epochs, self._tuning.after_epochs)
        return found

    def _tell(self, each: Proposals, number: int, histories: "pd.DataFrame") -> None:
        """Say what a trial came to. Raises InputError where that cannot be known."""
        from ablations.comparison.tuning import State

        table = self._table[self._table["tuning"] == each.variant.id]
        row = table[table["trial"] == number].to_dict("records")
        state = row[0]["state"] if row else State.UNFINISHED
        own = self._runs[column(self._runs, tag(TUNING)) == each.variant.id]
        own = own[column(own, tag(TRIAL)) == str(number)]
        if state == State.UNFINISHED:  # as text, in a frame
            reasons = column(own, tag("failure_reason")).dropna()
            reason = printable(reasons.iloc[-1]) if len(reasons) else "it has no result in the store"
            where = " ".join([each.variant.name, *as_overrides(each.setting(number))])
            raise InputError(
                f"tuning, trial {number} of {where}: {reason}; the same command goes on from here"
            )
        points = histories[histories["run_id"].isin(own["run_id"])].groupby("step")["value"]
        means = points.mean()[points.size() == len(self._tuning.seeds)]
        value = {State.PRUNED: None, State.DIVERGED: each.worst}.get(state, row[0]["value"])
        by_epoch = {int(epoch): float(mean) for epoch, mean in means.items() if math.isfinite(mean)}
        each.tell(number, value, by_epoch)


def trial_runs(reader: Reader, study: Study, experiment: str) -> "pd.DataFrame":
    """The runs of a study's trials."""
    return reader.runs(experiment, tags={"sweep": sweep_of_trials(study.name)})


def _results(runs: "pd.DataFrame", tuning: str, number: int) -> "pd.DataFrame":
    """Those runs of a trial that have ended with a result, of whatever kind."""
    own = (column(runs, tag(TUNING)) == tuning) & (column(runs, tag(TRIAL)) == str(number))
    return runs[own & ((runs["status"] == "FINISHED") | column(runs, tag("failure")).isin(DONE))]


def as_overrides(setting: Mapping[str, Any]) -> list[str]:
    """A setting in Hydra's grammar."""
    return [f"{key}={override_value(value)}" for key, value in setting.items()]
