"""A dry run: the planned runs, which of them exist, how long the others would take, and how small a difference they
find. Nothing is stored."""

import math
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from ablations.commands import duration, many
from ablations.errors import InputError
from ablations.experiment.finished import Known
from ablations.experiment.job import TRAIN_IMAGES, determining, digest, is_below, leaves, run_name
from ablations.experiment.resume import Train, decide
from ablations.sweep.composing import PlannedRun
from ablations.sweep.offers import Tuning, Variant
from ablations.sweep.plan import SEED, Plan
from ablations.sweep.study import comparisons_of
from ablations.sweep.tuning import foreseen
from ablations.tracking.columns import column, natural, param
from ablations.tracking.store import Store
from ablations.tracking.study import Study
from ablations.training.recipe import typed

if TYPE_CHECKING:
    import pandas as pd

SHOWN_RUNS = 40
PROBED_IMAGES = 1000
PLACES = ("dataset.root", "dataset.mirrors")
PROBE_SECONDS = 5.0
"""How long to time trainings; those that are left take what the others take on average."""


def preview(study: Study, runs: Sequence[PlannedRun], store: Store, launcher: DictConfig) -> str:
    """The text of a dry run; `launcher` is Hydra's section of that name."""
    for run in runs:
        with open_dict(run.config):
            run.config.sweep.factors = list(study.varied)
    names = [" ".join(f"{key}={run.logged(key)}" for key in (*study.varied, SEED)) for run in runs]
    configs = [run.config for run in runs]
    lines = [study.question] if study.question else []
    told = _told(names, configs, study.name, store, workers_of(launcher))
    return "\n".join([*lines, *told, *power(study, runs, store)])


def preview_tuning(
    tuning: Tuning,
    variants: Sequence[Variant],
    study: Study,
    planned: Plan,
    runs: Sequence[PlannedRun],
    store: Store,
    launcher: DictConfig,
) -> str:
    """What the tuning before these runs takes. Where it is done, `runs` are changed to what was chosen."""
    from ablations.comparison.tuning import prefixes

    tuned, left = foreseen(tuning, variants, study, store, runs[0].config.tracking.experiment)
    offered = [each for each in variants if each.offered]
    seeds, trials = many(len(tuning.seeds), "seed"), many(tuning.trials, "trial")
    lines = [
        f"tuning: {many(len(offered), 'variant')} with {trials} of {seeds} each, {left} of them to be made"
    ]
    if tuned is not None:
        earlier = len(tuned.of_prefixes(planned, runs)) if tuning.curve else 0
        tuned.applied(planned, runs)
        lines += [*tuned.told(), f"{many(earlier, 'run')} with what fewer trials chose"]
        return "\n".join(lines)
    each = {id(run.config): (run.config, determining(run.config)) for run in runs}
    ahead = (
        [each[id(variant.config)] for variant in offered] * math.ceil(left / len(offered)) * len(tuning.seeds)
    )
    text = f"at most {many(left * len(tuning.seeds), 'run')}, as some are pruned"
    if tuning.curve:
        earlier = (len(prefixes(tuning.trials)) - 1) * len(runs)
        ahead += list(each.values()) * (len(prefixes(tuning.trials)) - 1)
        text += f"; then at most {many(earlier, 'run')} with what fewer trials chose"
    return "\n".join([*lines, f"{text}: {_how_long(ahead, workers_of(launcher))}"])


def preview_alone(config: DictConfig) -> None:
    """Print the same of a run of its own."""
    print("dry run of 1 run: nothing is trained or stored", flush=True)
    name = run_name(config, HydraConfig.get().overrides.task)
    print("\n".join(_told([name], [config], None, Store(config.tracking.uri), 1)))


