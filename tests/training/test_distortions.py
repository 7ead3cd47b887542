"""Distorted training images: the formula in numbers, and what surrounds it in the training loop."""

import hydra
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ablations.nn.normalization import Normalization
from ablations.training import loop
from ablations.training.distortions import PlanarDistortion
from ablations.training.loop import evaluate, train
from ablations.training.optimizers import SDLM, SGD
from ablations.training.recipe import Images, Options, Recipe, assemble
from ablations.training.streams import Streams

UNIT = Normalization(offset=-0.1, scale=1.275 / 255)
RANGES = {"shift": 8.0, "scaling": 0.5, "squeezing": 0.4, "shearing": 0.9}  # no two alike


class Chosen:
    """Stands for a generator: the values of each range are chosen beforehand."""

    def __init__(self, t_y=0.0, t_x=0.0, s=1.0, q=1.0, h=0.0):
        t_y, t_x = np.broadcast_arrays(t_y, t_x)
        self.values = {
            (-8.0, 8.0): np.stack([t_y, t_x], axis=-1),
            (0.5, 1.5): s,
            (0.6, 1.4): q,
            (-0.9, 0.9): h,
        }

    def uniform(self, low, high, size):
        return np.broadcast_to(self.values.pop((low, high)), size).astype(float)


def distorted(images: np.ndarray, **chosen: object) -> np.ndarray:
    rng = Chosen(**chosen)
    result = PlanarDistortion(**RANGES)(images, rng)
    assert rng.values == {}, "each kind is drawn once"
    return result


@pytest.fixture(scope="module")
def digits(compose) -> Images:
    data = hydra.utils.instantiate(compose("dataset=digits").dataset).load()
    return Images(data.train_images[:60], data.train_labels[:60])


@pytest.fixture(scope="module")
def blob() -> np.ndarray:
    """One image: a round spot, brightest at (x, y) = (4, −3) from the centre."""
    y, x = np.mgrid[:28, :28] - 13.5
    return np.rint(250 * np.exp(-((x - 4) ** 2 + (y + 3) ** 2) / 8)).astype(np.uint8)[None]


def moments(image: np.ndarray) -> tuple[float, float, float, float, float]:
    """Centre of mass x, y from the image's centre; variances of x and y; their covariance."""
    y, x = np.mgrid[:28, :28] - 13.5
    w = image / image.sum()
    at_x, at_y = (w * x).sum(), (w * y).sum()
    x, y = x - at_x, y - at_y
    return at_x, at_y, (w * x * x).sum(), (w * y * y).sum(), (w * x * y).sum()


# The formula


def test_ranges_of_zero_change_nothing(digits):
    for at in (digits.pixels, np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)):
        same = PlanarDistortion(0.0, 0.0, 0.0, 0.0)(at, np.random.default_rng(0))
        np.testing.assert_array_equal(same, at)
        assert not np.shares_memory(same, at)


@pytest.mark.parametrize(("t_y", "t_x"), [(0, 3), (0, -2), (4, 0), (-5, 0), (2, -7), (-8, 8)])
def test_shift_by_whole_pixels_moves_the_image(t_y, t_x, digits):
    """Right and down for positive numbers; what comes in is background, what goes out is gone."""
    padded = np.pad(digits.pixels, ((0, 0), (8, 8), (8, 8)))
    moved = np.roll(padded, (t_y, t_x), axis=(1, 2))[:, 8:-8, 8:-8]
    np.testing.assert_array_equal(distorted(digits.pixels, t_y=t_y, t_x=t_x), moved)


