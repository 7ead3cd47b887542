"""The training loop: batches in, one frozen record per epoch out."""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ablations.errors import InputError, PlainError
from ablations.nn.feeder import IMAGES_AT_ONCE, Feeder
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization
from ablations.training.optimizers import Optimizer
from ablations.training.recipe import Images, Recipe

STREAMS = ("order", "curvature", "distortion", "dropout")
"""The random streams that a training draws from."""


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
    by name, `streams` the states of the random streams' bit generators by purpose, as numpy gives and takes them,
    `statistics` the network's (`Network.statistics`).
    """

    epoch: int
    steps: int
    values: np.ndarray
    memory: Mapping[str, np.ndarray]
    streams: Mapping[str, Mapping[str, Any]]
    statistics: Mapping[str, np.ndarray] = field(default_factory=dict)


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
    recipe: Recipe,
    watch: Callable[[Step], None] = lambda step: None,
    keep: Callable[[State], None] = lambda state: None,
    resume: State | None = None,
) -> Iterator[Epoch]:
    """Train the recipe's network in place and yield one `Epoch` after each pass.

    `watch` is called after each step. `keep` is called once the record of an epoch has been taken, with what
    `resume` needs to go on from there; its arrays are those in use, and hold during the call.

    Raises InputError for a batch larger than the training set, or of one image where the network needs two, or a state
    of another training, and DivergedError at the first loss or gradient that is not finite, before it reaches the
    weights.
    """
    network, optimizer, options, size = recipe.network, recipe.optimizer, recipe.options, len(recipe.training)
    if options.batch_size > size:
        raise InputError(
            f"trainer.batch_size: there are only {size} training images, got {options.batch_size}"
        )
    if network.couples_images and 1 in (options.batch_size, size % options.batch_size):
        raise InputError(
            f"trainer.batch_size: {size} training images in batches of {options.batch_size} leave one image to a step, "
            "and norm=batch needs two"
        )
    feed = Feeder(network, recipe.normalization)
    rngs = {purpose: recipe.streams.generator(purpose) for purpose in STREAMS}
    validation = recipe.validation and recipe.validation.first(options.eval_limit)
    optimizer.start(network.values)
    if resume is not None:
        _restore(resume, network, optimizer, rngs)
    for epoch in range(resume.epoch + 1 if resume else 1, options.epochs + 1):
        started = time.perf_counter()
        optimizer.begin_epoch(epoch, options.share_of_rate(epoch))
        images, order = _pass(recipe, rngs)
        total_loss, correct, largest = 0.0, 0, 0.0
        for start in range(0, size, options.batch_size):
            _renew_curvature(recipe, feed, images, rngs["curvature"], epoch, start)
            batch = order[start : start + options.batch_size]
            loss, hits = gradient(network, feed, images.pixels[batch], images.labels[batch], rngs["dropout"])
            steepest = _finite(loss, network.grads, f"at step {optimizer.steps + 1} (epoch {epoch})")
            _clip(network.grads, options.clip_norm)
            optimizer.step(network.values, network.grads)
            total_loss, correct, largest = total_loss + loss, correct + hits, max(largest, steepest)
            watch(Step(optimizer.steps, loss / len(batch), hits / len(batch), steepest))
        seconds = time.perf_counter() - started
        scored = validation and evaluate(network, recipe.normalization, validation)
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
        keep(State(epoch, optimizer.steps, network.values, optimizer.state, states, network.statistics))


def _restore(
    state: State, network: Network, optimizer: Optimizer, rngs: Mapping[str, np.random.Generator]
) -> None:
    given, own = ({"values": each.values, **each.statistics} for each in (state, network))
    if _kinds(given) != _kinds(own) or state.streams.keys() != rngs.keys():
        raise InputError("the state to go on from is that of another training")
    for name, array in own.items():
        array[...] = given[name]
    optimizer.resume(state.steps, state.memory)
    for purpose, rng in rngs.items():
        rng.bit_generator.state = state.streams[purpose]


def _kinds(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    return {name: (array.shape, array.dtype) for name, array in arrays.items()}


def _pass(recipe: Recipe, rngs: Mapping[str, np.random.Generator]) -> tuple[Images, np.ndarray]:
    """The training images of one epoch, distorted where that is asked for, and the indices in their order."""
    images, size = recipe.training, len(recipe.training)
    if recipe.distort is not None:
        images = Images(recipe.distort(images.pixels, rngs["distortion"]), images.labels)
    draw = rngs["order"]
    return images, draw.integers(size, size=size) if recipe.options.replacement else draw.permutation(size)


def _renew_curvature(
    recipe: Recipe, feed: Feeder, images: Images, rng: np.random.Generator, epoch: int, seen: int
) -> None:
    """Give the optimizer an estimate from images drawn at random, where it asks for one after `seen` images."""
    optimizer, size = recipe.optimizer, len(images)
    if samples := optimizer.curvature_samples(epoch, seen, recipe.options.batch_size):
        chosen = rng.choice(size, min(samples, size), replace=False)
        estimate = curvature(recipe.network, feed, images.pixels[chosen])
        if not np.isfinite(estimate).all():
            when = f"after step {optimizer.steps} (epoch {epoch})"
            raise DivergedError(f"diverged: the curvature is not finite {when}")
        optimizer.set_curvature(estimate)


def _finite(loss: float, grads: np.ndarray, when: str) -> float:
    """The largest absolute gradient. Raises DivergedError where that or the loss is not finite."""
    largest = float(max(grads.max(), -grads.min()))
    for what, value in (("the loss", loss), ("a gradient", largest)):
        if not math.isfinite(value):
            raise DivergedError(f"diverged: {what} is not finite {when}")
    return largest


def _clip(grads: np.ndarray, limit: float | None) -> None:
    """Scale a gradient that is longer than `limit` down to it, in place."""
    if limit is not None:
        norm = float(np.linalg.norm(grads.astype(np.float64)))  # squares of float32 overflow
        if norm > limit:
            grads *= limit / norm


def gradient(
    network: Network,
    feed: Callable[[np.ndarray], np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    rng: np.random.Generator | None = None,
) -> tuple[float, int]:
    """Write the gradient of a batch's mean loss into `network.grads`; return its summed loss and its right answers.

    `feed` makes network input of some of the images; `rng` is that of `Network.forward`. A large batch goes through
    the layers a part at a time, unless they need it whole, because their buffers then stay in the processor's caches;
    the gradients of the parts add up.
    """
    n = len(images)
    parts = 1 if network.couples_images else -(-n // IMAGES_AT_ONCE)
    loss, hits, total = 0.0, 0, None
    for i in range(parts):
        part = slice(n * i // parts, n * (i + 1) // parts)
        outputs = network.forward(feed(images[part]), rng)
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
