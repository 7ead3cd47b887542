"""Image files as grey pixels: decoded with bounds on what a file may cost, whoever made it."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ablations.errors import InputError, printable

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF")
MAX_BYTES = 2**25
MAX_PIXELS = 2**25  # a small file may unpack to any number of pixels


def decode(path: str | Path) -> np.ndarray:
    """The pixels of an image file, uint8 (height, width), 0 = black, 255 = white.

    Colours become their luma (ITU-R 601-2), transparency lets white paper through, or black where all ink is
    light, 16 bits are rounded to 8, the camera's orientation (EXIF) is applied; of several frames or pages the
    first counts. A grey image of 8 bits keeps its values. Raises InputError for anything else than a regular file
    in one of `FORMATS`, or one of more than `MAX_BYTES` or `MAX_PIXELS`, which is refused before it is decoded.
    """
    content = _read(path)
    with warnings.catch_warnings(action="ignore"):
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise _refusal(path, f"{width} × {height} pixels, more than the {MAX_PIXELS:,} allowed")
                image.load()
                ImageOps.exif_transpose(image, in_place=True)
                return _grey(image, path)
        except InputError:
            raise
        except UnidentifiedImageError:
            raise _refusal(path, "not an image") from None
        except Image.DecompressionBombError:
            raise _refusal(path, f"more than the {MAX_PIXELS:,} pixels allowed") from None
        except Exception as error:  # a damaged file may raise nearly anything in a decoder
            problem = printable(str(error)) or type(error).__name__
            raise _refusal(path, f"damaged image ({problem})") from None


def _read(path: str | Path) -> bytes:
    """The content of an image file, not decoded yet. Raises InputError for what cannot be one."""
    path = Path(path)
    try:
        if not path.exists():
            raise _refusal(path, "no such file")
        if not path.is_file():  # a pipe or a device might never end
            raise _refusal(path, "not a file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            content = file.read(min(size, MAX_BYTES) + 1)
    except OSError as error:
        raise _refusal(path, error.strerror or str(error)) from None
    if not content:
        raise _refusal(path, "empty file")
    if len(content) > MAX_BYTES:
        raise _refusal(path, f"more than the {MAX_BYTES // 2**20} MiB allowed")
    return content


def _grey(image: Image.Image, path: str | Path) -> np.ndarray:
    if image.mode.startswith("I"):  # 16 bits, or what Pillow made of them
        pixels = np.asarray(image).astype(np.int64)
        if pixels.min() < 0 or pixels.max() > 65535:
            raise _refusal(path, "pixels of 32 bits")
        grey = ((pixels * 255 + 32767) // 65535).astype(np.uint8)
        if (transparent := image.info.get("transparency")) is not None:
            clear = pixels == transparent
            grey = _contrasting(*(np.where(clear, paper, grey).astype(np.uint8) for paper in (255, 0)))
        return grey
    if image.mode == "F":
        raise _refusal(path, "floating-point pixels")
    if image.has_transparency_data:
        ink = image.convert("RGBA")
        papers = (Image.new("RGBA", image.size, paper) for paper in ("white", "black"))
        return _contrasting(*(np.array(Image.alpha_composite(paper, ink).convert("L")) for paper in papers))
    return np.array(image.convert("L"))


def _contrasting(on_white: np.ndarray, on_black: np.ndarray) -> np.ndarray:
    """The picture on white paper, unless nothing dark is to be seen on it and more on black."""
    contrast = 255 - int(on_white.min())
    return on_black if contrast < min(128, int(on_black.max())) else on_white


def fit(pixels: np.ndarray, side: int) -> np.ndarray:
    """A picture of any size as uint8 (side, side): scaled with its proportions kept, anti-aliased, on its ground."""
    extent = max(pixels.shape)
    square = np.full((extent, extent), np.median(edges(pixels[None])), np.uint8)
    top, left = ((extent - length) // 2 for length in pixels.shape)
    square[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
    return np.asarray(Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR))


def edges(images: np.ndarray) -> np.ndarray:
    """The outermost pixels of images (N, y, x): (N, 2x + 2y)."""
    return np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)


def is_dark_on_light(images: np.ndarray) -> bool:
    """Whether the ground of images (N, y, x), taken as a whole, is light: what their edges mostly show."""
    shown = edges(images)
    ground = np.median(shown)
    return bool(ground > 127 and np.mean(abs(shown - ground) < 40) > 0.5)


def have_light_ground(images: np.ndarray) -> np.ndarray:
    """Which of images (N, y, x) have hardly anything but light pixels at their edges."""
    return np.quantile(edges(images), 0.2, axis=1) > 160


def _refusal(path: str | Path, problem: str) -> InputError:
    return InputError(
        f"{printable(path)}: {problem}; "
        f"accepted: a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image of 8 or 16 bits"
    )
