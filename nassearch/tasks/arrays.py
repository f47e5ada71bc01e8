"""Images that arrive as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def channels_last(images: NDArray[Any]) -> NDArray[Any]:
    """Return images as uint8 or float32 ``[n, h, w, c]`` with 1 or 3 channels.

    Args:
        images: ``[n, h, w]``, ``[n, h, w, c]`` or ``[n, c, h, w]``; integers must lie in 0-255.

    Raises:
        ValueError: Another shape or type, or values that are not finite; the message says which.
    """
    given = f"array 'images' is {images.dtype} {list(images.shape)}"
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = images.transpose(0, 2, 3, 1)
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(f"{given}: not a shape of images with 1 or 3 channels")
    if min(images.shape[1:3]) < 8:
        raise ValueError(f"{given}: images of at least 8x8 pixels are needed")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if images.dtype.kind in "iu":
        if len(images) and (images.min() < 0 or images.max() > 255):
            raise ValueError(f"{given} with values from {images.min()} to {images.max()}; integers of 0-255 are needed")
        return np.ascontiguousarray(images.astype(np.uint8))
    if images.dtype.kind != "f":
        raise ValueError(f"{given}: not a type of images")
    if not np.isfinite(images).all():
        raise ValueError(f"{given} with values that are not finite")
    return np.ascontiguousarray(images.astype(np.float32))


def square(images: NDArray[Any], size: int | None) -> NDArray[Any]:
    """Resize the shorter side of images ``[n, h, w, c]`` to ``size`` and keep the central square.

    Args:
        images: uint8 or float32.
        size: Pixels; None for the shorter side as it is, at most 224.
    """
    import torch

    height, width = images.shape[1:3]
    size = min(height, width, 224) if size is None else size
    if (height, width) == (size, size):
        return images
    scale = size / min(height, width)
    shape = (max(size, round(height * scale)), max(size, round(width * scale)))
    top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
    result = np.empty((len(images), size, size, images.shape[3]), dtype=images.dtype)
    for start in range(0, len(images), 256):
        part = torch.from_numpy(images[start : start + 256]).permute(0, 3, 1, 2).float()
        if shape != (height, width):
            part = torch.nn.functional.interpolate(part, shape, mode="bilinear", antialias=True)
        part = part[:, :, top : top + size, left : left + size].permute(0, 2, 3, 1)
        values = part.numpy()
        result[start : start + 256] = np.rint(values).clip(0, 255) if images.dtype == np.uint8 else values
    return result
