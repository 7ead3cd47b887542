"""Arrays from files that anybody may have written."""

import struct
import tracemalloc
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ablations.tracking.arrays import MOST_BYTES, Unreadable, read_arrays

ARRAYS = {
    "labels": np.arange(360) % 10,
    "classes": np.array(["a", "ä"]),
    "none": np.zeros((0, 28, 28), np.uint8),
    "turned": np.arange(6.0).reshape(2, 3).T,
    "one": np.float32(3),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were(tmp_path, save):
    save(tmp_path / "a.npz", **ARRAYS)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == np.asarray(array).dtype
        assert found[name].flags.writeable


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("fuzz") / "a.npz"
    np.savez_compressed(path, **ARRAYS)
    return path, path.read_bytes()


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_damaged_is_unreadable_or_read(file, data):
    path, whole = file
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(damaged[: data.draw(st.sampled_from([len(whole), len(whole) // 2, len(whole) - 30]))])
    with suppress(Unreadable):
        read_arrays(path)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    descr=st.one_of(st.sampled_from(["<f8", "|O", "<U0", "|V0", "<M8[ns]", "S", "x", "<i8,|O"]), st.text()),
    shape=st.one_of(st.lists(st.integers(-2, 2**65), max_size=3).map(tuple), st.text(), st.none()),
    content=st.binary(max_size=24),
)
def test_whatever_a_header_says_is_unreadable_or_read(file, descr, shape, content):
    path, _ = file
    header = (
        repr({"descr": descr, "fortran_order": False, "shape": shape}).encode("latin1", "replace") + b"\n"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content)
    with suppress(Unreadable):
        read_arrays(path)


def test_no_file_is_no_file(tmp_path):
    for path in (tmp_path, tmp_path / "none.npz"):
        with pytest.raises(Unreadable, match="it is no file"):
            read_arrays(path)


def test_what_would_take_too_much_memory_is_not_read(tmp_path):
    """What declares much, what declares little and holds much, and what is compressed in another way."""
    np.savez_compressed(tmp_path / "much.npz", a=np.zeros(MOST_BYTES + 1, np.uint8))
    with zipfile.ZipFile(tmp_path / "other.npz", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.npy", bytes(2**26))
    lies = (tmp_path / "much.npz").read_bytes()
    (tmp_path / "lies.npz").write_bytes(
        lies.replace(struct.pack("<I", MOST_BYTES + 129), struct.pack("<I", 500))
    )
    assert lies != (tmp_path / "lies.npz").read_bytes()
    tracemalloc.start()
    for name in ("much", "other", "lies"):
        with pytest.raises(Unreadable):
            read_arrays(tmp_path / f"{name}.npz")
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()
