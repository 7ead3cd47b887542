"""A run's network as a model: kept, loaded anywhere by MLflow, served; and what else a run leaves behind."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tracemalloc
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf
from project import PATIENCE_S, wait_until

from ablations.errors import InputError
from ablations.experiment.artifacts import misread, write_features, write_model
from ablations.ground.paths import ROOT
from ablations.predict.model import MODEL, NETWORK, Model, save
from ablations.tracking.models import without_bytecode
from ablations.training.loop import evaluate, train
from ablations.training.recipe import assemble

BEFORE = ROOT / "tests/golden/before"
"""A model of 0.1.0 as a run left it, of a network with few weights; its readings of twenty digits."""

ISOLATED = """
import json, sys, importlib.util
from pathlib import Path
sys.path = [p for p in sys.path if not (Path(p or ".") / "ablations").exists()]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
assert importlib.util.find_spec("ablations") is None
import mlflow.pyfunc, numpy as np
model = mlflow.pyfunc.load_model(sys.argv[1])
import ablations
home = Path(ablations.__file__).parents[1]
assert home.is_relative_to(sys.argv[1]) or home.name.startswith("ablations-"), home  # unpacked
print(json.dumps(model.predict(np.load(sys.argv[2])).to_dict("list")))
"""


@pytest.fixture(scope="module")
def recipe(compose):
    """Average pooling and radial basis functions after four epochs of the embedded digits, pixels standardised."""
    recipe = assemble(compose("pool=avg", "head=rbf", "normalization=standard", "trainer.epochs=4"))
    list(train(replace(recipe, validation=None)))
    return recipe


@pytest.fixture(scope="module")
def trained(recipe):
    return Model(recipe.network, recipe.normalization)


@pytest.fixture(scope="module")
def images(recipe):
    return recipe.test.pixels[:70]


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory, compose, trained, images):
    """A folder with the run's MLflow model."""
    folder = tmp_path_factory.mktemp("artifacts")
    config = compose("pool=avg", "head=rbf", "normalization=standard", "trainer.epochs=4")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "dont_write_bytecode", False)
        write_model(folder, config, trained, images[:1])
    assert not list(folder.rglob("*.pyc"))
    return folder


@pytest.fixture(scope="module")
def loaded(artifacts):
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(artifacts / MODEL))


# The network and its normalisation


def test_what_was_saved_reads_as_the_run_did(artifacts, recipe, trained):
    evaluation = evaluate(recipe.network, recipe.normalization, recipe.test)
    assert evaluation.accuracy > 0.9
    digits, probabilities = Model.load(artifacts / NETWORK).read(recipe.test.pixels)
    np.testing.assert_array_equal(digits, evaluation.predictions)
    np.testing.assert_array_equal(probabilities.max(axis=1), evaluation.confidences)
    assert probabilities.shape == (360, 10)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64"])
def test_any_type_of_number_reads_the_same(trained, images, dtype):
    expected = trained.read(images)
    found = trained.read(images.astype(dtype))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (np.zeros((3, 28, 27)), "shape (3, 28, 27)"),
        (np.zeros((28, 28)), "shape (28, 28)"),
        (np.zeros((0, 28, 28)), "shape (0, 28, 28)"),
        (np.full((1, 28, 28), 256), "pixels from 256 to 256"),
        (np.full((1, 28, 28), -0.5), "pixels from -0.5"),
        (np.full((1, 28, 28), np.nan), "pixels from nan"),
        (np.full((1, 28, 28), 0.7), "multiply these by 255"),
        (np.full((1, 28, 28), "7"), "numbers from 0 to 255"),
        (np.full((1, 28, 28), 1j), "numbers from 0 to 255"),
    ],
)
def test_other_input_is_refused(trained, wrong, said):
    with pytest.raises(InputError, match=re.escape(said)):
        trained.read(wrong)


