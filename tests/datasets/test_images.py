"""Image files as pixels: what they become, and that everything else is one clear line."""

import gzip
import io
import os
import random
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, PngImagePlugin

from ablations.datasets import images
from ablations.datasets.images import decode
from ablations.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (5, 7), dtype=np.uint8)


def saved(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    image.save(folder / name, **options)
    return folder / name


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        decode(path)
    message = str(caught.value)
    assert message.isprintable()
    assert message.startswith(f"{path}: ")
    assert message.endswith("; accepted: a PNG, JPEG, BMP, GIF or TIFF image of 8 or 16 bits")
    return message.removeprefix(f"{path}: ").rpartition("; accepted")[0]


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tiff"])
def test_grey_images_keep_their_values(tmp_path, suffix):
    path = saved(tmp_path, Image.fromarray(GREY), f"grey.{suffix}")
    found = decode(str(path))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, GREY, strict=True)
    found[0, 0] = 1  # an array of its own


def test_jpeg(tmp_path):
    smooth = np.add.outer(np.arange(16), 8 * np.arange(24)).astype(np.uint8)
    path = saved(tmp_path, Image.fromarray(smooth), "smooth.jpg", quality=100)
    np.testing.assert_allclose(decode(path).astype(int), smooth, atol=2)


def test_the_content_decides_not_the_name(tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY), "picture.jpg", format="PNG")
    np.testing.assert_array_equal(decode(path), GREY)


def test_colours_become_luma(tmp_path):
    rgb = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 10, 10]]], np.uint8)
    path = saved(tmp_path, Image.fromarray(rgb), "colours.png")
    assert decode(path).tolist() == [[76, 150, 29, 255, 10]]  # 0.299 R + 0.587 G + 0.114 B


def test_black_and_white_of_one_bit(tmp_path):
    path = saved(tmp_path, Image.fromarray(GREY > 127), "bits.png")
    np.testing.assert_array_equal(decode(path), np.where(GREY > 127, 255, 0))


