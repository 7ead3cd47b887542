"""Data sets: content, downloads, splits."""

import gzip
import hashlib
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.client import RemoteDisconnected
from pathlib import Path
from urllib.error import HTTPError, URLError

import hydra
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ablations.datasets import (
    IDX_PARTS,
    Dataset,
    IdxFiles,
    Source,
    download,
    idx_files,
    idx_header,
    split,
    subset,
)
from ablations.datasets.digits import enlarge
from ablations.datasets.idx import read_idx
from ablations.datasets.source import in_proportion
from ablations.errors import InputError
from ablations.ground.paths import CONF
from ablations.nn.normalization import pixel_statistics

MNIST_TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
MNIST_TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def configured(group: str, choice: str, **overrides: object):
    return hydra.utils.instantiate({**OmegaConf.load(CONF / group / f"{choice}.yaml"), **overrides})


# Digits


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return configured("dataset", "digits").load()


def test_digits_in_numbers(digits):
    assert digits.name == "digits"
    assert digits.classes == tuple("0123456789")
    assert digits.train_images.shape == (1437, 28, 28)
    assert digits.test_images.shape == (360, 28, 28)
    assert digits.train_images.dtype == digits.test_images.dtype == digits.train_labels.dtype == np.uint8
    train, test = np.bincount(digits.train_labels), np.bincount(digits.test_labels)
    assert (train + test).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert test.tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]


def test_digits_are_the_same_bytes_everywhere(digits):
    assert digits.sha256 == "4f4fcde075933f7f3578ea91ae5d5da290a7c0264c0fbfe6f15bd091ded0181d"
    assert configured("dataset", "digits", val_fraction=0.5, root="/nowhere").load().sha256 == digits.sha256


def test_digits_test_part_is_no_training_part(digits):
    def content(images: np.ndarray) -> set[bytes]:
        return {image.tobytes() for image in images}

    train, test = content(digits.train_images), content(digits.test_images)
    assert len(train) == 1437
    assert len(test) == 360
    assert not train & test


def test_digits_are_centred_with_a_blank_margin(digits):
    images = np.concatenate([digits.train_images, digits.test_images])
    ink = np.flatnonzero(images.max(axis=(0, 1))), np.flatnonzero(images.max(axis=(0, 2)))
    assert [(where.min(), where.max()) for where in ink] == [(3, 24), (3, 24)]
    assert images.max() == 255


def test_enlarging_is_bilinear_interpolation():
    small = np.random.default_rng(0).integers(0, 17, (5, 8, 8))
    padded = np.pad(small, ((0, 0), (1, 1), (1, 1)))
    expected = np.zeros((5, 28, 28))
    for y in range(3, 25):
        for x in range(3, 25):
            v, u = (y - 4 + 0.5) / 2.5 - 0.5 + 1, (x - 4 + 0.5) / 2.5 - 0.5 + 1
            i, j = int(v), int(u)
            top = (1 - (u - j)) * padded[:, i, j] + (u - j) * padded[:, i, j + 1]
            below = (1 - (u - j)) * padded[:, i + 1, j] + (u - j) * padded[:, i + 1, j + 1]
            expected[:, y, x] = ((1 - (v - i)) * top + (v - i) * below) * 255 / 16
    np.testing.assert_allclose(enlarge(small), expected, atol=0.5 + 1e-9)


# MNIST


def test_mnist_in_numbers(mnist_root):
    mnist = configured("dataset", "mnist", root=str(mnist_root)).load()
    assert mnist.train_images.shape == (60000, 28, 28)
    assert mnist.test_images.shape == (10000, 28, 28)
    assert np.bincount(mnist.train_labels).tolist() == MNIST_TRAIN_COUNTS
    assert np.bincount(mnist.test_labels).tolist() == MNIST_TEST_COUNTS
    assert mnist.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    whole = hashlib.sha256()
    for part in IDX_PARTS:
        whole.update(gzip.decompress((mnist_root / f"{part}.gz").read_bytes()))
    assert mnist.sha256 == whole.hexdigest()
    assert pixel_statistics(mnist.train_images) == pytest.approx((0.1307, 0.3081), abs=5e-5)


