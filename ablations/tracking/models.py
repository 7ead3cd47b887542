"""Models in MLflow's format: written beside a run's other artifacts, listed in its experiment, and registered."""

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from ablations.tracking.directly import ARTIFACT, model_name, tags_of_listed
from ablations.tracking.model_files import KNOWN, tags_of_model, write_model
from ablations.tracking.store import Store, tame

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

REQUIREMENTS = ("hydra-core", "mlflow", "numpy", "omegaconf", "pandas", "scipy")
"""What loading a model imports; pinned to the versions that made it."""

IMAGES = "images (n, 28, 28), uint8 or float, from 0 = background to 255 = ink"
"""The name of a model's input, which stands in its signature; whoever calls it need not give it."""


def save_model(
    folder: Path,
    code: Path,
    content: Path,
    example: "np.ndarray",
    columns: Mapping[str, str],
    about: Mapping[str, str],
) -> None:
    """Write an MLflow model that reads images into `folder`, which does not exist yet. No store is needed.

    `code` is the Python file that MLflow runs to load it (models from code: nothing is pickled), `content` a
    folder that it finds as the artifact `network`, `example` an input (n, 28, 28) that is kept with the model,
    `columns` what it gives, with MLflow's types, `about` what its page says besides.

    The signature declares the input as objects of any shape, and only its name says what it is: MLflow refuses every
    other type of number than the declared one, while both bytes and floats are welcome here. The code itself checks
    shape and range.
    """
    requirements = [f"{package}=={version(package)}" for package in REQUIREMENTS]
    if version("mlflow") == KNOWN and example.dtype.kind in "iu":
        write_model(folder, code, {"network": content}, example, IMAGES, columns, requirements, about)
    else:
        _save(folder, code, content, example, columns, requirements, about)
    without_bytecode(folder)


def _save(
    folder: Path,
    code: Path,
    content: Path,
    example: "np.ndarray",
    columns: Mapping[str, str],
    requirements: Sequence[str],
    about: Mapping[str, str],
) -> None:
    """What `save_model` does, by MLflow itself."""
    tame()
    import mlflow.pyfunc
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    output = Schema([ColSpec(kind, name) for name, kind in columns.items()])
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(code),
        artifacts={"network": str(content)},
        signature=ModelSignature(Schema([TensorSpec(np.dtype(object), (-1,), IMAGES)]), output),
        input_example=example,
        pip_requirements=list(requirements),
        metadata=dict(about),
    )


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
    return {"mlflow.log-model.history": json.dumps([tags_of_model(path) for path in paths])}


def list_models(api: "MlflowClient", run_id: str, paths: Sequence[str]) -> None:
    """Enter models among a run's artifacts into the list of its experiment, with the run's params and test metrics.

    Their files stay where they are. A second time changes nothing.
    """
    from mlflow.entities import LoggedModelOutput, Metric

    run = api.get_run(run_id)
    listed = api.search_logged_models([run.info.experiment_id], f"source_run_id = '{run_id}'")
    there = {model.tags[ARTIFACT] for model in listed if model.status == "READY"}
    for model in listed:
        if model.status != "READY":  # its entry was interrupted
            api.delete_logged_model(model.model_id)
    name = model_name(run.info.run_name)
    tested = [each for each in run.data._metric_objs if each.key.startswith("test/")]
    for path in set(paths) - there:
        tags = tags_of_listed(run_id, path)
        model = api.create_logged_model(run.info.experiment_id, name, run_id, tags, run.data.params)
        api.log_outputs(run_id, [LoggedModelOutput(model.model_id, 0)])
        values = [Metric(m.key, m.value, m.timestamp, m.step, model.model_id) for m in tested]
        api.log_batch(run_id, values)  # the run has them already, and keeps one of each
        api.finalize_logged_model(model.model_id, "READY")


def register_model(store: Store, run_id: str, path: str, name: str) -> str:
    """Register the model that a run has under the artifact `path`; return its version, a number from 1.

    Raises InputError where the registry refuses, as it does for a name with `/` or `:`.
    """
    store.settle()
    with store.client() as api:
        from mlflow.exceptions import MlflowException

        location = api.get_run(run_id).info.artifact_uri
        try:
            api.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        return str(api.create_model_version(name, f"{location}/{path}", run_id).version)
