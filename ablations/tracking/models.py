"""Models in MLflow's format: written beside a run's other artifacts, and registered."""

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.tracking.store import Store, tame

if TYPE_CHECKING:
    import numpy as np

REQUIREMENTS = ("hydra-core", "mlflow", "numpy", "omegaconf", "pandas")
"""What loading a model imports; pinned to the versions that made it."""


def save_model(
    folder: Path, code: Path, content: Path, example: "np.ndarray", about: Mapping[str, str]
) -> None:
    """Write an MLflow model that reads images into `folder`, which does not exist yet. No store is needed.

    `code` is the Python file that MLflow runs to load it (models from code: nothing is pickled), `content` a
    folder that it finds as the artifact `network`, `example` an input (n, 28, 28) that is kept with the model,
    `about` what its page says besides.

    The signature declares the input as objects of any shape: MLflow refuses every other type of number than
    the declared one, while both bytes and floats are welcome here. The code itself checks shape and range.
    """
    tame()
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    columns = [ColSpec("long", "digit"), *(ColSpec("double", f"p{digit}") for digit in range(10))]
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(code),
        artifacts={"network": str(content)},
        signature=ModelSignature(Schema([TensorSpec(np.dtype(object), (-1,))]), Schema(columns)),
        input_example=example,
        pip_requirements=[f"{package}=={version(package)}" for package in REQUIREMENTS],
        metadata=dict(about),
    )
    without_bytecode(folder)


def without_bytecode(folder: Path) -> None:
    """Delete what Python leaves beside the code of a model that was loaded: it is of one version of Python."""
    for compiled in list(folder.rglob("__pycache__")):
        shutil.rmtree(compiled)


def model_tags(folder: Path) -> dict[str, str]:
    """The tag by which MLflow's pages know that a run has the models in `folder` among its artifacts, if any.

    They list them as the run's logged models, each with its signature and how to use it.
    """
    paths = sorted(folder.glob("*/MLmodel"))
    if not paths:
        return {}
    from mlflow.models import Model

    models = [Model.load(str(path)).get_tags_dict() | {"artifact_path": path.parent.name} for path in paths]
    return {"mlflow.log-model.history": json.dumps(models)}


def register_model(store: Store, run_id: str, path: str, name: str) -> str:
    """Register the model that a run has under the artifact `path`; return its version, a number from 1.

    Raises InputError where the registry refuses, as it does for a name with `/` or `:`.
    """
    with store.client() as api:
        from mlflow.exceptions import MlflowException

        location = api.get_run(run_id).info.artifact_uri
        try:
            api.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(api.create_model_version(name, f"{location}/{path}", run_id).version)
