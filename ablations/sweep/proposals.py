"""What Optuna proposes to one variant, and what it is told: the only module that imports it."""

import hashlib
import sqlite3
import warnings
from collections.abc import Mapping
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ablations.errors import InputError
from ablations.ground.paths import MLRUNS
from ablations.sweep.offers import GRID, RANDOM, Offer, Tuning, Variant, grid
from ablations.tracking.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

FILE = "optuna.db"
RANDOM_FIRST = 4
"""So many trials are drawn at random before TPE has something to go by."""
DIGITS = 4
"""Of a number that is drawn from a range: what is shown is what is used."""
PATIENCE_S = 60


def require_optuna() -> None:
    """Raises InputError where it is not installed; keeps it quiet where it is."""
    try:
        import optuna
    except ImportError:
        raise InputError('study.tuning needs optuna; accepted: pip install -e ".[tuning]"') from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def file_of(store: Store) -> Path:
    """Where Optuna keeps what it was told: beside a local store, else in the project."""
    return (store.path.parent if store.path else MLRUNS) / FILE


@contextmanager
def opened(path: Path) -> "Iterator[BaseStorage]":
    """Optuna's file, made where there is none. Raises InputError where it is none of Optuna's or cannot be written."""
    from optuna.exceptions import OptunaError
    from optuna.storages import RDBStorage
    from sqlalchemy import event
    from sqlalchemy.exc import SQLAlchemyError

    try:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA journal_mode=WAL")
        options = {"connect_args": {"timeout": PATIENCE_S}}
        storage = RDBStorage(f"sqlite:///{path}", engine_kwargs=options)
        event.listen(storage.engine, "connect", _quick)
    except (OptunaError, SQLAlchemyError, sqlite3.Error, OSError, RuntimeError) as error:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(
            f"cannot use {path}: {line[:200]}; move it away, and tuning adopts its runs again"
        ) from None
    try:
        yield storage
    finally:
        storage.engine.dispose()


def _quick(connection: sqlite3.Connection, _: object) -> None:
    """What was told last may be lost with the power, and is told again: else each number would wait for the disk."""
    connection.execute("PRAGMA synchronous=NORMAL")


class Proposals:
    """The trials of one variant.

    Trial k depends on those before it and on the seed alone: each has a sampler of its own, seeded by the study's seed,
    the variant and k, so that it does not matter how often a command was stopped in between.
    """

    def __init__(self, storage: "BaseStorage", tuning: Tuning, variant: Variant, smaller: bool) -> None:
        import optuna

        self.variant, self._tuning, self._smaller = variant, tuning, smaller
        self._distributions = {key: _distribution(of) for key, of in variant.offered.items()}
        self._study = optuna.create_study(
            storage=storage,
            study_name=f"{variant.name} ({variant.id})",
            direction="minimize" if smaller else "maximize",
            pruner=optuna.pruners.NopPruner(),  # the runs stop by themselves
            load_if_exists=True,
        )
        self._trials = self._study.get_trials(deepcopy=False)

    def setting(self, number: int) -> dict[str, Any]:
        """By key what the trial of this number (from 1) tries: as it was proposed before, else as it is now."""
        if number > len(self._trials):
            self._study.sampler = self._sampler(number)
            self._study.ask(self._distributions)
            self._refresh()
        offered = self.variant.offered
        params = self._trials[number - 1].params
        return {key: _rounded(params[key], of) for key, of in offered.items()}

    def same_as(self, number: int) -> int:
        """The first trial that tries the setting of this one."""
        own = self.setting(number)
        return next(each for each in range(1, number + 1) if self.setting(each) == own)

    def is_told(self, number: int) -> bool:
        """Whether Optuna knows what the trial came to."""
        return number <= len(self._trials) and self._trials[number - 1].state.is_finished()

    def tell_same(self, number: int, first: int) -> None:
        """Say that a trial came to the same as an earlier one of the same setting."""
        earlier = self._trials[first - 1]
        self.tell(
            number, earlier.value if earlier.state.name == "COMPLETE" else None, earlier.intermediate_values
        )

    def tell(self, number: int, value: float | None, by_epoch: Mapping[int, float]) -> None:
        """Say what a trial came to: its value, infinite for one that diverged, None for one that was pruned."""
        import optuna

        trial = optuna.trial.Trial(self._study, self._trials[number - 1]._trial_id)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a command that was killed has reported already
            for epoch, each in sorted(by_epoch.items()):
                trial.report(each, epoch)
        pruned = optuna.trial.TrialState.PRUNED if value is None else None
        self._study.tell(number - 1, value, state=pruned)
        self._refresh()

    @property
    def worst(self) -> float:
        """The value of a trial that diverged."""
        return np.inf if self._smaller else -np.inf

    def _refresh(self) -> None:
        self._trials = self._study.get_trials(deepcopy=False)

    def _sampler(self, number: int) -> "BaseSampler":
        from optuna import samplers

        seed = _seed(self._tuning.seed, self.variant.name, number)
        if self._tuning.sampler == RANDOM:
            return samplers.RandomSampler(seed)
        if self._tuning.sampler == GRID:
            keys = list(self.variant.offered)
            settings = list(product(*grid(self.variant.offered)))
            order = np.random.default_rng(_seed(self._tuning.seed, self.variant.name, 0)).permutation(
                len(settings)
            )
            fixed = dict(zip(keys, settings[order[number - 1]], strict=True))
            return samplers.PartialFixedSampler(fixed, samplers.RandomSampler(seed))
        return samplers.TPESampler(n_startup_trials=RANDOM_FIRST, seed=seed)


def _seed(*parts: object) -> int:
    """32 bits that are the same for the same parts on every machine."""
    return int(hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:8], 16)


def _distribution(of: Offer) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if "values" in of:
        return CategoricalDistribution(of["values"])
    if isinstance(of["low"], int):
        return IntDistribution(of["low"], of["high"], log=of["log"], step=of.get("step", 1))
    return FloatDistribution(of["low"], of["high"], log=of["log"], step=of.get("step"))


def _rounded(value: Any, of: Offer) -> Any:
    """A proposed value as it is used: a number of a range has few digits, and stays within."""
    if "values" in of or isinstance(of["low"], int):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), of["low"]), of["high"])