def test_one_changed_pixel_of_mnist_is_refused(tmp_path, mnist_root):
    for part in IDX_PARTS:
        content = bytearray(gzip.decompress((mnist_root / f"{part}.gz").read_bytes()))
        if part.startswith("t10k-images"):
            content[5000] ^= 1
        (tmp_path / part).write_bytes(content)
    message = refusal(configured("dataset", "mnist", root=str(tmp_path)))
    assert message.startswith(
        f"{tmp_path / 't10k-images-idx3-ubyte'}: not the t10k-images-idx3-ubyte of mnist"
    )
    assert "expected 0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7" in message


# IDX files in a folder


def refusal(source: Source) -> str:
    with pytest.raises(InputError) as caught:
        source.load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def encode(array: np.ndarray) -> bytes:
    return idx_header(array) + array.tobytes()


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = dict(zip(IDX_PARTS, [(60, 28, 28), (60,), (20, 28, 28), (20,)], strict=True))
    return {
        part: rng.integers(0, 256 if len(shape) == 3 else 10, shape, np.uint8)
        for part, shape in shapes.items()
    }


@pytest.fixture
def source(arrays) -> IdxFiles:
    return IdxFiles(
        name="small",
        root=None,
        val_fraction=0.2,
        classes=list("0123456789"),
        mirrors=["https://first.example/data/", "https://second.example/data"],
        checksums={
            part: f"sha256:{hashlib.sha256(encode(array)).hexdigest()}" for part, array in arrays.items()
        },
    )


def write(folder: Path, arrays: dict[str, np.ndarray], packed: bool = False) -> None:
    for part, array in arrays.items():
        path = folder / (f"{part}.gz" if packed else part)
        path.write_bytes(gzip.compress(encode(array)) if packed else encode(array))


def is_the_data(found: Dataset, arrays: dict[str, np.ndarray]) -> bool:
    parts = (found.train_images, found.train_labels, found.test_images, found.test_labels)
    whole = hashlib.sha256(b"".join(map(encode, arrays.values()))).hexdigest()
    return found.sha256 == whole and all(map(np.array_equal, parts, arrays.values()))


@pytest.mark.parametrize("packed", [False, True])
def test_root_plain_or_gzip(tmp_path, source, arrays, packed):
    write(tmp_path, arrays, packed)
    assert is_the_data(replace(source, root=str(tmp_path)).load(), arrays)


def test_files_are_unpacked_once_and_again_when_they_change(tmp_path, source, arrays, monkeypatch):
    read = []
    monkeypatch.setattr(idx_files, "read_idx", lambda path: read.append(path.name) or read_idx(path))
    write(tmp_path, arrays)
    one = replace(source, root=str(tmp_path), checksums=None)
    first, second = one.load(), one.load()
    assert read == list(IDX_PARTS)
    assert first.sha256 == second.sha256
    with pytest.raises(ValueError, match="read-only"):
        second.test_images[0, 0, 0] = 1

    path = tmp_path / IDX_PARTS[2]
    stamp = path.stat()
    path.write_bytes(encode(255 - arrays[IDX_PARTS[2]]))
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    changed = one.load()
    assert read == [*IDX_PARTS, IDX_PARTS[2]]
    np.testing.assert_array_equal(changed.test_images, 255 - first.test_images)
    assert changed.sha256 != first.sha256


def test_md5_checksums(tmp_path, source, arrays):
    write(tmp_path, arrays)
    sums = {part: f"md5:{hashlib.md5(encode(array)).hexdigest()}" for part, array in arrays.items()}
    assert is_the_data(replace(source, root=str(tmp_path), checksums=sums).load(), arrays)
    sums[IDX_PARTS[1]] = "md5:00"
    assert "not the train-labels-idx1-ubyte of small; md5 of" in refusal(
        replace(source, root=str(tmp_path), checksums=sums)
    )
    sums[IDX_PARTS[1]] = "crc:00"
    assert "accepted: sha256:<hexdigest> or md5:<hexdigest>" in refusal(
        replace(source, root=str(tmp_path), checksums=sums)
    )


