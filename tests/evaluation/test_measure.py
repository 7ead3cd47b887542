"""An evaluation as a whole: which metrics a run gets, of which pictures, and that it is no part of what a run is."""

from contextlib import nullcontext
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest

from ablations.datasets import Dataset
from ablations.datasets.source import assemble
from ablations.errors import InputError
from ablations.experiment.evaluation import measure as measuring
from ablations.experiment.evaluation.measure import REJECTION_TAG, SHIFT_TAG, Further, Parts, measure
from ablations.experiment.evaluation.reading import Reader
from ablations.experiment.job import Job, determining, digest, logged_params, run_name
from ablations.nn.normalization import Normalization
from ablations.sweep.overrides import read_overrides
from ablations.tracking.direction import smaller_is_better
from ablations.tracking.secondary import GROUPS, PICTURES, SECONDARY
from ablations.tracking.study import label, unit

FULL, NONE = Parts(True, True, True), Parts(False, False, False)


def dataset(classes: str = "0123456789", seed: int = 0, n: int = 40) -> Dataset:
    images = np.random.default_rng(seed).integers(256, size=(n, 28, 28), dtype=np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    return assemble("some", (images, labels, images, labels), classes)


@pytest.fixture(scope="module")
def reader(build):
    return Reader(build(), Normalization(0.0, 1 / 255))


def test_all_parts(reader):
    found = measure(FULL, reader, dataset())
    assert set(SECONDARY) <= set(found.metrics)
    assert set(found.tags) == {SHIFT_TAG, REJECTION_TAG} == set(PICTURES.values())
    assert all(np.isfinite(list(found.metrics.values())))
    right = reader.answers(dataset().test_images) == dataset().test_labels
    assert found.metrics["shift/none/error_pct"] == pytest.approx(100 * np.mean(~right))


def test_of_every_metric_the_direction_is_known(reader):
    larger = {name for name in measure(FULL, reader, dataset()).metrics if smaller_is_better(name) is False}
    kinds = ("letters/", "turned/", "patches/", "noise/", "")
    assert larger == {f"rejection/{kind}auroc" for kind in kinds}
    assert None not in {smaller_is_better(name) for name in measure(FULL, reader, dataset()).metrics}


@pytest.mark.parametrize("part", GROUPS)
def test_each_part_can_be_had_alone(reader, part):
    parts = Parts(**{name: name == part for name in GROUPS})
    found = measure(parts, reader, dataset())
    assert set(GROUPS[part]) <= set(found.metrics)
    others = {name for group, names in GROUPS.items() if group != part for name in names}
    assert not others & set(found.metrics)


def test_no_part_costs_nothing():
    assert measure(NONE, None, None).metrics == {}


@pytest.mark.parametrize("head", ["softmax", "rbf", "mse"])
def test_every_head(build, head):
    reader = Reader(build(f"head={head}"), Normalization(0.0, 1 / 255))
    found = measure(FULL, reader, dataset()).metrics
    assert ("test/nll" in found) == (head != "mse")
    assert 0 <= found["test/ece"] <= 1
    assert 0 <= found["test/brier"] <= 2


def test_what_is_no_digit_is_asked_of_digits_alone(reader):
    found = measure(FULL, reader, dataset(classes="abcdefghij"))
    assert {name for name in found.metrics if name.startswith("rejection/")} == {"rejection/rejected_pct"}
    assert set(found.tags) == {SHIFT_TAG}


def test_pictures_are_made_once_for_a_data_set(reader, monkeypatch):
    measuring._made.clear()
    made = []
    monkeypatch.setattr(measuring, "shifted", lambda images: made.append(1) or {"inverted": images})
    monkeypatch.setattr(measuring, "error_metrics", lambda right: {})
    shift = Parts(False, True, False)
    tags = [measure(shift, reader, dataset(seed=seed)).tags[SHIFT_TAG] for seed in (0, 0, 1, 0)]
    assert len(made) == 3
    assert tags[0] == tags[1] == tags[3] != tags[2]
    measuring._made.clear()


def test_units_and_names_are_said():
    assert label("shift/geometry/error_pct").endswith("(%)")
    assert unit("rejection/false_accept_pct") == "percentage points"


# What a run is


@pytest.mark.parametrize("other", ["evaluation=none", "evaluation.shift=false"])
def test_a_run_is_the_same_whatever_is_measured_of_it(compose, other):
    usual, without = compose(), compose(other)
    assert digest(determining(usual)) == digest(determining(without))
    choices = {"activation": "relu", "evaluation": "none"}
    assert logged_params(without, choices) == logged_params(usual, choices | {"evaluation": "full"})
    assert not [key for key in logged_params(without, choices) if key.startswith("evaluation")]
    assert run_name(without, [other]) == "seed=0"


@pytest.mark.parametrize("swept", ["evaluation=full,none", "evaluation.shift=true,false"])
def test_parts_cannot_be_compared(swept):
    with pytest.raises(InputError, match="does not change what a run is"):
        read_overrides(None, [swept])


def test_a_part_is_there_or_not(compose):
    with pytest.raises(InputError, match=r"evaluation\.shift: must be true or false, got 'some'"):
        Job.of(compose("evaluation.shift=some", "trainer.epochs=1"))


@pytest.mark.parametrize("trial", [None, "a trial"])
def test_trials_are_not_evaluated(monkeypatch, trial):
    run = import_module("ablations.experiment.run")  # the package has a function of this name
    monkeypatch.setattr(run, "train", lambda *_: iter(()))
    monkeypatch.setattr(run, "evaluate", lambda *_: "tested")
    monkeypatch.setattr(run, "measure", lambda parts, reader, dataset: (parts, dataset))
    recipe = SimpleNamespace(network=None, normalization=None, test=None, dataset="digits")
    job = SimpleNamespace(problem=None, recipe=recipe, trial=trial, parts=FULL)
    record = SimpleNamespace(going_on=nullcontext, watch=None, keep=None, state=None)
    assert run._trained(job, record) == ("tested", (FULL, "digits") if trial is None else Further())