def test_feature_maps_end_in_what_is_read(trained, images):
    maps = trained.feature_maps(images[3])
    digits, _ = trained.read(images[3:4])
    assert maps["output"].argmin() == digits[0]  # of penalties the smallest
    assert maps["C1"].shape == (6, 28, 28)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "weights.npz").unlink(), "weights.npz"),
        (lambda folder: (folder / "weights.npz").write_bytes(b"PK\3\4 not a zip"), "not a model"),
        (lambda folder: (folder / "network.yaml").write_text("network: [1, 2"), "not a model"),
        (lambda folder: (folder / "network.yaml").write_text("init: {}"), "not a model"),
        (
            lambda folder: (folder / "network.yaml").write_text("network: {x: [{_target_: os.system}]}"),
            "os.system is not a part of a network",
        ),
        (
            lambda folder: (folder / "network.yaml").write_text(
                "network: {_target_: ablations.errors.sys.modules}"
            ),
            "not a model",
        ),
        (
            lambda folder: (folder / "network.yaml").write_text(
                "network: {_target_: ablations.ground.paths.Path, _args_: [x]}"
            ),
            "ablations.ground.paths.Path is not a part of a network",
        ),
    ],
)
def test_a_damaged_model_gives_one_line(artifacts, tmp_path, damage, said):
    folder = tmp_path / "network"
    shutil.copytree(artifacts / NETWORK, folder)
    damage(folder)
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        Model.load(folder)
    assert str(folder) in str(caught.value)


NESTED = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)
"""The billion laughs: 400 bytes that stand for 9⁹ words."""


@pytest.mark.parametrize(
    ("there", "instead", "said"),
    [
        ("activations.ReLU", "feeder.Feeder", "ablations.nn.feeder.Feeder is not a part of a network"),
        ("activations.ReLU", "layer.Parameter", "is not a part of a network"),
        ("activations.ReLU", "heads.read_bitmaps", "is not a part of a network"),
        ("activations.ReLU", "network.Activation", "is not a part of a network"),  # imported there only
        ("nn.activations.ReLU", "tracking.store.Store", "is not a part of a network"),
        ("nn.activations.ReLU", "datasets.IdxFiles", "is not a part of a network"),
        ("ablations.nn.activations.ReLU", "[ablations.nn.activations.ReLU]", "is not a part of a network"),
        ("units: 84", "units: ${trainer.dtype}", "${trainer.dtype}: an interpolation"),
        ("units: 84", "units: ${oc.env:HOME}", "an interpolation"),
        ("units: 84", "units: 84\n      _partial_: true", "_partial_"),
        ("units: 84", "units: 1000000000", "accepted: at most 4,096"),
        ("maps: 16", "maps: 4000", "more weights than weights.npz has"),
        ("bitmaps_7x12.txt", "/dev/zero", "/dev/zero: no file of at most"),
        ("network:", f"x: {'[' * 40}{']' * 40}\nnetwork:", "nested deeper than 16 levels"),
        ("network:", f"{NESTED}network:", "an anchor or an alias"),
        ("network:", f"# {'x' * 70_000}\nnetwork:", "no file of at most 64,000 bytes"),
        ("network:", "classes: [a, b]\nnetwork:", "2 names for 10 classes"),
        ("network:", '"\\e]0;x": 1\nnetwork: !!python/object:os.system {}\nx:', "not a model"),
    ],
)
def test_a_model_can_start_nothing_but_parts_of_a_network(artifacts, tmp_path, there, instead, said):
    """Nor take more time or memory than its files are worth."""
    folder = shutil.copytree(artifacts / NETWORK, tmp_path / "network")
    text = (folder / "network.yaml").read_text("utf-8")
    text = "".join(line for line in text.splitlines(True) if "classes:" not in line and "- '" not in line)
    assert there in text
    (folder / "network.yaml").write_text(text.replace(there, instead, 1), "utf-8")
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        Model.load(folder)
    assert str(caught.value).isprintable()


def test_weights_that_would_grow_are_not_read(artifacts, tmp_path):
    folder = shutil.copytree(artifacts / NETWORK, tmp_path / "network")
    np.savez_compressed(folder / "weights.npz", **{"C1.weight": np.zeros(2**28, np.uint8)})
    assert (folder / "weights.npz").stat().st_size < 2**20
    tracemalloc.start()
    with pytest.raises(InputError, match="its arrays are too large"):
        Model.load(folder)
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


def test_weights_of_another_network_are_refused(artifacts, tmp_path):
    folder = tmp_path / "network"
    shutil.copytree(artifacts / NETWORK, folder)
    with np.load(folder / "weights.npz", allow_pickle=False) as saved:
        arrays = dict(saved)
    arrays["F6.weight"] = arrays["F6.weight"][:80]
    np.savez(folder / "weights.npz", **arrays)
    with pytest.raises(InputError, match=r"F6.weight has shape \(80, 120\), expected \(84, 120\)"):
        Model.load(folder)


def test_a_network_of_any_width_is_loaded(compose, images, tmp_path):
    """Numbers that its weights bear out are no danger, however large."""
    config = compose("network.layers.C5.units=8", "network.layers.F6.units=5000")
    recipe = assemble(config)
    wide = Model(recipe.network, recipe.normalization)
    save(tmp_path / "wide", config, wide)
    np.testing.assert_array_equal(Model.load(tmp_path / "wide").read(images)[1], wide.read(images)[1])


