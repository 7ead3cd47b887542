"""The story of one run: what is asked, what is there already, what is trained, and how it is told."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from ablations.commands import settle_streams
from ablations.errors import InputError, foreseen, one_line
from ablations.experiment.checkpoints import Checkpoints
from ablations.experiment.job import Job
from ablations.experiment.lease import HOLDER_TAG, Holder, Lease, leased
from ablations.experiment.progress import DONE, say
from ablations.experiment.record import Record, copy, recorded, write_traceback
from ablations.experiment.resume import (
    Adopt,
    Copy,
    Train,
    decide,
    decide_without_store,
    has_result,
    is_trained_elsewhere,
    leftovers,
)
from ablations.signals import stoppable, undisturbed
from ablations.tracking.earlier import EarlierRun, earlier_runs, last_epoch
from ablations.tracking.outbox import deliver
from ablations.tracking.store import AwayError
from ablations.tracking.writer import Tracker
from ablations.training.loop import DivergedError, Evaluation, evaluate, train


@dataclass(frozen=True)
class Result:
    """What a job came to, as the store has it: the test accuracy of its run, or the error that it failed with.

    `remark` says where that is not from now.
    """

    run_id: str
    accuracy: float | None = None
    error: Exception | None = None
    remark: str = ""


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
    with _leased(job) as lease:
        match _what_is_left(job, lease):
            case Adopt(found):
                # It belongs to this invocation now: what is asked for last is what the report is about.
                if job.sweep is not None:
                    Tracker(job.store, found.run_id).set_tags(job.invocation)
                return _found(found)
            case Copy(source) as task:
                copy(job, task, lease)
                return _found(source)
            case Train() as task:
                with recorded(job, task, lease) as record:
                    record.finish(_trained(job, record))
                return Result(record.tracker.run_id, record.accuracy, record.error)


def _trained(job: Job, record: Record) -> Evaluation:
    """Train the job's network, from its last checkpoint on, and test it."""
    if job.problem is not None:
        raise job.problem
    recipe = job.recipe
    with record.going_on():
        for epoch in train(recipe, record.watch, record.keep, record.state):
            record.epoch(epoch)
    return evaluate(recipe.network, recipe.normalization, recipe.test)


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
        sys.exit(f"error: {one_line(error)}{hint}")
    say(
        f"{job.name}: {result.remark}test accuracy {result.accuracy:.2%},"
        f" test error {100 * (1 - result.accuracy):.2f} %\n"
        f"run {result.run_id} in {job.store.uri}\n"
        f"look at it: python -m ablations.ui"
    )


def _run_in_sweep(config: DictConfig) -> None:
    """Raises where not even the failure can be recorded, so that the sweep knows of it."""
    started = time.perf_counter()
    job = Job.of(config)
    try:
        result = _result(job)
    except Exception as error:  # before its training began: the store must know of it all the same
        result = _result(replace(job, problem=error))
    if result.error is None:
        outcome = f"{result.remark}test error {100 * (1 - result.accuracy):.2f} %"
    else:
        outcome = f"FAILED: {one_line(result.error)}"
    (Path(HydraConfig.get().runtime.output_dir) / DONE).touch()
    say(f"{job.name}: {outcome}, {time.perf_counter() - started:.1f} s")


def _found(run: EarlierRun) -> Result:
    """The result that a run of the store has."""
    if run.status != "FINISHED":
        reason = run.tags.get("failure_reason", "diverged")
        again = f"as before (run {run.run_id}; tracking.rerun=true trains it again)"
        return Result(run.run_id, error=DivergedError(f"{reason}, {again}"))
    return Result(run.run_id, run.metrics["test/accuracy"], remark=f"already finished (run {run.run_id}), ")


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


def _what_is_left(job: Job, lease: Lease) -> Adopt | Copy | Train:
    """What to do for the job, once no other process does it; what stands in the way is cleared."""
    checkpoint, complaints = Checkpoints(lease.folder).latest(job.identity)
    for complaint in complaints:
        say(f"{job.name}: {complaint}")
    try:
        earlier = _settled(job, lease)
        unfinished = [run.run_id for run in earlier if not has_result(run)]
        epochs = {run_id: last_epoch(job.store, run_id, "train/loss") for run_id in unfinished}
    except AwayError:
        if job.sweep is None:
            raise
        decision = decide_without_store(checkpoint)
        _warm_up(job)
        return decision
    decision = decide(earlier, epochs, job.sweep, checkpoint, job.rerun)
    replaced, orphans = leftovers(earlier, job.sweep, decision)
    if replaced or orphans or not isinstance(decision, Adopt):
        _warm_up(job)
    with undisturbed(), suppress(AwayError):  # else it is cleared the next time
        for orphan in orphans:
            Tracker(job.store, orphan.run_id).fail("interrupted", "its process is gone")
        for stale in replaced:
            job.store.discard(stale.run_id)
    return decision


def _warm_up(job: Job) -> None:
    """Import what writing takes, for seconds, before signals have to wait."""
    with suppress(InputError), job.store.client():
        pass


def _settled(job: Job, lease: Lease) -> list[EarlierRun]:
    """The earlier runs of a job, once no process trains any of them."""
    told = False
    while True:
        earlier = _earlier(job)
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


def _earlier(job: Job) -> list[EarlierRun]:
    """The runs of the same configuration and code, and of the same data as far as they got to know them."""
    identity = dict(job.identity)
    data = identity.pop("data_sha256", None)
    found = earlier_runs(job.store, job.experiment, identity)
    return [run for run in found if run.tags.get("data_sha256") in (data, None)]
