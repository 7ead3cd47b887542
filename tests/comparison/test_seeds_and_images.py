"""Intervals over seeds and images, against an independent analysis of variance and planted truths.

`python tests/comparison/test_seeds_and_images.py` prints the table of docs/statistics.md.
"""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ablations.comparison.images import BESIDE_WIDE, WIDE, Reading, crossed, over_seeds_and_images
from ablations.comparison.pairs import Comparison
from ablations.report import generalisation
from ablations.report.generalisation import on_other_images

SEEDS, IMAGES = 8, 1000

# Standard deviations on the scale of a probit model (noise 1): of images, of images by variant, of seeds by variant;
# then what each variant reaches.
WORLDS = {
    "images matter most": (2.0, 1.0, 0.02, 4.0, 4.2),
    "seeds matter most": (2.0, 0.05, 0.25, 4.0, 4.2),
    "both matter": (2.0, 0.7, 0.15, 4.0, 4.2),
    "few errors": (1.0, 0.3, 0.05, 3.2, 3.3),
    "no difference": (2.0, 0.7, 0.15, 4.0, 4.0),
}


def world(
    name: str, rng: np.random.Generator, seeds: int = SEEDS, images: int = IMAGES
) -> tuple[np.ndarray, float]:
    """D[s, i] of new seeds and new images, and its mean over all seeds and images there could be."""
    by_image, by_image_and_variant, by_seed, *levels = WORLDS[name]
    common = by_image * rng.standard_normal(images)
    right = []
    for level in levels:
        own = level + common + by_image_and_variant * rng.standard_normal(images)
        own = own + by_seed * rng.standard_normal((seeds, 1)) + rng.standard_normal((seeds, images))
        right.append(own > 0)
    spread = math.sqrt(by_image**2 + by_image_and_variant**2 + by_seed**2 + 1)
    base, variant = (stats.norm.cdf(level / spread) for level in levels)
    return right[1].astype(int) - right[0], variant - base


def covered(name: str, studies: int) -> tuple[float, float]:
    """How often the interval over seeds and images holds the truth, and how often one over the seeds alone does."""
    rng = np.random.default_rng(4)
    wide, narrow = 0, 0
    for _ in range(studies):
        lead, truth = world(name, rng)
        found = crossed(lead)
        wide += found.low <= truth <= found.high
        mean = lead.mean(axis=1)
        half = stats.t.ppf(0.975, SEEDS - 1) * mean.std(ddof=1) / math.sqrt(SEEDS)
        narrow += abs(mean.mean() - truth) <= half
    return wide / studies, narrow / studies


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_the_interval_holds_what_new_seeds_and_new_images_would_give(name):
    wide, _ = covered(name, 1000)
    assert wide >= 0.93


