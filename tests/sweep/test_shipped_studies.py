"""The studies that come with the project, and the record that a sweep keeps of a study."""

import json
from collections import Counter

import pytest
from omegaconf import OmegaConf

from ablations.comparison.claims import Claim
from ablations.errors import InputError
from ablations.ground.paths import CONF, REPORTS
from ablations.report.published import SHOWN
from ablations.sweep.composing import PlannedRun
from ablations.sweep.overrides import override_value
from ablations.sweep.plan import Plan, plan
from ablations.sweep.study import study_of
from ablations.tracking.study import Study

STUDIES = sorted(path.stem for path in (CONF / "study").glob("*.yaml"))
DEFAULTS = OmegaConf.to_container(OmegaConf.load(CONF / "config.yaml"))["study"]
EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))


def levels(section: dict) -> dict[str, list]:
    return {key.lstrip("+"): list(of) for key, of in section["factors"].items()}


def shipped(name: str) -> tuple[dict, Plan]:
    study = OmegaConf.to_container(OmegaConf.load(CONF / "study" / f"{name}.yaml"))["study"]
    assert study.keys() <= DEFAULTS.keys()
    section = {**DEFAULTS, **study}
    return section, plan(section, {})


@pytest.mark.parametrize("name", STUDIES)
def test_a_shipped_study_asks_a_question_about_levels_that_it_has(name):
    file = OmegaConf.load(CONF / "study" / f"{name}.yaml")
    section, planned = shipped(name)
    assert file.name == name
    assert file.hydra.mode == "MULTIRUN"
    assert section["question"].endswith("?")
    assert section["factors"]
    assert set(section["baseline"]) == set(planned.factors)
    for key, level in section["baseline"].items():
        assert level in levels(section)[key]
    assert all(count == 1 for count in Counter(planned.runs).values())


@pytest.mark.parametrize("name", STUDIES)
def test_the_claims_of_a_shipped_study_are_about_its_own_comparisons(name):
    section, _ = shipped(name)
    for of in section["claims"]:
        claim = Claim(**{key: value for key, value in of.items() if key != "margin"})
        assert claim.text.endswith(".")
        assert claim.source
        assert {claim.variant, claim.baseline} <= set(map(str, levels(section)[claim.factor]))
        assert claim.variant != claim.baseline
        assert claim.metric == "epochs_to_target" or claim.metric.split("/")[0] in (
            "test",
            "val",
            "train",
            "time",
            "shift",
            "rejection",
        )


@pytest.mark.parametrize("name", STUDIES)
def test_every_choice_of_a_shipped_study_exists(name, compose):
    """Each override in some run, so that all of them are composed as the sweep composes them."""
    _, planned = shipped(name)
    unseen = {override for run in planned.runs for override in run}
    for run in planned.runs:
        if unseen & set(run):
            config = compose(f"+study={name}", *run)
            for override in unseen & set(run):
                key, _, value = override.lstrip("+").partition("=")
                if "." in key or key == "seed":
                    assert override_value(OmegaConf.select(config, key)) == value
            unseen -= set(run)
    assert not unseen


# The record of a study


def recorded(section: dict, key: str, of: tuple[str, ...], compose) -> Study:
    """Of a study with one factor and these levels."""
    prefix = "+" if key == "experiment" else ""
    planned = Plan((key,), (), tuple((f"{prefix}{key}={level}",) for level in of))
    choices = [{} if "." in key else {key: level} for level in of]
    runs = [PlannedRun(compose(*run), choice) for run, choice in zip(planned.runs, choices, strict=True)]
    return study_of("mine", {**DEFAULTS, **section}, planned, runs, "python run.py")


def test_the_published_figures_are_those_of_the_report_that_is_published(compose):
    section, planned = shipped("reproductions")
    experiments = levels(section)["experiment"]
    runs = [
        PlannedRun(compose("+study=reproductions", f"+experiment={each}"), {"experiment": each})
        for each in experiments
    ]
    about = json.loads((REPORTS / "reproductions" / "report.json").read_text("utf-8"))["study"]
    study = study_of("reproductions", section, planned, runs, about["command"])
    ours = json.loads(study.to_json())
    ours.pop("brings")  # the report is of before studies kept it
    assert ours == about
    assert list(study.published) == list(about["published"])
    assert set(study.published) == set(experiments)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_tells_what_was_published_of_it_alone(experiment):
    published = OmegaConf.load(CONF / "experiment" / f"{experiment}.yaml").study.published
    assert list(published) == [experiment]
    assert set(published[experiment].figures) | set(published[experiment].get("shown", [])) <= set(SHOWN)


def test_only_experiments_that_are_run_have_their_figures_beside_them(compose):
    run = "experiment", ("lenet5_1998_fast", "loops_sgd")
    assert recorded({}, *run, compose).published == {}
    section = {"reproduces": ["loops_sgd", "lenet5_1998", "lenet5_1998_fast"]}
    assert list(recorded(section, *run, compose).published) == ["loops_sgd", "lenet5_1998_fast"]


@pytest.mark.parametrize(("baseline", "level"), [(None, "None"), (5.0, "5.0"), (3.0, "5.0")])
def test_a_baseline_that_is_no_level_gives_way_to_the_first_level(baseline, level, compose):
    section = {"baseline": {"trainer.clip_norm": baseline}}
    study = recorded(section, "trainer.clip_norm", ("5.0", "null"), compose)
    assert study.baseline == {"trainer.clip_norm": level}


def test_without_a_baseline_it_is_the_first_level_even_where_another_one_is_null(compose):
    study = recorded({}, "trainer.clip_norm", ("5.0", "null"), compose)
    assert study.baseline == {"trainer.clip_norm": "5.0"}


def test_all_training_images_are_no_level_without_their_number(compose):
    with pytest.raises(
        InputError, match=r"^dataset.train_images: null is no level, .*; accepted: their number$"
    ):
        recorded({}, "dataset.train_images", ("100", "null"), compose)
    assert recorded({}, "dataset.train_images", ("100", "50"), compose).baseline == {
        "dataset.train_images": "100"
    }


def test_claims_about_levels_that_are_not_compared_are_left_out(compose):
    section, _ = shipped("activation")
    kept = recorded(section | {"baseline": {}}, "activation", ("relu", "tanh"), compose).claims
    assert [claim["baseline"] for claim in kept] == ["tanh", "tanh"]


def test_a_key_that_no_study_has_is_named(compose):
    with pytest.raises(
        InputError, match=r"^study.quesiton: there is no such key; accepted: those of conf/config.yaml$"
    ):
        recorded({"quesiton": "Is it?"}, "activation", ("relu",), compose)


def test_the_record_of_a_plain_sweep_has_the_defaults_of_the_configuration(compose):
    study = recorded({}, "activation", ("relu", "tanh"), compose)
    assert (study.metric, study.margin, study.design, study.tuned_on) == (
        "test/error_pct",
        0.1,
        "grid",
        "val/accuracy",
    )
    assert study.target == {"metric": "val/accuracy", "value": 0.95}
    assert Study.from_json(study.to_json()) == study
