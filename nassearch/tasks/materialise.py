"""Images of another library's data set, taken into memory one by one."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nassearch.errors import DataError
from nassearch.tasks.image_task import fit_decoded
from nassearch.tasks.images import EncodedImages, pack

MEMORY_LIMIT = 16_000_000_000
"""Most bytes of encoded images that are taken into memory."""


def encoded_image(value: Any, where: str) -> bytes:
    """Return an image as encoded bytes; what is encoded already stays as it is.

    Args:
        value: Bytes, a file, a PIL image, an array or tensor, or a dict with ``bytes`` or ``path``.
        where: What to call the image in an error.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(value, dict) and (value.get("bytes") or value.get("path")):
        value = value.get("bytes") or Path(value["path"])
    if isinstance(value, bytes):
        return value
    if isinstance(value, str | Path):
        return Path(value).read_bytes()
    if not isinstance(value, Image.Image):
        array = np.asarray(value)
        if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
            array = array.transpose(1, 2, 0)
        if array.dtype.kind == "f" and array.size and array.max() <= 1:
            array = array * 255
        if array.ndim not in (2, 3) or array.dtype.kind not in "uif":
            raise DataError(f"{where} is a {type(value).__name__}, not an image; use an image classification data set")
        array = np.rint(array).clip(0, 255).astype(np.uint8)
        value = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    buffer = io.BytesIO()
    (value if value.mode in ("1", "L", "RGB", "I;16") else value.convert("RGB")).save(buffer, format="PNG")
    return buffer.getvalue()


def materialise(
    rows: Iterable[int], read: Callable[[int], Any], origin: str, size: int | None, numbers: NDArray[np.int64]
) -> EncodedImages:
    """Take images into memory, encoded.

    Args:
        rows: Which ones.
        read: Returns one image, see `encoded_image`.
        origin: What holds them, for errors.
        size: Width and height wanted, pixels; None: their own.
        numbers: Their numbers in the origin, for errors.

    Raises:
        DataError: An image cannot be read, or all together are too large.
    """
    images, total = [], 0
    for row in rows:
        images.append(encoded_image(read(row), f"image {row} of {origin}"))
        total += len(images[-1])
        if total > MEMORY_LIMIT:
            raise DataError(
                f"{origin}: its images take more than {MEMORY_LIMIT / 1e9:.0f} GB of memory; use fewer, for example "
                "train=100000,search=5000,report=10000, or save them as files and use imagefolder:DIR"
            )
    blob, offset = pack(images)
    source = EncodedImages(blob, offset, 0, 0, origin, numbers)
    fit_decoded(source, size)
    return source
