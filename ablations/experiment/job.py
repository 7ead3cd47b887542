"""What one run is asked to do, where it is tracked, and how it is recognised when it is asked for again."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from ablations.errors import InputError
from ablations.experiment.evaluation.measure import Parts
from ablations.experiment.provenance import code_hash
from ablations.experiment.trial import Trial
from ablations.ground.paths import MLRUNS
from ablations.tracking.store import Store
from ablations.training.recipe import Recipe, assemble, typed

NOT_DETERMINING = (
    *(
        "name",
        "sweep",
        "study",
        "until",
        "budget",
        "seeds_at_least",
        "seeds_at_most",
        "dry_run",
        "figures",
        "tracking",
        "evaluation",
    ),
    *("dataset.root", "dataset.mirrors"),
)
"""Keys that do not change the result of a run, and so do not enter its `config_hash` unless they are compared."""

TRAIN_IMAGES = "dataset.train_images"
"""The key of how many images are trained on, and the param: of null it says how many there were."""

WHERE_GIVEN = (TRAIN_IMAGES,)
"""Keys that came later, and whose null is what was done before: only another value enters the `config_hash` and the
params of a configuration."""

DATA = "data_sha256"
"""The tag of the data, which a run gets to know last."""

NOT_PARAMS = tuple(key for key in NOT_DETERMINING if "." not in key)
"""Sections that are no params of a run."""


@dataclass(frozen=True)
class Wanted:
    """One configuration as part of what one command asked for, and where it is tracked; nothing of it is assembled.

    Attributes:
        config: all of it.
        store: where its run is.
    """

    config: DictConfig
    store: Store

    @property
    def data_sha256(self) -> str | None:
        """Of its data, None where they are not known."""
        raise NotImplementedError

    @property
    def experiment(self) -> str:
        """The name of its MLflow experiment."""
        return self.config.tracking.experiment

    @property
    def sweep(self) -> str | None:
        """The name of its sweep, None for a run of its own."""
        return self.config.name if self.config.sweep.id is not None else None

    @cached_property
    def identity(self) -> dict[str, str]:
        """The tags in which runs with the same result agree: of configuration, code and, where known, data."""
        return identity(determining(self.config), self.data_sha256)

    @cached_property
    def trial(self) -> Trial | None:
        """What it is told of its trial; None where it is part of none. Raises InputError."""
        return Trial.of(self.config)

    @property
    def invocation(self) -> dict[str, str]:
        """The tags that tie the runs of one command together; none for a run of its own."""
        if self.sweep is None:
            return {}
        sweep = self.config.sweep
        return {
            **(self.trial.tags if self.trial else {}),
            "sweep": self.sweep,
            "sweep_id": sweep.id,
            "factors": ",".join(sweep.factors),
            "command": sweep.command,
        }


@dataclass(frozen=True)
class Job(Wanted):
    """What this process is to do for a configuration.

    Attributes:
        heartbeat_s: how often it shows in the store that it is alive.
        rerun: whether to train again what has its result.
        parts: what else is measured once it is trained.
        recipe: what its training needs; None where that could not be assembled.
        problem: why it could not, or what went wrong before its training began.
    """

    heartbeat_s: float
    rerun: bool
    parts: Parts
    recipe: Recipe | None
    problem: Exception | None = None

    @classmethod
    def of(cls, config: DictConfig) -> "Job":
        """Assemble what `config` asks for. Raises InputError for what says where and how to track it."""
        recipe = problem = None
        try:
            recipe = assemble(config)
        except Exception as error:  # the store is to know of it, too
            problem = error
        heartbeat_s = typed(config, "tracking.heartbeat_s", float)
        if not heartbeat_s > 0:
            raise InputError(f"tracking.heartbeat_s: must be positive, got {heartbeat_s}")
        rerun = typed(config, "tracking.rerun", bool)
        parts = Parts(**{part.name: typed(config, f"evaluation.{part.name}", bool) for part in fields(Parts)})
        return cls(config, Store(config.tracking.uri), heartbeat_s, rerun, parts, recipe, problem)

    @property
    def name(self) -> str:
        """What distinguishes the run: its factors in a sweep, what was set by hand otherwise; and its seed."""
        return run_name(self.config, HydraConfig.get().overrides.task)

    @property
    def data_sha256(self) -> str | None:
        return self.recipe.dataset.sha256 if self.recipe else None

    @property
    def folder(self) -> Path:
        """Where its checkpoints are."""
        store = (
            self.store.path.name if self.store.path else self.store.shown
        )  # beside it, wherever that is moved to
        rest = json.dumps([store, self.experiment, self.identity])
        digest = hashlib.sha256(rest.encode()).hexdigest()[:16]
        return checkpoints(self.store) / f"{self.identity['config_hash']}-{digest}"

    @property
    def params(self) -> dict[str, object]:
        """The choice of each config group under its name, every other value under its dotted key, and sizes."""
        params = logged_params(self.config, HydraConfig.get().runtime.choices)
        return params if self.recipe is None else params | self.recipe.sizes


def checkpoints(store: Store) -> Path:
    """Where the folders of checkpoints are, each named after a `config_hash`: beside a local store, else in the
    project."""
    return (store.path.parent if store.path else MLRUNS) / "checkpoints"


def run_name(config: DictConfig, overrides: Iterable[str]) -> str:
    """The name of the run of a configuration that was composed of these overrides."""
    given = dict(override.lstrip("+~").partition("=")[::2] for override in overrides)
    alone = config.sweep.id is None
    shown = [key for key in (given if alone else config.sweep.factors) if key in given]
    unsaid = (
        "seed",
        "name",
        "sweep",
        "tracking",
        "evaluation",
        "dry_run",
        *(["dataset.root"] if alone else []),
    )
    return " ".join(
        [*(f"{key}={given[key]}" for key in shown if not is_below(key, unsaid)), f"seed={config.seed}"]
    )


def logged_params(config: DictConfig, choices: Mapping[str, str | None]) -> dict[str, object]:
    """The choice of each config group under its name, and every other value under its dotted key."""
    params: dict[str, object] = {
        group: choice
        for group, choice in choices.items()
        if choice is not None and "hydra/" not in group and group not in NOT_PARAMS
    }
    for key, value in leaves(OmegaConf.to_container(config, resolve=True)):
        named = key.rpartition(".")[2] != "_target_" and not is_below(key, NOT_PARAMS)
        if named and _is_given(key, value):
            params[key] = value
    return params


def identity(facts: Mapping[str, Any], data_sha256: str | None) -> dict[str, str]:
    """The tags in which runs with the same result agree; `facts` as `determining` gives them."""
    data = {} if data_sha256 is None else {DATA: data_sha256}
    return {"config_hash": digest(facts), "code_hash": code_hash(), **data}


def determining(config: DictConfig) -> dict[str, Any]:
    """By dotted key everything that determines the result, and what a sweep compares."""
    passed_over = set(NOT_DETERMINING) - set(config.sweep.factors)
    kept = leaves(OmegaConf.to_container(config, resolve=True))
    return {key: value for key, value in kept if not is_below(key, passed_over) and _is_given(key, value)}


def _is_given(key: str, value: object) -> bool:
    return value is not None or key not in WHERE_GIVEN


def digest(values: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that agree exactly where the values agree."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def is_below(key: str, names: Iterable[str]) -> bool:
    """Whether a dotted key is one of these, or lies below one."""
    return any(key == name or key.startswith(f"{name}.") for name in names)


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; lists are values."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
