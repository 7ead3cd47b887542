"""Runs whose files, tags or numbers are damaged: the report says what cannot be read, and has the rest."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ablations.report import compile_report
from ablations.report.check import check
from ablations.report.drawings import _confusion, _disagreements, _inside
from ablations.tracking.study import Study, tag_of

FUZZED = settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
WHOLE = {
    "labels": np.arange(50) % 10,
    "predictions": np.arange(50) % 7,
    "classes": np.array(list("0123456789")),
    "misread": np.arange(20, 30),
    "misread_images": np.zeros((10, 28, 28), np.uint8),
}
INSIDE = {
    "image": np.zeros((28, 28), np.uint8),
    "C1": np.ones((2, 14, 14), np.float32),
    "F6": np.ones(8, np.float32),
    "probabilities": np.full(10, 0.1, np.float32),
}
KEPT = {
    "name": "s",
    "factors": ["activation"],
    "baseline": {"activation": "relu"},
    "metric": "test/error_pct",
    "margin": 0.1,
    "design": "grid",
    "tuned_on": "val/accuracy",
    "target": {"metric": "val/accuracy", "value": 0.9},
    "claims": [
        {"text": "It is.", "source": "S", "factor": "activation", "variant": "tanh", "baseline": "relu"}
    ],
    "published": {"x": {"system": "S", "figures": {"test/accuracy": 0.9}}},
    "sections": {"A": "b"},
    "command": "python run.py",
}


@pytest.fixture
def damaged(store, tmp_path):
    """Two variants in three seeds; what stands in the first run's files can be changed."""
    for seed in range(3):
        for level, error in (("relu", 5.0), ("tanh", 6.0)):
            run_id = store.add(error + seed / 10, seed=seed, activation=level)
            folder = store.folder / run_id
            folder.mkdir(parents=True)
            np.savez_compressed(folder / "predictions.npz", **WHOLE)
            np.savez_compressed(folder / "features.npz", **INSIDE)
            np.savez(folder / "model.npz", **{"C1.weight": np.ones((2, 5, 5), np.float32)})
    store.studies[tag_of("s")] = json.dumps(KEPT)
    return store


def page(tmp_path) -> str:
    return compile_report("s", folder=tmp_path).path.read_text("utf-8")


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (
            "predictions.npz",
            "disagree\n\nThe `predictions.npz` of the run (activation=relu seed=0) cannot be read.",
        ),
        (
            "predictions.npz",
            "The `predictions.npz` of the run (activation=relu seed=0, chosen by the highest",
        ),
        (
            "features.npz",
            "The `features.npz` of the run (activation=relu seed=0, chosen by the highest validation",
        ),
        ("model.npz", "The `model.npz` of the run (activation=relu seed=0, chosen by the highest validation"),
    ],
)
def test_a_damaged_file_costs_its_own_section_alone(damaged, tmp_path, file, said):
    path = damaged.folder / f"{0:032x}" / file
    content = bytearray(path.read_bytes())
    content[70] ^= 8
    content[len(content) // 2] ^= 8
    path.write_bytes(content)
    text = page(tmp_path)
    assert said in text
    assert "## Verdicts" in text
    assert "figures/learning_curves.png" in text
    assert check("s", damaged, tmp_path)


ANY = arrays.arrays(
    st.one_of(arrays.scalar_dtypes(), st.sampled_from([np.dtype("U3"), np.dtype("i8"), np.dtype("u1")])),
    arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=12),
)


@FUZZED
@given(
    st.dictionaries(st.sampled_from([*WHOLE]), ANY, min_size=1, max_size=2), st.sampled_from([*WHOLE, None])
)
def test_whatever_predictions_hold_is_drawn_or_said(damaged_run, changed, without):
    reader, analysis, run = damaged_run
    saved = {name: array for name, array in (WHOLE | changed).items() if name != without}
    np.savez(reader.folder / run["run_id"] / "predictions.npz", **saved)
    assert _confusion(reader, run, "it").heading
    list(_disagreements(reader, analysis))
    list(_inside(reader, run, "it"))
    np.savez(reader.folder / run["run_id"] / "predictions.npz", **WHOLE)


