"""A study as it is kept beside its runs, and what is told from the name of its metric."""

import json
from dataclasses import fields

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablations.errors import InputError
from ablations.ground.paths import REPORTS
from ablations.tracking.direction import smaller_is_better
from ablations.tracking.study import Study, label, tag_of, unit

UNSAID = {"design": "grid", "tuned_on": "val/accuracy"}
PLAIN = Study("s", ("activation",), {"activation": "relu"}, "test/error_pct", 0.1, **UNSAID)


UNCLEAR = (
    *(
        "score",
        "reward_gap",
        "overriding",
        "water",
        "merit",
        "fidelity",
        "confidence",
        "lr",
        "map",
        "entropy",
        "cost",
    ),
    *(
        "time_to_accuracy",
        "accuracy_loss",
        "error_free_rate",
        "error_rate_improvement",
        "loss_ratio",
        "1-accuracy",
    ),
    *(
        "neg_mean_squared_error",
        "neg_log_loss",
        "negative_log_likelihood",
        "weight_loss",
        "avoided_loss",
        "time_saved",
    ),
    *(
        "throughput_at_fixed_cost",
        "test/accuracy_under_time_limit",
        "samples_per_second",
        "mean_time_to_failure",
    ),
    *(
        "accuracy_drop",
        "accuracy_std",
        "loss_scale",
        "attack_accuracy",
        "mia_auc",
        "forget_acc",
        "discriminator_acc",
        "uptime",
        "d_loss",
        "log_likelihood",
        "",
    ),
)


@pytest.mark.parametrize(
    ("metric", "smaller"),
    [
        *((name, True) for name in ("test/error_pct", "val/loss", "loss", "val_loss", "train/cross_entropy")),
        *(
            (name, True)
            for name in ("rmse", "test_mse", "MAE", "perplexity", "top1_err", "err", "wer", "FID", "nll")
        ),
        *(
            (name, True)
            for name in (
                "epochs_to_target",
                "time/epoch_s",
                "seconds",
                "latency_ms",
                "brier",
                "loss_per_sample",
            )
        ),
        *((name, False) for name in ("test/accuracy", "val_acc", "f1", "auc", "BLEU", "reward", "mAP", "r2")),
        *((name, False) for name in ("time/images_per_s", "sentiment_f1", "acc@1", "val/mAP50", "f_1")),
    ],
)
def test_the_name_of_a_metric_says_which_values_are_better(metric, smaller):
    assert smaller_is_better(metric) == smaller
    assert Study("s", (), {}, metric, 0, **UNSAID).smaller == smaller


@pytest.mark.parametrize("metric", UNCLEAR)
def test_a_name_that_leaves_doubt_asks(metric):
    assert smaller_is_better(metric) is None
    with pytest.raises(InputError, match="--better lower"):
        _ = Study("s", (), {}, metric, 0, **UNSAID).smaller
    assert Study("s", (), {}, metric, 0, smaller_is_better=True, **UNSAID).smaller


def test_what_the_study_says_goes_before_the_name():
    assert not Study("s", (), {}, "loss", 0, smaller_is_better=False, **UNSAID).smaller
    assert Study("s", (), {}, "val_acc", 0, smaller_is_better=True, **UNSAID).smaller


def test_metrics_in_words_and_units():
    assert (PLAIN.noun, PLAIN.label, PLAIN.unit) == ("test error", "test error (%)", "percentage points")
    assert (label("test/accuracy"), unit("test/accuracy")) == ("test accuracy", "")
    assert (label("val_acc"), unit("val_acc")) == ("val_acc", "")
    shifted = "shift/translation_2/error_pct"
    assert (label(shifted), unit(shifted)) == ("error under translation 2 (%)", "percentage points")
    assert label("rejection/letters/false_accept_pct") == "letters accepted (%)"
    assert unit("epochs_to_target") == "epochs"


def test_a_study_comes_back_as_it_was_kept():
    claim = {
        "text": "It is.",
        "source": "A. B. (1998)",
        "factor": "activation",
        "variant": "relu",
        "baseline": "tanh",
    }
    whole = Study(
        "ä/b",
        ("activation", "pool"),
        {"activation": "relu", "pool": "max"},
        "val/loss",
        0.5,
        smaller_is_better=True,
        question="Is it?",
        design="one_at_a_time",
        nuisance=("optimizer.lr",),
        tuned_on="val/loss",
        target={"metric": "val/accuracy", "value": 0.95},
        claims=(claim,),
        published={"new": {"system": "S", "figures": {"test/accuracy": 0.98}}},
        sections={"A": "b"},
        command="python run.py -m pool=max,avg",
    )
    text = whole.to_json()
    assert Study.from_json(text) == whole
    assert text == Study.from_json(text).to_json()
    assert whole.varied == ("activation", "pool", "optimizer.lr")


@pytest.mark.parametrize("report", sorted(path.parent.name for path in REPORTS.glob("*/report.json")))
def test_a_study_that_was_kept_before_is_read_as_it_was(report):
    kept = json.loads((REPORTS / report / "report.json").read_text("utf-8"))["study"]
    assert json.loads(Study.from_json(json.dumps(kept)).to_json()) == kept


def test_what_a_later_version_adds_is_passed_over():
    kept = json.loads(PLAIN.to_json()) | {"a_later_idea": 1}
    assert Study.from_json(json.dumps(kept)) == PLAIN


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '{"name": "s"}'])
def test_anything_else_is_one_clear_line(text):
    with pytest.raises(InputError, match=r"^a study is kept in no form that is known here: [^\n]+$"):
        Study.from_json(text)


@pytest.mark.parametrize("margin", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_a_margin_is_a_number_that_is_not_negative(margin):
    with pytest.raises(
        InputError, match=r"^margin: must be a number of at least 0, in the metric's unit; got "
    ):
        Study("s", (), {}, "loss", margin, **UNSAID)


def test_names_have_tags_of_their_own():
    assert tag_of("a") == "study.ca978112ca1bbdca"  # the SHA-256 of "a" begins so
    assert len({tag_of(name) for name in ("a", "A", "a ", "ä", "")}) == 5


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.sampled_from([each.name for each in fields(Study)]), JUNK, max_size=4))
def test_what_can_be_read_of_a_study_is_used(changed):
    """And every field that cannot is named; a reader who needs all of it gets one line."""
    text = json.dumps(json.loads(PLAIN.to_json()) | changed)
    found, wrong = PLAIN.with_readable(text)
    for name in {each.name for each in fields(Study)} - changed.keys() - {"factors", "nuisance"}:
        assert getattr(found, name) == getattr(PLAIN, name)
    assert Study.from_json(found.to_json()) == found
    assert all(each.isprintable() for each in wrong)
    try:
        assert Study.from_json(text).margin >= 0
    except InputError:
        assert wrong


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000])
def test_of_what_is_no_study_nothing_is_used(text):
    found, wrong = PLAIN.with_readable(text)
    assert found == PLAIN
    assert len(wrong) == 1
