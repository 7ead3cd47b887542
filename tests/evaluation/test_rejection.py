"""Rejection on planted scores, and pictures that are no digits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from ablations.experiment.evaluation import non_digits as drawn
from ablations.experiment.evaluation.non_digits import non_digits
from ablations.experiment.evaluation.rejection import (
    auroc,
    false_acceptance,
    non_digit_metrics,
    rejected_share,
)


def test_rejected_by_hand():
    # Of 1,000 images the 301 least sure hold all mistakes but three; 5 mistakes are allowed among 1,000, 4 among 800.
    scores = np.arange(1000.0)
    right = np.ones(1000, bool)
    right[[100, 101, 102, 300, 500, 501, 502]] = False
    # Accepting all from 300 on: 4 mistakes among 700 (0.57 %); from 301 on: 3 among 699 (0.43 %).
    # From 103 on: 4 among 897 (0.446 %) is fewer rejected.
    assert rejected_share(scores, right) == pytest.approx(0.103)
    right[200:220] = False
    assert rejected_share(scores, right) == pytest.approx(0.301)


def test_nothing_or_everything_is_rejected():
    assert rejected_share(np.arange(10.0), np.ones(10, bool)) == 0
    assert rejected_share(np.arange(10.0), np.zeros(10, bool)) == 1
    assert rejected_share(np.arange(200.0), np.arange(200) != 0) == 0  # one mistake in 200 is 0.5 %


def test_equal_scores_stand_together():
    scores, right = np.repeat([2.0, 1.0], [3, 7]), np.array([True] * 5 + [False] + [True] * 4)
    assert rejected_share(scores, right) == pytest.approx(0.7)
    assert rejected_share(np.zeros(10), right) == 1


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30),
    st.sampled_from([0.005, 0.2]),
)
def test_rejected_is_the_best_of_all_thresholds(images, error):
    scores = np.array([score for score, _ in images], float)
    right = np.array([each for _, each in images])
    possible = [1.0]
    for threshold in set(scores):
        accepted = scores >= threshold
        if np.sum(accepted & ~right) <= error * accepted.sum():
            possible.append(1 - accepted.mean())
    assert rejected_share(scores, right, error) == pytest.approx(min(possible))


def test_auroc_by_hand_and_on_planted_scores():
    assert auroc(np.array([3.0, 2.0]), np.array([1.0, 2.0])) == pytest.approx(3.5 / 4)
    assert auroc(np.ones(5), np.ones(3)) == 0.5
    rng = np.random.default_rng(0)
    planted = auroc(rng.normal(1.5, 1, 20_000), rng.normal(0, 1, 20_000))
    assert planted == pytest.approx(norm.cdf(1.5 / np.sqrt(2)), abs=0.005)


def test_false_acceptance_by_hand_and_on_planted_scores():
    digits = np.arange(1.0, 21)  # 95 % of twenty are nineteen: the threshold is 2
    assert false_acceptance(digits, np.array([0.0, 1.0, 2.0, 30.0])) == 0.5
    rng = np.random.default_rng(0)
    planted = false_acceptance(rng.normal(2, 1, 20_000), rng.normal(0, 1, 20_000))
    assert planted == pytest.approx(norm.sf(norm.ppf(0.05) + 2), abs=0.01)


def test_kinds_apart_and_together():
    digits = np.arange(100.0)
    found = non_digit_metrics(digits, {"letters": np.full(10, 200.0), "noise": np.full(10, -1.0)})
    assert found["rejection/letters/auroc"] == 0
    assert found["rejection/noise/auroc"] == 1
    assert found["rejection/auroc"] == 0.5
    assert found["rejection/letters/false_accept_pct"] == 100
    assert found["rejection/false_accept_pct"] == 50


# Pictures


def digits() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(1).integers(256, size=(60, 28, 28), dtype=np.uint8)
    return images, np.arange(60) % 10


def test_each_kind_is_there_and_always_the_same():
    first, again = non_digits(*digits()), non_digits(*digits())
    assert {kind: len(pictures) for kind, pictures in first.items()} == {
        "letters": 250,
        "turned": 54,
        "patches": 60,
        "noise": 60,
    }
    for kind, pictures in first.items():
        assert (pictures.shape[1:], pictures.dtype) == ((28, 28), np.uint8)
        np.testing.assert_array_equal(pictures, again[kind])


def test_digits_without_an_image_to_turn_have_no_such_kind():
    images, _ = digits()
    assert "turned" not in non_digits(images, np.zeros(60, int))


def test_letters_fill_the_box_of_a_digit():
    made = drawn.letters(drawn.EACH)
    for picture in made:
        rows, columns = np.flatnonzero(picture.any(axis=1)), np.flatnonzero(picture.any(axis=0))
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert 19 <= extent <= 20
        assert abs(rows.mean() - 13.5) <= 1
        assert abs(columns.mean() - 13.5) <= 1
        assert picture.max() > 180  # light on dark
    assert len({picture.tobytes() for picture in made}) == drawn.EACH  # each letter of a font once


def test_turned_digits_are_those_that_are_none():
    images = np.zeros((10, 28, 28), np.uint8)
    images[np.arange(10), 3, np.arange(10)] = 255  # a mark at the top, at the column of the digit
    found = drawn.turned(images, np.arange(10))
    marks = sorted((int(y), int(x)) for _, y, x in np.argwhere(found))
    mirrored, flipped = [(3, 27 - d) for d in (3, 4, 6, 7, 9)], [(24, d) for d in (4, 6, 7, 9)]
    assert marks == sorted(mirrored + flipped)


def test_patches_are_the_same_patches_elsewhere():
    images, _ = digits()
    made = drawn.patches(images)

    def cut(image: np.ndarray) -> list[bytes]:
        return sorted(image[y : y + 7, x : x + 7].tobytes() for y in range(0, 28, 7) for x in range(0, 28, 7))

    for before, after in zip(images, made, strict=True):
        assert cut(before) == cut(after)
        assert (before != after).any()


def test_noise_has_the_pixels_of_a_digit():
    images, _ = digits()
    for before, after in zip(images, drawn.shuffled(images), strict=True):
        np.testing.assert_array_equal(np.sort(before, axis=None), np.sort(after, axis=None))
        assert (before != after).any()
