"""Image files in folders as a data set: layouts, labels, cache, and one line for what is wrong."""

import hashlib
import io
import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import PATIENCE_S

from ablations import export_images
from ablations.datasets import Dataset, Digits, ImageFiles, idx_header, images
from ablations.errors import InputError
from ablations.ground.paths import ROOT
from ablations.training.recipe import assemble

PIXELS = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lenet5-ablations" / "images"


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "data"


def write(root: Path, *names: str) -> None:
    """The n-th name holds PIXELS[n]."""
    for name, pixels in zip(names, PIXELS, strict=False):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)


def source(root: Path | None, classes: list[str] | None = None) -> ImageFiles:
    return ImageFiles("images", None if root is None else str(root), 0.2, classes)


def refusal(root: Path | None, classes: list[str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        source(root, classes).load()
    message = str(caught.value)
    assert message.isprintable()
    return message.replace(f"{root}", "ROOT")


def positions(images: np.ndarray) -> list[int]:
    """Which of PIXELS they are."""
    return [int(np.flatnonzero((image == PIXELS).all(axis=(1, 2)))[0]) for image in images]


@pytest.mark.parametrize("name", ["7/a.png", "loop", "train/7/a.png"])
def test_links_that_lead_to_themselves_and_pipes(name, root):
    """One line, and no waiting for somebody to write into a pipe."""
    write(root, "train/7/1.png", "train/3/1.png", "test/3/1.png")
    odd = root / name
    odd.parent.mkdir(exist_ok=True)
    odd.symlink_to(odd.name)
    assert f"ROOT/{name}: Too many levels of symbolic links; accepted: " in refusal(root)
    odd.unlink()
    os.mkfifo(odd)
    assert refusal(root).startswith("ROOT/")


# Layouts


def test_folders_of_classes_in_train_and_test(root):
    write(root, "train/7/10.png", "train/7/9.bmp", "train/3/a.gif", "test/3/x.png", "test/7/y.tiff")
    data = source(root).load()
    assert positions(data.train_images) == [2, 1, 0]  # 3 before 7, 9 before 10
    assert data.train_labels.tolist() == [3, 7, 7]
    assert positions(data.test_images) == [3, 4]
    assert data.test_labels.tolist() == [3, 7]
    assert data.classes == tuple("0123456789")
    assert data.train_images.dtype == data.train_labels.dtype == np.uint8
    parts = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    assert data.sha256 == hashlib.sha256(b"".join(idx_header(p) + p.tobytes() for p in parts)).hexdigest()


def test_numbered_files_come_in_the_order_of_their_numbers(root):
    write(root / "train", "idx-10-label-4.png", "idx-9-label-0.png", "idx-011-label-4.png")
    write(root / "test", "idx-0-label-0.png", "idx-5-label-4.png")
    data = source(root).load()
    assert positions(data.train_images) == [1, 0, 2]
    assert data.train_labels.tolist() == [0, 4, 4]
    assert data.test_labels.tolist() == [0, 4]


def test_names_become_classes_in_natural_order(root):
    write(root, *(f"{part}/{name}/1.png" for part in ("train", "test") for name in ("b10", "b9", "a")))
    data = source(root).load()
    assert data.classes == ("a", "b9", "b10")
    assert data.train_labels.tolist() == [0, 1, 2]
    assert positions(data.train_images) == [2, 1, 0]


def test_more_than_ten_numbers_are_classes_in_their_order(root):
    write(root, *(f"{part}/{number}/1.png" for part in ("train", "test") for number in range(1, 13)))
    data = source(root).load()
    assert data.classes == tuple(map(str, range(1, 13)))
    assert data.test_labels.tolist() == list(range(12))


def test_given_classes(root):
    write(root, "train/cat/1.png", "train/dog/1.png", "test/dog/1.png")
    assert source(root, ["dog", "cat"]).load().train_labels.tolist() == [1, 0]
    assert "train/cat/1.png: its class cat is none of dataset.classes; accepted: dog" in refusal(
        root, ["dog"]
    )


def test_given_names_of_numbers(root):
    write(root, "train/0/1.png", "train/1/1.png", "test/1/1.png")
    data = source(root, ["shirt", "shoe"]).load()
    assert data.classes == ("shirt", "shoe")
    assert data.train_labels.tolist() == [0, 1]
    assert "class 1 is none of dataset.classes; accepted: shirt" in refusal(root, ["shirt"])


@pytest.mark.parametrize("name", ["{label}/{n}.png", "idx-{n}-label-{label}.png"])
def test_a_fifth_is_split_off_where_there_is_no_test_part(root, name):
    write(root, *(name.format(label=n % 4, n=n) for n in range(100)))
    data = source(root).load()
    assert np.bincount(data.train_labels).tolist() == [20] * 4
    assert np.bincount(data.test_labels).tolist() == [5] * 4
    train, test = positions(data.train_images), positions(data.test_images)
    assert sorted(train + test) == list(range(100))
    assert [n % 4 for n in train + test] == [*data.train_labels, *data.test_labels]
    assert source(root).load().sha256 == data.sha256


def test_hidden_files_are_none_of_the_data(root):
    write(root, "train/1/1.png", "train/2/1.png", "test/1/1.png")
    for name in (".DS_Store", "train/.cache", "train/1/._1.png", "train/2/Thumbs.db", "test/desktop.ini"):
        (root / name).write_bytes(b"rubbish")
    assert len(source(root).load().train_labels) == 2


def test_links_are_followed(root, tmp_path):
    write(tmp_path / "elsewhere", "1/1.png", "2/1.png")
    root.mkdir()
    for part in ("train", "test"):
        (root / part).symlink_to(tmp_path / "elsewhere")
    assert source(root).load().test_labels.tolist() == [1, 2]


def test_the_network_has_as_many_outputs_as_there_are_classes(root, compose):
    write(root, *(f"{name}/{n}.png" for n in range(10) for name in ("cat", "dog", "owl")))
    overrides = ["dataset=images", f"dataset.root={root}"]
    with pytest.raises(InputError, match=r"3 classes, but the network has 10 outputs; .*head\.output\.units"):
        assemble(compose(*overrides))
    with pytest.raises(
        InputError, match=r"accepted: a head without fixed codes, head=softmax head\.output\.units=3$"
    ):
        assemble(compose(*overrides, "head=rbf"))
    parts = assemble(compose(*overrides, "head=softmax", "head.output.units=3"))
    assert parts.dataset.classes == ("cat", "dog", "owl")
    assert parts.network.layers["output"].summary().shape == (3,)


@pytest.mark.parametrize(
    ("train", "test"),
    [("training", "testing"), ("Train", "Test"), ("TRAIN", "testing"), ("Training", "test")],
)
def test_parts_by_other_names(root, train, test):
    write(root, f"{train}/3/1.png", f"{train}/7/1.png", f"{test}/3/1.png", "__MACOSX/x.png")
    data = source(root).load()
    assert positions(data.train_images) == [0, 1]
    assert positions(data.test_images) == [2]
    assert data.classes == tuple("0123456789")
    assert data.changes == ()


@pytest.mark.parametrize("val", ["val", "valid", "Validation"])
def test_a_validation_part_joins_the_training_part(root, val, caplog):
    write(root, "train/3/1.png", "train/7/1.png", f"{val}/3/1.png", "test/3/1.png")
    data = source(root).load()
    assert positions(data.train_images) == [0, 1, 2]
    assert data.train_labels.tolist() == [3, 7, 3]
    assert positions(data.test_images) == [3]
    assert caplog.messages == [f"{root}: {data.changes[0]}"]
    assert data.changes[0].startswith(f"{val} joins the training part")


def test_a_validation_part_tests_where_there_is_no_other(root, caplog):
    write(root, "train/3/1.png", "train/7/1.png", "val/3/1.png")
    data = source(root).load()
    assert (positions(data.train_images), positions(data.test_images)) == ([0, 1], [2])
    assert caplog.messages == [f"{root}: val is the test part, since there is no other"]


def test_classes_called_as_parts_are_classes(root):
    write(root, *(f"{name}/{n}.png" for n in range(10) for name in ("train", "car")))
    assert source(root).load().classes == ("car", "train")


# What becomes of the pixels


def drawings(root: Path, side: int = 28, ground: int = 0, ink: int = 255) -> None:
    """Bars, upright in class 0 and level in class 1, of other places and greys each."""
    for at in range(10):
        pixels = np.full((side, side), ground, np.uint8)
        pixels[side // 4 : 3 * side // 4, (at + 8) * side // 28 : (at + 12) * side // 28] = ink
        for label, image in ((0, pixels), (1, pixels.T)):
            path = root / f"{label}/{at}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


@pytest.mark.parametrize(("ground", "ink"), [(255, 0), (200, 90)])
def test_dark_on_light_is_inverted_as_a_whole(root, ground, ink, caplog, tmp_path):
    drawings(root, ground=ground, ink=ink)
    drawings(tmp_path / "light", ground=255 - ground, ink=255 - ink)
    said = "dark on light, inverted to light on dark"
    for _ in range(2):  # the second time from the cache
        data = source(root).load()
        assert data.changes == (said,)
        assert caplog.messages == [f"{root}: {said}"]
        caplog.clear()
    light = source(tmp_path / "light").load()
    assert light.changes == ()
    assert same(light, data)


def test_light_on_dark_and_noise_stay_as_they_are(root, caplog):
    write(root, *(f"{n % 2}/{n}.png" for n in range(100)))
    data = source(root).load()
    assert sorted(positions(np.concatenate([data.train_images, data.test_images]))) == list(range(100))
    assert caplog.messages == []


def test_a_mixture_of_grounds_is_said(root, caplog):
    drawings(root)
    drawings(root / "light", ground=255, ink=0)
    for at in range(3):
        (root / f"light/0/{at}.png").rename(root / f"0/{at}.png")
    shutil.rmtree(root / "light")
    source(root).load()
    (message,) = caplog.messages
    assert message.startswith(f"{root}: 3 of 20 images are on another ground")
    assert message.endswith(f"from {root}/0/0.png on")


@pytest.mark.parametrize("side", [64, 280])
def test_other_sizes_are_scaled(root, side, caplog, tmp_path):
    drawings(root, side)
    drawings(tmp_path / "plain")
    said = f"20 of 20 images scaled to 28 × 28 pixels, the first from {side} × {side} pixels, 0.png"
    for _ in range(2):  # the second time from the cache
        data = source(root).load()
        assert caplog.messages == [f"{root}: {said}"]
        caplog.clear()
    plain = source(tmp_path / "plain").load()
    difference = np.abs(data.train_images.astype(int) - plain.train_images)
    assert difference.mean() < 5  # grey levels
    np.testing.assert_array_equal(data.train_labels, plain.train_labels)


def test_proportions_are_kept_on_the_images_own_ground():
    wide = np.full((28, 56), 200, np.uint8)
    wide[8:20, 16:40] = 0
    found = images.fit(wide, 28)
    assert found.shape == (28, 28)
    assert set(found[[0, -1]].ravel()) == {200}
    rows, columns = (np.flatnonzero((found < 100).any(axis=axis)) for axis in (1, 0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (6, 12)


def test_light_ink_on_transparent_ground_is_trained_on_as_it_is(root):
    drawings(root)
    for path in root.rglob("*.png"):
        alpha = Image.open(path)
        image = Image.new("RGBA", alpha.size, (255, 255, 255, 0))
        image.putalpha(alpha)
        image.save(path)
    data = source(root).load()
    assert data.changes == ()
    assert (data.train_images.max(axis=(1, 2)) == 255).all()
    assert data.train_images[:, 0].max() == 0


@pytest.mark.parametrize("name", ["with blanks", "数据", "[1] (2) {3}", "a=b,c", "%20 'x' \"y\""])
def test_any_name_of_the_root(tmp_path, name):
    drawings(tmp_path / name)
    assert len(source(tmp_path / name).load().train_labels) == 16
    assert len(source(tmp_path / name).load().train_labels) == 16


# What is refused


def test_root_must_be_given():
    assert refusal(None).startswith(
        "dataset.root: not set; accepted: a folder of images, with a folder for each"
    )


def unlabelled(root: Path) -> str:
    write(root, "train/7.png")
    return (
        "ROOT/train/7.png: no label; accepted: a folder for each class (7/any.png) or names like idx-12-label"
    )


def unreadable(root: Path) -> str:
    (root / "test/2/broken.png").write_bytes((root / "test/1/1.png").read_bytes()[:300])
    return "ROOT/test/2/broken.png: damaged image ("


def text(root: Path) -> str:
    (root / "train/2/notes.txt").write_text("seven")
    return "ROOT/train/2/notes.txt: not an image; accepted: a PNG, JPEG"


def wrong_size(root: Path) -> str:
    Image.new("L", (32, 7)).save(root / "train/2/wide.png")
    return (
        "ROOT/train/2/wide.png: 32 × 7 pixels; accepted: images of 28 × 28 pixels, or of another size from 8"
    )


def blank(root: Path) -> str:
    for name in ("train/2/2.png", "train/2/3.png"):
        Image.new("L", (28, 28), 255).save(root / name)
    return "ROOT/train/2/2.png: a blank image, and 1 more; accepted: images that show something"


def the_same(root: Path) -> str:
    for at in range(3):
        write(root, f"train/3/{at}.png")
    return "ROOT/train/3/0.png: the other 2 training images of its class are the same; accepted: different images"


def nothing_but_the_same(root: Path) -> str:
    for name in ("train/1/1.png", "train/2/1.png", "train/3/1.png", "train/4/1.png"):
        write(root, name)
    return "ROOT/train/1/1.png: the other 3 training images are the same; accepted: different images"


def two_of_a_part(root: Path) -> str:
    write(root, "Training/1/1.png")
    return "ROOT/Training: is train, too; accepted: one folder for each part"


def no_training_part(root: Path) -> str:
    (root / "train").rename(root / "val")
    return "ROOT/train: No such file or directory; accepted: a folder of images"


def bomb(root: Path) -> str:
    Image.new("1", (6_000, 6_000)).save(root / "train/2/bomb.png")
    return "ROOT/train/2/bomb.png: 6000 × 6000 pixels, more than the 33,554,432 allowed"


def one_class(root: Path) -> str:
    shutil.rmtree(root / "train/2")
    return "ROOT/train/1: all training images are of class 1; accepted: at least two classes"


def unknown_class(root: Path) -> str:
    write(root, "train/cat/1.png", "test/dog/1.png")
    return "ROOT/test/dog/1.png: its class dog is none of the training images' classes; accepted: 1, 2, cat"


def empty_class(root: Path) -> str:
    (root / "train/3").mkdir()
    return "ROOT/train/3: an empty folder; accepted: a folder of images"


def empty(root: Path) -> str:
    shutil.rmtree(root)
    root.mkdir()
    return "ROOT: an empty folder; accepted: a folder of images"


def missing(root: Path) -> str:
    shutil.rmtree(root)
    return "ROOT: No such file or directory; accepted: a folder of images"


def a_file(root: Path) -> str:
    shutil.rmtree(root)
    root.write_text("")
    return "ROOT: Not a directory; accepted: a folder of images"


def half_of_the_parts(root: Path) -> str:
    shutil.rmtree(root / "test")
    return "ROOT/test: No such file or directory; accepted: a folder of images"


def beside_the_parts(root: Path) -> str:
    write(root, "idx-1-label-1.png")
    return "ROOT/idx-1-label-1.png: not in train or test; accepted: all images in these two folders"


def too_deep(root: Path) -> str:
    write(root, "train/2/more/1.png")
    return "ROOT/train/2/more: a folder in a class's folder; accepted: a folder for each class"


def twice(root: Path) -> str:
    shutil.rmtree(root / "train")
    write(root, "train/idx-3-label-1.png", "train/idx-03-label-2.png")
    return (
        "ROOT/train/idx-03-label-2.png: index 3 is that of idx-3-label-1.png, too; accepted: each index once"
    )


def both_layouts(root: Path) -> str:
    write(root, "train/idx-3-label-1.png")
    return "ROOT/train: both folders and numbered files; accepted: a folder for each class"


def dangling(root: Path) -> str:
    (root / "train/2/gone.png").symlink_to(root / "nothing.png")
    return "ROOT/train/2/gone.png: No such file or directory; accepted: an image file"


def pipe(root: Path) -> str:
    os.mkfifo(root / "train/2/pipe.png")
    return "ROOT/train/2/pipe.png: not a file; accepted: a PNG, JPEG"


def hostile_name(root: Path) -> str:
    write(root, "train/2/a\n\x1b[2J\u202e\udcff.png")
    Image.new("L", (1, 1)).save(root / "train/2/a\n\x1b[2J\u202e\udcff.png")
    return r"ROOT/train/2/a\n\x1b[2J\u202e\udcff.png: 1 × 1 pixels; accepted: images of 28 × 28 pixels"


def too_few(root: Path) -> str:
    shutil.rmtree(root)
    write(root, *(f"{n % 4}/{n}.png" for n in range(9)))
    return (
        "ROOT: 9 images are too few to split off a test part by class; accepted: folders train and test, or"
    )


@pytest.mark.parametrize(
    "spoil",
    [
        unlabelled,
        unreadable,
        text,
        wrong_size,
        blank,
        the_same,
        nothing_but_the_same,
        two_of_a_part,
        no_training_part,
        bomb,
        one_class,
        unknown_class,
        empty_class,
        empty,
        missing,
        a_file,
        half_of_the_parts,
        beside_the_parts,
        too_deep,
        twice,
        both_layouts,
        dangling,
        pipe,
        hostile_name,
        too_few,
    ],
)
def test_bad_folders_are_one_line_with_the_name(root, spoil: Callable[[Path], str]):
    write(root, "train/1/1.png", "train/2/1.png", "test/1/1.png", "test/2/1.png")
    source(root).load()  # a cache does not hide what has become of the folder
    expected = spoil(root)
    assert refusal(root).startswith(expected)


def test_names_of_classes_are_shown_on_one_line(root):
    write(root, "train/a\nb/1.png", "train/|c|/1.png", "test/|c|/1.png")
    assert source(root).load().classes == (r"a\nb", "|c|")


# The cache


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The files that were decoded."""
    seen = []
    original = images.decode
    monkeypatch.setattr(images, "decode", lambda path: (seen.append(path), original(path))[1])
    return seen


@pytest.fixture
def filled(root, decoded) -> Dataset:
    write(root, "train/1/1.png", "train/2/1.png", "test/1/1.png", "test/2/1.png")
    data = source(root).load()
    assert len(decoded) == 4
    decoded.clear()
    return data


def same(a: Dataset, b: Dataset) -> bool:
    arrays = ("train_images", "train_labels", "test_images", "test_labels")
    return a.sha256 == b.sha256 and all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays)


def test_the_second_time_nothing_is_decoded(root, filled, decoded, cache, capsys):
    assert same(source(root).load(), filled)
    assert decoded == []
    assert [path.suffix for path in cache.iterdir()] == [".npz"]
    with np.load(next(cache.iterdir()), allow_pickle=False) as content:
        assert content["images"].shape == (4, 28, 28)
    assert capsys.readouterr() == ("", "")  # no bar where stderr is no terminal


def test_a_changed_file_is_seen(root, filled, decoded, cache):
    path = root / "train/2/1.png"
    before = path.stat()
    content = bytearray(path.read_bytes())
    Image.fromarray(PIXELS[50]).save(path)
    assert path.stat().st_size == len(
        content
    )  # noise of the same size, and the old time: what an mtime misses
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = source(root).load()
    assert positions(found.train_images) == [0, 50]
    assert found.sha256 != filled.sha256
    assert len(decoded) == 4
    assert len(list(cache.iterdir())) == 1  # the old one is replaced


def test_other_names_are_seen(root, filled, decoded):
    (root / "train/2").rename(root / "train/3")
    assert source(root).load().train_labels.tolist() == [1, 3]
    write(root, "train/1/0.png")
    assert len(source(root).load().train_labels) == 3
    assert len(decoded) == 4 + 5


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def other_pixels(content: bytes) -> bytes:
    """A whole file, in which key and pixels do not belong together."""
    with np.load(io.BytesIO(content)) as cache:
        parts = dict(cache)
    parts["images"][0, 0, 0] ^= 1
    stream = io.BytesIO()
    np.savez(stream, **parts)
    return stream.getvalue()


def pickled(content: bytes) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, key=np.array([{}], dtype=object))
    return stream.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        flipped,
        other_pixels,
        pickled,
        lambda content: content[:-100],
        lambda content: content[:100],
        lambda content: b"",
        lambda content: b"\x93NUMPY\x01\x00rubbish",
    ],
)
def test_a_damaged_cache_is_named_and_replaced(root, filled, decoded, cache, caplog, damage):
    (path,) = cache.iterdir()
    good = path.read_bytes()
    path.write_bytes(damage(good))
    assert same(source(root).load(), filled)
    assert len(decoded) == 4
    assert f"{path}: damaged (" in caplog.text
    decoded.clear()
    caplog.clear()
    assert same(source(root).load(), filled)
    assert decoded == []
    assert caplog.text == ""


def test_a_cache_that_cannot_be_written_only_costs_time(root, filled, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        assert same(source(root).load(), filled)
    assert "Not a directory; the images are not cached" in caplog.text


def test_a_folder_that_changes_while_it_is_read_is_not_cached(root, monkeypatch, cache):
    write(root, "train/1/1.png", "train/2/1.png", "test/1/1.png")
    original = images.decode

    def meanwhile(path: str) -> np.ndarray:
        write(root, "train/2/1.png")
        return original(path)

    monkeypatch.setattr(images, "decode", meanwhile)
    assert refusal(root) == "ROOT: changed while it was read; try again"
    assert not cache.exists()


# Round trip


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return Digits("digits", None, 0.2, tuple("0123456789")).load()


def test_export_and_read_is_the_same_data(root, digits, decoded):
    assert export_images.export(digits, root) == 1797
    found = source(root).load()
    assert same(found, digits)
    assert found.classes == digits.classes
    assert len(decoded) == 1797
    assert same(source(root).load(), digits)
    assert len(decoded) == 1797
    assert [path.name for path in root.parent.iterdir() if "part" in path.name] == []
    first = root / f"train/idx-0-label-{digits.train_labels[0]}.png"
    np.testing.assert_array_equal(np.asarray(Image.open(first)), digits.train_images[0])


def test_jpeg_files_are_read_near_enough(root, digits):
    for part, all_pixels in {"train": digits.train_images[:40], "test": digits.test_images[:40]}.items():
        (root / part).mkdir(parents=True)
        for at, pixels in enumerate(all_pixels):
            Image.fromarray(pixels).save(root / part / f"idx-{at}-label-{at % 10}.jpg", quality=95)
    found = source(root).load()
    difference = np.abs(found.train_images.astype(int) - digits.train_images[:40])
    assert 0 < difference.mean() < 2  # grey levels
    np.testing.assert_array_equal(found.test_labels, np.arange(40) % 10)


def test_export_refuses_a_folder_that_holds_something(root, digits):
    root.mkdir()
    (root / "mine").write_text("")
    with pytest.raises(InputError, match="is there already; accepted: a new or an empty folder"):
        export_images.export(digits, root)
    assert os.listdir(root) == ["mine"]
    with pytest.raises(InputError, match="is there already"):
        export_images.export(digits, root / "mine")
    with pytest.raises(InputError, match="mine: File exists; accepted: a folder that can be written"):
        export_images.export(digits, root / "mine" / "below")


def test_an_interrupted_export_leaves_nothing(root, digits, monkeypatch):
    root.mkdir()
    saved = []

    def save(self: Image.Image, path: Path) -> None:
        saved.append(path)
        if len(saved) == 10:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        export_images.export(digits, root)
    assert os.listdir(root.parent) == ["data"]
    assert os.listdir(root) == []


def command(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "ablations.export_images", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_the_command(root, digits):
    done = command("digits", str(root), "--limit", "30", "dataset.val_fraction=0.1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"60 images written to {root}",
        f"""train on them: python run.py dataset=images 'dataset.root="{root}"'""",
    ]
    assert done.stderr == ""
    found = source(root).load()
    np.testing.assert_array_equal(found.train_images, digits.train_images[:30])
    np.testing.assert_array_equal(found.test_labels, digits.test_labels[:30])
    with pytest.raises(
        InputError, match="is there already"
    ):  # before it is looked whether there is such data
        export_images.main(["nothing", str(root)])


@pytest.mark.parametrize("name", ["with blanks", "数据", "[1] a=b,c {2} (3)", 'it\'s "x"'])
def test_the_printed_command_reads_what_was_written(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    export_images.main(["digits", name, "--limit", "30"])
    *_, line = capsys.readouterr().out.splitlines()
    overrides = shlex.split(line.removeprefix("train on them: python run.py "))
    assert len(export_images.load("images", overrides[1:]).train_labels) == 30


def test_the_commands_names_of_classes_and_overrides(root, tmp_path, capsys, digits):
    for part, array in {
        "train-images-idx3-ubyte": digits.train_images,
        "train-labels-idx1-ubyte": digits.train_labels,
        "t10k-images-idx3-ubyte": digits.test_images,
        "t10k-labels-idx1-ubyte": digits.test_labels,
    }.items():
        (tmp_path / part).write_bytes(idx_header(array) + array.tobytes())
    overrides = [f"dataset.root={tmp_path}", "dataset.checksums=null"]
    export_images.main(["fashion_mnist", str(root), "--limit", "50", *overrides])
    said = capsys.readouterr().out
    assert 'dataset.classes=["T-shirt/top", "Trouser", ' in said
    with pytest.raises(InputError, match=r"--limit: 0; accepted: a number from 1"):
        export_images.main(["digits", str(root), "--limit", "0"])
