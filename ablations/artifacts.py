"""What a run leaves behind for those who use its network or look into it."""

import tempfile
from pathlib import Path

import numpy as np
from omegaconf import DictConfig

from ablations.predict import model
from ablations.tracking.models import save_model

ABOUT = {
    "input": "grey images (n, 28, 28), 0 = background, 255 = ink, of any numeric type",
    "output": "digit, and the probability of each: p0 … p9",
}

SHOWN_MISREAD = 500


def write_model(folder: Path, config: DictConfig, trained: model.Model, example: np.ndarray) -> None:
    """Write the MLflow model into the folder of a run's artifacts; `example`: images (n, 28, 28) to keep with it."""
    with tempfile.TemporaryDirectory() as name:
        content = Path(name) / "network"
        model.save(content, config, trained)
        save_model(
            folder / model.MODEL, Path(model.__file__).with_name("serving.py"), content, example, ABOUT
        )


def write_features(path: Path, trained: model.Model, image: np.ndarray) -> None:
    """Write `features.npz`: what the network makes of one image (28, 28).

    Arrays: `image` as it is, each layer's output by its name (`Network.feature_maps`), and `probabilities`
    (classes,); all but the first in float32.
    """
    _, probabilities = trained.read(image[None])
    features = trained.feature_maps(image) | {"probabilities": probabilities[0]}
    np.savez_compressed(path, image=image, **{name: x.astype(np.float32) for name, x in features.items()})


def misread(images: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> dict[str, np.ndarray]:
    """The first images that were misread, at most 500: `misread`, their indices, and `misread_images`."""
    indices = np.flatnonzero(predictions != labels)[:SHOWN_MISREAD].astype(np.int32)
    return {"misread": indices, "misread_images": images[indices]}
