"""Published figures beside ours: the numbers of the tables, and what is left out."""

import numpy as np
import pandas as pd

from ablations.report.published import published
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