def by_statsmodels(lead: np.ndarray) -> tuple[float, float, list[float]]:
    """Ends and shares from statsmodels' table of the two-way layout."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    seeds, images = lead.shape
    cells = [(f"s{s}", f"i{i}", lead[s, i]) for s in range(seeds) for i in range(images)]
    frame = pd.DataFrame(cells, columns=["seed", "image", "d"])
    table = anova_lm(ols("d ~ C(seed) + C(image)", frame).fit())
    squares, degrees = table["sum_sq"] / table["df"], table["df"]
    together = squares.iloc[0] + squares.iloc[1] - squares.iloc[2]
    free = together**2 / (squares**2 / degrees).sum()
    half = stats.t.ppf(0.975, free) * math.sqrt(together / lead.size)
    parts = [*(max(squares.iloc[k] - squares.iloc[2], 0) for k in (0, 1)), squares.iloc[2]]
    return lead.mean() - half, lead.mean() + half, [part / sum(parts) for part in parts]


@pytest.mark.parametrize("seed", range(6))
def test_mean_squares_are_those_of_statsmodels(seed):
    rng = np.random.default_rng(seed)
    lead = world("both matter", rng, seeds=4, images=40)[0] + rng.integers(0, 2, (4, 1))
    low, high, shares = by_statsmodels(lead)
    found = crossed(lead)
    assert (found.low, found.high) == pytest.approx((low, high))
    assert [found.seeds, found.images, found.both] == pytest.approx(shares)
    assert sum((found.seeds, found.images, found.both)) == pytest.approx(1)


def test_two_seeds_and_two_images_by_hand():
    # mean 1/4; sums of squares 1/4 each; mean squares 1/4 each, so that the variance is (1/4) / 4 with one degree:
    # (1/4)² / (3 · (1/4)²) = 1/3 of freedom.
    found = crossed(np.array([[1, 0], [0, 0]]), 100)
    half = 100 * stats.t.ppf(0.975, 1 / 3) / 4
    assert (found.mean, found.low, found.high) == pytest.approx((25, 25 - half, 25 + half))
    assert (found.seeds, found.images, found.both) == (0, 0, 1)
    assert found.floor == 0


def test_only_images_differ_so_that_no_seeds_help():
    lead = np.tile([1, 0, 0, -1, 1, 1], (5, 1))
    found = crossed(lead)
    assert (found.seeds, found.images, found.both) == (0, 1, 0)
    low, high = stats.ttest_1samp(lead[0], 0).confidence_interval()
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.floor == pytest.approx((high - low) / 2)


def test_only_seeds_differ():
    lead = np.tile([[1], [0], [0], [1], [1]], (1, 50))
    found = crossed(lead)
    assert (found.seeds, found.images, found.both, found.floor) == (1, 0, 0, 0)
    assert (found.low, found.high) == pytest.approx(stats.ttest_1samp(lead[:, 0], 0).confidence_interval())


def test_nothing_differs():
    found = crossed(np.ones((3, 5), int))
    assert (found.mean, found.low, found.high, found.floor) == (1, 1, 1, 0)


def test_the_interval_turns_round_with_the_unit():
    lead = world("both matter", np.random.default_rng(1))[0]
    up, down = crossed(lead, 1), crossed(lead, -100)
    assert (down.low, down.high) == pytest.approx((-100 * up.high, -100 * up.low))


# From readings of runs


def reading(right: np.ndarray, labels: bytes = b"l") -> Reading:
    return Reading(labels, np.packbits(right), len(right))


def compared(right: np.ndarray, **changed: object) -> tuple[Comparison, dict[str, Reading]]:
    """A comparison of two variants at two settings of another factor; right: (variant, setting, seed, image)."""
    runs = {
        f"{v}{k}{s}": reading(right[v, k, s])
        for v in range(2)
        for k in range(2)
        for s in range(right.shape[2])
    }
    seeds = range(right.shape[2])
    errors = 100 * (1 - right.mean(axis=-1))
    differences = tuple(float((errors[1] - errors[0])[:, s].mean()) for s in seeds)
    ids = tuple((f"10{s}", f"00{s}", f"11{s}", f"01{s}") for s in seeds)
    names = ("a",), ("1",), ("0",), "test/error_pct", tuple(map(str, seeds)), differences, ids
    looks = (1,) * len(seeds)
    comparison = Comparison(*names, seen=looks, unpaired=(), fingerprinted=True, signs=(1, -1, 1, -1))
    return replace(comparison, **changed), runs


@pytest.fixture
def right() -> np.ndarray:
    return np.random.default_rng(3).random((2, 2, 6, 37)) < 0.8


def test_a_comparison_is_averaged_over_settings_image_by_image(right):
    comparison, runs = compared(right)
    (row,) = over_seeds_and_images([comparison], runs.get).to_dict("records")
    whole = right.astype(int).sum(axis=1)
    expected = crossed(whole[1] - whole[0], -50)
    assert expected.mean == pytest.approx(np.mean(comparison.differences))
    found = [row[name] for name in (*WIDE, *BESIDE_WIDE)]
    shares = expected.seeds, expected.images, expected.both
    assert found == pytest.approx([expected.low, expected.high, *shares, expected.floor, 37])


@pytest.mark.parametrize(
    "changed",
    [
        {"metric": "val/loss"},
        {"differences": (0.5,) * 6},  # of another result
        {"seeds": ("0",), "differences": (0.5,), "run_ids": (("100", "000", "110", "010"),)},
        {"seeds": (), "differences": (), "run_ids": ()},
    ],
)
def test_what_is_not_known_is_missing(right, changed):
    comparison, runs = compared(right, **changed)
    table = over_seeds_and_images([comparison], runs.get)
    assert list(table) == [*WIDE, *BESIDE_WIDE]
    assert table.isna().all(axis=None)


@pytest.mark.parametrize("instead", [None, "labels", "images"])
def test_runs_without_predictions_or_of_other_images_give_none(right, instead):
    comparison, runs = compared(right)
    other = {"labels": reading(right[0, 0, 2], b"m"), "images": reading(right[0, 0, 2][:-1])}
    runs["002"] = other.get(instead)
    assert over_seeds_and_images([comparison], runs.get).isna().all(axis=None)


if __name__ == "__main__":
    print("| world | seeds and images | seeds alone |\n| --- | ---: | ---: |")
    for each in WORLDS:
        print("| {} | {:.1%} | {:.1%} |".format(each, *covered(each, 2000)))


def test_one_seed_is_no_lack_of_predictions():
    """What is said of other images takes two seeds: with one it is not the predictions that are missing."""

    def said(n: int) -> str:
        effects = pd.DataFrame({"metric": ["test/error_pct"], "n": [n], "wide_low": [float("nan")]})
        study = SimpleNamespace(published={})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generalisation, "in_words", lambda table: table)
            return "".join(map(str, on_other_images(SimpleNamespace(all_effects=effects, study=study))))

    assert said(1) == ""
    assert said(2) == generalisation.UNKNOWN
