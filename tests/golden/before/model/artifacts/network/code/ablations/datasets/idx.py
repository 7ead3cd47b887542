"""The IDX format, in which MNIST is distributed.

Two zero bytes, the element type (8 = unsigned byte), the number of dimensions, each dimension as a big-endian
32-bit number, the elements. An array has exactly one encoding, so that hashing header and array is hashing the
uncompressed file.
"""

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ablations.errors import InputError, printable

MAX_BYTES = 2**30  # MNIST's largest file has 47 MB; more than this is an accident or an attack
DEFLATE_LIMIT = 1032  # deflate never expands more than 1032:1
CHUNK = 2**18


def idx_header(array: np.ndarray) -> bytes:
    """The first bytes of the IDX file of a uint8 array."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)


def read_idx(path: str | Path) -> np.ndarray:
    """Read an IDX file of unsigned bytes with 1 to 3 dimensions, plain or gzip-compressed, to a uint8 array.

    The header is believed only as far as the file's size allows. Raises InputError for anything else than one
    whole such file.
    Source: "The IDX file format", in LeCun, Cortes and Burges, The MNIST database.
    """
    path = Path(path)
    try:
        if not path.exists():
            raise _IdxError("no such file")
        if not path.is_file():
            raise _IdxError("not a file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _read_idx(file, size)
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_idx(stream, min(size * DEFLATE_LIMIT, MAX_BYTES))
    except _IdxError as error:
        problem = str(error)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        problem = f"corrupt gzip ({error})"
    except OSError as error:
        problem = error.strerror or str(error)
    raise InputError(f"{printable(path)}: {problem}; accepted: an IDX file of unsigned bytes, plain or .gz")


class _IdxError(Exception):
    """What is wrong with the file; read_idx adds its name."""


def _read_idx(stream: BinaryIO | gzip.GzipFile, limit: int) -> np.ndarray:
    """`limit`: the most bytes that the stream can hold."""
    magic = stream.read(4)
    if not magic:
        raise _IdxError("empty file")
    if len(magic) < 4:
        raise _IdxError("truncated header")
    if magic[:2] != b"\0\0":
        raise _IdxError(f"magic number 0x{magic.hex()} does not begin with two zero bytes")
    if magic[2] != 8:
        raise _IdxError(f"element type 0x{magic[2]:02x} instead of 0x08, unsigned byte")
    ndim = magic[3]
    if not 1 <= ndim <= 3:
        raise _IdxError(f"{ndim} dimensions instead of 1 to 3")
    header = stream.read(4 * ndim)
    if len(header) < 4 * ndim:
        raise _IdxError("truncated header")
    shape = struct.unpack(f">{ndim}I", header)
    expected = math.prod(shape)
    claim = f"its header claims {' × '.join(map(str, shape))} bytes"
    if expected == 0:
        raise _IdxError(claim)
    if 4 + len(header) + expected > min(limit, MAX_BYTES):
        raise _IdxError(f"{claim}, more than {'is there' if limit < MAX_BYTES else 'the 1 GiB allowed'}")
    array = np.empty(shape, np.uint8)
    view = memoryview(array).cast("B")
    done = 0
    while count := stream.readinto(view[done : done + CHUNK]):
        done += count
    if done < expected:
        raise _IdxError(f"{claim}, only {done} are there")
    if stream.read(1):  # in a gzip stream this checks its CRC as well
        raise _IdxError(f"{claim}, more are there")
    return array
