"""What a run leaves behind for those who use its network or look into it."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from omegaconf import DictConfig, OmegaConf

from ablations.errors import masked
from ablations.ground.paths import draft_folder
from ablations.predict import model
from ablations.tracking.models import save_model
from ablations.training.loop import Evaluation
from ablations.training.recipe import Recipe

ABOUT = {
    "input": "grey images (n, 28, 28), 0 = background, 255 = ink, of any numeric type",
    "output": "digit, and the probability of each: p0, p1, …; class: its name, where it has one",
}

SHOWN_MISREAD = 500

RESULT_METRICS = ("train/loss", "test/accuracy")
RESULT_FILES = (
    "config.yaml",
    "model.npz",
    "predictions.npz",
    f"{model.MODEL}/MLmodel",
    *(f"{model.NETWORK}/{name}" for name in (model.CONFIG, model.WEIGHTS)),
)
"""What a result cannot do without."""


def write_artifacts(folder: Path, config: DictConfig, recipe: Recipe, test: Evaluation) -> None:
    """Write all of it into a folder. Figures are drawn when somebody looks at the run (`report/pictures.py`)."""
    dataset = recipe.dataset
    trained = model.Model(recipe.network, recipe.normalization, dataset.classes, dataset.pictures)
    (folder / "config.yaml").write_text(masked(OmegaConf.to_yaml(config, resolve=True)), encoding="utf-8")
    np.savez_compressed(
        folder / "predictions.npz",
        labels=dataset.test_labels,
        predictions=test.predictions,
        confidences=test.confidences,
        classes=np.array(dataset.classes),
        **misread(dataset.test_images, dataset.test_labels, test.predictions),
    )
    write_model(folder, config, trained, dataset.test_images[:1])
    shutil.copy(folder / model.NETWORK / model.WEIGHTS, folder / "model.npz")
    write_features(folder / "features.npz", trained, dataset.test_images[0])
    (folder / "classification_report.txt").write_text(
        _by_class(dataset.test_labels, test.predictions, dataset.classes), encoding="utf-8"
    )


def write_model(folder: Path, config: DictConfig, trained: model.Model, example: np.ndarray) -> None:
    """Write the MLflow model into the folder of a run's artifacts; `example`: images (n, 28, 28) to keep with it."""
    with draft_folder() as draft:
        content = draft / "network"
        model.save(content, config, trained)
        columns = {"digit": "long"} | ({"class": "string"} if trained.has_names else {})
        columns |= {f"p{digit}": "double" for digit in range(len(trained.classes))}
        about = ABOUT | {"classes": ", ".join(trained.classes)}
        code = Path(model.__file__).with_name("serving.py")
        save_model(folder / model.MODEL, code, content, example, columns, about)


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


def _by_class(labels: np.ndarray, predictions: np.ndarray, classes: Sequence[str]) -> str:
    """scikit-learn's report by class."""
    from sklearn.metrics import classification_report

    return classification_report(
        labels, predictions, labels=range(len(classes)), target_names=classes, digits=4, zero_division=0
    )
