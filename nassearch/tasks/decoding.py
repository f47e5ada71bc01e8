"""Reading image files and encoded images to square uint8 arrays."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nassearch.errors import DataError

T = TypeVar("T")
R = TypeVar("R")

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is read; others that Pillow knows can start programs (EPS) or are not photographs."""

GRAY_MODES = {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F"}


class Header(NamedTuple):
    """What the header of an image says.

    Attributes:
        width: Pixels.
        height: Pixels.
        gray: Whether there is one channel of brightness only.
    """

    width: int
    height: int
    gray: bool


def read_header(data: bytes | Path, where: str) -> Header:
    """Return size and colour of an encoded image without decoding it.

    Args:
        data: The encoded bytes, or the file.
        where: What to call the image in an error.

    Raises:
        DataError: It is not an image.
    """
    try:
        with _open(data) as image:
            return Header(image.width, image.height, image.mode in GRAY_MODES)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(_unreadable(where, error)) from error


def decode(data: bytes | Path, size: int, channels: int, where: str) -> NDArray[np.uint8]:
    """Decode an image to uint8 ``[size, size, channels]``: shorter side to ``size``, then the centre.

    Args:
        data: The encoded bytes, or the file.
        size: Width and height of the result in pixels.
        channels: 1 for grey, 3 for RGB.
        where: What to call the image in an error.

    Raises:
        DataError: It is not an image, or its data are damaged.
    """
    try:
        with _open(data) as opened:
            image: Image.Image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16") or image.mode == "I":
                # Pillow clips 16-bit brightness at 255 where a reader would expect it to be scaled.
                deep = np.asarray(image).astype(np.int64)
                image = Image.fromarray((np.clip(deep, 0, 65535) >> 8).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(_unreadable(where, error)) from error
    return fit_square(image, size).reshape(size, size, channels)


def _open(data: bytes | Path) -> Image.Image:
    return Image.open(io.BytesIO(data) if isinstance(data, bytes) else data, formats=FORMATS)


def fit_square(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize the shorter side of an image to ``size`` (bilinear) and keep the central square."""
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + size, top + size))
    return np.asarray(image, dtype=np.uint8)


def _unreadable(where: str, error: Exception) -> str:
    reason = str(error) if "cannot identify" not in str(error) else f"not one of {', '.join(FORMATS)}"
    return f"{where} cannot be read as an image: {reason}; repair or remove it"


def in_threads(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Apply ``work`` to items in a pool of threads (decoding releases the lock); results are in order."""
    workers = min(os.cpu_count() or 1, 8)
    if workers == 1 or len(items) < 2 * workers:
        return [work(item) for item in items]
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(work, items, chunksize=32))
