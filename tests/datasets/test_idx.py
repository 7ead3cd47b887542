"""The IDX reader: what it reads, and that everything else is one clear line."""

import gzip
import math
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ablations.datasets import idx_header, read_idx
from ablations.datasets.idx import DEFLATE_LIMIT
from ablations.errors import InputError

shared_tmp_path = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9))


def encode(array: np.ndarray) -> bytes:
    """An IDX file, written here independently of the reader."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_idx(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "accepted: an IDX file of unsigned bytes, plain or .gz" in message
    assert "\n" not in message
    return message.removeprefix(f"{path}: ").partition("; accepted")[0]


@shared_tmp_path
@given(array=arrays, packed=st.booleans(), suffix=st.sampled_from(["", ".gz"]))
def test_round_trip(tmp_path, array, packed, suffix):
    path = tmp_path / f"file{suffix}"  # the content decides, not the name
    path.write_bytes(gzip.compress(encode(array)) if packed else encode(array))
    found = read_idx(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, array, strict=True)


@given(array=arrays)
def test_header_is_the_start_of_the_file(array):
    assert idx_header(array) + array.tobytes() == encode(array)


def test_round_trip_at_mnist_size(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1000, 28, 28), dtype=np.uint8)
    path = tmp_path / "images"
    path.write_bytes(encode(images))
    np.testing.assert_array_equal(read_idx(str(path)), images)


LABELS = encode(np.arange(10, dtype=np.uint8))
HUGE = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 28, 28)

MALFORMED = {
    "empty": (b"", "empty file"),
    "one byte": (b"\0", "truncated header"),
    "magic": (b"\x89PNG" + LABELS, "magic number 0x89504e47 does not begin with two zero bytes"),
    "text": (b"<html>404</html>", "magic number 0x3c68746d does not begin with two zero bytes"),
    "float type": (b"\0\0\x0d\x01" + LABELS[4:], "element type 0x0d instead of 0x08, unsigned byte"),
    "no dimension": (b"\0\0\x08\0\x01", "0 dimensions instead of 1 to 3"),
    "255 dimensions": (b"\0\0\x08\xff" + bytes(1020), "255 dimensions instead of 1 to 3"),
    "cut in the dimensions": (LABELS[:6], "truncated header"),
    "dimension of 0": (struct.pack(">BBBB3I", 0, 0, 8, 3, 0, 28, 28), "its header claims 0 × 28 × 28 bytes"),
    "header alone": (LABELS[:8], "its header claims 10 bytes, more than is there"),
    "cut": (LABELS[:-1], "its header claims 10 bytes, more than is there"),
    "trailing": (LABELS + b"\0", "its header claims 10 bytes, more are there"),
    "huge": (HUGE, "its header claims 2147483648 × 28 × 28 bytes, more than is there"),
}


@pytest.mark.parametrize(("content", "problem"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_plain(tmp_path, content, problem):
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(content)
    assert refusal(path) == problem


@pytest.mark.parametrize("name", sorted(MALFORMED.keys() - {"header alone", "cut"}))
def test_malformed_gzip_says_the_same(tmp_path, name):
    content, problem = MALFORMED[name]
    path = tmp_path / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(content))
    assert refusal(path) == problem


def test_cut_inside_gzip(tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(LABELS[:-3]))
    assert refusal(path) == "its header claims 10 bytes, only 7 are there"


def test_corrupt_gzip(tmp_path):
    path = tmp_path / "labels.gz"
    whole = gzip.compress(LABELS)
    for cut in range(2, len(whole)):  # the last 8 bytes are the checksum and the length
        path.write_bytes(whole[:cut])
        assert refusal(path).startswith("corrupt gzip (")
    flipped = bytearray(whole)
    flipped[-6] ^= 1
    path.write_bytes(flipped)
    assert refusal(path).startswith("corrupt gzip (CRC")
    path.write_bytes(whole + b"rubbish")
    assert refusal(path).startswith("corrupt gzip (Not a gzipped file")


def test_gzip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(LABELS[:8] + bytes(100_000_000)))
    tracemalloc.start()
    try:
        assert refusal(path) == "its header claims 10 bytes, more are there"
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


def test_oversized_header_is_refused_before_allocating(tmp_path):
    path = tmp_path / "images.gz"
    honest_ratio = struct.pack(">BBBB3I", 0, 0, 8, 3, 2_000_000, 28, 28)
    for content in (HUGE, gzip.compress(HUGE), gzip.compress(honest_ratio + bytes(2_000_000))):
        path.write_bytes(content)
        tracemalloc.start()
        try:
            assert "more than" in refusal(path)
            assert tracemalloc.get_traced_memory()[1] < 5_000_000
        finally:
            tracemalloc.stop()


def test_more_than_the_limit_is_refused(tmp_path):
    path = tmp_path / "sparse"
    shape = (2**21, 28, 28)
    with path.open("wb") as file:
        file.write(struct.pack(">BBBB3I", 0, 0, 8, 3, *shape))
        file.truncate(16 + math.prod(shape))  # 1.6 GB without a byte on the disk
    assert refusal(path) == "its header claims 2097152 × 28 × 28 bytes, more than the 1 GiB allowed"


def test_not_a_file(tmp_path):
    assert refusal(tmp_path / "nothing") == "no such file"
    assert refusal(tmp_path) == "not a file"
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert refusal(tmp_path / "dangling") == "no such file"
    assert refusal(tmp_path / ("n" * 300)) == "File name too long"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "not a file"


# Any bytes at all

SMALL = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
WHOLE = [
    content for array in (SMALL, SMALL[0, 0]) for content in (encode(array), gzip.compress(encode(array)))
]

sizes = st.one_of(st.integers(0, 4), st.sampled_from([28, 255, 2**16, 2**31, 2**32 - 1]))
headers = st.builds(
    lambda start, ndim, sizes, rest: start + bytes([ndim]) + struct.pack(f">{len(sizes)}I", *sizes) + rest,
    st.sampled_from([b"\0\0\x08", b"\0\0\x09", b"\0\x08\0"]),
    st.one_of(st.integers(1, 3), st.integers(0, 255)),
    st.lists(sizes, max_size=4),
    st.binary(max_size=64),
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real file, plain or gzip, with a few bytes changed, cut out, put in, repeated; often cut short."""
    content = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.one_of(st.integers(0, 20), st.integers(0, len(content))))
        gone = draw(st.sampled_from([0, 1, 1, 4, 100]))
        content[at : at + gone] = draw(
            st.one_of(st.binary(max_size=4), st.just(bytes(content[at : at + 50]) * 2))
        )
    cut = draw(st.one_of(st.none(), st.integers(0, len(content))))
    return bytes(content[:cut]) + draw(st.sampled_from([b"", b"", b"\0", b"\x1f\x8b", WHOLE[1]]))