@pytest.mark.parametrize(
    "chosen",
    [
        {"t_x": 2.5},
        {"t_y": -1.25},
        {"s": 1.3},
        {"s": 0.7},
        {"q": 1.2},
        {"q": 0.8},
        {"h": 0.5},
        {"h": -0.4},
        {"t_y": 3.0, "h": 0.5},
        {"t_x": 1.5, "t_y": -2.0, "s": 1.15, "q": 0.9, "h": 0.3},
        {"t_x": -3.0, "t_y": 1.0, "s": 0.85, "q": 1.25, "h": -0.6},
    ],
    ids=str,
)
def test_moments_move_as_the_formula_says(chosen, blob):
    t_x, t_y, h = (chosen.get(name, 0.0) for name in ("t_x", "t_y", "h"))
    s, q = (chosen.get(name, 1.0) for name in ("s", "q"))
    x, y, var_x, var_y, cov = moments(blob[0])
    new_y = s / q * y + t_y
    new_x = s * q * x + h * new_y + t_x
    # Of the linear part: x' = a x + b y, y' = c y.
    a, b, c = s * q, h * s / q, s / q
    found = moments(distorted(blob, **chosen)[0])
    np.testing.assert_allclose(found[:2], (new_x, new_y), atol=0.03)
    expected = (a * a * var_x + 2 * a * b * cov + b * b * var_y, c * c * var_y, a * c * cov + b * c * var_y)
    np.testing.assert_allclose(found[2:], expected, atol=0.4)


def test_each_image_is_that_of_an_independent_implementation(digits):
    """The way there as one matrix, inverted; pixels looked up one image at a time."""
    n, rng = 60, np.random.default_rng(1)
    t_y, t_x, h = rng.uniform(-4, 4, n), rng.uniform(-4, 4, n), rng.uniform(-0.5, 0.5, n)
    s, q = rng.uniform(0.7, 1.3, n), rng.uniform(0.7, 1.3, n)
    found = distorted(digits.pixels, t_y=t_y, t_x=t_x, s=s, q=q, h=h)
    y, x = np.mgrid[:28, :28] - 13.5
    for i in range(n):
        there = np.array(
            [[s[i] * q[i], h[i] * s[i] / q[i], h[i] * t_y[i] + t_x[i]], [0, s[i] / q[i], t_y[i]], [0, 0, 1]]
        )
        from_x, from_y, _ = np.linalg.inv(there) @ np.stack([x.ravel(), y.ravel(), np.ones(784)])
        image = np.pad(digits.pixels[i].astype(float), 40)
        looked_up = map_coordinates(image, [from_y + 53.5, from_x + 53.5], order=1).reshape(28, 28)
        inside = (np.abs(from_x) <= 13.5) & (np.abs(from_y) <= 13.5)
        off = np.abs(found[i] - looked_up)[inside.reshape(28, 28)]
        assert off.max() <= 0.5 + 1e-6, "rounded to whole grey values"
        assert (found[i][~inside.reshape(28, 28)] == 0).all(), "from outside the image"


def test_draws_fill_their_ranges_and_differ_image_by_image():
    asked = {}

    class Noting:
        def uniform(self, low, high, size):
            asked[low, high] = size
            return np.random.default_rng(0).uniform(low, high, size)

    PlanarDistortion(**RANGES)(np.zeros((7, 28, 28), np.uint8), Noting())
    assert asked == {(-8.0, 8.0): (7, 2), (0.5, 1.5): 7, (0.6, 1.4): 7, (-0.9, 0.9): 7}


# What is kept


def test_bytes_stay_bytes_and_background_stays_background(compose, digits):
    distort = hydra.utils.instantiate(compose("distortion=planar").distortion)
    before = digits.pixels.copy()
    result = distort(digits.pixels, np.random.default_rng(0))
    assert result.dtype == np.uint8
    assert result.shape == digits.pixels.shape
    np.testing.assert_array_equal(digits.pixels, before)
    assert (result != before).any(axis=(1, 2)).all(), "every image is distorted"
    assert (result.max(axis=(1, 2)) <= before.max(axis=(1, 2))).all()
    ink = result.sum(axis=(1, 2)) / before.sum(axis=(1, 2))
    assert 0.7 < ink.min() < 1 < ink.max() < 1.3, "no digit is lost"
    blank = distort(np.zeros((9, 28, 28), np.uint8), np.random.default_rng(0))
    assert (blank == 0).all()
    full = distort(np.full((9, 28, 28), 255, np.uint8), np.random.default_rng(0))
    assert set(np.unique(full)) == {0, 255}, "what comes in from outside is background"


