"""What a whole sweep has already: the store is read once for all its runs, before any of them is launched."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ablations.commands.signals import undisturbed
from ablations.errors import InputError
from ablations.experiment.job import DATA, Wanted, checkpoints, determining, digest, identity, run_name
from ablations.experiment.provenance import code_hash, versions
from ablations.experiment.result import Result
from ablations.experiment.resume import Adopt, decide, is_of, leftovers, tags_of_adoption
from ablations.tracking.earlier import EarlierRun, earlier_runs
from ablations.tracking.store import Store
from ablations.tracking.writer import Tracker

OF_A_PACKAGE = ("ablations.datasets.Digits",)
"""Data that follow from our code and the versions of packages, and are in no files that may change; to load them takes
scikit-learn, whose import takes longer than all else that is done where nothing is to be trained."""


@dataclass(frozen=True)
class Planned(Wanted):
    """A run that was not launched yet; `overrides` are those that its configuration was composed of."""

    overrides: Sequence[str] = ()


class Known:
    """The runs of an experiment as they were at one moment, by configuration; none where there is no store."""

    def __init__(self, store: Store, experiment: str) -> None:
        self._runs: dict[str, list[EarlierRun]] = defaultdict(list)
        try:
            earlier = earlier_runs(store, experiment, {})
        except InputError:
            earlier = []
        for run in earlier:
            self._runs[run.tags.get("config_hash", "")].append(run)

    def runs_of(self, config: DictConfig, facts: Mapping[str, Any]) -> list[EarlierRun]:
        """Those of the same configuration, data and code, the newest first; `facts` are its `determining`."""
        candidates = self._runs.get(digest(facts), [])
        if not candidates:
            return []
        known = _data_of(candidates) if config.dataset._target_ in OF_A_PACKAGE else None
        wanted = identity(facts, known or data_sha256(config))
        return [run for run in candidates if is_of(run, wanted)]


def _data_of(runs: Sequence[EarlierRun]) -> str | None:
    """The hash of data that come with a package, from runs of these very versions and this code; None where they do not
    agree or others are among them."""
    known = {run.tags.get(DATA) for run in runs}
    same = all(
        run.tags.get("versions") == versions() and run.tags.get("code_hash") == code_hash() for run in runs
    )
    return known.pop() if same and len(known) == 1 else None


def data_sha256(config: DictConfig) -> str | None:
    """Of the data of a configuration; None where they cannot be read."""
    return _data_sha256(json.dumps(OmegaConf.to_container(config.dataset, resolve=True)))


@cache
def _data_sha256(section: str) -> str | None:
    try:
        return instantiate(json.loads(section)).load().sha256
    except InputError:
        return None


def adopt_finished(planned: Iterable[Planned], store: Store, experiment: str) -> list[bool]:
    """Use the results that this sweep has, as each of its runs would, and say so; by run, whether it is done.

    A run for which anything else is to be decided, written, cleared away or waited for is left to a process of its
    own. That are all whose configuration is in work on this machine: the folder of its checkpoints, which whoever
    works on it holds the lock of, is looked for before the store is read.
    """
    in_work = {path.name.partition("-")[0] for path in checkpoints(store).glob("*-*")}
    known = Known(store, experiment)
    return [_adopted(each, known, in_work) for each in planned]


def _adopted(planned: Planned, known: Known, in_work: set[str]) -> bool:
    started = perf_counter()
    facts = determining(planned.config)
    earlier = known.runs_of(planned.config, facts)
    if not earlier or digest(facts) in in_work:
        return False
    decision = decide(earlier, {}, planned.sweep, None, rerun=False)
    if not isinstance(decision, Adopt) or any(leftovers(earlier, planned.sweep, decision)):
        return False
    try:
        with undisturbed(), closing(Tracker.of(planned.store, *decision.run.ids)) as tracker:
            tracker.set_tags(tags_of_adoption(decision.run, planned.invocation))
    except InputError:  # it was deleted just now
        return False
    Result.of(decision.run).say(run_name(planned.config, planned.overrides), perf_counter() - started)
    return True
