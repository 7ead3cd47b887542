"""Pictures of digits become images as MNIST's were made."""

import io
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image, ImageDraw, ImageOps

from ablations.datasets import read_idx
from ablations.datasets.images import decode
from ablations.errors import InputError
from ablations.predict.digit_image import find_digit, like_mnist, read_image

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


def framed(picture, inset=0, width=4, grey=0):
    """With a rectangle drawn `inset` pixels from its border."""
    picture = picture.copy()
    box = [inset, inset, picture.width - 1 - inset, picture.height - 1 - inset]
    ImageDraw.Draw(picture).rectangle(box, outline=grey, width=width)
    return picture


def lined(picture, *boxes):
    picture = picture.copy()
    for box in boxes:
        ImageDraw.Draw(picture).rectangle(box, fill=0)
    return picture


def ringed(picture):
    picture = picture.copy()
    ImageDraw.Draw(picture).ellipse([150, 5, 299, 190], outline=0, width=4)
    return picture


FRAMED = {
    "screenshot": framed(seven()),
    "one pixel": framed(seven(), width=1),
    "grey": framed(seven(), width=3, grey=150),
    "thick": framed(seven(), width=15),
    "cell": framed(seven(), inset=12),
    "double": framed(framed(seven(), inset=20), inset=4, width=2),
    "tilted": framed(seven(), inset=18).rotate(3, fillcolor=255),
    "ring": ringed(seven()),
    "below": lined(seven(), (0, 185, 300, 189)),
    "left and below": lined(seven(), (0, 185, 300, 189), (10, 0, 14, 200)),
    "three sides": lined(seven(), (0, 0, 300, 3), (0, 0, 3, 200), (0, 196, 300, 200)),
}


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("name", FRAMED)
def test_a_frame_is_no_ink(name, inverted):
    picture = ImageOps.invert(FRAMED[name]) if inverted else FRAMED[name]
    if name == "tilted":
        expected = seven().rotate(3, fillcolor=255)
    else:
        expected = seven()
    found, several = find_digit(np.asarray(picture))
    assert difference(found, like_mnist(np.asarray(expected))) < 1
    assert not several


def test_a_digit_that_touches_the_line_of_its_cell():
    picture = lined(seven(), (150, 0, 153, 170), (150, 0, 280, 3), (277, 0, 280, 170), (150, 145, 280, 148))
    found = like_mnist(np.asarray(picture))
    assert difference(found, like_mnist(np.asarray(seven()))) < 6


def test_strokes_of_digits_are_no_frames():
    """An angular zero, an angular eight, and a seven whose bar fills the upper edge."""
    zero = framed(Image.new("L", (140, 200), 255), inset=20, width=12)
    eight = lined(zero, (20, 94, 119, 105))
    for picture, height in ((zero, 20), (eight, 20), (seven().crop((194, 34, 266, 156)), 20)):
        found = like_mnist(np.asarray(picture))
        assert np.ptp(np.flatnonzero(found.max(axis=1) > 127)) + 1 == height
        rim = found[np.flatnonzero(found.max(axis=1) > 127)[0]]
        assert (rim > 127).sum() >= 10, "the upper bar is there"
    assert like_mnist(np.asarray(eight))[12:16, 14].max() > 100, "the bar in the middle, too"


def test_a_digit_cut_out_along_its_bounding_box():
    for width in (12, 30, 70):
        picture = Image.new("L", (400, 400), 255)
        strokes = [(120, 112), (280, 112), (180, 300)]
        ImageDraw.Draw(picture).line(strokes, fill=0, width=width, joint="curve")
        cropped = picture.crop(ImageOps.invert(picture).getbbox())
        for one in (cropped, ImageOps.invert(cropped)):
            found = like_mnist(np.asarray(one))
            assert difference(found, like_mnist(np.asarray(picture))) < 3, width


def spotted(kind):
    """A seven in dots, in dashes, or sprayed."""
    picture = Image.new("L", (400, 400), 255)
    draw = ImageDraw.Draw(picture)
    path = [(120, 112), (280, 112), (180, 300)]
    for (x0, y0), (x1, y1) in pairwise(path):
        for at in range(5):
            x, y, u, v = (x0 + (x1 - x0) * at / 5, y0 + (y1 - y0) * at / 5, (x1 - x0) / 5, (y1 - y0) / 5)
            if kind == "dots":
                draw.ellipse([x - 11, y - 11, x + 11, y + 11], fill=0)
            elif kind == "dashes":
                draw.line([(x + 0.2 * u, y + 0.2 * v), (x + 0.8 * u, y + 0.8 * v)], fill=0, width=22)
    if kind.startswith("spray"):
        draw.line(path, fill=0, width=40, joint="curve")
        density = 0.05 if kind == "spray, thin" else 0.15
        sprayed = np.random.default_rng(0).random((400, 400)) < density
        return Image.fromarray(np.where(sprayed & (np.asarray(picture) == 0), 0, 255).astype(np.uint8))
    return picture


