"""The MLflow run of a job, while it is trained: what is measured, kept and left behind, and how it ended."""

import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig

from ablations.commands import say
from ablations.commands.signals import Terminated, stop_if_told, undisturbed
from ablations.errors import InputError, foreseen, one_line
from ablations.experiment.artifacts import RESULT_FILES, RESULT_METRICS, write_artifacts
from ablations.experiment.checkpoints import Checkpoint, Checkpoints, Measured
from ablations.experiment.evaluation.measure import REJECTION_TAG, SHIFT_TAG, Further
from ablations.experiment.job import DATA, Job
from ablations.experiment.lease import HOLDER_TAG, Lease
from ablations.experiment.metrics import EVERY_EPOCH, epoch_metrics, step_metrics, test_metrics
from ablations.experiment.progress import ProgressBar
from ablations.experiment.provenance import provenance
from ablations.experiment.result import DID_NOT_LEARN
from ablations.experiment.resume import (
    FIRST_INVOCATION,
    RERUN_TAG,
    Copy,
    Train,
    first_invocation,
    is_of,
    is_trained_elsewhere,
    stays,
)
from ablations.experiment.trial import PrunedError
from ablations.ground.paths import draft_folder
from ablations.tracking.earlier import EarlierRun, IncompleteError, earlier_runs, log_copied, results
from ablations.tracking.store import AwayError
from ablations.tracking.writer import Tracker
from ablations.training.loop import DivergedError, Epoch, Evaluation, State, Step

OF_THE_RESULT = ("code", "machine", "versions", DID_NOT_LEARN, SHIFT_TAG, REJECTION_TAG)
"""Tags that a copied result has from where it was made."""


class OutrunError(Exception):
    """Another process, which began at the same moment, trains the same; its run stays, and ours is gone."""


