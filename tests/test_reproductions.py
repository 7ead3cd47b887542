"""Published figures beside ours: the numbers of the tables, and what is left out."""

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from ablations import reproductions
from ablations.errors import InputError
from ablations.paths import CONF
from ablations.reproductions import SHOWN, published

STUDY = """
study:
  question: Is it so?
  published:
    new:
      system: A new | one
      figures: {test/accuracy: 0.9876, test/softmax_loss: 1.46}
      seconds_per_epoch: 150
      why: Because.
    old:
      system: An old one
      figures: {test/error_pct: 0.95}
      shown: [test/confidence]
"""


@pytest.fixture
def conf(tmp_path, monkeypatch):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "mine.yaml").write_text(STUDY)
    (tmp_path / "outside.yaml").write_text(STUDY)
    monkeypatch.setattr(reproductions, "CONF", tmp_path)
    return tmp_path


def runs(study: str | None = "mine") -> pd.DataFrame:
    return pd.DataFrame(
        {
            "params.experiment": ["new", "new", "new", "old"],
            "tags.study": [study] * 4,
            "start_time": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"], utc=True),
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


def test_figures_are_means_over_finished_seeds_with_their_range_and_difference(conf):
    text = "\n\n".join(published(runs()))
    accuracy, loss, time = cells(text, r"A new \| one")
    assert accuracy == ["test accuracy (%)", "98.76", "98.50", "98.00 to 99.00", "2", "-0.26 |"]
    assert loss == ["loss of a softmax over the outputs", "1.460", "1.550", "1.500 to 1.600", "2", "+0.090 |"]
    assert time == ["150", "2.00", "2.0 |"]
    assert r"- **A new \| one**: Because." in text


def test_experiments_without_a_finished_run_are_there_with_dashes(conf):
    error, confidence, time = cells("\n\n".join(published(runs())), "An old one")
    assert error == ["test error (%)", "0.95", "–", "–", "0", "– |"]
    assert confidence == ["confidence (%)", "–", "–", "–", "0", "– |"]
    assert time == ["–", "–", "– |"]


@pytest.mark.parametrize("study", [None, "another", "../outside", "../study/mine"])
def test_runs_of_no_study_and_of_one_outside_the_folder_say_nothing(study, conf):
    assert list(published(runs(study))) == []
    assert list(published(runs().drop(columns="tags.study"))) == []


def test_a_study_that_cannot_be_read_is_named(conf):
    (conf / "study" / "mine.yaml").write_text("study: ${")
    with pytest.raises(InputError, match=r"cannot read the study .*mine\.yaml"):
        list(published(runs()))


def test_the_shipped_studies_name_experiments_and_metrics_that_exist():
    experiments = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    study = OmegaConf.to_container(OmegaConf.load(CONF / "study" / "reproductions.yaml"))
    swept = study["study"]["factors"]["+experiment"]
    assert set(study["study"]["published"]) == set(swept) <= experiments
    for entry in study["study"]["published"].values():
        assert set(entry["figures"]) | set(entry.get("shown", [])) <= set(SHOWN)
