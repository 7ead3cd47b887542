"""One run: configuration → parts → training → tracker. The only place where the parts are put together."""

import hashlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ablations.artifacts import misread, write_features, write_model
from ablations.checkpoints import Checkpoint, Claim, Measured, claimed
from ablations.datasets import Dataset, Normalization, split
from ablations.distortions import PlanarDistortion
from ablations.errors import InputError, foreseen, one_line
from ablations.model import Model, build_network
from ablations.nn.network import Network
from ablations.optimizers import Optimizer
from ablations.paths import MLRUNS
from ablations.progress import DONE, ProgressBar
from ablations.provenance import code_hash, provenance
from ablations.resume import Todo, decide, decide_without_store, has_result, is_trained_elsewhere
from ablations.signals import Terminated, check, stoppable, undisturbed
from ablations.streams import Streams
from ablations.terminal import say
from ablations.tracking.earlier import EarlierRun, copy_results, discard, earlier_runs, last_epoch
from ablations.tracking.outbox import deliver
from ablations.tracking.store import AwayError, client, prepare, sqlite_path, tracking_uri
from ablations.tracking.writer import Tracker
from ablations.training import DivergedError, Epoch, Evaluation, Images, Options, State, Step, evaluate, train

NOT_DETERMINING = ("name", "sweep", "study", "dry_run", "tracking", "dataset.root", "dataset.mirrors")
"""Keys that do not change the result of a run, and so do not enter its `config_hash`."""


@dataclass(frozen=True)
class Parts:
    """Everything that a training needs, built from a configuration."""

    dataset: Dataset
    training: Images
    validation: Images | None
    normalization: Normalization
    distort: PlanarDistortion | None
    network: Network
    optimizer: Optimizer
    streams: Streams
    stream: str
    options: Options
    every_steps: int | None


def assemble(config: DictConfig) -> Parts:
    """Build the parts of a run. Raises InputError for a value that makes no sense."""
    seed = _typed(config, "seed", int)
    if seed < 0:
        raise InputError(f"seed: must be at least 0, got {seed}")
    every_steps = _typed(config, "tracking.every_steps", int | None)
    if every_steps is not None and every_steps < 1:
        raise InputError(f"tracking.every_steps: must be at least 1 or null, got {every_steps}")
    options = Options(
        **{field.name: _typed(config, f"trainer.{field.name}", field.type) for field in fields(Options)}
    )
    streams = Streams(seed)
    network = build_network(config, streams)
    optimizer = instantiate(config.optimizer)
    dataset = instantiate(config.dataset).load()
    outputs = network.layers["output"].summary().shape[0]
    if outputs != len(dataset.classes):
        raise InputError(
            f"dataset={dataset.name}: {len(dataset.classes)} classes, but the network has {outputs} outputs; "
            "accepted: as many of the one as of the other (head.output.units)"
        )
    val_fraction = _typed(config, "dataset.val_fraction", float)
    train_at, val_at = split(dataset.train_labels, val_fraction, streams.generator("split"))
    training = Images(dataset.train_images[train_at], dataset.train_labels[train_at])
    validation = Images(dataset.train_images[val_at], dataset.train_labels[val_at]) if len(val_at) else None
    return Parts(
        dataset=dataset,
        training=training,
        validation=validation,
        normalization=instantiate(config.normalization).fit(training.pixels),
        distort=instantiate(config.distortion) or None,
        network=network,
        optimizer=optimizer,
        streams=streams,
        stream=streams.fingerprint(train_at, val_at, list(network.layers)),
        options=options,
        every_steps=every_steps,
    )


def _typed(config: DictConfig, key: str, kind: type | UnionType) -> Any:
    """The value under `key`; raises InputError where it is of another type (a whole number is a float, too)."""
    value = OmegaConf.select(config, key)
    accepted = get_args(kind) or (kind,)
    if float in accepted and type(value) is int:
        return float(value)
    if type(value) not in accepted:
        names = {int: "a whole number", float: "a number", bool: "true or false", NoneType: "null"}
        raise InputError(f"{key}: must be {' or '.join(names[one] for one in accepted)}, got {value!r}")
    return value


