"""`python -m ablations.predict`: which run is meant, what is printed, drawn and registered."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from project import PATIENCE_S

from ablations.errors import InputError
from ablations.experiment.artifacts import write_model
from ablations.ground.paths import ROOT
from ablations.predict import __main__ as predict
from ablations.predict.model import Model
from ablations.tracking import Reader, Store, Tracker
from ablations.training.loop import train
from ablations.training.recipe import assemble


@pytest.fixture(scope="module")
def trained(compose):
    recipe = assemble(compose("trainer.epochs=3"))
    list(train(replace(recipe, validation=None)))
    return recipe, Model(recipe.network, recipe.normalization)


@pytest.fixture(scope="module")
def store(tmp_path_factory, compose, trained):
    """The address of a store, and the ids of its runs: those called max and again have the same name."""
    folder = tmp_path_factory.mktemp("store")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    recipe, model = trained
    (folder / "kept").mkdir()
    write_model(folder / "kept", compose(), model, recipe.test.pixels[:1])
    runs = {}

    def log(key, name, tags, accuracy, loss, with_model=True, failed=False):
        tracker = Tracker.start(Store(uri), "lenet5", name, {}, tags)
        tracker.log_metrics({"val/accuracy": accuracy, "val/loss": loss}, step=1)
        if with_model:
            tracker.log_files(folder / "kept")
        tracker.fail("error", "tripped") if failed else tracker.finish()
        runs[key] = tracker.run_id

    log("avg", "pool=avg seed=0", {"sweep": "pools"}, 0.90, 0.4)
    log("max", "pool=max seed=0", {"sweep": "pools"}, 0.93, 0.3)
    log("again", "pool=max seed=0", {"sweep": "depth-2", "study": "depth"}, 0.93, 0.2)
    log("broken", "optimizer.lr=1 seed=0", {"sweep": "pools"}, 0.99, 0.1, with_model=False, failed=True)
    log("bare", "c3=sparse seed=0", {"sweep": "bare"}, 0.5, 2.0, with_model=False)
    return uri, runs


@pytest.fixture
def pictures(tmp_path, trained):
    """Six test images as dark digits on white sheets."""
    paths = []
    for at, image in enumerate(trained[0].test.pixels[:6]):
        sheet = Image.new("L", (200, 150), 255)
        sheet.paste(Image.fromarray(255 - image).resize((84, 84), Image.Resampling.BICUBIC), (90, 40))
        paths.append(tmp_path / f"{'scan ' * at}{at}.png")
        sheet.save(paths[-1])
    return paths


def table(uri):
    return Reader(Store(uri)).runs()


# Which run


@pytest.mark.parametrize(
    ("wanted", "key"),
    [
        ("best", "again"),  # the accuracy of max with a lower loss; broken did not finish
        ("best:pools", "max"),
        ("best:depth", "again"),
        ("best:depth-2", "again"),
        ("best:bare", "bare"),
        ("pool=avg seed=0", "avg"),
    ],
)
def test_a_run_by_rank_or_name(store, wanted, key):
    uri, runs = store
    assert predict.choose(table(uri), wanted)["run_id"] == runs[key]


@pytest.mark.parametrize(
    ("datasets", "best"),
    [
        (["digits", "mnist"], 1),
        (["digits", "images", "mnist", "fashion_mnist"], 2),
        (["digits", "images", "fashion_mnist"], 1),
        (["fashion_mnist", "digits"], 1),
        (["fashion_mnist", "digits", "my_idx"], 2),
        (["digits", None], 1),
        (["mnist", "mnist"], 0),
    ],
)
def test_the_best_is_chosen_by_its_data_set_first(datasets, best):
    """The earlier ones have the higher accuracy, of other images."""
    runs = pd.DataFrame(
        {
            "run_id": [str(at) for at in range(len(datasets))],
            "run_name": "x",
            "status": "FINISHED",
            "params.dataset": datasets,
            "tags.sweep": ["first", *["others"] * (len(datasets) - 1)],
            "metrics.val/accuracy": np.linspace(0.99, 0.9, len(datasets)),
        }
    )
    assert predict.choose(runs, "best")["run_id"] == str(best)
    assert predict.choose(runs, "best:first")["run_id"] == "0"


def test_a_run_by_its_id_or_enough_of_it(store):
    uri, runs = store
    frame = table(uri)
    for run_id in runs.values():
        others = [other for other in runs.values() if other != run_id]
        enough = next(n for n in range(1, 33) if not any(o.startswith(run_id[:n]) for o in others))
        for characters in (enough, 32):
            assert predict.choose(frame, run_id[:characters])["run_id"] == run_id


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("pool=mxa seed=0", "no run 'pool=mxa seed=0'; there are, for example: pool=max seed=0"),
        ("zzz", "for example: c3=sparse seed=0, optimizer.lr=1 seed=0, pool=max seed=0, pool=avg seed=0"),
        ("pool=max seed=0", "2 runs are meant by 'pool=max seed=0'; give the id of one: "),
        ("best:pols", "no sweep or study 'pols'; there are: pools"),
        ("best:", "no sweep or study ''; there are: bare, depth, depth-2, pools"),
        ("", "runs are meant by ''"),
    ],
)
def test_what_is_not_clear_gets_one_line(store, wanted, said):
    uri, runs = store
    with pytest.raises(InputError) as caught:
        predict.choose(table(uri), wanted)
    assert said in str(caught.value)
    if "give the id" in said and wanted:
        assert str(caught.value).endswith(f"{runs['again']}, {runs['max']}")


def test_an_empty_store_is_said(store):
    runs = table(store[0]).iloc[:0]
    with pytest.raises(InputError, match="no run 'x'; there are, for example: none yet"):
        predict.choose(runs, "x")
    with pytest.raises(InputError, match="no finished run with the metric val/accuracy"):
        predict.choose(runs, "best")


# The command


def read(model, path):
    digits, probabilities = model.read(predict.read_image(path).pixels[None])
    return int(digits[0]), probabilities[0]


def test_files_are_read_and_listed(store, trained, pictures, capsys):
    uri, runs = store
    assert predict.main(["best", *map(str, pictures), "--tracking-uri", uri]) == 0
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "digit", "confidence"]
    assert len(rows) == len(pictures)
    assert len({len(row) for row in [head, *rows]}) == 1
    for row, path in zip(rows, pictures, strict=True):
        digit, probabilities = read(trained[1], path)
        assert row.startswith(f"{path} ")
        assert row.removeprefix(str(path)).split() == [str(digit), f"{probabilities[digit]:.2%}"]
    assert last == f"read by pool=max seed=0, run {runs['again']}"
    labels = trained[0].dataset.test_labels[: len(pictures)]
    assert sum(read(trained[1], path)[0] == label for path, label in zip(pictures, labels, strict=True)) >= 4


def test_json_has_all_probabilities(store, trained, pictures, capsys):
    uri, runs = store
    predict.main(["best:pools", str(pictures[1]), "--json", "--tracking-uri", uri])
    said = json.loads(capsys.readouterr().out)
    assert (said["run_id"], said["run_name"]) == (runs["max"], "pool=max seed=0")
    (file,) = said["files"]
    digit, probabilities = read(trained[1], pictures[1])
    assert (file["file"], file["digit"], file["class"]) == (str(pictures[1]), digit, str(digit))
    assert file["confidence"] == max(file["probabilities"])
    np.testing.assert_allclose(file["probabilities"], probabilities, atol=1e-6)


NAMES = ("zero", "eins", "二", "d", "e", "f", "g", "h", "i", "j")


@pytest.fixture(scope="module")
def named(tmp_path_factory, compose, trained):
    """The address of a store with one run, whose classes have names."""
    folder = tmp_path_factory.mktemp("named")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    (folder / "kept").mkdir()
    write_model(folder / "kept", compose(), replace(trained[1], classes=NAMES), trained[0].test.pixels[:1])
    tracker = Tracker.start(Store(uri), "lenet5", "named", {"dataset": "images"}, {})
    tracker.log_metrics({"val/accuracy": 0.9}, step=1)
    tracker.log_files(folder / "kept")
    tracker.finish()
    return uri, tracker.run_id


def test_classes_are_called_by_their_names(named, trained, pictures, tmp_path, capsys, monkeypatch):
    import mlflow

    from ablations.plots import run as plots

    arguments = ["best", *map(str, pictures), "--tracking-uri", named[0]]
    predict.main(arguments)
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["file", "digit", "class", "confidence"]
    chosen = f"named, run {named[1]}, trained on images (90.00% of its validation images right)"
    assert last == f"read by {chosen}"
    expected = [read(trained[1], path)[0] for path in pictures]
    assert [row.split()[-3:-1] for row in rows] == [[str(digit), NAMES[digit]] for digit in expected]
    predict.main([*arguments, "--json"])
    said = json.loads(capsys.readouterr().out)
    assert said["classes"] == list(NAMES)
    assert said["dataset"] == "images"
    assert [(file["digit"], file["class"]) for file in said["files"]] == [(d, NAMES[d]) for d in expected]
    predict.main(["best", "--register", "letters", "--tracking-uri", named[0]])
    assert capsys.readouterr().out.splitlines()[1] == f"it is {chosen}"
    drawn = []
    original = plots.kernels_and_maps
    monkeypatch.setattr(
        plots, "kernels_and_maps", lambda *given: (drawn.append(given[3]), original(*given))[1]
    )
    predict.main([*arguments[:2], *arguments[-2:], "--plot", str(tmp_path / "seen.png")])
    assert drawn == [NAMES]
    kept = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(named[0])
        model = mlflow.pyfunc.load_model(f"runs:/{named[1]}/model")
    finally:
        mlflow.set_tracking_uri(kept)
    found = model.predict(trained[0].test.pixels[:40])
    assert list(found) == ["digit", "class", *(f"p{digit}" for digit in range(10))]
    assert found["class"].tolist() == [NAMES[digit] for digit in found["digit"]]
    assert model.metadata.signature.outputs.input_names() == list(found)


def test_plots_go_into_a_file_or_a_folder(store, pictures, tmp_path, capsys):
    uri, _ = store
    (tmp_path / "other").mkdir()
    same_name = tmp_path / "other" / pictures[1].name
    same_name.write_bytes(pictures[2].read_bytes())
    single, folder = tmp_path / "new" / "seen.png", tmp_path / "seen"
    predict.main(["best", str(pictures[0]), "--plot", str(single), "--tracking-uri", uri])
    predict.main(["best", str(pictures[1]), str(same_name), "--plot", str(folder), "--tracking-uri", uri])
    assert {path.name for path in folder.iterdir()} == {"scan 1.png", "2-scan 1.png"}
    drawn = [single, *folder.iterdir()]
    contents = [np.asarray(Image.open(path)) for path in drawn]
    assert all(min(pixels.shape[:2]) > 400 and pixels.std() > 20 for pixels in contents)
    assert not np.array_equal(contents[1], contents[2])


def test_bad_files_are_named_and_the_others_read(store, trained, pictures, tmp_path, capsys):
    uri, _ = store
    blank, text = tmp_path / "blank.png", tmp_path / "text.png"
    Image.new("L", (30, 30), 200).save(blank)
    text.write_text("no picture")
    files = [blank, pictures[0], text, tmp_path / "absent.png"]
    assert predict.main(["best", *map(str, files), "--tracking-uri", uri]) == 2
    out, err = capsys.readouterr()
    assert f"{read(trained[1], pictures[0])[0]}" in out.splitlines()[1].removeprefix(str(pictures[0]))
    assert len(out.splitlines()) == 3
    lines = err.splitlines()
    assert len(lines) == 3
    for line, path, said in zip(
        lines, (blank, text, files[-1]), ("nothing to be seen", "not an image", "no such file"), strict=True
    ):
        assert line.startswith(f"error: {path}: ")
        assert said in line


def test_any_error_of_one_file_costs_no_other_answer(store, pictures, monkeypatch, capsys):
    original = predict.read_image

    def read_image(path, trained_on):
        if path == pictures[1]:
            raise IndexError("index 0 is out of bounds")
        return original(path, trained_on)

    monkeypatch.setattr(predict, "read_image", read_image)
    assert predict.main(["best", *map(str, pictures[:3]), "--tracking-uri", store[0]]) == 2
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 4
    assert err == f"error: {pictures[1]}: IndexError('index 0 is out of bounds')\n"


def test_two_digits_in_one_picture_are_said(store, pictures, tmp_path, capsys):
    one = Image.open(pictures[0])
    both = Image.new("L", (400, 150), 255)
    both.paste(one, (0, 0))
    both.paste(one, (200, 0))
    both.save(tmp_path / "both.png")
    assert predict.main(["best", str(tmp_path / "both.png"), "--tracking-uri", store[0]]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.startswith(f"warning: {tmp_path / 'both.png'}: more than one digit")
    assert err.count("\n") == 1


def test_options_stand_anywhere(store, pictures, capsys):
    uri, _ = store
    first, second = map(str, pictures[:2])
    said = []
    for arguments in (
        ["best", first, second, "--json", "--tracking-uri", uri],
        ["--tracking-uri", uri, "best", "--json", first, second],
        ["best", "--json", first, "--tracking-uri", uri, second],
        ["--json", "best", first, "--tracking-uri", uri, second],
    ):
        assert predict.main(arguments) == 0
        said.append(capsys.readouterr().out)
    assert len(json.loads(said[0])["files"]) == 2
    assert len(set(said)) == 1


@pytest.mark.parametrize(
    ("wanted", "said"), [("bare", "has no model"), ("broken", "has no model, it is FAILED")]
)
def test_a_run_without_a_model_is_said(store, pictures, wanted, said):
    uri, runs = store
    with pytest.raises(InputError, match=said):
        predict.main([runs[wanted], str(pictures[0]), "--tracking-uri", uri])


def test_a_logged_model_is_named_where_the_pages_of_mlflow_look(store):
    tags = table(store[0]).set_index("run_id")["tags.mlflow.log-model.history"]
    (model,) = json.loads(tags[store[1]["max"]])
    assert model["artifact_path"] == "model"
    assert "python_function" in model["flavors"]
    assert tags.isna()[store[1]["bare"]]


def test_a_registered_model_is_loaded_by_name_and_version(store, trained, capsys):
    import mlflow

    uri, runs = store
    images = trained[0].test.pixels[:40]
    for version in (1, 2):
        assert predict.main(["best:pools", "--register", "digits", "--tracking-uri", uri]) == 0
        assert capsys.readouterr().out.splitlines() == [
            f"registered digits version {version}: models:/digits/{version}",
            f"it is pool=max seed=0, run {runs['max']}",
        ]
    kept = mlflow.get_tracking_uri()
    try:
        mlflow.set_tracking_uri(uri)
        for address in ("models:/digits/1", "models:/digits/2", f"runs:/{runs['max']}/model"):
            found = mlflow.pyfunc.load_model(address).predict(images)
            np.testing.assert_array_equal(found["digit"], trained[1].read(images)[0])
        assert mlflow.MlflowClient().get_model_version("digits", "1").run_id == runs["max"]
    finally:
        mlflow.set_tracking_uri(kept)
    with pytest.raises(InputError, match="Invalid model name"):
        predict.main(["best", "--register", "dig/its", "--tracking-uri", uri])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["best"], "give at least one FILE, or --register NAME"),
        (["best", "a.png", "b.png", "--plot", "c.png"], "give a folder, there are several files"),
    ],
)
def test_arguments_that_make_no_sense(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        predict.main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_as_a_user_types_it(store, trained, pictures):
    """From another folder, files by relative names; an error is one line."""
    uri, _ = store
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri}

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "ablations.predict", *arguments],
            cwd=pictures[0].parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    done = command("best", pictures[0].name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[:2] == ["0.png", str(read(trained[1], pictures[0])[0])]
    failed = command("bset", pictures[0].name)
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.count("\n") == 1
    assert failed.stderr.startswith("error: no run 'bset'; there are, for example: best")
    assert command("--help").stdout.count("python -m ablations.predict ") >= 4
