"""A trained network with the normalisation of its input, in one folder: grey pixels in, digits out."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from ablations.datasets import Normalization
from ablations.errors import InputError
from ablations.nn.network import Network
from ablations.streams import Streams

INPUT_SHAPE = (1, 32, 32)

CONFIG, WEIGHTS, CODE = "network.yaml", "weights.npz", "code"
MODULES = (
    "__init__.py",
    "datasets",
    "errors.py",
    "images.py",
    "model.py",
    "nn",
    "signals.py",
    "streams.py",
)
"""What of this package a model needs: all that this module imports, directly or not."""

IMAGES_AT_ONCE = 32


def build_network(config: DictConfig, streams: Streams) -> Network:
    """The network that `config` describes, with its initial weights."""
    dtype = config.trainer.dtype
    if dtype not in ("float32", "float64"):
        raise InputError(f"trainer.dtype: must be float32 or float64, got {dtype}")
    return instantiate(config.network).build(
        INPUT_SHAPE, instantiate(config.init), lambda layer: streams.generator(f"init/{layer}"), dtype
    )


@dataclass(frozen=True)
class Model:
    """Reads digits. One call at a time: the network's buffers are shared by all of them."""

    network: Network
    normalization: Normalization

    @classmethod
    def load(cls, folder: Path) -> "Model":
        """What `save` wrote.

        Raises InputError where that is incomplete, damaged, or made of parts that are not of this package.
        """
        try:
            config = OmegaConf.load(folder / CONFIG)
            _check_targets(OmegaConf.to_container(config, resolve=True))
            network = build_network(config, Streams(0))
            with np.load(folder / WEIGHTS, allow_pickle=False) as weights:
                network.load(dict(weights))
            return cls(network, instantiate(config.normalization))
        except Exception as error:  # a damaged file may raise nearly anything
            raise InputError(f"{folder}: not a model that can be loaded ({error})") from error

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The digits (n,) and the probability of each class (n, classes) for images (n, 28, 28).

        Pixels are numbers of any type from 0, the background, to 255, the ink. Raises InputError for others.
        """
        _check(images)
        digits, probabilities = [], []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            outputs = self.network.forward(self._input(images[start : start + IMAGES_AT_ONCE]))
            digits.append(self.network.loss.answers(outputs))
            probabilities.append(self.network.loss.probabilities(outputs).T)
        return np.concatenate(digits), np.concatenate(probabilities)

    @property
    def first_kernels(self) -> np.ndarray:
        """The weights of the first layer, (maps, y, x)."""
        first = next(iter(self.network.layers.values()))
        return first.parameters["weight"].value

    def feature_maps(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """What each layer makes of one image (28, 28): `Network.feature_maps`."""
        _check(image[None])
        return self.network.feature_maps(self._input(image[None])[..., 0])

    def _input(self, images: np.ndarray) -> np.ndarray:
        dtype = self.network.values.dtype
        x = np.full((*self.network.in_shape, len(images)), self.normalization.background, dtype)
        self.normalization.fill(images.astype(dtype), x)
        return x


def save(folder: Path, config: DictConfig, model: Model) -> None:
    """Write the folder that `Model.load` reads, `config` being that by which the network was built.

    A few hundred kilobytes: how the network is built (YAML), its weights (float arrays, no pickle), and the
    modules of this package that read them, for environments where it is not installed.
    """
    resolved = OmegaConf.to_container(config, resolve=True)
    kept: dict[str, Any] = {key: resolved[key] for key in ("network", "init")}
    kept["trainer"] = {"dtype": config.trainer.dtype}
    kept["normalization"] = {
        "_target_": f"{Normalization.__module__}.{Normalization.__qualname__}",
        "offset": float(model.normalization.offset),
        "scale": float(model.normalization.scale),
    }
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(kept)), encoding="utf-8")
    np.savez(folder / WEIGHTS, **model.network.state())
    package, copy = Path(__file__).parent, folder / CODE / __package__
    copy.mkdir(parents=True)
    for name in MODULES:
        if (package / name).is_dir():
            shutil.copytree(package / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(package / name, copy)


def _check(images: np.ndarray) -> None:
    if images.ndim != 3 or images.shape[1:] != (28, 28) or len(images) == 0:
        raise InputError(f"images: shape {images.shape}; accepted: (n, 28, 28)")
    if not (np.issubdtype(images.dtype, np.integer) or np.issubdtype(images.dtype, np.floating)):
        raise InputError(f"images: of {images.dtype}; accepted: numbers from 0 to 255")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 255):  # so written, it refuses NaN, too
        raise InputError(f"images: pixels from {low} to {high}; accepted: from 0 to 255")
    if 0 < high <= 1:
        raise InputError("images: no pixel above 1; accepted: from 0 to 255, so multiply these by 255")


def _check_targets(node: Any) -> None:
    """Raise InputError unless every `_target_` is a class of this package: a model's file must start nothing else."""
    if isinstance(node, list):
        for item in node:
            _check_targets(item)
    if isinstance(node, dict):
        for item in node.values():
            _check_targets(item)
        if "_target_" in node and not _is_own_class(str(node["_target_"])):
            raise InputError(f"{node['_target_']} is not a part of a network")


def _is_own_class(target: str) -> bool:
    # The name alone is not enough: `ablations.….os.system` would be found, too.
    return target.startswith("ablations.") and get_class(target).__module__.startswith("ablations.")
