"""A trained network with the normalisation of its input, in one folder: grey pixels in, digits out."""

import io
import math
import re
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
import yaml
from omegaconf import DictConfig, OmegaConf

from ablations.errors import InputError, printable
from ablations.nn.activations import Activation
from ablations.nn.feeder import IMAGES_AT_ONCE, INPUT_SHAPE, Feeder
from ablations.nn.heads import Loss, RadialBasis
from ablations.nn.initializers import Initializer
from ablations.nn.layer import Layer
from ablations.nn.network import Network
from ablations.nn.normalization import Normalization
from ablations.tracking.arrays import read_arrays

MODEL = "model"
NETWORK = f"{MODEL}/artifacts/network"
"""Where, below a run's artifacts, its MLflow model is, and the folder in it that `Model.load` reads."""

PACKAGE = Path(__file__).parents[1]
CONFIG, WEIGHTS, CODE = "network.yaml", "weights.npz", "code.zip"
PARTS = (Network, Layer, Activation, Loss, Initializer)
"""What a model's YAML may start, where it is in nn/."""
MOST_BYTES, MOST_DEPTH, MOST_UNITS, MOST_DRAWS = 64_000, 16, 4096, 2**22
"""Of the YAML: its size, how deep it is nested, and its largest whole number where no weights of the file have a longer
side; weights beside those of the file."""


@dataclass(frozen=True)
class Model:
    """Reads digits, or what `classes` names. One call at a time: the network's buffers are shared by all of them.

    `pictures`: of what image files the network was trained on: their height and width, 0 where these differ, and
    whether they were inverted; None where it was trained on no image files.
    """

    network: Network
    normalization: Normalization
    classes: tuple[str, ...] = tuple("0123456789")
    pictures: tuple[int, int, bool] | None = None

    @property
    def has_names(self) -> bool:
        """Whether classes are called something else than their numbers."""
        return self.classes != tuple(map(str, range(len(self.classes))))

    @classmethod
    def load(cls, folder: Path) -> "Model":
        """What `save` wrote.

        Raises InputError where that is incomplete, damaged, or made of parts that are not of this package.
        """
        try:
            weights, config = read_arrays(folder / WEIGHTS), _config(folder / CONFIG)
            parts = {"norms": {}, "dropout": {}} | config["network"]  # models saved by 0.1.0 know of neither
            most = max(MOST_UNITS, *(side for array in weights.values() for side in array.shape))
            network, init = _made(parts, most), _made(config["init"], most)
            # Whatever a layer draws is overwritten; what its file has no weights for is not even made.
            draws = _Draws(MOST_DRAWS + 8 * sum(array.size for array in weights.values()))
            network.build(INPUT_SHAPE, init, lambda _: draws, config["trainer"]["dtype"])
            network.load(weights)
            (outputs,) = network.layers["output"].summary().shape
            # Not by its `_target_`, which models saved by 0.1.0 have, and which was another then; they have no names.
            affine = config["normalization"]
            normalization = Normalization(float(affine["offset"]), float(affine["scale"]))
            names = tuple(map(str, config.get("classes") or range(outputs)))
            if len(names) != outputs:
                raise InputError(f"{len(names)} names for {outputs} classes")
            pictures = config.get("pictures")
            if pictures is not None:
                height, width, inverted = pictures
                pictures = int(height), int(width), bool(inverted)
            return cls(network, normalization, names, pictures)
        except Exception as error:  # a damaged file may raise nearly anything
            reason = printable(" ".join(f"{error}".split()))[:300]
            raise InputError(f"{printable(folder)}: not a model that can be loaded ({reason})") from error

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

    A few hundred kilobytes: how the network is built (YAML), its weights (float arrays, no pickle), and, packed, the
    modules of this package that read them, for environments where it is not installed.
    """
    resolved = OmegaConf.to_container(config, resolve=True)
    kept: dict[str, Any] = {key: resolved[key] for key in ("network", "init")}
    kept["classes"] = list(model.classes)
    kept["pictures"] = model.pictures and list(model.pictures)
    kept["trainer"] = {"dtype": config.trainer.dtype}
    kept["normalization"] = {key: float(value) for key, value in asdict(model.normalization).items()}
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(kept)), encoding="utf-8")
    np.savez(folder / WEIGHTS, **model.network.state())
    (folder / CODE).write_bytes(_packed())


@cache
def _packed() -> bytes:
    """What a model needs of this package as a zip file, always the same bytes of the same files."""
    packed = io.BytesIO()
    with ZipFile(packed, "w", ZIP_DEFLATED) as archive:
        for file in needed():
            archive.writestr(
                ZipInfo(file.relative_to(PACKAGE.parent).as_posix()), file.read_bytes(), ZIP_DEFLATED
            )
    return packed.getvalue()


def needed() -> list[Path]:
    """The files of this package that a model needs: this one, the layers, and all that these import."""
    own = Path(__file__)
    layers = [file for file in (PACKAGE / "nn").glob("*.*") if file.suffix != ".pyc"]
    files = [own.with_name("__init__.py"), own, *layers]
    for file in files:  # grows on the way
        for name in re.findall(r"^ *from ablations\.(\S+) import", file.read_text("utf-8"), re.MULTILINE):
            module = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
            files += [module] * (module not in files)
    return [PACKAGE / "__init__.py", *files]  # which imports what it names when somebody asks for it


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


def _config(path: Path) -> dict[str, Any]:
    """What a model's YAML says: a small tree of plain values, known to be one before any of it is made."""
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise InputError(f"{CONFIG}: no file of at most {MOST_BYTES:,} bytes")
    text, depth = path.read_text("utf-8"), 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if getattr(event, "anchor", None) is not None:
            raise InputError(f"{CONFIG}: an anchor or an alias; accepted: plain values")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise InputError(f"{CONFIG}: nested deeper than {MOST_DEPTH} levels")
    return yaml.safe_load(text)


