"""Arrays from an `.npz` that anybody may have written: nothing in it is believed before it is seen."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np

from ablations.errors import PlainError, printable

MOST_BYTES = 128 * 2**20
"""Of the arrays of a compressed file; an uncompressed one may have more, since it cannot grow."""


class Unreadable(PlainError):
    """A file that is no `.npz` of plain arrays, a damaged one, or one whose arrays are not what was expected."""


def read_arrays(path: Path, most: int = MOST_BYTES) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` by name, each of its own memory.

    Raises Unreadable for anything else, also where they would take more than the size of the file and `most` bytes.
    No memory is taken before that is known, nor more than the file declares.
    """
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > max(path.stat().st_size, most):
                raise ValueError(
                    "its parts are larger than it is" if not most else "its arrays are too large"
                )
            return {entry.filename.removesuffix(".npy"): _array(archive, entry) for entry in entries}
    except Exception as error:  # whatever numpy and zipfile make of a file that may hold anything
        reason = printable(" ".join(f"{error}".split())) or type(error).__name__
        raise Unreadable(f"{printable(path)}: {reason[:200]}") from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    if entry.compress_type not in (
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    ):  # others grow before they are cut
        raise ValueError("it is compressed in another way than numpy does")
    with archive.open(entry) as member:
        file = io.BytesIO(member.read(entry.file_size + 1))  # no further, whatever more there is
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("its arrays are of another version of the npy format")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
    array = np.frombuffer(file.getbuffer()[file.tell() :], dtype)  # refuses objects
    if array.size != math.prod(shape) or min(shape, default=0) < 0:
        raise ValueError(f"{entry.filename} has another size than it says")
    return array.reshape(shape, order="F" if by_column else "C")
