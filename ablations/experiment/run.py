"""The story of one run: what is asked, what is there already, what is trained, and how it is told."""

import sys
import time
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ablations.commands import here, module_command, say, settle_streams
from ablations.commands.signals import stoppable, undisturbed
from ablations.errors import InputError, foreseen, is_bad_input, one_line
from ablations.experiment.checkpoints import Checkpoints
from ablations.experiment.evaluation.measure import Further, measure
from ablations.experiment.evaluation.reading import Reader
from ablations.experiment.job import Job
from ablations.experiment.lease import HOLDER_TAG, Holder, Lease, leased
from ablations.experiment.metrics import EVERY_EPOCH
from ablations.experiment.progress import DONE
from ablations.experiment.record import (
    OutrunError,
    Record,
    copy,
    recorded,
    runs_of,
    write_traceback,
)
from ablations.experiment.result import Result
from ablations.experiment.resume import (
    Adopt,
    Copy,
    Train,
    decide,
    has_result,
    is_trained_elsewhere,
    leftovers,
    may_go_on,
    tags_of_adoption,
    without_store,
)
from ablations.tracking.earlier import (
    EarlierRun,
    IncompleteError,
    discard,
    kept_runs,
    last_epoch,
    last_kept_epoch,
)
from ablations.tracking.outbox import deliver
from ablations.tracking.store import AwayError
from ablations.tracking.writer import Tracker
from ablations.training.loop import Evaluation, evaluate, train


def run(config: DictConfig) -> None:
    """Train, evaluate and track one configuration with one seed.

    What was done before is not done again: a run with the same configuration, data and code that has its result is
    used, one that was interrupted goes on. In a sweep a failing run is recorded as FAILED and the others go on; a
    single run raises.
    """
    from threadpoolctl import threadpool_limits

    settle_streams()
    with (
        stoppable(),
        # These matrices are small, and the last bits must not depend on the number of cores.
        threadpool_limits(limits=1),
        np.errstate(all="ignore"),  # what overflows is caught as divergence
    ):
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            _run_in_sweep(config)
        else:
            _run_alone(config)


def _result(job: Job) -> Result:
    """The job's result: an earlier one, or that of a training, of which only what is missing is done."""
    unusable: set[str] = set()
    with _leased(job) as lease:
        while True:
            try:
                return _done(job, lease, _what_is_left(job, lease, unusable))
            except OutrunError:
                continue  # whose run stays is waited for
            except IncompleteError as error:
                say(f"{job.name}: {error}; it is trained again")
                unusable.add(error.run_id)


def _done(job: Job, lease: Lease, task: Adopt | Copy | Train) -> Result:
    match task:
        case Adopt(found):
            # It belongs to this invocation now: what is asked for last is what the report is about.
            if job.sweep is not None:
                with closing(Tracker.of(job.store, *found.ids)) as tracker:
                    tracker.set_tags(tags_of_adoption(found, job.invocation))
            Checkpoints(lease.folder).remove()
            return Result.of(found)
        case Copy(source):
            copy(job, task, lease)
            return Result.of(source)
        case Train():
            with recorded(job, task, lease) as record:
                record.finish(*_trained(job, record))
            return Result(record.tracker.run_id, record.accuracy, record.error, learned=record.learned)


def _trained(job: Job, record: Record) -> tuple[Evaluation, Further]:
    """Train the job's network, from its last checkpoint on, and test it; a trial, which nobody compares, no further."""
    if job.problem is not None:
        raise job.problem
    recipe = job.recipe
    with record.going_on():
        for epoch in train(recipe, record.watch, record.keep, record.state):
            record.epoch(epoch)
    test = evaluate(recipe.network, recipe.normalization, recipe.test)
    if job.trial is not None:
        return test, Further()
    return test, measure(job.parts, Reader(recipe.network, recipe.normalization), recipe.dataset)