def test_palette(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    image.putpalette([0, 0, 0, 200, 200, 200, 255, 0, 0])
    assert decode(saved(tmp_path, image, "palette.png")).tolist() == [[0, 200, 76]]


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    wide = np.array([[0, 128, 129, 257, 32896, 65535]], np.uint16)  # 257 of them are one of 8 bits
    for suffix in ("png", "tiff"):
        path = saved(tmp_path, Image.fromarray(wide), f"wide.{suffix}")
        assert decode(path).tolist() == [[0, 0, 1, 1, 128, 255]]


def test_transparency_lets_white_paper_through(tmp_path):
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [0, 0, 0, 51], [255, 0, 0, 0]]], np.uint8)
    assert decode(saved(tmp_path, Image.fromarray(rgba), "rgba.png")).tolist() == [[255, 0, 204, 255]]
    la = Image.merge("LA", [Image.fromarray(rgba[..., 0]), Image.fromarray(rgba[..., 3])])
    assert decode(saved(tmp_path, la, "la.png")).tolist() == [[255, 0, 204, 255]]
    keyed = np.array([[3, 4]], np.uint8)
    assert decode(saved(tmp_path, Image.fromarray(keyed), "key.png", transparency=3)).tolist() == [[255, 4]]
    wide = Image.fromarray(keyed.astype(np.uint16) * 257)
    assert decode(saved(tmp_path, wide, "wide.png", transparency=3 * 257)).tolist() == [[255, 4]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([9, 9, 9, 8, 8, 8])
    assert decode(saved(tmp_path, palette, "palette.gif", transparency=0)).tolist() == [[255, 8]]


def test_light_ink_on_transparent_ground_is_seen(tmp_path):
    """White and yellow on nothing; faint black and black on white paper with clear corners stay on white."""
    white = np.array([[[255, 255, 255, 0], [255, 255, 255, 255], [255, 255, 255, 51]]], np.uint8)
    assert decode(saved(tmp_path, Image.fromarray(white), "white.png")).tolist() == [[0, 255, 51]]
    yellow = np.array([[[0, 0, 0, 0], [255, 255, 0, 255]]], np.uint8)
    assert decode(saved(tmp_path, Image.fromarray(yellow), "yellow.png")).tolist() == [[0, 226]]
    faint = np.array([[[0, 0, 0, 0], [0, 0, 0, 102]]], np.uint8)
    assert decode(saved(tmp_path, Image.fromarray(faint), "faint.png")).tolist() == [[255, 153]]
    paper = np.array([[[9, 9, 9, 0], [250, 250, 250, 255], [20, 20, 20, 255]]], np.uint8)
    assert decode(saved(tmp_path, Image.fromarray(paper), "paper.png")).tolist() == [[255, 250, 20]]
    keyed = np.array([[3, 65000]], np.uint16)
    assert decode(saved(tmp_path, Image.fromarray(keyed), "wide.png", transparency=3)).tolist() == [[0, 253]]


ORIENTED = {1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T}
ORIENTED |= {6: np.rot90(GREY, -1), 7: GREY[::-1, ::-1].T, 8: np.rot90(GREY)}


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_orientation(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(GREY), f"turned.{suffix}", exif=exif)
    np.testing.assert_array_equal(decode(path), ORIENTED[orientation])


def test_the_first_frame_counts(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    for suffix in ("gif", "tiff"):
        path = saved(tmp_path, frames[0], f"two.{suffix}", save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(decode(path), GREY)


# What is refused


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, pixels: bytes, *before: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = [chunk(b"IHDR", header), *before, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


PILLOWS_OWN_LIMIT = "more than the 33,554,432 pixels allowed"


def peak_of_refusal(path: Path) -> tuple[str, int]:
    tracemalloc.start()
    try:
        return refusal(path), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_no_image_file(tmp_path):
    assert refusal(tmp_path / "nothing.png") == "no such file"
    assert refusal(tmp_path) == "not a file"
    assert refusal(Path("/dev/zero")) == "not a file"
    os.mkfifo(tmp_path / "pipe.png")
    assert refusal(tmp_path / "pipe.png") == "not a file"
    assert refusal(tmp_path / ("n" * 300)) == "File name too long"
    for content, problem in {b"": "empty file", b"%!PS-Adobe-3.0 EPSF": "not an image"}.items():
        (tmp_path / "file.png").write_bytes(content)
        assert refusal(tmp_path / "file.png") == problem


@pytest.mark.parametrize("other", ["eps", "ppm", "ico", "webp"])
def test_other_formats_never_reach_their_decoders(tmp_path, other):
    path = saved(tmp_path, Image.new("RGB", (16, 16)), f"picture.{other}")
    assert refusal(path.rename(tmp_path / "picture.png")) == "not an image"


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.png"
    path.write_bytes(png(1, 1, zlib.compress(bytes(2))))
    os.truncate(path, 2**40)
    message, peak = peak_of_refusal(path)
    assert message == "more than the 32 MiB allowed"
    assert peak < 2 * images.MAX_BYTES


@pytest.mark.parametrize(("width", "height"), [(5793, 5793), (30_000, 30_000), (2**31 - 1, 2**31 - 1)])
def test_a_decompression_bomb_is_not_decoded(tmp_path, monkeypatch, width, height):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("decoded"))
    path = tmp_path / "bomb.png"
    path.write_bytes(png(width, height, zlib.compress(bytes(50_000_000))))
    message, peak = peak_of_refusal(path)
    assert message in (f"{width} × {height} pixels, more than the 33,554,432 allowed", PILLOWS_OWN_LIMIT)
    assert peak < 5_000_000


def test_a_bomb_among_the_texts_of_a_small_png(tmp_path):
    path = tmp_path / "texts.png"
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(200_000_000)))
    path.write_bytes(png(2, 1, zlib.compress(b"\0\x07\x09"), text))
    tracemalloc.start()
    try:
        assert decode(path).tolist() == [[7, 9]]
    except InputError:
        pass  # either way it is not unpacked
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 3 * PngImagePlugin.MAX_TEXT_CHUNK + 5_000_000


@pytest.mark.parametrize("kind", ["float32", "int32"])
def test_pixels_of_32_bits(tmp_path, kind):
    path = saved(tmp_path, Image.fromarray(np.array([[-1, 5]], kind)), "deep.tiff")
    assert refusal(path) == {"float32": "floating-point pixels", "int32": "pixels of 32 bits"}[kind]


def test_cut_files(tmp_path):
    for suffix in ("png", "jpg", "bmp", "gif", "tiff"):
        whole = saved(tmp_path, Image.fromarray(GREY.repeat(8, 0).repeat(8, 1)), f"whole.{suffix}")
        path = tmp_path / f"cut.{suffix}"
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        problem = refusal(path)
        assert problem.startswith("damaged image (") or problem == "not an image", suffix


def test_damaged_files_are_read_or_refused(tmp_path):
    """2,000 files with bytes changed, cut out or doubled: an array or one line, never another exception."""
    rng = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    contents = []
    for suffix in ("png", "jpg", "bmp", "gif", "tiff"):
        grey, colour = Image.fromarray(GREY), Image.fromarray(GREY).convert("RGB")
        contents += [saved(tmp_path, grey, f"grey.{suffix}").read_bytes()]
        contents += [saved(tmp_path, colour, f"colour.{suffix}", exif=exif).read_bytes()]
    outcomes = {"read": 0, "refused": 0}
    path = tmp_path / "damaged"
    for _ in range(2000):
        content = bytearray(rng.choice(contents))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(content))
            content[at : at + rng.choice([1, 1, 1, 4, 20])] = rng.choice(
                [b"", rng.randbytes(1), rng.randbytes(4), b"\xff\xff\xff\x7f", content[at : at + 20] * 2]
            )
        path.write_bytes(content)
        try:
            found = decode(path)
        except InputError:
            refusal(path)
            outcomes["refused"] += 1
        else:
            assert found.dtype == np.uint8
            assert found.ndim == 2
            outcomes["read"] += 1
    assert min(outcomes.values()) > 200


def test_a_name_is_shown_on_one_line(tmp_path):
    path = tmp_path / "a\nb\x1b[31m\udcff.png"
    path.write_bytes(gzip.compress(b"x"))
    with pytest.raises(InputError) as caught:
        decode(path)
    assert str(caught.value).startswith(rf"{tmp_path}/a\nb\x1b[31m\udcff.png: not an image; accepted: ")
    assert io.StringIO(str(caught.value)).readlines() == [str(caught.value)]
