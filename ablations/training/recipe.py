"""What a training needs, built from a configuration. The only place where the parts are put together."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, get_args

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from ablations.datasets import Dataset, split, subset
from ablations.errors import InputError
from ablations.nn.feeder import INPUT_SHAPE
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization
from ablations.training.optimizers import Optimizer
from ablations.training.streams import Streams


@dataclass(frozen=True)
class Images:
    """Labelled images: `pixels` uint8 (N, 28, 28), `labels` (N,)."""

    pixels: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int | None) -> "Images":
        """The first `count` of them, or all."""
        return Images(self.pixels[:count], self.labels[:count])


COSINE = "cosine"


@dataclass(frozen=True)
class Options:
    """How to train.

    `clip_norm` is the largest Euclidean norm of a gradient, a longer one is scaled down to it; with
    `replacement` each epoch draws as many images as there are, with replacement; `eval_limit` is how many
    validation images are looked at, at most. None: no limit. `schedule` is how the learning rate goes down from epoch
    to epoch: as half a wave of a cosine, from all of it towards 0 (Loshchilov and Hutter 2017, without restarts);
    None: it stays.

    Raises InputError for values that make no sense.
    """

    epochs: int
    batch_size: int
    clip_norm: float | None
    replacement: bool
    eval_limit: int | None
    schedule: str | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "eval_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"trainer.{name}: must be at least 1, got {value}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"trainer.clip_norm: must be positive or null, got {self.clip_norm}")
        if self.schedule not in (None, COSINE):
            raise InputError(f"trainer.schedule: accepted: {COSINE} or null, got {self.schedule}")

    def share_of_rate(self, epoch: int) -> float:
        """The share of its learning rate that `epoch`, counted from 1, has by the schedule."""
        return 1.0 if self.schedule is None else (1 + math.cos(math.pi * (epoch - 1) / self.epochs)) / 2


@dataclass(frozen=True)
class Recipe:
    """Everything that a training needs.

    `streams` draw the order of the images, or the images themselves; `distort` gives each epoch its own version of
    the training images. The rest is for the record of a run, and no training looks at it: the whole data set, the
    fingerprint of the streams (`Streams.fingerprint`), and after how many steps each a step is recorded.
    """

    network: Network
    optimizer: Optimizer
    normalization: Normalization
    training: Images
    validation: Images | None
    streams: Streams
    options: Options
    distort: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    dataset: Dataset | None = None
    stream: str = ""
    every_steps: int | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """The numbers of trained parameters, of connections and multiply-accumulates for one image, and of images."""
        summaries = [layer.summary() for layer in self.network.named.values()]
        return {
            "network.parameters": self.network.values.size,
            "network.connections": sum(summary.connections for summary in summaries),
            "network.macs": sum(summary.macs for summary in summaries),
            "dataset.train_images": len(self.training),
            "dataset.val_images": len(self.validation or ()),
            "dataset.test_images": len(self.test),
        }

    @property
    def test(self) -> Images:
        """What the trained network is judged by."""
        return Images(self.dataset.test_images, self.dataset.test_labels)


def assemble(config: DictConfig) -> Recipe:
    """Build what `config` describes. Raises InputError for a value that makes no sense."""
    seed = typed(config, "seed", int)
    if seed < 0:
        raise InputError(f"seed: must be at least 0, got {seed}")
    every_steps = typed(config, "tracking.every_steps", int | None)
    if every_steps is not None and every_steps < 1:
        raise InputError(f"tracking.every_steps: must be at least 1 or null, got {every_steps}")
    options = Options(
        **{field.name: typed(config, f"trainer.{field.name}", field.type) for field in fields(Options)}
    )
    streams = Streams(seed)
    network = build_network(config, streams)
    optimizer = instantiate(config.optimizer)
    if optimizer.needs_curvature and network.couples_images:
        raise InputError(
            "norm=batch: batch normalisation has no second derivatives of single images, which optimizer=sdlm needs; "
            "accepted: norm=none, or another optimizer"
        )
    dataset = instantiate(config.dataset).load()
    outputs = network.layers["output"].summary().shape[0]
    if outputs != len(dataset.classes):
        units = f"head.output.units={len(dataset.classes)}"
        raise InputError(
            f"dataset={dataset.name}: {len(dataset.classes)} classes, but the network has {outputs} outputs; accepted: "
            + (
                units
                if "units" in config.head.output
                else f"a head without fixed codes, head=softmax {units}"
            )
        )
    val_fraction = typed(config, "dataset.val_fraction", float)
    count = typed(config, "dataset.train_images", int | None)
    train_at, val_at = split(dataset.train_labels, val_fraction, streams.generator("split"))
    trained_at = train_at if count is None else subset(dataset.train_labels, train_at, count)
    training, validation = (
        Images(dataset.train_images[at], dataset.train_labels[at]) for at in (trained_at, val_at)
    )
    return Recipe(
        network=network,
        optimizer=optimizer,
        normalization=instantiate(config.normalization).fit(training.pixels),
        training=training,
        validation=validation if len(validation) else None,
        streams=streams,
        options=options,
        distort=instantiate(config.distortion) or None,
        dataset=dataset,
        stream=streams.fingerprint(train_at, val_at, list(network.layers)),
        every_steps=every_steps,
    )


def build_network(config: DictConfig, streams: Streams) -> Network:
    """The network that `config` describes, with its initial weights."""
    network, init = instantiate(config.network), instantiate(config.init)
    return network.build(
        INPUT_SHAPE, init, lambda layer: streams.generator(f"init/{layer}"), config.trainer.dtype
    )


def typed(config: DictConfig, key: str, kind: type | UnionType) -> Any:
    """The value under `key`; raises InputError where it is of another type (a whole number is a float, too)."""
    value = OmegaConf.select(config, key)
    accepted = get_args(kind) or (kind,)
    if float in accepted and type(value) is int:
        return float(value)
    if type(value) not in accepted:
        names = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            str: "a text",
            NoneType: "null",
        }
        raise InputError(f"{key}: must be {' or '.join(names[one] for one in accepted)}, got {value!r}")
    return value