def test_a_missing_file_in_root_names_what_is_accepted(tmp_path, source, arrays, monkeypatch):
    monkeypatch.setattr(download, "open_url", lambda *_: pytest.fail("root was given: no download"))
    write(tmp_path, arrays)
    (tmp_path / IDX_PARTS[2]).unlink()
    assert refusal(replace(source, root=str(tmp_path))) == (
        f"{tmp_path / IDX_PARTS[2]}: no such file; "
        "dataset.root must hold t10k-images-idx3-ubyte or t10k-images-idx3-ubyte.gz"
    )


LEFT_AS = {
    "dots": "{dotted}",
    "dots, packed": "{dotted}.gz",
    "folders": "{part}/{part}",
    "folders of dotted files": "{part}/{dotted}",
    "dotted folders": "{dotted}/{dotted}",
    "folders that end in gz": "{part}.gz/{part}",
    "torchvision": "MNIST/raw/{part}",
    "torchvision, packed": "MNIST/raw/{part}.gz",
    "torchvision's Fashion-MNIST": "FashionMNIST/raw/{part}",
    "below torchvision's folder": "raw/{part}",
}


@pytest.mark.parametrize("name", LEFT_AS.values(), ids=LEFT_AS.keys())
def test_files_as_archives_and_torchvision_leave_them(tmp_path, source, arrays, name):
    root = tmp_path / "Daten [1] 数据=, neu"
    for part, array in arrays.items():
        path = root / name.format(part=part, dotted=part.replace("-idx", ".idx"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(encode(array)) if path.suffix == ".gz" else encode(array))
    assert is_the_data(replace(source, root=str(root)).load(), arrays)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "mnist_train.csv",
            "; mnist_train.csv is a table, as Kaggle has it: leave dataset.root out, and MNIST is",
        ),
        ("archive.zip", "; archive.zip is an archive: unpack it first"),
        ("train/7/1.png", "; for folders of image files: dataset=images"),
        ("notes.txt", "t10k-images-idx3-ubyte.gz"),
    ],
)
def test_a_folder_of_something_else_says_what_to_do(tmp_path, source, name, said):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("label,pixel0")
    message = refusal(replace(source, root=str(tmp_path)))
    assert message.startswith(f"{tmp_path / IDX_PARTS[0]}: no such file; dataset.root must hold")
    assert said.replace("t10k", "train") in message
    assert ("; for" in message or "; archive" in message or "table" in message) == (name != "notes.txt")


def test_own_data_under_the_names_of_mnist_are_told_how(tmp_path, source, arrays):
    write(tmp_path, arrays | {IDX_PARTS[0]: arrays[IDX_PARTS[0]] ^ 1})
    own = replace(source, root=str(tmp_path))
    assert refusal(own).endswith("; for data of your own: dataset.checksums=null")
    assert len(replace(own, checksums=None).load().train_labels) == 60


WRONG_SHAPES = {
    "images of another size": (0, np.zeros((60, 32, 32)), "shape (60, 32, 32); accepted: images of shape"),
    "flat images": (0, np.zeros((60, 784)), "shape (60, 784); accepted: images of shape (N, 28, 28)"),
    "one-hot labels": (1, np.zeros((60, 10)), "shape (60, 10); accepted: labels of shape (N,)"),
    "an eleventh class": (1, np.full(60, 10), "label 10; accepted: labels from 0 to 9"),
    "a label too few": (3, np.zeros(19), "20 test images but 19 labels; accepted: one label for each image"),
}


@pytest.mark.parametrize(("index", "array", "problem"), WRONG_SHAPES.values(), ids=WRONG_SHAPES.keys())
def test_wrong_shapes(tmp_path, source, arrays, index, array, problem):
    write(tmp_path, arrays | {IDX_PARTS[index]: array.astype(np.uint8)})
    assert problem in refusal(replace(source, root=str(tmp_path), checksums=None))