def _made(node: Any, most: int) -> Any:
    """The part of a network that a node of the YAML describes; nothing else is ever started from it, and nothing with
    more than `most` units or maps."""
    if isinstance(node, list):
        return [_made(item, most) for item in node]
    if isinstance(node, dict):
        values = {key: _made(value, most) for key, value in node.items()}
        return _part(values.pop("_target_"))(**values) if "_target_" in node else values
    if isinstance(node, str) and "${" in node:
        raise InputError(f"{node}: an interpolation; accepted: plain values")
    if isinstance(node, int) and abs(node) > most:
        raise InputError(f"{node}: accepted: at most {most:,} units or maps")
    return node


def _part(target: Any) -> type:
    """The layer, head, activation or initializer of ablations.nn that goes by exactly this name."""
    package, _, name = str(target).rpartition(".")
    if package in {f"ablations.nn.{path.stem}" for path in (PACKAGE / "nn").glob("*.py")}:
        found = vars(import_module(package)).get(name)
        if isinstance(found, type) and issubclass(found, PARTS) and found.__module__ == package:
            return found if found is not RadialBasis else _with_small_bitmaps
    raise InputError(f"{target} is not a part of a network")


def _with_small_bitmaps(bitmaps: str, scale: float) -> RadialBasis:
    """A layer whose codes come from a file that can be read at once, and is no device or pipe."""
    path = PACKAGE / "nn" / bitmaps
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        raise InputError(f"bitmaps: {bitmaps}: no file of at most {MOST_BYTES:,} bytes")
    return RadialBasis(bitmaps, scale)


class _Draws:
    """In place of a random generator: zeros, as long as there are not more than a model's file can fill."""

    def __init__(self, left: int) -> None:
        self.left = left

    def random(self, shape: int | tuple[int, ...]) -> np.ndarray:
        self.left -= math.prod(shape) if isinstance(shape, tuple) else shape
        if self.left < 0:
            raise InputError(f"more weights than {WEIGHTS} has")
        return np.zeros(shape)
