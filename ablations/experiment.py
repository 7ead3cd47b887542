"""One run: configuration → parts → training → tracker. The only place where the parts are put together."""

import hashlib
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ablations.artifacts import MODEL, misread, write_features, write_model
from ablations.datasets import Dataset, Normalization, split
from ablations.distortions import PlanarDistortion
from ablations.errors import InputError, foreseen, one_line
from ablations.model import Model, build_network
from ablations.nn.network import Network
from ablations.optimizers import Optimizer
from ablations.progress import ProgressBar
from ablations.provenance import provenance
from ablations.streams import Streams
from ablations.tracking.models import model_tags
from ablations.tracking.store import tracking_uri
from ablations.tracking.writer import Tracker
from ablations.training import DivergedError, Epoch, Evaluation, Images, Options, Step, evaluate, train

NOT_DETERMINING = ("name", "sweep", "study", "tracking", "dataset.root", "dataset.mirrors")
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


def run(config: DictConfig) -> None:
    """Train, evaluate and track one configuration with one seed.

    In a sweep a failing run is recorded as FAILED and the others go on; a single run raises.
    """
    from threadpoolctl import threadpool_limits

    # One thread: these matrices are small, and the last bits must not depend on the number of cores.
    with threadpool_limits(limits=1), np.errstate(all="ignore"):  # what overflows is caught as divergence
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            _run_in_sweep(config)
        else:
            _run_alone(config)


def _run_alone(config: DictConfig) -> None:
    try:
        parts = assemble(config)
        uri, tracker, name = _start(config, parts)
        test = _tracked(config, parts, tracker, name)
    except Exception as error:  # Hydra would print more than the one line that is the user's concern
        hint = "" if foreseen(error) else f" (traceback in {_write_traceback(error)})"
        sys.exit(f"error: {one_line(error)}{hint}")
    print(
        f"{name}: test accuracy {test.accuracy:.2%}, test error {100 * (1 - test.accuracy):.2f} %\n"
        f"run {tracker.run_id} in {uri}\n"
        f"look at it: python -m ablations.ui"
    )


def _run_in_sweep(config: DictConfig) -> None:
    started = time.perf_counter()
    tracker, name = None, _run_name(config)
    try:
        parts = assemble(config)
        _, tracker, _ = _start(config, parts)
        test = _tracked(config, parts, tracker, name)
        outcome = f"test error {100 * (1 - test.accuracy):.2f} %"
    except Exception as error:
        if tracker is None:  # it failed before its training began: the store must know of it all the same
            _, tracker, _ = _start(config, None)
            _record_failure(tracker, error)
        outcome = f"FAILED: {one_line(error)}"
    print(f"{name}: {outcome}, {time.perf_counter() - started:.1f} s", flush=True)


def _start(config: DictConfig, parts: Parts | None) -> tuple[str, Tracker, str]:
    uri, name = tracking_uri(config.tracking.uri), _run_name(config)
    tags = {"config_hash": config_hash(config), **provenance()}
    params = _params(config)
    if config.sweep.id is not None:
        tags |= {
            "sweep": config.name,
            "sweep_id": config.sweep.id,
            "factors": ",".join(config.sweep.factors),
            "command": config.sweep.command,
        }
    if study := HydraConfig.get().runtime.choices.get("study"):
        tags["study"] = study
    if parts is not None:
        tags |= {"data_sha256": parts.dataset.sha256, "stream": parts.stream}
        params |= {
            "network.parameters": parts.network.values.size,
            "dataset.train_images": len(parts.training),
            "dataset.val_images": len(parts.validation or ()),
            "dataset.test_images": len(parts.dataset.test_labels),
        }
    tracker = Tracker.start(uri, config.tracking.experiment, name, params, tags)
    if parts is not None:
        sizes = {"train": len(parts.dataset.train_labels), "test": len(parts.dataset.test_labels)}
        for context, images in sizes.items():
            tracker.log_dataset(
                parts.dataset.name, parts.dataset.sha256, context, profile={"num_rows": images}
            )
    return uri, tracker, name


def _tracked(config: DictConfig, parts: Parts, tracker: Tracker, name: str) -> Evaluation:
    """Train and evaluate; whatever happens, the run does not stay RUNNING."""
    try:
        history = []
        for epoch in _epochs(config, parts, tracker, name):
            history.append(_epoch_metrics(epoch))
            tracker.log_metrics(history[-1], step=epoch.number)
            tracker.flush(every=1.0)
        test = evaluate(
            parts.network,
            parts.normalization,
            Images(parts.dataset.test_images, parts.dataset.test_labels),
        )
        tracker.log_metrics(
            {
                "test/loss": test.loss,
                "test/accuracy": test.accuracy,
                "test/error_pct": 100 * (1 - test.accuracy),
                "test/confidence": float(test.confidences.mean()),
                **{f"test/{name}": value for name, value in test.further.items()},
            },
            step=len(history),
        )
        with tempfile.TemporaryDirectory() as folder:
            _write_artifacts(Path(folder), config, parts, history, test)
            tracker.log_files(Path(folder))
            tracker.set_tags(model_tags(Path(folder) / MODEL, MODEL))
        tracker.finish()
    except BaseException as error:
        _record_failure(tracker, error)
        raise
    return test


def _epochs(config: DictConfig, parts: Parts, tracker: Tracker, name: str) -> Iterator[Epoch]:
    options, every = parts.options, parts.every_steps
    steps = options.epochs * -(-len(parts.training) // options.batch_size)
    alone = "basic" in str(HydraConfig.get().runtime.choices["hydra/launcher"])

    with ProgressBar(name, steps, shown=alone) as bar:

        def watch(step: Step) -> None:
            bar(step)
            if every is not None and step.number % every == 0:
                metrics = {"step/loss": step.loss, "step/accuracy": step.accuracy}
                tracker.log_metrics(metrics, step=step.number)

        yield from train(
            parts.network,
            parts.optimizer,
            parts.normalization,
            parts.training,
            parts.validation,
            parts.streams,
            options,
            parts.distort,
            watch,
        )


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


def _write_artifacts(
    folder: Path, config: DictConfig, parts: Parts, history: list[dict[str, float]], test: Evaluation
) -> None:
    import pandas as pd
    from sklearn.metrics import classification_report

    from ablations import plots

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
    plots.save(plots.learning_curves(curves), folder / "learning_curves.png")
    plots.save(plots.confusion_matrix(labels, test.predictions, classes), folder / "confusion_matrix.png")


def _record_failure(tracker: Tracker, error: BaseException) -> None:
    """End the run as FAILED, saying why; the traceback goes to the log file and the artifacts."""
    if isinstance(error, DivergedError):
        failure = "diverged"
    elif isinstance(error, KeyboardInterrupt | SystemExit):
        failure = "interrupted"
    else:
        failure = "error"
    if not foreseen(error):
        tracker.log_text(_write_traceback(error).read_text(encoding="utf-8"), "traceback.txt")
    tracker.fail(failure, one_line(error))


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
        if leaf != "_target_" and key.partition(".")[0] not in ("sweep", "study", "tracking", "name"):
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