class Record:
    """The run of a job that is being trained.

    What was measured reaches the store once it is in a checkpoint, so that it gets there again, with the same values
    and times, from any later start, and never another time.

    Attributes:
        state: to go on from; None: from the beginning.
        accuracy: of the test images, once it is finished.
        learned: whether that is more than always answering one class would give.
        error: what the training failed with, if it did.
    """

    def __init__(self, job: Job, lease: Lease, tracker: Tracker, checkpoint: Checkpoint | None) -> None:
        self.job, self.tracker = job, tracker
        self.state: State | None = None if checkpoint is None else checkpoint.state
        self.accuracy: float | None = None
        self.learned = True
        self.error: Exception | None = None
        self._lease = lease
        self._checkpoints = Checkpoints(lease.folder)
        self._measured: list[Measured] = [] if checkpoint is None else list(checkpoint.measured)
        self._sent = 0
        self._beat = time.monotonic()
        self._warned = False
        self._bar: ProgressBar | None = None

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Show where the training is, from where it goes on."""
        recipe, done = self.job.recipe, 0
        steps = -(-len(recipe.training) // recipe.options.batch_size)
        if self.state is not None:
            done = self.state.epoch
            say(f"{self.job.name}: goes on after epoch {done} of {recipe.options.epochs}")
            self._send()
        alone = "basic" in str(HydraConfig.get().runtime.choices["hydra/launcher"])
        with ProgressBar(self.job.name, recipe.options.epochs * steps, alone, done * steps) as self._bar:
            yield

    def watch(self, step: Step) -> None:
        """Take note of a step; stop here where this process is to stop."""
        stop_if_told()
        self._bar(step)
        every = self.job.recipe.every_steps
        if every is not None and step.number % every == 0:
            self._measure(step_metrics(step), step.number)
        if time.monotonic() - self._beat > self.job.heartbeat_s:
            self._beat = time.monotonic()
            if tags := _heartbeat(self.job):
                with undisturbed():
                    self.tracker.set_tags(tags)

    def epoch(self, epoch: Epoch) -> None:
        """Take note of what an epoch measured. Raises PrunedError where its trial need not go on."""
        self._measure(epoch_metrics(epoch), epoch.number)
        if self.job.trial is not None:
            self.job.trial.require_ahead(self._history())

    def keep(self, state: State) -> None:
        """Keep a checkpoint, and send what it holds."""
        checkpoint = Checkpoint(self.job.identity, self.tracker.run_id, state, self._measured)
        try:
            saved = self._checkpoints.save(checkpoint, must=state.epoch == self.job.recipe.options.epochs)
        except OSError as error:  # a full disk does not stop the training
            saved = True
            if not self._warned:
                say(f"{self.job.name}: goes on without checkpoints: {error}")
                self._warned = True
        if saved:
            self._send()

    def finish(self, test: Evaluation, further: Further) -> None:
        """Log the result, what else was measured and what the run leaves behind, and end it.

        Raises OutrunError where another one did.
        """
        _require_place(self.job, self._lease, self.tracker)
        # With the last epoch's time stamp, so that an evaluation that is done again is the same.
        epochs, last = self.job.recipe.options.epochs, self._measured[-1].time_ms
        self.tracker.log_metrics(test_metrics(test) | further.metrics, epochs, last)
        self.learned = has_learned(test.accuracy, self.job.recipe.test.labels)
        if tags := further.tags | ({} if self.learned else {DID_NOT_LEARN: "true"}):
            self.tracker.set_tags(tags)
        with draft_folder() as folder:
            write_artifacts(folder, self.job.config, self.job.recipe, test)
            with undisturbed():
                self.tracker.log_files(folder)
        with undisturbed():
            self.tracker.finish()
            self.accuracy = test.accuracy
            self._checkpoints.remove()

    def fail(self, error: BaseException) -> None:
        """End the run, saying why it has no result: as KILLED where it was pruned, else as FAILED; the traceback goes
        to the log file and the artifacts."""
        if isinstance(error, PrunedError):
            self._send()
            self.tracker.fail("pruned", one_line(error), "KILLED")
            self._checkpoints.remove()
            return
        if isinstance(error, KeyboardInterrupt):
            by = error.signal.name if isinstance(error, Terminated) else "Ctrl-C"
            with suppress(InputError):  # the run is taken up again in any case
                self.tracker.fail("interrupted", f"stopped by {by}")
            return
        if not foreseen(error):
            self.tracker.log_text(write_traceback(error).read_text(encoding="utf-8"), "traceback.txt")
        diverged = isinstance(error, DivergedError)
        self.tracker.fail("diverged" if diverged else "error", one_line(error))
        if diverged:  # as it would again
            self._checkpoints.remove()

    def _history(self) -> list[Mapping[str, float]]:
        """The metrics of each epoch."""
        return [each.metrics for each in self._measured if EVERY_EPOCH in each.metrics]

    def _measure(self, metrics: Mapping[str, float], step: int) -> None:
        self._measured.append(Measured(metrics, step, time.time_ns() // 1_000_000))

    def _send(self) -> None:
        for each in self._measured[self._sent :]:
            self.tracker.log_metrics(each.metrics, each.step, each.time_ms)
        self._sent = len(self._measured)
        with undisturbed():  # an exception inside a transaction could leave the database locked
            self.tracker.flush(every=1.0)


def has_learned(accuracy: float, labels: np.ndarray) -> bool:
    """Whether an accuracy on images of these labels is more than always answering the most frequent class gives, by
    more than the standard error of that share: on 360 digits 11.9 %, on 10,000 of MNIST 11.7 %."""
    share = np.bincount(labels).max() / len(labels)
    return bool(accuracy == 1 or accuracy > share + np.sqrt(share * (1 - share) / len(labels)))


@contextmanager
def recorded(job: Job, task: Train, lease: Lease) -> Iterator[Record]:
    """The record of a job's training: however the block ends, its run does not stay RUNNING.

    An error of the training is in the record's `error`. Raises what comes before the run can be written to, what
    stops this process, and OutrunError.
    """
    record = None
    try:
        with undisturbed():
            record = Record(job, lease, _open(job, task.into, lease, {}), task.checkpoint)
        yield record
    except OutrunError:
        raise
    except BaseException as error:
        if record is not None and record.accuracy is None:
            with undisturbed():  # by a signal after the signal
                record.fail(error)
        if record is None or not isinstance(error, Exception):
            raise
        record.error = error


def copy(job: Job, task: Copy, lease: Lease) -> None:
    """Give a sweep its own record of a result that another one has.

    Raises IncompleteError where that cannot be copied whole, OutrunError where another process did.
    """
    source = task.source
    finished = source.status == "FINISHED"
    needed = (RESULT_METRICS, RESULT_FILES) if finished else ((), ())
    with ExitStack() as stack:
        try:
            copied = stack.enter_context(results(job.store, source.run_id, *needed))
        except IncompleteError:
            raise
        except InputError as error:
            raise IncompleteError(source.run_id, f"cannot be copied: {error}") from error
        with undisturbed():
            kept = {tag: source.tags[tag] for tag in OF_THE_RESULT if tag in source.tags}
            if job.sweep is not None:
                kept[FIRST_INVOCATION] = first_invocation(source, job.invocation)
            tracker = _open(job, task.into, lease, {**kept, "copied_from": source.run_id})
            log_copied(copied, tracker)
            if finished:
                tracker.finish()
            else:
                tracker.fail(source.tags["failure"], source.tags.get("failure_reason", ""))


def runs_of(job: Job, find: Callable[..., list[EarlierRun]] = earlier_runs) -> list[EarlierRun]:
    """The runs of the same configuration and code, and of the same data as far as they got to know them."""
    tags = {key: value for key, value in job.identity.items() if key != DATA}
    return [run for run in find(job.store, job.experiment, tags) if is_of(run, job.identity)]


def write_traceback(error: BaseException) -> Path:
    """Put the traceback beside the log file."""
    path = Path(HydraConfig.get().runtime.output_dir) / "traceback.txt"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return path


def _open(job: Job, into: EarlierRun | None, lease: Lease, more: Mapping[str, str]) -> Tracker:
    """The run to write to: an earlier one that goes on, or a new one. Raises OutrunError where that does not stay."""
    recipe, in_sweep = job.recipe, job.sweep is not None
    tags = {
        **job.identity,
        **provenance(),
        HOLDER_TAG: str(lease.holder),
        **_heartbeat(job),
        **job.invocation,
    }
    if in_sweep:
        tags[FIRST_INVOCATION] = job.invocation["sweep_id"]
    tags |= more
    if job.rerun:
        tags[RERUN_TAG] = "true"
    if study := HydraConfig.get().runtime.choices.get("study"):
        tags["study"] = study
    if recipe is not None:
        tags["stream"] = recipe.stream
        if recipe.dataset.changes:
            tags["data_changes"] = "; ".join(recipe.dataset.changes)
    if into is None:
        tracker = Tracker.start(job.store, job.experiment, job.name, job.params, tags, offline_ok=in_sweep)
    else:
        tracker = Tracker.resume(job.store, *into.ids, offline_ok=in_sweep)
        tracker.set_tags({**tags, "resumed": str(int(into.tags.get("resumed", 0)) + 1)})
        if into.params is not None:
            tracker.log_params({key: value for key, value in job.params.items() if key not in into.params})
    _require_place(job, lease, tracker)
    if recipe is not None:
        dataset = recipe.dataset
        for context, labels in (("train", dataset.train_labels), ("test", dataset.test_labels)):
            tracker.log_dataset(dataset.name, dataset.sha256, context, profile={"num_rows": len(labels)})
    return tracker


def _require_place(job: Job, lease: Lease, tracker: Tracker) -> None:
    """Settle, in a store that machines share, which of several runs of a job stays: doubles of ours go, or ours.

    Raises OutrunError where ours went. What cannot be read now is settled later.
    """
    if job.store.path is not None or tracker.waits:
        return
    with suppress(AwayError):
        earlier = runs_of(job)
        stay = stays(
            tracker.run_id,
            earlier,
            job.sweep,
            lambda run: is_trained_elsewhere(run, lease.lock, job.heartbeat_s),
            job.rerun,
        )
        ours = {run.run_id: run.ids[1] or run.run_id for run in earlier}
        own = ours.get(tracker.run_id)
        gone = [run_id for run_id, local_id in ours.items() if local_id == own]
        with suppress(AwayError):
            for run_id in gone:
                if run_id != tracker.run_id or not stay:
                    job.store.discard(run_id)
        if not stay:
            raise OutrunError


def _heartbeat(job: Job) -> dict[str, str]:
    """A sign of life for other machines; beside a local store the lock is enough."""
    return {} if job.store.path else {"heartbeat": str(time.time_ns() // 1_000_000)}
