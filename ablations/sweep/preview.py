"""A dry run: the planned runs, which of them exist, and how long the others would take. Nothing is stored."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf

from ablations.commands import duration, many
from ablations.errors import InputError
from ablations.experiment.job import config_hash
from ablations.sweep.plan import SEED, PlannedRun
from ablations.tracking.columns import column, tag
from ablations.tracking.reader import Reader
from ablations.tracking.store import Store
from ablations.tracking.study import Study

SHOWN_RUNS = 40
PROBED_IMAGES = 1000


def preview(study: Study, runs: Sequence[PlannedRun], store: Store, launcher: DictConfig) -> str:
    """The text of a dry run; `launcher` is Hydra's section of that name."""
    finished = _finished(store, runs[0].config.tracking.experiment)
    exists = [config_hash(run.config) in finished for run in runs]
    lines = [study.question] if study.question else []
    for run, there in list(zip(runs, exists, strict=True))[:SHOWN_RUNS]:
        levels = " ".join(f"{key}={run.logged(key)}" for key in (*study.varied, SEED))
        lines.append(f"  {levels}{'   finished already' if there else ''}")
    if len(runs) > SHOWN_RUNS:
        lines.append(f"  … and {len(runs) - SHOWN_RUNS} more")
    ahead = [run.config for run, there in zip(runs, exists, strict=True) if not there]
    summary = f"{many(len(runs), 'run')} planned, {sum(exists)} of them finished already"
    if ahead:
        workers = _workers(launcher)
        at_once = "one at a time" if workers == 1 else f"{workers} at a time"
        try:
            how_long = f"about {duration(_estimate(ahead) / min(workers, len(ahead)))}, {at_once}"
        except InputError as error:  # the data are not at hand, as a rule
            how_long = f"a time that is not known: {error}"
        summary += f"; the other {len(ahead)} train for {how_long}"
    return "\n".join([*lines, summary])


def _finished(store: Store, experiment: str) -> set[str]:
    """The configurations with a finished run of this code in the store; none where there is no store yet."""
    from ablations.experiment.provenance import code_hash

    try:
        runs = Reader(store).runs(experiment)
    except InputError:
        return set()
    done = (runs["status"] == "FINISHED") & (column(runs, tag("code_hash")) == code_hash())
    return set(column(runs[done], tag("config_hash")).dropna())


def _estimate(configs: Sequence[DictConfig]) -> float:
    """Seconds that these runs would take one after the other, from a short training of each kind."""
    from threadpoolctl import threadpool_limits

    known: dict[str, float] = {}
    total = 0.0
    for config in configs:
        kind = OmegaConf.merge(config, {"seed": 0, "trainer": {"epochs": 1}})
        key = config_hash(kind)
        if key not in known:
            with threadpool_limits(limits=1):
                known[key] = _seconds_per_epoch(kind)
        total += known[key] * config.trainer.epochs
    return total


def _seconds_per_epoch(config: DictConfig) -> float:
    import numpy as np

    from ablations.training.loop import DivergedError, evaluate, train
    from ablations.training.recipe import assemble

    recipe = assemble(config)
    batch = recipe.options.batch_size
    some = recipe.training.first(batch * max(2, math.ceil(PROBED_IMAGES / batch)))
    with np.errstate(all="ignore"):
        started = time.perf_counter()
        try:
            seconds = next(train(replace(recipe, training=some, validation=None))).seconds
        except DivergedError:
            seconds = time.perf_counter() - started
        started = time.perf_counter()
        evaluate(recipe.network, recipe.normalization, some)
        seconds += (time.perf_counter() - started) * len(recipe.validation or ()) / len(recipe.training)
    return seconds * len(recipe.training) / len(some)


def _workers(launcher: DictConfig) -> int:
    """How many runs go on at once, as far as the launcher's configuration says it."""
    from joblib import effective_n_jobs

    return effective_n_jobs(launcher.get("n_jobs", 1))