def test_same_seed_same_distortion_and_each_pass_another(compose, digits):
    distort = hydra.utils.instantiate(compose("distortion=planar").distortion)

    def two_passes(seed):
        rng = Streams(seed).generator("distortion")
        return distort(digits.pixels, rng), distort(digits.pixels, rng)

    (first, second), again = two_passes(0), two_passes(0)
    np.testing.assert_array_equal(first, again[0])
    np.testing.assert_array_equal(second, again[1])
    assert (first != second).any(axis=(1, 2)).all()
    assert (first != two_passes(1)[0]).any(axis=(1, 2)).all()


def test_off_by_default(compose):
    assert assemble(compose()).distort is None
    parts = assemble(compose("distortion=planar"))
    assert parts.distort == PlanarDistortion(shift=2.0, scaling=0.1, squeezing=0.1, shearing=0.2)
    assert parts.stream == assemble(compose()).stream


# In the loop


@pytest.fixture
def batches(monkeypatch):
    """The input and the labels of each batch, in order."""
    seen = []

    def spy(network, feed, images, labels, *rest):
        seen.append((feed(images).copy(), labels.tolist()))
        return original(network, feed, images, labels, *rest)

    original = loop.gradient
    monkeypatch.setattr(loop, "gradient", spy)
    return seen


def run(network, images, distort, seed=0, optimizer=None, epochs=2, validation=None):
    options = Options(epochs=epochs, batch_size=20, clip_norm=None, replacement=False, eval_limit=None)
    optimizer = optimizer or SGD(1e-3, 0)
    recipe = Recipe(network, optimizer, UNIT, images, validation, Streams(seed), options, distort)
    return list(train(recipe))


def test_each_epoch_trains_on_its_own_version_in_the_same_order(build, compose, digits, batches):
    distort = hydra.utils.instantiate(compose("distortion=planar").distortion)
    before = digits.pixels.copy()
    run(build(), digits, distort)
    np.testing.assert_array_equal(digits.pixels, before)
    with_distortion = batches.copy()
    rng, order = Streams(0).generator("distortion"), Streams(0).generator("order")
    for epoch in range(2):
        version, batches_of_epoch = distort(digits.pixels, rng), order.permutation(60).reshape(3, 20)
        for (x, labels), batch in zip(with_distortion[3 * epoch :], batches_of_epoch, strict=False):
            wanted = version[batch].transpose(1, 2, 0) / 255 * 1.275 - 0.1
            np.testing.assert_allclose(x[0, 2:30, 2:30], wanted, atol=1e-12)
            assert labels == digits.labels[batch].tolist()
    batches.clear()
    run(build(), digits, None)
    assert [labels for _, labels in batches] == [labels for _, labels in with_distortion]
    for (x, _), (other, _) in zip(batches, with_distortion, strict=True):
        assert (x != other).any()


def test_every_variant_of_a_seed_sees_the_same_distortions(build, compose, digits, batches):
    distort = hydra.utils.instantiate(compose("distortion=planar").distortion)

    def seen(network, **settings):
        batches.clear()
        run(network, digits, distort, **settings)
        return np.stack([x for x, _ in batches])

    first = seen(build())
    sdlm = SDLM(1e-4, mu=0.02, samples=30, refresh_every=20, refresh_samples=10)
    variant = build("activation=tanh", "pool=subsample", "head=rbf", "c3=sparse", seed=4)
    np.testing.assert_array_equal(seen(variant, optimizer=sdlm), first)
    assert (seen(build(), seed=1) != first).any()


def test_validation_images_are_not_distorted(build, compose, digits):
    distort = hydra.utils.instantiate(compose("distortion=planar").distortion)
    network = build()
    (record,) = run(network, digits, distort, epochs=1, validation=digits)
    scored = evaluate(network, UNIT, digits)
    assert (record.val_loss, record.val_accuracy) == (scored.loss, scored.accuracy)
