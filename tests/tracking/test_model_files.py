"""A model that is written without MLflow is the one that MLflow writes."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from ablations.predict import model
from ablations.tracking import models
from ablations.tracking.models import model_tags, save_model

CODE = Path(model.__file__).with_name("serving.py")
COLUMNS = {"digit": "long", "class": "string", "p0": "double", "p1": "double"}
ABOUT = {"input": "grey images, 0 … 255", "classes": "a, 'b', \"c\", " + "long " * 40}
OF_ITS_OWN = {"model_uuid", "utc_time_created"}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The folder of a model that was written here, and of the same by MLflow."""
    folder = tmp_path_factory.mktemp("models")
    content = folder / "network"
    (content / "below").mkdir(parents=True)
    (content / "below" / "weights").write_bytes(bytes(range(256)))
    example = np.arange(784, dtype=np.uint8).reshape(1, 28, 28)
    given = CODE, content, example, COLUMNS
    save_model(folder / "ours" / "model", *given, ABOUT)
    (folder / "theirs").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(models, "KNOWN", "another version")
        save_model(folder / "theirs" / "model", *given, ABOUT)
    return folder / "ours" / "model", folder / "theirs" / "model"


def test_each_file_is_the_same(both):
    ours, theirs = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in both
    )
    assert len(ours) == 8
    described = Path("MLmodel")
    assert {name: text for name, text in ours.items() if name != described} == {
        name: text for name, text in theirs.items() if name != described
    }


def test_the_description_is_the_same(both):
    texts = [(folder / "MLmodel").read_text(encoding="utf-8") for folder in both]
    ours, theirs = map(yaml.safe_load, texts)
    for key in OF_ITS_OWN:
        assert len(ours[key]) == len(theirs[key])
        texts = [text.replace(own[key], key) for text, own in zip(texts, (ours, theirs), strict=True)]
    assert texts[0] == texts[1]


def test_the_tag_of_the_run_is_the_same(both):
    from mlflow.models import Model

    for folder in both:
        (told,) = yaml.safe_load(model_tags(folder.parent)["mlflow.log-model.history"])
        known = Model.load(str(folder / "MLmodel")).get_tags_dict() | {"artifact_path": "model"}
        assert told == known