@pytest.mark.parametrize("kind", ["dots", "dashes", "spray", "spray, thin"])
def test_separate_spots_are_one_digit(kind):
    from scipy import ndimage

    picture = spotted(kind)
    ImageDraw.Draw(picture).rectangle([20, 350, 24, 354], fill=0)  # dust
    found, several = find_digit(np.asarray(picture))
    assert not several
    _, count = ndimage.label(found > 60, structure=np.ones((3, 3)))
    assert count == 1
    rows = np.flatnonzero((found > 60).any(axis=1))
    assert np.ptp(rows) + 1 >= 19
    assert found[rows[0] : rows[0] + 4].sum() > found[rows[-1] - 3 : rows[-1] + 1].sum()


@pytest.mark.parametrize("gap", [6, 40])
def test_two_digits_are_noticed(gap):
    one = seven().crop((190, 30, 270, 160))
    for shift in ((80 + gap, 0), (0, 130 + gap)):
        picture = Image.new("L", (400, 400), 255)
        picture.paste(one, (30, 30))
        assert not find_digit(np.asarray(picture)).several
        picture.paste(one, (30 + shift[0], 30 + shift[1]))
        assert find_digit(np.asarray(picture)).several


def test_a_digit_of_two_strokes_is_one():
    five, four = Image.new("L", (400, 400), 255), Image.new("L", (400, 400), 255)
    for picture, strokes in (
        (
            five,
            [
                [(150, 100), (280, 95)],
                [(145, 120), (140, 190), (220, 185), (265, 240), (220, 300), (140, 295)],
            ],
        ),
        (four, [[(160, 100), (130, 210), (280, 215)], [(240, 120), (235, 310)]]),
    ):
        for stroke in strokes:
            ImageDraw.Draw(picture).line(stroke, fill=0, width=16, joint="curve")
        found, several = find_digit(np.asarray(picture))
        assert not several
        assert np.ptp(np.flatnonzero(found.max(axis=1) > 60)) + 1 == 20


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


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("size", [(28, 28), (64, 48)])
def test_files_like_those_of_the_training_are_taken_as_they_were(tmp_path, size, inverted):
    """Training and reading see the same pixels; of files of another size the digit is sought."""
    from ablations.datasets import ImageFiles

    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / label).mkdir()
        for at in range(10):
            drawn = np.zeros(size[::-1], np.uint8)
            y, x = rng.integers(2, 16, 2)
            drawn[y : y + 9, x : x + 5] = 255
            Image.fromarray(255 - drawn if inverted else drawn).save(tmp_path / label / f"{at}.png")
    data = ImageFiles("images", str(tmp_path), 0.2, None).load()
    assert data.pictures == (*size[::-1], inverted)
    seen = {image.tobytes() for image in (*data.train_images, *data.test_images)}
    for path in tmp_path.glob("?/*.png"):
        for trained_on in (data.pictures, (0, 0, inverted)):
            assert read_image(path, trained_on).pixels.tobytes() in seen
        np.testing.assert_array_equal(read_image(path, (99, 99, inverted)).pixels, like_mnist(decode(path)))
    Image.new("L", size, 255).save(tmp_path / "blank.png")
    with pytest.raises(InputError, match=r"blank\.png: nothing to be seen"):
        read_image(tmp_path / "blank.png", data.pictures)
    ImageOps.invert(Image.open(path)).save(tmp_path / "other ground.png")
    assert read_image(tmp_path / "other ground.png", data.pictures).pixels.tobytes() in seen


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


@pytest.mark.parametrize("kind", ["dots", "dashes", "spray", "spray, thin"])
def test_spots_are_read(mnist_reader, kind):
    digits, _ = mnist_reader.read(like_mnist(np.asarray(spotted(kind)))[None])
    assert digits[0] == 7


def test_mnist_in_frames_or_cut_out_is_read_like_the_originals(mnist_root, mnist_reader):
    images = read_idx(mnist_root / "t10k-images-idx3-ubyte.gz")[:200]
    expected, _ = mnist_reader.read(images)
    pictures = [Image.fromarray(255 - image).resize((112, 112), Image.Resampling.BICUBIC) for image in images]
    cut = [picture.crop(ImageOps.invert(picture).getbbox()) for picture in pictures]
    for altered, least in (([framed(picture) for picture in pictures], 0.97), (cut, 0.95)):
        found = [find_digit(np.asarray(picture)) for picture in altered]
        digits, _ = mnist_reader.read(np.stack([each.pixels for each in found]))
        assert (digits == expected).mean() >= least
        assert sum(each.several for each in found) <= 3


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
