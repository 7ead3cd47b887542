"""A sweep: its runs planned, its study left beside them, its runs launched, and its report compiled."""

import math
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from ablations import markdown as md
from ablations.errors import InputError
from ablations.plan import SEED, Given, Plan, plan, quoted
from ablations.progress import sweep_bar
from ablations.report.console import coloured
from ablations.report.text import plain
from ablations.tracking.outbox import deliver
from ablations.tracking.reader import Reader
from ablations.tracking.store import EXPERIMENT_TAG_CHARACTERS, prepare, tag_experiment, tracking_uri
from ablations.tracking.study import Study, tag_of
from ablations.views import share_views

SHOWN_RUNS = 40
PROBED_IMAGES = 1000


@dataclass(frozen=True)
class Job:
    """The configuration of one run, as the run will see it, and the choices that it was composed of."""

    config: DictConfig
    choices: Mapping[str, str | None]

    @classmethod
    def composed(cls, config: DictConfig) -> "Job":
        """Part Hydra's own section from the rest."""
        choices = OmegaConf.to_container(config.hydra.runtime.choices)
        with open_dict(config):
            del config["hydra"]
        return cls(config, choices)

    def logged(self, key: str) -> str:
        """The value of a key as the run logs it: the choice of a group, else the value as text."""
        choice = self.choices.get(key)
        return str(OmegaConf.select(self.config, key) if choice is None else choice)


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
    section = OmegaConf.to_container(config.study, resolve=True)
    given = _given(loader, arguments)
    planned = plan(section, given)
    name = config.name or "-".join(planned.varied) or SEED
    # Composing all of them finds mistakes before anything starts.
    jobs = [Job.composed(loader.load_sweep_config(config, list(job))) for job in planned.jobs]
    study = _study(name, section, planned, jobs)
    uri = tracking_uri(config.tracking.uri)
    if config.dry_run:
        print(_preview(study, jobs, uri, _workers(config)))
        return None

    tell_jobs = {
        "name": name,
        "sweep.id": config.sweep.id or datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f"),
        "sweep.factors": list(planned.varied),
        "sweep.command": study.command,
    }
    with read_write(config.hydra.overrides):
        # Hydra hands these on to every job, whatever the launcher, and prints them nowhere.
        for key, value in tell_jobs.items():
            config.hydra.overrides.hydra.append(f"{key}={_quoted(value)}")
    _keep(study, uri, prepare(uri, config.tracking.experiment))
    _deliver(uri)  # what an earlier command could not
    with sweep_bar(Path(config.hydra.sweep.dir), len(jobs)):
        results = _launched(launcher, planned, config.hydra.runtime.choices["hydra/launcher"])
    _deliver(uri)
    failed = _report(name, uri)
    for result in results:
        _ = result.return_value  # raises what the job raised, if it did: not even its failure is in the store
    if failed:
        sys.exit(1)
    return results


def _launched(launcher: Launcher, planned: Plan, name: str) -> Sequence[JobReturn]:
    """What the runs came to; raises InputError where the launcher or one of its processes failed."""
    try:
        return launcher.launch([list(overrides) for overrides in planned.jobs], initial_job_idx=0)
    except Exception as error:  # any: each launcher has its own; what a run raises is in its result
        what = next(iter(str(error).strip().splitlines()), "")[:300]
        raise InputError(
            f"hydra/launcher={name}: {type(error).__name__}: {what}; the same command goes on from here"
        ) from error


def _given(loader: ConfigLoader, arguments: Sequence[str]) -> dict[str, Given]:
    given = {}
    for override in OverridesParser.create(config_loader=loader).parse_overrides(list(arguments)):
        key = override.key_or_group
        if override.is_sweep_override() and not override.is_discrete_sweep():
            raise InputError(f"{key}: only lists of values, range(…) and glob(…) can be swept")
        swept = override.is_sweep_override()
        values = tuple(override.sweep_string_iterator()) if swept else (override.get_value_element_as_str(),)
        prefix = override.get_key_element()[: -len(key)] if not override.is_delete() else ""
        given[key] = Given(values, swept, prefix, override.input_line or "")
    return given


def _study(name: str, section: dict[str, Any], planned: Plan, jobs: Sequence[Job]) -> Study:
    """The study as the report needs it: levels as the runs will log them."""
    logged = {key: list(dict.fromkeys(job.logged(key) for job in jobs)) for key in planned.factors}
    baseline = {}
    for key in planned.factors:
        wanted = section["baseline"].get(key)
        baseline[key] = str(wanted) if str(wanted) in logged[key] else logged[key][0]
    taken = {
        key: section[key] for key in section.keys() - {"factors", "baseline", "seeds", "nuisance", "claims"}
    }
    claims = [
        claim
        for claim in section["claims"]
        if {str(claim["variant"]), str(claim["baseline"])} <= set(logged.get(claim["factor"], ()))
    ]
    return Study(
        name=name,
        factors=planned.factors,
        baseline=baseline,
        nuisance=planned.nuisance,
        claims=tuple(claims),
        command=shlex.join(["python", "run.py", *sys.argv[1:]]),
        **taken,
    )