# Downloads


class Mirrors:
    """Stands in for the network: what each address answers, and what was asked."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.behaviour: dict[str, Callable[[bytes], object]] = {}
        self.asked: list[str] = []

    def open(self, url: str) -> object:
        self.asked.append(url)
        content = self.files.get(url.rpartition("/")[2])
        if content is None:
            raise HTTPError(url, 404, "Not Found", {}, None)
        return self.behaviour.get(url.split("/")[2], Response)(content)


class Response(io.BytesIO):
    def __init__(self, content: bytes, length: int | None = None) -> None:
        super().__init__(content)
        self.headers = {"Content-Length": str(len(content) if length is None else length)}


def half(content: bytes) -> Response:
    return Response(content[: len(content) // 2], len(content))


def unreachable(content: bytes) -> Response:
    raise URLError("no route to host")


def hang_up(content: bytes) -> Response:
    raise RemoteDisconnected("closed without response")


def login_page(content: bytes) -> Response:
    return Response(b"<html>please log in</html>")


@pytest.fixture
def mirrors(monkeypatch, arrays) -> Mirrors:
    mirrors = Mirrors({f"{part}.gz": gzip.compress(encode(array)) for part, array in arrays.items()})
    monkeypatch.setattr(download, "open_url", mirrors.open)
    return mirrors


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lenet5-ablations" / "small"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


COMPLETE = sorted(f"{part}.gz" for part in IDX_PARTS)


def test_download_fills_the_cache_once(source, arrays, mirrors, cache, capsys):
    assert is_the_data(source.load(), arrays)
    assert mirrors.asked == [f"https://first.example/data/{part}.gz" for part in IDX_PARTS]
    assert names(cache) == COMPLETE
    mirrors.asked.clear()
    assert is_the_data(source.load(), arrays)
    assert mirrors.asked == []
    assert capsys.readouterr() == ("", "")  # no bar where stderr is no terminal


def test_a_damaged_cache_is_downloaded_again(source, arrays, mirrors, cache):
    source.load()
    mirrors.asked.clear()
    damaged = cache / COMPLETE[0]
    damaged.write_bytes(damaged.read_bytes()[:-50])
    assert is_the_data(source.load(), arrays)
    assert [url.rpartition("/")[2] for url in mirrors.asked] == [COMPLETE[0]]


@pytest.mark.parametrize("failure", [unreachable, hang_up, login_page, half])
def test_the_next_mirror_is_tried(source, arrays, mirrors, cache, caplog, failure):
    mirrors.behaviour["first.example"] = failure
    assert is_the_data(source.load(), arrays)
    assert names(cache) == COMPLETE
    assert "https://first.example/data/train-images-idx3-ubyte.gz: " in caplog.text


def test_wrong_content_names_the_mirror_and_the_next_is_tried(source, arrays, mirrors, cache, caplog):
    other = gzip.compress(encode(arrays[IDX_PARTS[0]] ^ 1))
    mirrors.behaviour["first.example"] = lambda content: Response(other if len(content) > 5000 else content)
    assert is_the_data(source.load(), arrays)
    assert names(cache) == COMPLETE
    url = "https://first.example/data/train-images-idx3-ubyte.gz"
    assert f"{url}: not the train-images-idx3-ubyte of small; sha256" in caplog.text


def test_half_a_download_is_none(source, arrays, mirrors, cache):
    mirrors.behaviour = {"first.example": half, "second.example": unreachable}
    message = refusal(source)
    size = len(mirrors.files[f"{IDX_PARTS[0]}.gz"])
    assert f"the connection broke after {size // 2} of {size} bytes" in message
    assert names(cache) == []
    mirrors.behaviour = {}
    assert is_the_data(source.load(), arrays)


def test_an_interrupted_download_leaves_nothing(source, mirrors, cache):
    class Interrupted(Response):
        def read(self, size: int = -1) -> bytes:
            if self.tell() > 0:
                raise KeyboardInterrupt
            return super().read(100)

    mirrors.behaviour["first.example"] = Interrupted
    with pytest.raises(KeyboardInterrupt):
        source.load()
    assert names(cache) == []


def test_several_at_once(source, arrays, mirrors, cache):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: source.load(), range(8)))
    assert all(is_the_data(data, arrays) for data in found)
    assert names(cache) == COMPLETE


def test_all_mirrors_failing_is_one_line_that_says_what_to_do(source, mirrors):
    mirrors.behaviour = {"first.example": unreachable, "second.example": login_page}
    message = refusal(source)
    assert message == (
        "train-images-idx3-ubyte of small could not be downloaded ("
        "https://first.example/data/train-images-idx3-ubyte.gz: <urlopen error no route to host>; "
        "https://second.example/data/train-images-idx3-ubyte.gz: "
        "magic number 0x3c68746d does not begin with two zero bytes; "
        "accepted: an IDX file of unsigned bytes, plain or .gz); set dataset.root to a folder that holds "
        "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
        "t10k-labels-idx1-ubyte, plain or .gz"
    )
    mirrors.files.clear()
    assert "HTTP Error 404: Not Found" in refusal(source)
    assert "dataset.mirrors is empty" in refusal(replace(source, mirrors=[]))


@pytest.mark.parametrize("mirror", ["http://first.example/", "ftp://first.example/", "file:///etc/"])
def test_only_https(source, mirrors, mirror):
    message = refusal(replace(source, mirrors=["https://first.example/", mirror]))
    assert message == f"dataset.mirrors: {mirror}; accepted: addresses that begin with https://"
    assert mirrors.asked == []


def test_an_endless_answer_is_cut_off(source, mirrors, monkeypatch):
    monkeypatch.setattr(download, "MAX_BYTES", 20_000)
    assert "sends more than" in refusal(source)


def test_an_unwritable_cache_is_one_line(source, mirrors, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "set XDG_CACHE_HOME to a folder that can be written, or dataset.root" in refusal(source)


@pytest.mark.parametrize("value", ["", "relative/folder"])
def test_cache_folder_without_xdg(monkeypatch, tmp_path, value):
    monkeypatch.setenv("XDG_CACHE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder("mnist") == tmp_path / ".cache/lenet5-ablations/mnist"


# Splits


@settings(max_examples=50)
@given(
    counts=st.lists(st.integers(20, 60), min_size=10, max_size=10),
    val_fraction=st.floats(0.1, 0.9),
    seed=st.integers(0, 2**32),
)
def test_split_is_a_stratified_partition(counts, val_fraction, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10, dtype=np.uint8), counts))
    train, validation = split(labels, val_fraction, np.random.default_rng(seed))
    assert np.array_equal(np.sort(np.concatenate([train, validation])), np.arange(len(labels)))
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(validation) > 0)
    assert len(validation) == int(np.ceil(val_fraction * len(labels)))
    share = len(validation) / len(labels)
    assert np.all(np.abs(np.bincount(labels[validation], minlength=10) - share * np.array(counts)) <= 1)


def test_split_is_determined_by_the_generator():
    labels = np.repeat(np.arange(10), 30)
    first, again, other = (split(labels, 0.2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[1], other[1])


def test_split_off_nothing():
    train, validation = split(np.arange(10), 0, np.random.default_rng(0))
    assert train.tolist() == list(range(10))
    assert validation.shape == (0,)
    assert validation.dtype == train.dtype


@pytest.mark.parametrize("val_fraction", [-0.1, 1, 1.5, float("nan"), float("inf"), "half", None])
def test_split_refuses_what_is_no_fraction(val_fraction):
    with pytest.raises(InputError, match=r"dataset.val_fraction is .*; accepted: 0 ≤ val_fraction < 1"):
        split(np.repeat(np.arange(10), 9), val_fraction, np.random.default_rng(0))


@pytest.mark.parametrize("val_fraction", [0.001, 0.999])
def test_split_refuses_a_part_without_every_class(val_fraction):
    with pytest.raises(InputError, match="does not split 90 images by class") as caught:
        split(np.repeat(np.arange(10), 9), val_fraction, np.random.default_rng(0))
    assert "\n" not in str(caught.value)


# Subsets


@settings(max_examples=50)
@given(counts=st.lists(st.integers(1, 400), min_size=2, max_size=12), data=st.data())
def test_each_class_has_its_share_of_every_subset_and_no_fewer_of_a_larger_one(counts, data):
    count = data.draw(st.integers(1, sum(counts)))
    sizes = np.array(counts)
    smaller, larger = in_proportion(sizes, count - 1), in_proportion(sizes, count)
    share = count * sizes / sizes.sum()
    assert larger.sum() == count
    assert np.all(np.floor(share) <= larger)
    assert np.all(larger <= np.ceil(share))
    assert sorted(larger - smaller) == [0] * (len(counts) - 1) + [1]


def test_shares_worked_out_by_hand():
    """Images for each: 6, 3, 1; 3 (the first of two), …; the third is the second class's, as the first has 1.8 of 3."""
    found = [in_proportion(np.array([6, 3, 1]), count).tolist() for count in range(1, 11)]
    assert found == [
        *([1, 0, 0], [2, 0, 0], [2, 1, 0], [3, 1, 0], [3, 2, 0]),
        *([4, 2, 0], [5, 2, 0], [5, 3, 0], [6, 3, 0], [6, 3, 1]),
    ]