@dataclass(frozen=True)
class Job:
    """One configuration as part of what one command asked for, and where it is tracked.

    `sweep` is the sweep's name, None for a run of its own; `identity` are the tags in which runs with the same
    result agree. Without `parts` it is one that could not even be assembled.
    """

    name: str
    uri: str
    experiment: str
    sweep: str | None
    rerun: bool
    heartbeat_s: float
    config: DictConfig
    parts: Parts | None

    @cached_property
    def identity(self) -> dict[str, str]:
        found = {"config_hash": config_hash(self.config), "code_hash": code_hash()}
        return found | ({"data_sha256": self.parts.dataset.sha256} if self.parts else {})

    @property
    def folder(self) -> Path:
        """Where its checkpoints are: beside the local store, else in the project."""
        path = sqlite_path(self.uri)
        place = (path.parent if path else MLRUNS) / "checkpoints"
        rest = json.dumps([self.uri, self.experiment, self.identity])
        return place / f"{config_hash(self.config)}-{hashlib.sha256(rest.encode()).hexdigest()[:16]}"


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


def _run_alone(config: DictConfig) -> None:
    try:
        job = _job(config, assemble(config))
        result = _result(job)
        if result.error is not None:
            raise result.error
    except Exception as error:  # Hydra would print more than the one line that is the user's concern
        hint = "" if foreseen(error) else f" (traceback in {_write_traceback(error)})"
        sys.exit(f"error: {one_line(error)}{hint}")
    print(
        f"{job.name}: {result.remark}test accuracy {result.accuracy:.2%},"
        f" test error {100 * (1 - result.accuracy):.2f} %\n"
        f"run {result.run_id} in {job.uri}\n"
        f"look at it: python -m ablations.ui"
    )


def _run_in_sweep(config: DictConfig) -> None:
    """Raises where not even the failure can be recorded, so that the sweep knows of it."""
    started, parts = time.perf_counter(), None
    try:
        parts = assemble(config)
        result = _result(_job(config, parts))
    except Exception as error:  # before its training began: the store must know of it all the same
        result = _record_unbegun(_job(config, parts), error)
    if result.error is None:
        outcome = f"{result.remark}test error {100 * (1 - result.accuracy):.2f} %"
    else:
        outcome = f"FAILED: {one_line(result.error)}"
    (Path(HydraConfig.get().runtime.output_dir) / DONE).touch()
    say(f"{_run_name(config)}: {outcome}, {time.perf_counter() - started:.1f} s")


def _job(config: DictConfig, parts: Parts | None) -> Job:
    heartbeat_s = _typed(config, "tracking.heartbeat_s", float)
    if not heartbeat_s > 0:
        raise InputError(f"tracking.heartbeat_s: must be positive, got {heartbeat_s}")
    return Job(
        name=_run_name(config),
        uri=tracking_uri(config.tracking.uri),
        experiment=config.tracking.experiment,
        sweep=config.name if config.sweep.id is not None else None,
        rerun=_typed(config, "tracking.rerun", bool),
        heartbeat_s=heartbeat_s,
        config=config,
        parts=parts,
    )


def _result(job: Job) -> Result:
    """The job's result: an earlier one, or that of a training, of which only what is missing is done."""
    with _decided(job) as (claim, todo):
        with undisturbed():
            for orphan in todo.orphans:
                Tracker(job.uri, orphan.run_id).fail("interrupted", "its process is gone")
            for stale in todo.replaced:
                discard(job.uri, stale.run_id)
        if todo.copy:
            _copy(job, todo, claim)
        elif todo.result is not None and job.sweep is not None:
            # It belongs to this invocation now: what is asked for last is what the report is about.
            Tracker(job.uri, todo.result.run_id).set_tags(_invocation(job))
        if todo.result is not None:
            return _recorded(todo.result)
        return _trained(job, todo, claim)