def _run_alone(config: DictConfig) -> None:
    try:
        job = Job.of(config)
        if job.problem is not None:
            raise job.problem
        result = _result(job)
        if result.error is not None:
            raise result.error
    except Exception as error:  # Hydra would print more than the one line that is the user's concern
        hint = "" if foreseen(error) else f" (traceback in {write_traceback(error)})"
        print(here(f"error: {one_line(error)}{hint}"), file=sys.stderr)
        sys.exit(2 if is_bad_input(error) else 1)
    print(
        f"{job.name}: {result.remark}test accuracy {result.accuracy:.2%},"
        f" {result.test_error}\n"
        f"run {result.run_id} in {job.store.shown}\n"
        f"look at it: {module_command('ui', result.run_id, *job.store.option)}"
    )


def _run_in_sweep(config: DictConfig) -> None:
    """Raises where not even the failure can be recorded, so that the sweep knows of it."""
    started = time.perf_counter()
    job = Job.of(config)
    try:
        result = _result(job)
    except Exception as error:  # before its training began: the store must know of it all the same
        result = _result(replace(job, problem=error))
    seconds = time.perf_counter() - started
    done = "" if result.remark else str(seconds)
    (Path(HydraConfig.get().runtime.output_dir) / DONE).write_text(done, encoding="utf-8")
    result.say(job.name, seconds)


# What is there already


@contextmanager
def _leased(job: Job) -> Iterator[Lease]:
    """The sole right to do the job, where its store is ready or, in a sweep, may be away.

    Raises AwayError for a store that is away; in a sweep, in whose middle that may happen, it is gone without.
    """
    try:
        job.store.prepare(job.experiment)
        deliver(job.store)  # a run that waits in the outbox may be the one that is wanted
    except AwayError:
        if job.sweep is None:
            raise
    with leased(job.folder, lambda process: _say_busy(job, process)) as lease:
        yield lease


def _what_is_left(job: Job, lease: Lease, unusable: Collection[str]) -> Adopt | Copy | Train:
    """What to do for the job, once no other process does it; what stands in the way is cleared."""
    checkpoint, complaints = Checkpoints(lease.folder).latest(job.identity)
    for complaint in complaints:
        say(f"{job.name}: {complaint}")
    try:
        earlier = _settled(job, lease)
        unfinished = [run for run in earlier if not has_result(run)]
        if job.store.path is None:
            unfinished = [run for run in unfinished if may_go_on(run, lease.lock)]
        epochs = {run.run_id: last_epoch(job.store, run, EVERY_EPOCH) for run in unfinished}
    except AwayError:
        if job.sweep is None:
            raise
        earlier = without_store(runs_of(job, kept_runs), job.sweep, checkpoint)
        epochs = {run.run_id: last_kept_epoch(run, "train/loss") for run in earlier}
    decision = decide(earlier, epochs, job.sweep, checkpoint, job.rerun, unusable)
    replaced, orphans = leftovers(earlier, job.sweep, decision)
    if replaced or orphans or not isinstance(decision, Adopt):
        _warm_up(job)
    with undisturbed(), suppress(AwayError):  # else it is cleared the next time
        for orphan in orphans:
            Tracker.of(job.store, *orphan.ids).fail("interrupted", "its process is gone")
        for stale in replaced:
            discard(job.store, stale)
    return decision


def _warm_up(job: Job) -> None:
    """Import what writing takes, for seconds, before signals have to wait."""
    with suppress(InputError):
        job.store.warm_up()


def _settled(job: Job, lease: Lease) -> list[EarlierRun]:
    """The earlier runs of a job, once no process trains any of them."""
    told = False
    while True:
        earlier = runs_of(job)
        busy = [run for run in earlier if is_trained_elsewhere(run, lease.lock, job.heartbeat_s)]
        if not busy:
            return earlier
        if not told:
            holder = Holder.parse(busy[0].tags[HOLDER_TAG])
            _say_busy(job, f"{holder.process} on {holder.host}")
        told = True
        time.sleep(min(job.heartbeat_s, 5.0))


def _say_busy(job: Job, process: str) -> None:
    say(f"{job.name}: is being trained by process {process}, waiting for it")