BOMBS = [
    gzip.compress(bytes([0, 0, 8, ndim]) + struct.pack(">I", size) * ndim + bytes(zeros), 9)
    for ndim in (1, 2, 3)
    for size in (1, 2, 100, 1000, 10_000, 2**31)
    for zeros in (0, 1, 100, 10_000, 1_000_000, 10_000_000)
]


def test_any_bytes_are_read_or_refused(tmp_path):
    """No exception but InputError, and no more memory than the file's size can account for."""
    path = tmp_path / "file"
    outcomes = []

    @settings(max_examples=3000)
    @given(
        content=st.one_of(st.binary(max_size=100), headers, mutated(), mutated(), st.sampled_from(BOMBS)),
        wrapping=st.sampled_from(["plain", "plain", "gzip", "damaged"]),
    )
    def read_or_refuse(content, wrapping):
        if wrapping == "gzip":
            content = gzip.compress(content, 1)
        elif wrapping == "damaged":
            content = b"\x1f\x8b\x08\0" + content
        path.write_bytes(content)
        tracemalloc.start()
        try:
            array = read_idx(path)
        except InputError as error:
            array = None
            message = str(error)
            assert message.isprintable()
            assert message.startswith(f"{path}: ")
            assert message.endswith("; accepted: an IDX file of unsigned bytes, plain or .gz")
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 2_000_000 + DEFLATE_LIMIT * len(content)
        if array is not None:
            unpacked = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
            assert encode(array) == unpacked
        outcomes.append(array is None)

    read_or_refuse()
    assert outcomes.count(True) >= 2000
    assert outcomes.count(False) >= 20