@contextmanager
def _decided(job: Job) -> Iterator[tuple[Claim, Todo]]:
    """What is to be done for a job, by this process alone while the context lasts.

    Raises AwayError for a store that is away; in a sweep, in whose middle that may happen, it is gone without.
    """
    away = False
    try:
        prepare(job.uri, job.experiment)
        deliver(job.uri)  # a run that waits in the outbox may be the one that is wanted
    except AwayError:
        if job.sweep is None:
            raise
        away = True
    with claimed(job.folder, lambda process: _say_busy(job, process)) as claim:
        checkpoint, complaints = claim.latest(job.identity)
        for complaint in complaints:
            print(f"{job.name}: {complaint}", flush=True)
        todo = decide_without_store(checkpoint) if away else _decide(job, claim, checkpoint)
        if todo != Todo(result=todo.result):  # something is to be written
            with suppress(InputError):
                client(job.uri)  # imports for seconds, which is not to happen where signals have to wait
        yield claim, todo


def _decide(job: Job, claim: Claim, checkpoint: Checkpoint | None) -> Todo:
    try:
        earlier = _settled(job, claim)
        unfinished = [run.run_id for run in earlier if not has_result(run)]
        epochs = {run_id: last_epoch(job.uri, run_id, "train/loss") for run_id in unfinished}
    except AwayError:
        if job.sweep is None:
            raise
        return decide_without_store(checkpoint)
    return decide(earlier, epochs, job.sweep, checkpoint, job.rerun)


def _settled(job: Job, claim: Claim) -> list[EarlierRun]:
    """The earlier runs of a job, once no process trains any of them."""
    told = False
    while True:
        earlier = _earlier(job)
        busy = [run for run in earlier if is_trained_elsewhere(run, claim.lock, job.heartbeat_s)]
        if not busy:
            return earlier
        if not told:
            host, process, _ = busy[0].tags["claim"].split(" ", 2)
            _say_busy(job, f"{process} on {host}")
        told = True
        time.sleep(min(job.heartbeat_s, 5.0))


def _say_busy(job: Job, process: str) -> None:
    print(f"{job.name}: is being trained by process {process}, waiting for it", flush=True)


def _earlier(job: Job) -> list[EarlierRun]:
    """The runs of the same configuration and code, and of the same data as far as they got to know them."""
    identity = dict(job.identity)
    data = identity.pop("data_sha256", None)
    found = earlier_runs(job.uri, job.experiment, identity)
    return [run for run in found if run.tags.get("data_sha256") in (data, None)]


def _recorded(run: EarlierRun) -> Result:
    if run.status != "FINISHED":
        reason = run.tags.get("failure_reason", "diverged")
        again = f"as before (run {run.run_id}; tracking.rerun=true trains it again)"
        return Result(run.run_id, error=DivergedError(f"{reason}, {again}"))
    remark = f"already finished (run {run.run_id}), "
    return Result(run.run_id, run.metrics["test/accuracy"], remark=remark)


def _copy(job: Job, todo: Todo, claim: Claim) -> None:
    """Give a sweep its own record of a result that another one has."""
    source = todo.result
    kept = {tag: source.tags[tag] for tag in ("code", "machine", "versions") if tag in source.tags}
    with undisturbed():
        tracker = _open(job, todo.go_on, {**kept, "copied_from": source.run_id, "claim": claim.name})
        copy_results(job.uri, source.run_id, tracker)
        if source.status == "FINISHED":
            tracker.finish()
        else:
            tracker.fail(source.tags["failure"], source.tags.get("failure_reason", ""))