def test_the_names_of_classes_are_kept(compose, tmp_path):
    """As they are; what was saved without names reads digits."""
    recipe = assemble(compose())
    names = ("A", "1", "${seed}", "d", "e", "f", "g", "h", "i", "j")
    save(tmp_path / "named", compose(), Model(recipe.network, recipe.normalization, names))
    assert Model.load(tmp_path / "named").classes == names
    assert Model.load(tmp_path / "named").pictures is None
    own = Model(recipe.network, recipe.normalization, names, (64, 48, True))
    save(tmp_path / "own", compose(), own)
    assert Model.load(tmp_path / "own").pictures == (64, 48, True)
    kept = OmegaConf.load(tmp_path / "named/network.yaml")
    del kept["classes"], kept["pictures"]
    OmegaConf.save(kept, tmp_path / "named/network.yaml")
    assert Model.load(tmp_path / "named").classes == tuple("0123456789")


# As MLflow has it


def test_mlflow_loads_it_and_gives_digit_and_probabilities(loaded, trained, images):
    digits, probabilities = trained.read(images)
    named = {loaded.metadata.signature.inputs.input_names()[0]: images}
    for given in (images, images.astype(np.float64), images.astype(object), named):
        frame = loaded.predict(given)
        assert list(frame) == ["digit", *(f"p{digit}" for digit in range(10))]
        np.testing.assert_array_equal(frame["digit"], digits)
        np.testing.assert_array_equal(frame.iloc[:, 1:], probabilities.astype(np.float64))


def test_mlflow_passes_on_what_is_wrong_with_the_input(loaded):
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match=r"shape \(2, 27, 28\); accepted: \(n, 28, 28\)") as caught:
        loaded.predict(np.zeros((2, 27, 28)))
    assert caught.value.get_http_status_code() == 400


def test_the_model_says_what_it_takes_gives_and_needs(artifacts, loaded, images):
    signature = loaded.metadata.signature
    assert [(column.name, column.type.name) for column in signature.outputs] == [
        ("digit", "long"),
        *((f"p{digit}", "double") for digit in range(10)),
    ]
    (name,) = signature.inputs.input_names()
    assert name == "images (n, 28, 28), uint8 or float, from 0 = background to 255 = ink"
    assert "(n, 28, 28)" in loaded.metadata.metadata["input"]
    example = json.loads((artifacts / MODEL / "serving_input_example.json").read_text())
    np.testing.assert_array_equal(example["inputs"], images[:1])
    requirements = (artifacts / MODEL / "requirements.txt").read_text().split()
    assert {line.partition("==")[0] for line in requirements} == {
        "hydra-core",
        "mlflow",
        "numpy",
        "omegaconf",
        "pandas",
        "scipy",
    }
    assert all("==" in line for line in requirements)


def test_bytecode_beside_its_code_changes_nothing(artifacts, tmp_path, loaded, images):
    """Some versions of Python leave it where a model is loaded; that of another version is not even looked at."""
    import mlflow.pyfunc

    folder = shutil.copytree(artifacts / MODEL, tmp_path / MODEL)
    packages = {path.parent for path in folder.rglob("*.py")}
    assert packages
    for package in packages:
        (package / "__pycache__").mkdir(exist_ok=True)
        (package / "__pycache__" / "network.cpython-399.pyc").write_bytes(b"of another Python")
    again = mlflow.pyfunc.load_model(str(folder))
    assert again.predict(images).equals(loaded.predict(images))
    without_bytecode(folder)
    assert not list(folder.rglob("*.pyc"))


def test_there_is_no_pickle_in_it(artifacts):
    files = [path for path in artifacts.rglob("*") if path.is_file()]
    files = [path for path in files if path.parent.name != "__pycache__"]  # of the tests that loaded it
    assert {path.suffix for path in files} <= {"", ".py", ".txt", ".yaml", ".json", ".npz", ".zip"}
    for path in files:
        assert not path.read_bytes().startswith(b"\x80"), path  # as every pickle does since protocol 2
    with np.load(artifacts / NETWORK / "weights.npz", allow_pickle=False) as weights:
        assert all(array.dtype == np.float32 for array in weights.values())
    described = yaml.safe_load((artifacts / MODEL / "MLmodel").read_text())
    assert described["flavors"]["python_function"]["loader_module"] == "mlflow.pyfunc.loaders.code_model"
    assert "python_model" not in described["flavors"]["python_function"]  # the key of a pickled one
    assert sum(path.stat().st_size for path in files) < 400_000


