"""What training does to an image before the network sees it; every draw is the caller's generator's."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Images = NDArray[Any]


class Augmentation(ABC):
    """A random transformation of training images."""

    kind: str

    @abstractmethod
    def __call__(self, images: Images, rows: NDArray[np.int64], rng: np.random.Generator) -> Images:
        """Return transformed images of the same shape and dtype.

        Args:
            images: ``[n, h, w, c]``, as the source stores them.
            rows: int ``[n]``, their positions in the train split.
            rng: Source of every random draw.
        """

    @abstractmethod
    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return settings (JSON) and arrays from which `restore_augmentation` makes an equal one."""


class ShiftFlip(Augmentation):
    """Shift by up to ``shift`` pixels in both directions (edges repeated) and, perhaps, mirror.

    Args:
        shift: Greatest shift in pixels.
        flip: Mirror left-right with probability one half.
    """

    kind = "shift-flip"

    def __init__(self, shift: int, flip: bool) -> None:
        self.shift = shift
        self.flip = flip

    def __call__(self, images: Images, rows: NDArray[np.int64], rng: np.random.Generator) -> Images:
        """Return shifted and mirrored images, see the base class."""
        n, height, width, _ = images.shape
        dy, dx = np.floor(rng.random((2, n)) * (2 * self.shift + 1)).astype(np.int64) - self.shift
        y = np.clip(np.arange(height)[None, :] + dy[:, None], 0, height - 1)
        x = np.clip(np.arange(width)[None, :] + dx[:, None], 0, width - 1)
        mirrored = np.less(rng.random((n, 1)), 0.5)
        if self.flip:
            x = np.where(mirrored, width - 1 - x, x)
        moved: Images = images[np.arange(n)[:, None, None], y[:, :, None], x[:, None, :]]
        return moved

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the settings; there are no arrays."""
        return {"kind": self.kind, "shift": self.shift, "flip": self.flip}, {}


def restore_augmentation(settings: Mapping[str, Any] | None, arrays: Mapping[str, NDArray[Any]]) -> Augmentation | None:
    """Make an augmentation from what its ``to_payload`` returned (None stays None)."""
    from nassearch.tasks.canvas import DigitCanvas

    if settings is None:
        return None
    given = {key: value for key, value in settings.items() if key != "kind"}
    if settings["kind"] == DigitCanvas.kind:
        return DigitCanvas(arrays["digits"], **given)
    return ShiftFlip(**given)
