"""A model in MLflow's format, written as the version of MLflow that is known here writes it, without its import."""

import datetime
import json
import platform
import shutil
import uuid
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

KNOWN = "3.17.2"
"""The version of MLflow whose files these are."""

BUILDS = ("pip", "setuptools", "wheel")
CONDA, PYTHON, REQUIREMENTS = "conda.yaml", "python_env.yaml", "requirements.txt"
EXAMPLE, SERVING_EXAMPLE = "input_example.json", "serving_input_example.json"


def write_model(
    folder: Path,
    code: Path,
    artifacts: Mapping[str, Path],
    example: "np.ndarray",
    images: str,
    columns: Mapping[str, str],
    requirements: Sequence[str],
    about: Mapping[str, str],
) -> None:
    """Write a model from code into `folder`, which does not exist yet: what `mlflow.pyfunc.save_model` writes.

    Args:
        folder: the model's.
        code: the Python file that loads it.
        artifacts: folders that it finds by these names.
        example: an input of integers, which is kept with it.
        images: the name of its input, objects of any shape.
        columns: what it gives, with MLflow's types.
        requirements: what loading it imports, with versions.
        about: what its page says besides.
    """
    folder.mkdir(parents=True)
    shutil.copy(code, folder / code.name)
    (folder / EXAMPLE).write_text(json.dumps(example.tolist()), encoding="utf-8")
    served = json.dumps({"inputs": example.tolist()}, indent=2)
    (folder / SERVING_EXAMPLE).write_text(served, encoding="utf-8")
    for name, path in artifacts.items():
        shutil.copytree(path, folder / "artifacts" / name)
    described = _described(code, artifacts, images, columns, about)
    described["model_size_bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    _write_yaml(folder / "MLmodel", described)
    versions = {name: _version_of(name) for name in BUILDS}
    python, pip = platform.python_version(), versions["pip"]
    environment = [f"python={python}", f"pip<={pip}" if pip else "pip", {"pip": list(requirements)}]
    _write_yaml(
        folder / CONDA, {"name": "mlflow-env", "channels": ["conda-forge"], "dependencies": environment}
    )
    (folder / REQUIREMENTS).write_text("\n".join(requirements), encoding="utf-8")
    builds = [f"{name}=={found}" if found else name for name, found in versions.items()]
    needed = {"python": python, "build_dependencies": builds, "dependencies": [f"-r {REQUIREMENTS}"]}
    _write_yaml(folder / PYTHON, needed, sort_keys=False)


def tags_of_model(path: Path) -> dict[str, Any]:
    """What MLflow's pages are told of a model by a tag of its run, from the model's `MLmodel`."""
    import yaml

    described = yaml.safe_load(path.read_text(encoding="utf-8"))
    told = {key: described[key] for key in ("run_id", "utc_time_created", "model_uuid") if key in described}
    flavors = {
        name: {key: value for key, value in flavor.items() if key != "config"}
        for name, flavor in described.get("flavors", {}).items()
    }
    return {**told, "flavors": flavors, "artifact_path": path.parent.name}


def _described(
    code: Path,
    artifacts: Mapping[str, Path],
    images: str,
    columns: Mapping[str, str],
    about: Mapping[str, str],
) -> dict[str, Any]:
    """What `MLmodel` says but for the size."""
    taken = {"name": images, "type": "tensor", "tensor-spec": {"dtype": "object", "shape": [-1]}}
    given = [{"type": kind, "name": name, "required": True} for name, kind in columns.items()]
    flavor = {
        "artifacts": {
            name: {"path": f"artifacts/{name}", "uri": str(path)} for name, path in artifacts.items()
        },
        "cloudpickle_version": version("cloudpickle"),
        "code": None,
        "env": {"conda": CONDA, "virtualenv": PYTHON},
        "loader_module": "mlflow.pyfunc.loaders.code_model",
        "model_code_path": str(code),
        "python_version": platform.python_version(),
        "streamable": False,
    }
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    return {
        "flavors": {"python_function": flavor},
        "is_signature_from_type_hint": False,
        "metadata": dict(about),
        "mlflow_version": KNOWN,
        "model_id": None,
        "model_uuid": uuid.uuid4().hex,
        "prompts": None,
        "saved_input_example_info": {
            "artifact_path": EXAMPLE,
            "serving_input_path": SERVING_EXAMPLE,
            "type": "ndarray",
        },
        "signature": {"inputs": json.dumps([taken]), "outputs": json.dumps(given), "params": None},
        "type_hint_from_example": False,
        "utc_time_created": str(now),
    }


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _write_yaml(path: Path, values: Mapping[str, Any], sort_keys: bool = True) -> None:
    import yaml

    with open(path, "w", encoding="utf-8") as file:
        yaml.safe_dump(values, file, default_flow_style=False, sort_keys=sort_keys)