def _open(job: Job, run: EarlierRun | None, tags: Mapping[str, str]) -> Tracker:
    """The run to write to: an earlier one that goes on, or a new one."""
    parts = job.parts
    tags = {**job.identity, **provenance(), **tags}
    params, in_sweep = _params(job.config), job.sweep is not None
    if in_sweep:
        tags |= _invocation(job)
    if study := HydraConfig.get().runtime.choices.get("study"):
        tags["study"] = study
    if parts is not None:
        tags["stream"] = parts.stream
        summaries = [layer.summary() for layer in parts.network.layers.values()]
        params |= {
            "network.parameters": parts.network.values.size,
            "network.connections": sum(summary.connections for summary in summaries),
            "network.macs": sum(summary.macs for summary in summaries),
            "dataset.train_images": len(parts.training),
            "dataset.val_images": len(parts.validation or ()),
            "dataset.test_images": len(parts.dataset.test_labels),
        }
    if run is None:
        tracker = Tracker.start(job.uri, job.experiment, job.name, params, tags, offline_ok=in_sweep)
    else:
        tracker = Tracker.resume(job.uri, run.run_id, offline_ok=in_sweep)
        tracker.set_tags({**tags, "resumed": str(int(run.tags.get("resumed", 0)) + 1)})
        if run.params is not None:
            tracker.log_params({key: value for key, value in params.items() if key not in run.params})
    if parts is not None:
        sizes = {"train": len(parts.dataset.train_labels), "test": len(parts.dataset.test_labels)}
        for context, images in sizes.items():
            tracker.log_dataset(
                parts.dataset.name, parts.dataset.sha256, context, profile={"num_rows": images}
            )
    return tracker


def _invocation(job: Job) -> dict[str, str]:
    """The tags that tie the runs of one command together."""
    return {
        "sweep": job.sweep,
        "sweep_id": job.config.sweep.id,
        "factors": ",".join(job.config.sweep.factors),
        "command": job.config.sweep.command,
    }


def _trained(job: Job, todo: Todo, claim: Claim) -> Result:
    """Train and evaluate; whatever happens, the run does not stay RUNNING, and its error is in the result.

    Raises what comes before the run can be written to, and what stops this process.
    """
    tracker, finished = None, False
    try:
        with undisturbed():
            tracker = _open(job, todo.go_on, {"claim": claim.name, **_heartbeat(job)})
        training = _Training(job, tracker, claim, todo.checkpoint)
        test = training.run()
        with tempfile.TemporaryDirectory() as folder:
            _write_artifacts(Path(folder), job.config, job.parts, training.history(), test)
            with undisturbed():
                tracker.log_files(Path(folder))
        with undisturbed():
            tracker.finish()
            finished = True
            claim.remove()
    except BaseException as error:
        if tracker is not None and not finished:
            _record_failure(tracker, error)
            if isinstance(error, DivergedError):
                claim.remove()
        if tracker is None or not isinstance(error, Exception):
            raise
        return Result(tracker.run_id, error=error)
    return Result(tracker.run_id, test.accuracy)