def _told(
    names: Sequence[str], configs: Sequence[DictConfig], sweep: str | None, store: Store, workers: int
) -> Iterator[str]:
    """Line by line each run, then how many there are and how long they take."""
    facts = [determining(config) for config in configs]
    known = Known(store, configs[0].tracking.experiment)
    # As the runs themselves would decide it.
    exist = [
        not isinstance(
            decide(known.runs_of(config, each), defaultdict(int), sweep, None, config.tracking.rerun), Train
        )
        for config, each in zip(configs, facts, strict=True)
    ]
    for name, there in list(zip(names, exist, strict=True))[:SHOWN_RUNS]:
        yield f"  {name}{'   finished already' if there else ''}"
    if len(names) > SHOWN_RUNS:
        yield f"  … and {len(names) - SHOWN_RUNS} more"
    ahead = [each for *each, there in zip(configs, facts, exist, strict=True) if not there]
    summary = f"{many(len(names), 'run')} planned, {sum(exist)} of them finished already"
    if ahead:
        summary += f"; the other {len(ahead)} train for {_how_long(ahead, workers)}"
    yield summary


def _how_long(ahead: Sequence[tuple[DictConfig, dict[str, Any]]], workers: int) -> str:
    at_once = "one at a time" if workers == 1 else f"{workers} at a time"
    try:
        seconds, timed = estimate(ahead)
        return f"about {duration(seconds / min(workers, len(ahead)))}, {at_once}{timed}"
    except InputError as error:  # the data are not at hand, or a value makes no sense
        return f"a time that is not known, because not every run can begin: {error}"


def power(study: Study, runs: Sequence[PlannedRun], store: Store) -> Iterator[str]:
    """How small a difference the planned seeds settle, and how many seeds one of the margin's size would need.

    Raises InputError for a `study.spread` that is none.
    """
    from ablations.comparison.power import PROBABILITY, deviation, seeds_for, smallest_difference
    from ablations.comparison.verdicts import MOST_SEEDS, fewest_seeds
    from ablations.report.analysis import one_image, raised

    comparisons = comparisons_of(study, runs)
    ours = [each for each in comparisons if each.metric == study.metric and each.signs]
    if not ours:
        return
    seeds, m = len({run.logged(SEED) for run in runs}), len(comparisons)
    family = f"{many(seeds, 'seed')} and {many(m, 'comparison')}"
    if seeds < (fewest := fewest_seeds(m)):
        yield f"with {family} nothing can be settled: {fewest} seeds are needed at least"
    alike = _alike(_earlier(store), runs)
    margin = raised(study.margin, one_image(alike, study.metric)[1])
    spread, source = _spread(study, runs, alike)
    if math.isnan(spread):
        yield (
            f"how small a difference this finds is not known: {source}; study.spread=NUMBER says by how much "
            f"differences between two variants scatter from seed to seed{', in' * bool(study.unit)}{_in_unit(study)}"
        )
        return
    if seeds >= fewest:
        alone = max(deviation(each, spread) for each in ours if len(each.factors) == 1)
        together = max((deviation(each, spread) for each in ours if len(each.factors) > 1), default=0.0)
        found = [smallest_difference(seeds, m, sd, margin) for sd in (alone, together) if sd]
        beside = f", an interaction of {_sized(found[1], study)}" if len(found) > 1 else ""
        yield (
            f"with {family} a difference of {_sized(found[0], study)} is settled with probability {PROBABILITY}"
            f"{beside} (spread {spread:.2g}, {source})"
        )
    if margin:
        sd = max(deviation(each, spread) for each in ours if len(each.factors) == 1)
        needed = seeds_for(margin, m, sd, margin)
        told = f"more than {MOST_SEEDS} seeds" if needed is None else f"about {many(needed, 'seed')}"
        yield f"a difference of the margin's size, {margin:.2g}{_in_unit(study)}, would need {told}"


def _sized(difference: float, study: Study) -> str:
    return f"{difference:.2g}{_in_unit(study)}"


def _in_unit(study: Study) -> str:
    return f" {study.unit}" if study.unit else ""


def _earlier(store: Store) -> "pd.DataFrame":
    """All runs of the store, none where there is no store yet."""
    import pandas as pd

    from ablations.tracking.reader import Reader

    try:
        return Reader(store).runs()
    except InputError:
        return pd.DataFrame()


