"""A trained network with the normalisation of its input, in one folder: grey pixels in, digits out."""

import re
import shutil
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from ablations.errors import InputError
from ablations.nn.feeder import IMAGES_AT_ONCE, INPUT_SHAPE, Feeder
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization

MODEL = "model"
NETWORK = f"{MODEL}/artifacts/network"
"""Where, below a run's artifacts, its MLflow model is, and the folder in it that `Model.load` reads."""

PACKAGE = Path(__file__).parents[1]
CONFIG, WEIGHTS, CODE = "network.yaml", "weights.npz", "code"


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
            for part in ("network", "init"):
                _check_targets(OmegaConf.to_container(config[part], resolve=True))
            network, init = instantiate(config.network), instantiate(config.init)
            network.build(INPUT_SHAPE, init, lambda _: np.random.default_rng(0), config.trainer.dtype)
            with np.load(folder / WEIGHTS, allow_pickle=False) as weights:
                network.load(dict(weights))
            # Not by its `_target_`, which models saved by 0.1.0 have, and which was another then.
            return cls(network, Normalization(config.normalization.offset, config.normalization.scale))
        except Exception as error:  # a damaged file may raise nearly anything
            raise InputError(f"{folder}: not a model that can be loaded ({error})") from error

    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The digits (n,) and the probability of each class (n, classes) for images (n, 28, 28).

        Pixels are numbers of any type from 0, the background, to 255, the ink. Raises InputError for others.
        """
        _check(images)
        digits, probabilities = [], []
        for start in range(0, len(images), IMAGES_AT_ONCE):
            outputs = self.network.forward(self._feed(images[start : start + IMAGES_AT_ONCE]))
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
        return self.network.feature_maps(self._feed(image[None])[..., 0])

    @cached_property
    def _feed(self) -> Feeder:
        return Feeder(self.network, self.normalization)


def save(folder: Path, config: DictConfig, model: Model) -> None:
    """Write the folder that `Model.load` reads, `config` being that by which the network was built.

    A few hundred kilobytes: how the network is built (YAML), its weights (float arrays, no pickle), and the
    modules of this package that read them, for environments where it is not installed.
    """
    resolved = OmegaConf.to_container(config, resolve=True)
    kept: dict[str, Any] = {key: resolved[key] for key in ("network", "init")}
    kept["trainer"] = {"dtype": config.trainer.dtype}
    kept["normalization"] = {key: float(value) for key, value in asdict(model.normalization).items()}
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(kept)), encoding="utf-8")
    np.savez(folder / WEIGHTS, **model.network.state())
    for file in needed():
        copy = folder / CODE / file.relative_to(PACKAGE.parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)


def needed() -> list[Path]:
    """The files of this package that a model needs: this one, the layers, and all that these import."""
    own = Path(__file__)
    layers = [file for file in (PACKAGE / "nn").glob("*.*") if file.suffix != ".pyc"]
    files = [PACKAGE / "__init__.py", own.with_name("__init__.py"), own, *layers]
    for file in files:  # grows on the way
        for name in re.findall(r"^ *from ablations\.(\S+) import", file.read_text("utf-8"), re.MULTILINE):
            module = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
            files += [module] * (module not in files)
    return files


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
