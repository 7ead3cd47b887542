"""A run's own two figures, drawn when somebody looks at the run."""

import errno
import shutil

import numpy as np
import pytest
from PIL import Image

from ablations.errors import InputError
from ablations.report.pictures import add_pictures, pictures
from ablations.tracking import Reader, Store, Tracker
from ablations.tracking.journal import outbox_folder

NAMES = ["learning_curves.png", "confusion_matrix.png"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(f"sqlite:///{tmp_path_factory.mktemp('pictures') / 'mlflow.db'}")
    store.prepare("lenet5")
    return store


def logged(store, folder, epochs: int = 3, readings: bool = True, **files: bytes) -> str:
    """A finished run, and its id."""
    tracker = Tracker.start(store, "lenet5", "a run", {}, {})
    for epoch in range(1, epochs + 1):
        tracker.log_metrics({"train/loss": 1 / epoch, "train/accuracy": 1 - 0.5 / epoch}, epoch)
    folder.mkdir(exist_ok=True)
    if readings:
        labels = np.arange(30) % 3
        classes = np.array(["a", "b", "c"])
        np.savez(folder / "predictions.npz", labels=labels, predictions=labels[::-1], classes=classes)
    for name, content in files.items():
        (folder / f"{name}.png").write_bytes(content)
    tracker.log_files(folder)
    tracker.finish()
    return tracker.run_id


def test_they_are_drawn_once_and_found_under_their_names(store, tmp_path, monkeypatch):
    run_id = logged(store, tmp_path / "files")
    assert Reader(store).artifact(run_id, NAMES[0]) is None
    assert add_pictures(store, Reader(store), run_id) == NAMES
    for name in NAMES:
        with Image.open(Reader(store).artifact(run_id, name)) as image:
            assert min(image.size) > 200
    monkeypatch.setattr("ablations.report.pictures.pictures", None)  # not even drawn again
    assert add_pictures(store, Reader(store), run_id) == []
    assert list(Reader(store).runs()["status"].unique()) == ["FINISHED"]


def test_those_of_an_earlier_run_stay(store, tmp_path):
    run_id = logged(store, tmp_path / "files", confusion_matrix=b"as it was")
    assert add_pictures(store, Reader(store), run_id) == [NAMES[0]]
    assert Reader(store).artifact(run_id, NAMES[1]).read_bytes() == b"as it was"


def test_those_of_a_copied_project_are_in_the_copy(tmp_path):
    store = Store(f"sqlite:///{tmp_path / 'first' / 'mlflow.db'}")
    run_id = logged(store, tmp_path / "files")
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    copy = Store(f"sqlite:///{tmp_path / 'copy' / 'mlflow.db'}")
    assert add_pictures(copy, Reader(copy), run_id) == NAMES
    for name in NAMES:
        assert Reader(copy).artifact(run_id, name).is_relative_to(tmp_path / "copy")
        assert Reader(store).artifact(run_id, name) is None


def test_nothing_is_kept_for_a_store_that_takes_none(tmp_path, monkeypatch):
    store = Store(f"sqlite:///{tmp_path / 'mlflow.db'}")
    run_id = logged(store, tmp_path / "files")
    monkeypatch.setenv("ABLATIONS_OUTBOX", str(tmp_path / "outbox"))

    def refused(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("ablations.ground.replace", refused)
    with pytest.raises(InputError, match="Read-only file system"):
        add_pictures(store, Reader(store), run_id)
    assert not outbox_folder().exists()


def test_they_show_what_the_run_logged(store, tmp_path):
    drawn = dict(pictures(Reader(store), logged(store, tmp_path / "files"), NAMES))
    (line,) = drawn[NAMES[0]].axes[0].lines
    np.testing.assert_allclose(line.get_xydata(), [[1, 1], [2, 1 / 2], [3, 1 / 3]])
    assert [text.get_text() for text in drawn[NAMES[1]].axes[0].get_yticklabels()] == ["a", "b", "c"]


def test_a_run_of_somebody_else_has_none(store, tmp_path):
    assert add_pictures(store, Reader(store), logged(store, tmp_path / "files", readings=False)) == []
