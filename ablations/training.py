"""The training loop: batches in, one frozen record per epoch out. It knows neither configuration nor tracker."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ablations.errors import InputError, PlainError
from ablations.nn.feeder import IMAGES_AT_ONCE, Feeder
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization
from ablations.optimizers import Optimizer
from ablations.streams import Streams

STREAMS = ("order", "curvature", "distortion")
"""The random streams that a training draws from."""


@dataclass(frozen=True)
class Images:
    """Labelled images: `pixels` uint8 (N, 28, 28), `labels` (N,)."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Options:
    """How to train.

    `clip_norm` is the largest Euclidean norm of a gradient, a longer one is scaled down to it; with
    `replacement` each epoch draws as many images as there are, with replacement; `eval_limit` is how many
    validation images are looked at, at most. None: no limit.

    Raises InputError for values that make no sense.
    """

    epochs: int
    batch_size: int
    clip_norm: float | None
    replacement: bool
    eval_limit: int | None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"trainer.{name}: must be at least 1, got {value}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"trainer.clip_norm: must be positive or null, got {self.clip_norm}")


@dataclass(frozen=True)
class Step:
    """One update: its number from 1 on, and mean loss, accuracy and largest absolute gradient of its batch."""

    number: int
    loss: float
    accuracy: float
    grad_max_abs: float


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images. Losses are means, accuracies fractions, times seconds.

    Training loss and accuracy are running means over the pass, each batch measured before its update.
    Validation is None where there are no validation images. `optimizer` holds what the optimizer tells of itself.
    """

    number: int
    train_loss: float
    train_accuracy: float
    grad_max_abs: float
    val_loss: float | None
    val_accuracy: float | None
    optimizer: Mapping[str, float]
    seconds: float
    images_per_s: float


@dataclass(frozen=True)
class State:
    """All that a training needs to go on after an epoch as if it had never stopped, to the last bit.

    `epoch` and `steps` count what is done; `values` are the parameters (P,), `memory` the optimizer's vectors (P,)
    by name, `streams` the states of the random streams' bit generators by purpose, as numpy gives and takes them.
    """

    epoch: int
    steps: int
    values: np.ndarray
    memory: Mapping[str, np.ndarray]
    streams: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Evaluation:
    """Mean loss, accuracy and the head's further metrics on some images, with the prediction and its confidence for
    each of them."""

    loss: float
    accuracy: float
    further: Mapping[str, float]
    predictions: np.ndarray
    confidences: np.ndarray


class DivergedError(PlainError, ArithmeticError):
    """The loss or a gradient is no longer finite."""


def train(
    network: Network,
    optimizer: Optimizer,
    normalization: Normalization,
    training: Images,
    validation: Images | None,
    streams: Streams,
    options: Options,
    distort: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
    watch: Callable[[Step], None] = lambda step: None,
    keep: Callable[[State], None] = lambda state: None,
    resume: State | None = None,
) -> Iterator[Epoch]:
    """Train `network` in place and yield one `Epoch` after each pass.

    `streams` draw the order of the images, or the images themselves. `distort` gives each epoch its own version of
    the training images. `watch` is called after each step. `keep` is called once the record of an epoch has been
    taken, with what `resume` needs to go on from there; its arrays are those in use, and hold during the call.

    Raises InputError for a batch larger than the training set, or a state of another training, and DivergedError at
    the first loss or gradient that is not finite, before it reaches the weights.
    """
    if options.batch_size > len(training):
        raise InputError(
            f"trainer.batch_size: there are only {len(training)} training images, got {options.batch_size}"
        )
    feed, pixels = Feeder(network, normalization), training.pixels
    rngs = {purpose: streams.generator(purpose) for purpose in STREAMS}
    if validation is not None and options.eval_limit is not None:
        first = slice(options.eval_limit)
        validation = Images(validation.pixels[first], validation.labels[first])
    optimizer.start(network.values)
    if resume is not None:
        _restore(resume, network, optimizer, rngs)
    size, step, done = len(training), optimizer.steps, 0 if resume is None else resume.epoch
    for epoch in range(done + 1, options.epochs + 1):
        started = time.perf_counter()
        optimizer.begin_epoch(epoch)
        if distort is not None:
            pixels = distort(training.pixels, rngs["distortion"])
        draw = rngs["order"]
        order = draw.integers(size, size=size) if options.replacement else draw.permutation(size)
        total_loss, correct, largest = 0.0, 0, 0.0
        for start in range(0, size, options.batch_size):
            if samples := optimizer.curvature_samples(epoch, start, options.batch_size):
                chosen = rngs["curvature"].choice(size, min(samples, size), replace=False)
                estimate = curvature(network, feed, pixels[chosen])
                if not np.isfinite(estimate).all():
                    raise DivergedError(
                        f"diverged: the curvature is not finite after step {step} (epoch {epoch})"
                    )
                optimizer.set_curvature(estimate)
            batch = order[start : start + options.batch_size]
            loss, hits = gradient(network, feed, pixels[batch], training.labels[batch])
            grads, step = network.grads, step + 1
            grad_max = float(max(grads.max(), -grads.min()))
            if not np.isfinite(loss):
                raise DivergedError(f"diverged: the loss is not finite at step {step} (epoch {epoch})")
            if not np.isfinite(grad_max):
                raise DivergedError(f"diverged: a gradient is not finite at step {step} (epoch {epoch})")
            if options.clip_norm is not None:
                norm = float(np.linalg.norm(grads.astype(np.float64)))  # squares of float32 overflow
                if norm > options.clip_norm:
                    grads *= options.clip_norm / norm
            optimizer.step(network.values, grads)
            total_loss, correct, largest = total_loss + loss, correct + hits, max(largest, grad_max)
            watch(Step(step, loss / len(batch), hits / len(batch), grad_max))
        seconds = time.perf_counter() - started
        scored = None if validation is None else evaluate(network, normalization, validation)
        yield Epoch(
            number=epoch,
            train_loss=total_loss / size,
            train_accuracy=correct / size,
            grad_max_abs=largest,
            val_loss=scored and scored.loss,
            val_accuracy=scored and scored.accuracy,
            optimizer=optimizer.metrics(),
            seconds=seconds,
            images_per_s=size / seconds,
        )
        states = {purpose: rng.bit_generator.state for purpose, rng in rngs.items()}
        keep(State(epoch, optimizer.steps, network.values, optimizer.state, states))


def _restore(
    state: State, network: Network, optimizer: Optimizer, rngs: Mapping[str, np.random.Generator]
) -> None:
    given, own = state.values, network.values
    if (given.shape, given.dtype) != (own.shape, own.dtype) or state.streams.keys() != rngs.keys():
        raise InputError("the state to go on from is that of another training")
    own[...] = given
    optimizer.resume(state.steps, state.memory)
    for purpose, rng in rngs.items():
        rng.bit_generator.state = state.streams[purpose]


def gradient(
    network: Network, feed: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray
) -> tuple[float, int]:
    """Write the gradient of a batch's mean loss into `network.grads`; return its summed loss and its right answers.

    `feed` makes network input of some of the images. A large batch goes through the layers a part at a time,
    because their buffers then stay in the processor's caches; the gradients of the parts add up.
    """
    n, parts = len(images), -(-len(images) // IMAGES_AT_ONCE)
    loss, hits, total = 0.0, 0, None
    for i in range(parts):
        part = slice(n * i // parts, n * (i + 1) // parts)
        outputs = network.forward(feed(images[part]))
        losses, doutputs = network.loss(outputs, labels[part])
        loss += float(np.add.reduce(losses))
        hits += int(np.count_nonzero(network.loss.answers(outputs) == labels[part]))
        if parts > 1:
            doutputs *= losses.size / n  # from the mean over the part to that over the batch
        network.backward(doutputs)
        if parts > 1:
            total = network.grads.copy() if total is None else np.add(total, network.grads, out=total)
    if total is not None:
        network.grads[...] = total
    return loss, hits


def curvature(network: Network, feed: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> np.ndarray:
    """The mean over the images of the curvature of each parameter (`Network.curvature`)."""
    total = np.zeros_like(network.curvatures)
    for start in range(0, len(images), IMAGES_AT_ONCE):
        network.curvature(feed(images[start : start + IMAGES_AT_ONCE]))
        total += network.curvatures
    total /= len(images)
    return total


def evaluate(network: Network, normalization: Normalization, images: Images) -> Evaluation:
    """Loss, accuracy, predictions and confidences of `network` on `images`.

    Raises DivergedError for a loss that is not finite, as the last step of a training may leave it.
    """
    feed = Feeder(network, normalization)
    total_loss, further = 0.0, Counter()
    predictions = np.empty(len(images), np.uint8)
    confidences = np.empty(len(images), np.float32)
    for start in range(0, len(images), IMAGES_AT_ONCE):
        part = slice(start, start + IMAGES_AT_ONCE)
        outputs = network.forward(feed(images.pixels[part]))
        losses, _ = network.loss(outputs, images.labels[part])
        total_loss += float(np.add.reduce(losses))
        for name, values in network.loss.further_metrics(outputs, images.labels[part]).items():
            further[name] += float(np.add.reduce(values))
        predictions[part] = network.loss.answers(outputs)
        confidences[part] = network.loss.probabilities(outputs).max(axis=0)
    if not np.isfinite(total_loss):
        raise DivergedError("diverged: the loss is not finite after training")
    return Evaluation(
        loss=total_loss / len(images),
        accuracy=float(np.mean(predictions == images.labels)),
        further={name: total / len(images) for name, total in further.items()},
        predictions=predictions,
        confidences=confidences,
    )
