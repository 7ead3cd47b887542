"""Published figures beside ours: the numbers of the tables, and what is left out."""

import numpy as np
import pandas as pd
import pytest

from ablations.report.published import published, reached
from ablations.tracking.study import Study

PUBLISHED = {
    "new": {
        "system": "A new | one",
        "figures": {"test/accuracy": 0.9876, "test/softmax_loss": 1.46},
        "seconds_per_epoch": 150,
        "why": "Because.",
    },
    "old": {"system": "An old one", "figures": {"test/error_pct": 0.95}, "shown": ["test/confidence"]},
}


def a_study(**other: object) -> Study:
    given = {"published": PUBLISHED, "sections": {"A riddle": "Why | so?"}, "design": "grid"} | other
    return Study(
        "mine",
        ("experiment",),
        {"experiment": "new"},
        "test/error_pct",
        0.1,
        tuned_on="val/accuracy",
        **given,
    )


def runs() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "params.experiment": ["new", "new", "new", "old"],
            "finished": [True, True, False, False],
            "epoch_s": [2.0, 4.0, 100.0, 1.0],
            "train_s": [120.0, 240.0, 1.0, 1.0],
            "metrics.test/accuracy": [0.98, 0.99, 0.1, np.nan],
            "metrics.test/softmax_loss": [1.5, 1.6, 9.0, np.nan],
        }
    )


def cells(text: str, row: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith(f"| {row} |")]
    return [[cell.strip() for cell in line.split(" | ")[1:]] for line in lines]


def test_figures_are_means_over_finished_seeds_with_their_range_and_difference():
    text = "\n\n".join(published(runs(), a_study()))
    accuracy, loss, time = cells(text, r"A new \| one")
    assert accuracy == ["test accuracy (%)", "98.76", "98.50", "98.00 to 99.00", "2", "-0.26 |"]
    assert loss == ["loss of a softmax over the outputs", "1.460", "1.550", "1.500 to 1.600", "2", "+0.090 |"]
    assert time == ["150", "2.00", "2.0 |"]
    assert r"- **A new \| one**: Because." in text


def test_experiments_without_a_finished_run_are_there_with_dashes():
    error, confidence, time = cells("\n\n".join(published(runs(), a_study())), "An old one")
    assert error == ["test error (%)", "0.95", "–", "–", "0", "– |"]
    assert confidence == ["confidence (%)", "–", "–", "–", "0", "– |"]
    assert time == ["–", "–", "– |"]


def test_a_metric_that_nobody_has_words_for_goes_by_its_name():
    entry = {"system": "One", "figures": {"test/f1": 0.5}}
    study = a_study(published={"new": entry})
    (figure,) = cells("\n\n".join(published(runs().assign(**{"metrics.test/f1": 0.25}), study)), "One")[:1]
    assert figure == ["test/f1", "0.500", "0.250", "0.250 to 0.250", "2", "-0.250 |"]


def test_a_study_without_published_figures_says_nothing():
    assert list(published(runs(), a_study(published={}))) == []


def test_further_sections_come_last_and_stay_text():
    assert list(published(runs(), a_study()))[-2:] == ["### A riddle", r"Why \| so?"]


# The answer of a study that has them


def sentence(accuracy: float, error: float | None = 0.9, **published: object) -> str | None:
    """Of two experiments: an accuracy of 0.9876 and an error of 0.95 % were published."""
    table = runs().assign(**{"metrics.test/accuracy": accuracy, "metrics.test/error_pct": error})
    if error is not None:
        table["finished"] = True
    return reached(table, a_study(**published))


@pytest.mark.parametrize(
    ("accuracy", "error", "said"),
    [
        (0.99, 0.9, "**All 2 published figures are reached or beaten**."),
        (0.9876, 0.95, "**All 2 published figures are reached or beaten**."),  # reached
        (0.98757, 0.954, "**All 2 published figures are reached or beaten**."),  # to the decimals shown
        (0.9861, 0.9, "**1 of 2 published figures is reached or beaten**; one is missed by 0.15 points."),
        (0.99, 1.05, "**1 of 2 published figures is reached or beaten**; one is missed by 0.1 points."),
        (
            *(0.9861, 1.05),
            "**None of 2 published figures is reached or beaten**; two are missed, by 0.1 and 0.15 points.",
        ),
        (
            *(0.99, None),
            "**The one published figure is reached or beaten**; 1 more has no finished run yet.",
        ),
    ],
)
def test_how_many_published_figures_are_reached(accuracy, error, said):
    assert sentence(accuracy, error) == said.replace("beaten**", "beaten** by means, without a test")


def test_figures_that_can_be_no_better_or_worse_are_not_counted():
    """The loss of a softmax describes a system; an accuracy that nobody published is not missed."""
    described = {"new": {"system": "One", "figures": {"test/softmax_loss": 1.4, "test/accuracy": None}}}
    assert sentence(0.5, published=described) is None
    assert sentence(0.5, published={}) is None


def test_where_no_run_finished_no_figure_is_said_to_be_missed():
    assert reached(runs().assign(finished=False), a_study()) == (
        "No run finished, so that no published figure can be said to be reached."
    )