@FUZZED
@given(st.dictionaries(st.sampled_from([*INSIDE, "C1.weight"]), ANY, min_size=1, max_size=2))
def test_whatever_features_hold_is_drawn_or_said(damaged_run, changed):
    reader, _, run = damaged_run
    folder = reader.folder / run["run_id"]
    kernels = changed.pop("C1.weight", np.ones((2, 5, 5)))
    np.savez(folder / "features.npz", **(INSIDE | changed))
    np.savez(folder / "model.npz", **{"C1.weight": kernels})
    (drawing,) = _inside(reader, run, "it")
    assert drawing.heading


@pytest.fixture
def damaged_run(damaged):
    from ablations.comparison.variants import with_times
    from ablations.report.analysis import analyse

    runs = damaged.runs()
    study = Study.from_json(json.dumps(KEPT | {"published": {}}))
    everything = with_times(runs, damaged.histories(list(runs["run_id"])), study.target)
    analysis = analyse(study, everything, [], strict=False)
    return damaged, analysis, analysis.runs[analysis.runs["finished"]].iloc[0]


WRONG = (None, True, 3, -1.5, float("nan"), "x", "", [], [1], [[]], {}, {"a": 1}, {"a": {"b": None}}, "'")


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize("field", [*KEPT, "seed_param", "nuisance", "question", "smaller_is_better"])
def test_a_damaged_study_is_compiled_without_what_is_damaged(damaged, tmp_path, field):
    right = Study.from_json(json.dumps(KEPT))
    wrong = [json.dumps(KEPT | {field: value}) for value in WRONG]
    wrong = [text for text in wrong if right.with_readable(text)[1]]
    for text in wrong[-2:]:
        damaged.studies[tag_of("s")] = text
        assert f"of the study that was kept with the runs, {field}: " in page(tmp_path)
    assert check("s", damaged, tmp_path)


CLAIM = KEPT["claims"][0]


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"claims": [CLAIM, CLAIM | {"variant": "elu"}]}, "claim 'It is.': the study does not compare"),
        ({"claims": [CLAIM | {"factor": "pool"}]}, "claim 'It is.': the study does not compare"),
        ({"claims": [CLAIM | {"variant": "relu"}]}, "claim 'It is.': the study does not compare"),
        ({"baseline": {"activation": "elu"}}, "baseline: no run has activation=elu"),
        ({"seed_param": "nope"}, "seed_param: no run has nope"),
        ({"seed_param": "activation"}, "seed_param: no run has activation"),
        ({"seed_param": "pool"}, None),
        ({"factors": ["nope"]}, "factors: no run has nope"),
        ({"factors": ["activation", "nope"], "baseline": {}}, "factors: no run has nope"),
        ({"factors": []}, "claim 'It is.': the study does not compare"),
        ({"nuisance": ["pool"], "tuned_on": "nope"}, "tuned_on: no run has nope"),
        ({"nuisance": ["nope"]}, None),
        ({"target": {"metric": "nope_error", "value": 1}}, None),
        ({"target": {"metric": "nope", "value": 1}}, "nope: its name does not tell"),
        ({"claims": [CLAIM, CLAIM | {"metric": "nope"}]}, "nope: its name does not tell"),
        ({"metric": "loss"}, None),
        ({"blocks": "nope"}, "blocks: no run has nope"),
        ({"name": "another"}, None),
    ],
)
def test_a_study_that_does_not_fit_its_runs_is_compiled_without_what_does_not(
    damaged, tmp_path, changed, said
):
    damaged.studies[tag_of("s")] = json.dumps(KEPT | changed)
    text = page(tmp_path)
    assert (f"of the study that was kept with the runs, {said}" in text) if said else "## Runs" in text
    assert check("s", damaged, tmp_path)
    damaged.rows = damaged.rows[1:]
    assert "follow from its runs.csv" in check("s", damaged, tmp_path)
