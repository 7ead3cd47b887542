"""What a run says of its result."""

import numpy as np
import pytest

from ablations.experiment.metrics import test_metrics as metrics_of
from ablations.experiment.record import has_learned
from ablations.experiment.result import Result
from ablations.tracking.earlier import EarlierRun
from ablations.training.loop import Evaluation


@pytest.mark.parametrize(
    ("images", "classes", "accuracy", "learned"),
    [
        (360, 10, 0.10, False),
        (360, 10, 0.115, False),  # 10 % and a standard error of 1.6 points
        (360, 10, 0.12, True),
        (10_000, 10, 0.102, False),
        (10_000, 10, 0.104, True),
        (10, 1, 1.0, True),  # nothing could be better
    ],
)
def test_a_network_has_learned_where_it_beats_answering_one_class(images, classes, accuracy, learned):
    assert has_learned(accuracy, np.arange(images) % classes) == learned


def test_the_most_frequent_class_counts():
    labels = np.repeat([0, 1], [90, 10])
    assert not has_learned(0.9, labels)
    assert has_learned(0.95, labels)


def test_a_result_that_is_found_has_its_warning():
    def found(**tags: str) -> str:
        return Result.of(EarlierRun("a1", "FINISHED", {}, {"test/accuracy": 0.1}, tags)).test_error

    assert found() == "test error 90.00 %"
    assert "did not learn" in found(did_not_learn="true")


def test_an_error_in_percent_is_stored_as_it_is_meant():
    for wrong in range(10_001):
        test = Evaluation(0.1, 1 - wrong / 10_000, {}, np.zeros(1), np.zeros(1))
        assert metrics_of(test)["test/error_pct"] == wrong / 100
