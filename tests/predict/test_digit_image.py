"""Pictures of digits become images as MNIST's were made."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw

from ablations.datasets import read_idx
from ablations.datasets.images import decode
from ablations.errors import InputError
from ablations.predict.digit_image import like_mnist

DARK, LIGHT = 20, 230


def bar(height, width, canvas=(100, 120), corner=(30, 50), ink=DARK, ground=LIGHT):
    """A filled rectangle somewhere in a picture."""
    picture = np.full(canvas, ground, np.uint8)
    picture[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = ink
    return picture


def seven():
    """A seven in thick dark strokes on white, 300 pixels wide and 200 high."""
    picture = Image.new("L", (300, 200), 255)
    ImageDraw.Draw(picture).line([(200, 40), (260, 40), (225, 150)], fill=0, width=12, joint="curve")
    return picture


def difference(one, other):
    """Mean absolute difference, in grey levels."""
    return np.abs(one.astype(int) - other).mean()


@pytest.mark.parametrize("ink_and_ground", [(DARK, LIGHT), (LIGHT, DARK), (255, 0), (0, 255), (120, 180)])
@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        (
            (40, 10),
            (4, 24),
            (12, 17),
        ),  # 20 × 5, centres of mass 9.5 and 2 at 14: 14 − 9.5 is rounded to even, 4
        ((10, 40), (12, 17), (4, 24)),
        ((20, 20), (4, 24), (4, 24)),
        ((10, 4), (4, 24), (10, 18)),  # enlarged to 20 × 8
    ],
)
def test_a_bar_fills_the_box_and_lies_in_the_middle(ink_and_ground, size, rows, columns):
    ink, ground = ink_and_ground
    expected = np.zeros((28, 28), np.uint8)
    expected[slice(*rows), slice(*columns)] = 255
    found = like_mnist(bar(*size, ink=ink, ground=ground))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)


def test_the_centre_is_that_of_mass_not_of_the_box():
    """A heavy foot at the lower right draws the whole to the upper left."""
    picture = bar(80, 10, canvas=(140, 140), corner=(20, 20))
    picture[60:100, 20:60] = DARK
    found = like_mnist(picture).astype(float)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert (rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1) == (20, 10)
    at = np.arange(28)
    for axis in (0, 1):
        assert found.sum(axis=axis) @ at / found.sum() == pytest.approx(14, abs=0.5)
    assert rows[0] < 4


def test_a_shape_whose_mass_lies_at_one_side_stays_whole():
    """Its centre of mass cannot be in the middle without cutting off the rest."""
    picture = bar(2, 190, canvas=(300, 300), corner=(10, 10))
    picture[10:210, 180:210] = DARK
    found = like_mnist(picture)
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    assert (rows[-1] - rows[0] + 1, columns[0], columns[-1]) == (20, 0, 19)


@pytest.mark.parametrize("enlarged", [2, 5, 13])
@pytest.mark.parametrize("inverted", [False, True])
def test_size_place_and_colours_do_not_matter(enlarged, inverted):
    upright = seven()
    picture = Image.new("L", (900, 700), 255)
    picture.paste(upright, (350, 20))
    picture = picture.resize((picture.width * enlarged // 2, picture.height * enlarged // 2), Image.BICUBIC)
    pixels = np.asarray(picture)
    found = like_mnist(255 - pixels if inverted else pixels)
    assert difference(found, like_mnist(np.asarray(upright))) < 2


@pytest.mark.parametrize("noise", [3, 12])
def test_noise_shadow_and_specks_are_no_ink(noise):
    rng = np.random.default_rng(0)
    pixels = np.asarray(seven()).astype(float)
    pixels[180:184, 20:24] = 0
    pixels *= np.linspace(1, 0.75, pixels.shape[1])
    pixels = np.clip(pixels + rng.normal(0, noise, pixels.shape), 0, 255).astype(np.uint8)
    assert difference(like_mnist(pixels), like_mnist(np.asarray(seven()))) < 4


def test_files_of_every_kind_give_the_same_digit(tmp_path):
    """Turned by EXIF, transparent, with a palette, in colour, as JPEG."""
    upright = seven()
    expected = like_mnist(np.asarray(upright))

    turned = upright.transpose(
        Image.Transpose.ROTATE_90
    )  # orientation 6: to be shown turned by 90° clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=95)

    alpha = Image.eval(upright, lambda value: 255 - value)
    transparent = Image.new("RGBA", upright.size, (0, 0, 0, 0))
    transparent.putalpha(alpha)
    transparent.save(tmp_path / "transparent.png")

    upright.convert("P").save(tmp_path / "palette.gif")
    ink, paper = (
        Image.new("RGB", upright.size, (20, 30, 120)),
        Image.new("RGB", upright.size, (250, 240, 200)),
    )
    Image.composite(paper, ink, upright).save(tmp_path / "colour.png")
    upright.save(tmp_path / "plain.jpg", quality=60)

    for path in sorted(tmp_path.iterdir()):
        assert difference(like_mnist(decode(path)), expected) < 2, path.name


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("shape", [(1, 1), (50, 80)])
def test_a_blank_picture_is_refused(level, shape):
    with pytest.raises(InputError, match="nothing to be seen"):
        like_mnist(np.full(shape, level, np.uint8))


def test_paper_with_noise_alone_is_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="nothing to be seen"):
        like_mnist(np.clip(rng.normal(200, 4, (300, 300)), 0, 255).astype(np.uint8))


def test_a_large_photograph_costs_little_memory():
    """24 megapixels, of which a few are ink."""
    picture = bar(800, 200, canvas=(4000, 6000), corner=(500, 900))
    found = like_mnist(picture)
    assert (np.flatnonzero((found > 127).any(axis=0)) == np.arange(12, 17)).all()


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=60)
def test_any_picture_gives_an_image_or_one_error(picture):
    try:
        image = like_mnist(picture)
    except InputError:
        return
    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    assert image.max() == 255


@pytest.mark.parametrize("as_picture", ["png", "jpeg"])
def test_mnist_in_pictures_is_read_like_the_originals(mnist_root, mnist_reader, as_picture):
    """200 test images, enlarged, inverted, off the middle of a larger sheet."""
    images = read_idx(mnist_root / "t10k-images-idx3-ubyte.gz")[:200]
    again = []
    for image in images:
        large = Image.fromarray(255 - image).resize((112, 112), Image.Resampling.BICUBIC)
        sheet = Image.new("L", (260, 220), 255)
        sheet.paste(large, (30, 70))
        file = io.BytesIO()
        sheet.save(file, as_picture, **({"quality": 80} if as_picture == "jpeg" else {}))
        again.append(like_mnist(np.asarray(Image.open(file))))
    expected, _ = mnist_reader.read(images)
    found, _ = mnist_reader.read(np.stack(again))
    assert (found == expected).mean() >= 0.97
    labels = read_idx(mnist_root / "t10k-labels-idx1-ubyte.gz")[:200]
    assert (found == labels).mean() >= 0.93


@pytest.fixture(scope="module")
def mnist_reader(mnist_root, compose):
    """LeNet-5 after one epoch on 20,000 images."""
    from ablations.predict.model import Model
    from ablations.training.loop import train
    from ablations.training.recipe import assemble

    config = compose(
        "dataset=mnist", f"dataset.root={mnist_root}", "trainer.epochs=1", "trainer.batch_size=64"
    )
    recipe = assemble(config)
    list(train(replace(recipe, training=recipe.training.first(20_000), validation=None)))
    return Model(recipe.network, recipe.normalization)