@pytest.fixture
def before(tmp_path):
    """The folder of the model that 0.1.0 saved; what it read."""
    folder = shutil.copytree(BEFORE / "model", tmp_path / "before")
    with np.load(BEFORE / "read.npz", allow_pickle=False) as read:
        return folder, dict(read)


def test_a_model_of_before_is_loaded(before):
    folder, read = before
    digits, probabilities = Model.load(folder / "artifacts/network").read(read["images"])
    np.testing.assert_array_equal(digits, read["digits"])
    np.testing.assert_allclose(probabilities, read["probabilities"], rtol=1e-5)


def test_a_model_of_before_is_loaded_by_mlflow(before):
    import mlflow.pyfunc

    folder, read = before
    model = mlflow.pyfunc.load_model(str(folder))
    assert type(model.unwrap_python_model()._model) is Model, "today's, since it is installed"
    found = model.predict(read["images"])
    np.testing.assert_array_equal(found["digit"], read["digits"])
    np.testing.assert_allclose(found["p7"], read["probabilities"][:, 7], rtol=1e-5)


def test_a_model_of_before_is_loaded_where_this_project_is_not_installed(before, tmp_path):
    folder, read = before
    assert elsewhere(folder, read["images"], tmp_path)["digit"] == read["digits"].tolist()


def test_it_loads_where_this_project_is_not_installed(artifacts, tmp_path, trained, images):
    copy = shutil.copytree(artifacts / MODEL, tmp_path / "model")
    found = elsewhere(copy, images, tmp_path)
    digits, probabilities = trained.read(images)
    assert found["digit"] == digits.tolist()
    np.testing.assert_allclose(found["p7"], probabilities[:, 7], atol=1e-6)


def elsewhere(folder, images, tmp_path):
    """What a process without this project reads."""
    np.save(tmp_path / "images.npy", images)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", ISOLATED, str(folder), str(tmp_path / "images.npy")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_mlflow_serves_it(artifacts, tmp_path, trained, images):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(artifacts / MODEL)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PATH": path, "MLFLOW_DISABLE_TELEMETRY": "true"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"

        def answers():
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=PATIENCE_S).close()
            except OSError:
                return False
            return True

        wait_until(answers, "an answer of the server")

        def ask(body):
            request = urllib.request.Request(
                f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return json.load(answer)["predictions"]

        digits, probabilities = trained.read(images)
        for body in (
            {"inputs": images.tolist()},
            {"instances": images.tolist()},
            {"inputs": images.astype(float).tolist()},
        ):
            rows = ask(body)
            assert [row["digit"] for row in rows] == digits.tolist()
            np.testing.assert_allclose([row["p3"] for row in rows], probabilities[:, 3], atol=1e-6)
        with pytest.raises(urllib.error.HTTPError) as caught:
            ask({"inputs": images[:, 1:].tolist()})
        assert caught.value.code == 400
        assert "accepted: (n, 28, 28)" in caught.value.read().decode()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=PATIENCE_S)


# What else a run leaves behind


def test_features_are_those_of_the_network(tmp_path, trained, images):
    path = tmp_path / "features.npz"
    write_features(path, trained, images[5])
    assert path.stat().st_size < 60_000
    maps = trained.feature_maps(images[5])
    with np.load(path, allow_pickle=False) as saved:
        assert set(saved) == {"image", "C1", "S2", "C3", "S4", "C5", "F6", "output", "probabilities"}
        np.testing.assert_array_equal(saved["image"], images[5])
        assert saved["image"].dtype == np.uint8
        for name, expected in maps.items():
            assert saved[name].dtype == np.float32
            np.testing.assert_allclose(saved[name], expected, rtol=1e-6)
        assert saved["probabilities"].argmax() == trained.read(images[5:6])[0][0]


def test_the_first_misread_images_are_kept():
    labels = np.zeros(1200, np.uint8)
    predictions = labels.copy()
    predictions[1::2] = 3
    images = np.arange(1200)[:, None, None] % 256 * np.ones((1, 28, 28))
    kept = misread(images.astype(np.uint8), labels, predictions)
    assert kept["misread"].dtype == np.int32
    np.testing.assert_array_equal(kept["misread"], np.arange(1, 1000, 2))
    np.testing.assert_array_equal(kept["misread_images"][:, 14, 14], np.arange(1, 1000, 2) % 256)
    none = misread(images.astype(np.uint8), labels, labels)
    assert none["misread"].shape == (0,)
    assert none["misread_images"].shape == (0, 28, 28)