def _spread(study: Study, runs: Sequence[PlannedRun], alike: "pd.DataFrame") -> tuple[float, str]:
    """By how much the differences of two variants scatter, and who says it; NaN where nobody does, and why."""
    from ablations.comparison.power import spread

    said = runs[0].config.study.spread
    if said is not None:
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 < said < math.inf:
            raise InputError(f"study.spread: must be a number above 0, in the metric's unit; got {said}")
        return float(said), "as study.spread says"
    if alike.empty:
        return math.nan, "there are no earlier runs of this data set and length"
    found, counted = spread(alike, study.metric)
    kind = "earlier runs of this data set and length"
    if math.isnan(found):
        return found, f"no {kind} have two variants with two seeds in common and {study.metric}"
    return (
        (found, f"as in {counted} {kind}") if found else (math.nan, f"in {kind} every difference is the same")
    )


def _alike(earlier: "pd.DataFrame", runs: Sequence[PlannedRun]) -> "pd.DataFrame":
    """The runs whose data set and number of epochs some planned run has."""
    if earlier.empty:
        return earlier
    kinds: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        section = OmegaConf.to_container(run.config.dataset, resolve=True)
        params = {
            "trainer.epochs": run.config.trainer.epochs,
            "dataset": run.choices["dataset"],
            **dict(leaves(section, "dataset.")),
        }
        for key, value in params.items():
            if key.rpartition(".")[2] != "_target_" and not is_below(key, PLACES):
                kinds[key].add(str(value))
    trained_on = kinds.pop(TRAIN_IMAGES, {str(None)})
    for key, values in kinds.items():
        earlier = earlier[column(earlier, param(key)).map(str).isin(values)]
    logged = column(earlier, param(TRAIN_IMAGES)).map(str)
    if str(None) in trained_on:  # all: as many as any of them had
        trained_on.add(max(logged, key=natural, default=""))
    return earlier[logged.isin(trained_on)]


def at_most(configs: Sequence[DictConfig], times: float, workers: int) -> str:
    """In words how long all rounds can take together, where that is so many `times` the first one."""
    runs = round(len(configs) * times)
    try:
        seconds, _ = estimate([(config, determining(config)) for config in configs])
        how_long = f", about {duration(seconds * times / min(workers, runs))}"
    except InputError:
        how_long = ""
    return (
        f"this is the first round; if nothing is ever settled, all of them make {many(runs, 'run')}{how_long}"
    )


def estimate(ahead: Sequence[tuple[DictConfig, dict[str, Any]]]) -> tuple[float, str]:
    """Seconds that these runs would take one after the other, from a short training of each kind, and a word on
    those for which there was no time."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    kinds: dict[str, DictConfig] = {}
    epochs: dict[str, int] = defaultdict(int)
    for config, facts in ahead:
        key = digest({name: value for name, value in facts.items() if name not in (SEED, "trainer.epochs")})
        kinds.setdefault(key, config)
        epochs[key] += typed(config, "trainer.epochs", int)
    order = np.random.default_rng(0).permutation(list(kinds))  # those that are timed are of all levels
    seconds: dict[str, float] = {}
    until = time.monotonic() + PROBE_SECONDS
    for key in order:
        if seconds and time.monotonic() > until:
            break
        with threadpool_limits(limits=1):
            seconds[key] = _seconds_per_epoch(kinds[key])
    mean = sum(seconds.values()) / len(seconds)
    total = sum(seconds.get(key, mean) * count for key, count in epochs.items())
    every = len(seconds) == len(kinds)
    return total, "" if every else f" ({len(seconds)} of {len(kinds)} variants were timed)"


def _seconds_per_epoch(config: DictConfig) -> float:
    import numpy as np

    from ablations.training.loop import DivergedError, evaluate, train
    from ablations.training.recipe import assemble

    recipe = assemble(OmegaConf.merge(config, {"trainer": {"epochs": 1}}))
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


def workers_of(launcher: DictConfig) -> int:
    """How many runs go on at once, as far as the launcher's configuration says it."""
    from joblib import effective_n_jobs

    return effective_n_jobs(launcher.get("n_jobs", 1))