@dataclass
class _Training:
    """A job being trained: what was measured reaches the store once it is in a checkpoint, so that it gets there
    again, with the same values and times, from any later start, and never another time."""

    job: Job
    tracker: Tracker
    claim: Claim
    checkpoint: Checkpoint | None
    measured: list[Measured] = field(default_factory=list)
    sent: int = 0
    warned: bool = False
    beat: float = field(default_factory=time.monotonic)

    def run(self) -> Evaluation:
        """Train, from the checkpoint on, and evaluate."""
        job, parts, resume = self.job, self.job.parts, None
        if self.checkpoint is not None:
            resume, self.measured = self.checkpoint.state, list(self.checkpoint.measured)
            print(f"{job.name}: goes on after epoch {resume.epoch} of {parts.options.epochs}", flush=True)
            self._send()
        steps_of_epoch = -(-len(parts.training) // parts.options.batch_size)
        alone = "basic" in str(HydraConfig.get().runtime.choices["hydra/launcher"])
        done = resume.epoch * steps_of_epoch if resume else 0
        with ProgressBar(job.name, parts.options.epochs * steps_of_epoch, alone, done) as bar:
            records = train(
                parts.network,
                parts.optimizer,
                parts.normalization,
                parts.training,
                parts.validation,
                parts.streams,
                parts.options,
                parts.distort,
                watch=lambda step: self._watch(step, bar),
                keep=self._keep,
                resume=resume,
            )
            for epoch in records:
                self._measure(_epoch_metrics(epoch), epoch.number)
        test = evaluate(
            parts.network, parts.normalization, Images(parts.dataset.test_images, parts.dataset.test_labels)
        )
        # With the last epoch's time stamp, so that an evaluation that is done again is the same.
        self.tracker.log_metrics(_test_metrics(test), parts.options.epochs, self.measured[-1].time_ms)
        return test

    def history(self) -> list[Mapping[str, float]]:
        """The metrics of each epoch."""
        return [each.metrics for each in self.measured if "train/loss" in each.metrics]

    def _watch(self, step: Step, bar: ProgressBar) -> None:
        check()
        bar(step)
        every = self.job.parts.every_steps
        if every is not None and step.number % every == 0:
            self._measure({"step/loss": step.loss, "step/accuracy": step.accuracy}, step.number)
        if time.monotonic() - self.beat > self.job.heartbeat_s:
            self.beat = time.monotonic()
            if tags := _heartbeat(self.job):
                with undisturbed():
                    self.tracker.set_tags(tags)

    def _measure(self, metrics: Mapping[str, float], step: int) -> None:
        self.measured.append(Measured(metrics, step, time.time_ns() // 1_000_000))

    def _keep(self, state: State) -> None:
        checkpoint = Checkpoint(self.job.identity, self.tracker.run_id, state, self.measured)
        try:
            saved = self.claim.save(checkpoint, must=state.epoch == self.job.parts.options.epochs)
        except OSError as error:  # a full disk does not stop the training
            saved = True
            if not self.warned:
                print(f"{self.job.name}: goes on without checkpoints: {error}", flush=True)
                self.warned = True
        if saved:
            self._send()

    def _send(self) -> None:
        for each in self.measured[self.sent :]:
            self.tracker.log_metrics(each.metrics, each.step, each.time_ms)
        self.sent = len(self.measured)
        with undisturbed():  # an exception inside a transaction could leave the database locked
            self.tracker.flush(every=1.0)


def _heartbeat(job: Job) -> dict[str, str]:
    """A sign of life for other machines; beside a local store the lock is enough."""
    return {} if sqlite_path(job.uri) else {"heartbeat": str(time.time_ns() // 1_000_000)}


def _epoch_metrics(epoch: Epoch) -> dict[str, float]:
    metrics = {
        "train/loss": epoch.train_loss,
        "train/accuracy": epoch.train_accuracy,
        "train/grad_max_abs": epoch.grad_max_abs,
        "time/epoch_s": epoch.seconds,
        "time/images_per_s": epoch.images_per_s,
    }
    if epoch.val_loss is not None:
        metrics |= {"val/loss": epoch.val_loss, "val/accuracy": epoch.val_accuracy}
    metrics |= {f"optimizer/{name}": value for name, value in epoch.optimizer.items()}
    return metrics


def _test_metrics(test: Evaluation) -> dict[str, float]:
    return {
        "test/loss": test.loss,
        "test/accuracy": test.accuracy,
        "test/error_pct": 100 * (1 - test.accuracy),
        "test/confidence": float(test.confidences.mean()),
        **{f"test/{name}": value for name, value in test.further.items()},
    }


def _write_artifacts(
    folder: Path, config: DictConfig, parts: Parts, history: list[Mapping[str, float]], test: Evaluation
) -> None:
    import pandas as pd
    from sklearn.metrics import classification_report

    from ablations.plots.run import confusion_matrix, learning_curves
    from ablations.plots.style import save

    labels, classes = parts.dataset.test_labels, parts.dataset.classes
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True), encoding="utf-8")
    np.savez(folder / "model.npz", **parts.network.state())
    np.savez_compressed(
        folder / "predictions.npz",
        labels=labels,
        predictions=test.predictions,
        confidences=test.confidences,
        **misread(parts.dataset.test_images, labels, test.predictions),
    )
    model = Model(parts.network, parts.normalization)
    write_model(folder, config, model, parts.dataset.test_images[:1])
    write_features(folder / "features.npz", model, parts.dataset.test_images[0])
    report = classification_report(
        labels,
        test.predictions,
        labels=range(len(classes)),
        target_names=classes,
        digits=4,
        zero_division=0,
    )
    (folder / "classification_report.txt").write_text(report, encoding="utf-8")
    curves = pd.DataFrame(history)
    curves.insert(0, "epoch", range(1, len(history) + 1))
    save(learning_curves(curves), folder / "learning_curves.png")
    save(confusion_matrix(labels, test.predictions, classes), folder / "confusion_matrix.png")


def _record_unbegun(job: Job, error: Exception) -> Result:
    """Have a FAILED run of a job that could not be assembled, or not be tracked at first."""
    with _decided(job) as (claim, todo), undisturbed():
        if todo.result is not None:
            return _recorded(todo.result)
        tracker = _open(job, todo.go_on, {"claim": claim.name})
        _record_failure(tracker, error)
        return Result(tracker.run_id, error=error)


def _record_failure(tracker: Tracker, error: BaseException) -> None:
    """End the run as FAILED, saying why; the traceback goes to the log file and the artifacts."""
    if isinstance(error, KeyboardInterrupt):
        by = "SIGTERM" if isinstance(error, Terminated) else "Ctrl-C"
        with suppress(InputError):  # the run is taken up again in any case
            tracker.fail("interrupted", f"stopped by {by}")
        return
    if not foreseen(error):
        tracker.log_text(_write_traceback(error).read_text(encoding="utf-8"), "traceback.txt")
    tracker.fail("diverged" if isinstance(error, DivergedError) else "error", one_line(error))


def _write_traceback(error: BaseException) -> Path:
    path = Path(HydraConfig.get().runtime.output_dir) / "traceback.txt"
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return path


def config_hash(config: DictConfig) -> str:
    """Sixteen hexadecimal digits that agree exactly where everything that determines the result agrees."""
    kept = {
        key: value
        for key, value in _flatten(OmegaConf.to_container(config, resolve=True))
        if not any(key == name or key.startswith(f"{name}.") for name in NOT_DETERMINING)
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _params(config: DictConfig) -> dict[str, object]:
    """The choice of each config group under its name, and every other value under its dotted key."""
    choices = HydraConfig.get().runtime.choices
    params = {
        group: choice
        for group, choice in choices.items()
        if choice is not None and "hydra/" not in group and group != "study"
    }
    for key, value in _flatten(OmegaConf.to_container(config, resolve=True)):
        leaf = key.rpartition(".")[2]
        if leaf != "_target_" and key.partition(".")[0] not in (
            "sweep",
            "study",
            "dry_run",
            "tracking",
            "name",
        ):
            params[key] = value
    return params


def _flatten(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and values; lists are values."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _run_name(config: DictConfig) -> str:
    """What distinguishes the run: its factors in a sweep, what was set by hand otherwise; and its seed."""
    overrides = [override.lstrip("+~") for override in HydraConfig.get().overrides.task]
    said = dict(override.partition("=")[::2] for override in overrides)
    keys = config.sweep.factors if config.sweep.id is not None else said
    shown = [key for key in keys if key in said and key not in ("seed", "name", "dataset.root")]
    shown = [key for key in shown if key.partition(".")[0] not in ("sweep", "tracking")]
    return " ".join([*(f"{key}={said[key]}" for key in shown), f"seed={config.seed}"])