@settings(max_examples=30)
@given(
    counts=st.lists(st.integers(20, 60), min_size=10, max_size=10),
    val_fraction=st.sampled_from([0, 0.2, 0.5]),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_a_subset_is_part_of_every_larger_one(counts, val_fraction, seed, data):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(10, dtype=np.uint8), counts))
    among, _ = split(labels, val_fraction, np.random.default_rng(seed))
    few, more = sorted(data.draw(st.tuples(*[st.integers(10, len(among))] * 2)))
    smaller, larger = subset(labels, among, few), subset(labels, among, more)
    assert set(smaller) <= set(larger) <= set(among)
    assert (len(smaller), len(larger)) == (few, more)
    assert np.all(np.diff(smaller) > 0)
    shares = few * np.bincount(labels[among]) / len(among)
    assert np.all(np.abs(np.bincount(labels[smaller], minlength=10) - shares) < 1)
    assert np.array_equal(subset(labels, among, len(among)), among)


def test_a_subset_is_the_same_for_every_seed_but_for_what_validates(digits):
    labels, everything = digits.train_labels, np.arange(1437)
    of_all = subset(labels, everything, 200)
    one, other = (split(labels, 0.2, np.random.default_rng(seed))[0] for seed in (1, 2))
    assert not np.array_equal(of_all, everything[:200])
    for among in (one, other):  # its images of `of_all` are taken first
        assert len(set(of_all) & set(among) - set(subset(labels, among, 200))) <= 10
    shared = len(set(subset(labels, one, 200)) & set(subset(labels, other, 200)))
    assert shared > 120  # 200 · 0.8, where independent ones share 200 · 200 / 1437 = 28


@pytest.mark.parametrize("count", [-1, 0, 9, 91])
def test_a_subset_beyond_what_is_there_or_without_every_class_is_refused(count):
    message = (
        f"dataset.train_images is {count}; accepted: from 10, the number of classes, to 90, what dataset.val_fraction "
        "leaves to train on"
    )
    with pytest.raises(InputError) as caught:
        subset(np.repeat(np.arange(10), 10), np.arange(90) + 5, count)
    assert str(caught.value) == message


# Configuration


@pytest.mark.parametrize("choice", sorted(path.stem for path in (CONF / "dataset").glob("*.yaml")))
def test_every_dataset_config_makes_a_source(choice):
    source = configured("dataset", choice)
    assert isinstance(source, Source)
    assert source.name == choice
    assert source.root is None
    assert source.val_fraction == 0.2
    assert source.train_images is None
    assert source.classes is None or len(source.classes) == 10
