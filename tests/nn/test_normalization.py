"""Which number stands for which shade of grey, by hand; what is measured on images."""

import hydra
import numpy as np
import pytest
from omegaconf import OmegaConf

from ablations.datasets import Dataset
from ablations.errors import InputError
from ablations.ground.paths import CONF
from ablations.nn.normalization import Normalization, pixel_statistics

PIXELS = np.array([0, 51, 255], dtype=np.uint8)
IMAGES = np.array([0, 0, 0, 255], dtype=np.uint8).repeat(196).reshape(1, 28, 28)  # mean 1/4, std √3/4


def configured(choice: str, **overrides: object):
    return hydra.utils.instantiate({**OmegaConf.load(CONF / "normalization" / f"{choice}.yaml"), **overrides})


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return hydra.utils.instantiate(OmegaConf.load(CONF / "dataset" / "digits.yaml")).load()


def test_normalisation_by_hand(normalization, expected):
    check_normalisation(normalization, {}, expected("normalization", normalization))


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ({"mean": 0.05, "std": 0.5}, (-0.1, 0.3, 1.9)),
        ({"mean": 0}, (0, 0.8 / 3**0.5, 4 / 3**0.5)),
    ],
)
def test_given_statistics_by_hand(overrides, values):
    check_normalisation("standard", overrides, values)


def check_normalisation(choice, overrides, values):
    normalization = configured(choice, **overrides).fit(IMAGES)
    assert normalization.background == pytest.approx(values[0], rel=1e-15)
    for dtype, tolerance in ((np.float64, 1e-15), (np.float32, 1e-7)):
        out = np.zeros((1, 32, 32, 3), dtype)
        normalization.fill(np.broadcast_to(PIXELS[:, None, None], (3, 28, 28)), out)
        np.testing.assert_allclose(out[0, 16, 16], values, rtol=tolerance, atol=2 * tolerance)
        assert out[0, 16, 16, 0] == dtype(normalization.background)  # no seam between image and border


def test_fill_centres_and_leaves_the_border():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)
    out = np.full((1, 32, 32, 5), -7.0)
    Normalization(offset=-0.1, scale=0.005).fill(pixels, out)
    for n in range(5):
        for y in range(32):
            for x in range(32):
                inside = 2 <= y < 30 and 2 <= x < 30
                assert out[0, y, x, n] == (-0.1 + 0.005 * float(pixels[n, y - 2, x - 2]) if inside else -7.0)


def test_standardised_training_images_have_mean_0_and_variance_1(digits):
    normalization = configured("standard").fit(digits.train_images)
    values = normalization.offset + normalization.scale * digits.train_images.astype(np.float64)
    assert values.mean() == pytest.approx(0, abs=1e-12)
    assert values.std() == pytest.approx(1, abs=1e-12)


def test_measured_statistics_are_numpys(digits):
    pixels = digits.train_images / 255
    assert pixel_statistics(digits.train_images) == pytest.approx((pixels.mean(), pixels.std()))


@pytest.mark.parametrize(
    ("choice", "overrides"),
    [
        ("standard", {"std": 0}),
        ("standard", {"std": -1}),
        ("standard", {"mean": float("nan")}),
        ("standard", {"mean": "a"}),
        ("lecun1998", {"foreground": -0.1}),
        ("unit", {"foreground": float("inf")}),
        ("unit", {"background": "a"}),
    ],
)
def test_bad_normalisation_is_one_line(choice, overrides):
    with pytest.raises(InputError, match=r"^normalization\..* accepted: .*$"):
        configured(choice, **overrides).fit(IMAGES)


def test_images_of_one_grey_cannot_be_standardised():
    with pytest.raises(InputError, match="accepted: a finite mean and a finite std > 0"):
        configured("standard").fit(np.zeros((3, 28, 28), np.uint8))