def _keep(study: Study, uri: str, experiment_id: str) -> None:
    text = study.to_json()
    if len(text) > EXPERIMENT_TAG_CHARACTERS:
        raise InputError(
            f"study {study.name}: its text has {len(text)} characters, {EXPERIMENT_TAG_CHARACTERS} can be kept; "
            "shorten published, sections or claims"
        )
    tag_experiment(uri, experiment_id, tag_of(study.name), text)


def _deliver(uri: str) -> None:
    for delivery in deliver(uri):
        if delivery.problem is not None:
            print(f"a run is not in the store yet: {delivery.problem}; `python -m ablations.sync` sends it")


def _report(name: str, uri: str) -> int:
    """Compile and show the report; how many of its runs have no result."""
    from ablations.report import compile_report

    share_views(uri, name)
    report = compile_report(name, uri)
    print(f"\n{coloured(report.summary)}\n")
    print(f"report: {report.path}")
    print(f"look at the runs: python -m ablations.ui {shlex.quote(plain(report.name))}")
    return report.failed


# What would be run


def _preview(study: Study, jobs: Sequence[Job], uri: str, workers: int) -> str:
    """The planned runs, which of them exist, and about how long the others take."""
    from ablations.experiment import config_hash

    finished = _finished(uri, jobs[0].config.tracking.experiment)
    exists = [config_hash(job.config) in finished for job in jobs]
    lines = [study.question] if study.question else []
    for job, there in list(zip(jobs, exists, strict=True))[:SHOWN_RUNS]:
        said = " ".join(f"{key}={job.logged(key)}" for key in (*study.varied, SEED))
        lines.append(f"  {said}{'   finished already' if there else ''}")
    if len(jobs) > SHOWN_RUNS:
        lines.append(f"  … and {len(jobs) - SHOWN_RUNS} more")
    ahead = [job.config for job, there in zip(jobs, exists, strict=True) if not there]
    summary = f"{md.many(len(jobs), 'run')} planned, {sum(exists)} of them finished already"
    if ahead:
        at_once = "one at a time" if workers == 1 else f"{workers} at a time"
        try:
            how_long = f"about {md.duration(_estimate(ahead) / min(workers, len(ahead)))}, {at_once}"
        except InputError as error:  # the data are not at hand, as a rule
            how_long = f"a time that is not known: {error}"
        summary += f"; the other {len(ahead)} train for {how_long}"
    return "\n".join([*lines, summary])


def _finished(uri: str, experiment: str) -> set[str]:
    """The configurations with a finished run in the store; none where there is no store yet."""
    try:
        runs = Reader(uri).runs(experiment)
    except InputError:
        return set()
    if "tags.config_hash" not in runs:
        return set()
    return set(runs.loc[runs["status"] == "FINISHED", "tags.config_hash"].dropna())


def _estimate(configs: Sequence[DictConfig]) -> float:
    """Seconds that these runs would take one after the other, from a short training of each kind."""
    from threadpoolctl import threadpool_limits

    from ablations.experiment import config_hash

    known: dict[str, float] = {}
    total = 0.0
    for config in configs:
        kind = config.copy()
        with open_dict(kind):
            kind.seed, kind.trainer.epochs = 0, 1
        key = config_hash(kind)
        if key not in known:
            with threadpool_limits(limits=1):
                known[key] = _seconds_per_epoch(kind)
        total += known[key] * config.trainer.epochs
    return total


def _seconds_per_epoch(config: DictConfig) -> float:
    import numpy as np

    from ablations.experiment import assemble
    from ablations.training import DivergedError, Images, evaluate, train

    parts = assemble(config)
    batch = parts.options.batch_size
    size = min(len(parts.training), batch * max(2, math.ceil(PROBED_IMAGES / batch)))
    some = Images(parts.training.pixels[:size], parts.training.labels[:size])
    evaluated = 0 if parts.validation is None else len(parts.validation)
    with np.errstate(all="ignore"):
        started = time.perf_counter()
        try:
            seconds = next(
                train(
                    parts.network,
                    parts.optimizer,
                    parts.normalization,
                    some,
                    None,
                    parts.streams,
                    parts.options,
                )
            ).seconds
        except DivergedError:
            seconds = time.perf_counter() - started
        started = time.perf_counter()
        evaluate(parts.network, parts.normalization, some)
        seconds += (time.perf_counter() - started) * evaluated / len(parts.training)
    return seconds * len(parts.training) / size


def _workers(config: DictConfig) -> int:
    """How many runs go on at once, as far as the launcher's configuration says it."""
    jobs = config.hydra.launcher.get("n_jobs", 1)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores + 1 + jobs if jobs < 0 else jobs)


def _quoted(value: str | Sequence[str]) -> str:
    return quoted(value) if isinstance(value, str) else f"[{','.join(map(quoted, value))}]"
