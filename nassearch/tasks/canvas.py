"""Small handwritten digits placed on a larger, cluttered and noisy canvas."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.tasks.augmentation import Augmentation, Images

SIZE = 16
"""Width and height of the canvas in pixels."""


class DigitCanvas(Augmentation):
    """Draws 8x8 digits on 16x16 canvases, each with a place, scale, contrast, clutter and noise of its own.

    A digit is enlarged bilinearly by a random factor (10 to 14 pixels wide), moved by up to ``shift`` pixels
    from the centre, drawn with a contrast of 50 to 100 %, crossed by ``clutter`` pieces of other
    digits, and covered with Gaussian noise.

    Args:
        digits: uint8 ``[n, 8, 8]``, 0-255; row i is position i of the split.
        noise: Standard deviation of the pixel noise, as a fraction of the full contrast.
        shift: Greatest shift from the centre in pixels.
        clutter: Number of 5x5 pieces of other digits on a canvas.
    """

    kind = "digit-canvas"

    def __init__(self, digits: NDArray[np.uint8], *, noise: float, shift: float, clutter: int) -> None:
        self.digits = digits
        self.noise = noise
        self.shift = shift
        self.clutter = clutter

    def __call__(self, images: Images, rows: NDArray[np.int64], rng: np.random.Generator) -> Images:
        """Draw the digits ``rows`` afresh; the given images are not used."""
        return self.draw(rows, rng)

    def draw(self, rows: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return uint8 ``[len(rows), 16, 16, 1]`` drawings of the digits in ``rows``."""
        n = len(rows)
        width = 10 + 4 * rng.random(n)
        centre = (SIZE - 1) / 2 + self.shift * (2 * rng.random((2, n)) - 1)
        contrast = 0.5 + 0.5 * rng.random(n)
        drawn = _enlarge(self.digits[rows], width, centre) * contrast[:, None, None]
        for _ in range(self.clutter):
            drawn = np.maximum(drawn, 0.75 * self._piece(n, rng))
        drawn += self.noise * rng.standard_normal(drawn.shape, dtype=np.float32)
        # A quarter of the range beyond ink and beyond paper keeps most of the noise from being cut off.
        levels: NDArray[np.uint8] = np.rint(np.clip((drawn + 0.5) / 2, 0, 1) * 255).astype(np.uint8)
        return levels[..., None]

    def _piece(self, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """Return float ``[n, 16, 16]``: a 5x5 window of a random digit, anywhere on the canvas."""
        other = _below(len(self.digits), n, rng)
        y, x = _below(4, (2, n), rng)
        to_y, to_x = _below(SIZE - 4, (2, n), rng)
        window = np.arange(5)
        canvas = np.zeros((n, SIZE, SIZE))
        every = np.arange(n)[:, None, None]
        source = self.digits[other[:, None, None], (y[:, None] + window)[:, :, None], (x[:, None] + window)[:, None]]
        canvas[every, (to_y[:, None] + window)[:, :, None], (to_x[:, None] + window)[:, None]] = source / 255
        return canvas

    def to_payload(self) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
        """Return the settings and the digits."""
        settings = {"kind": self.kind, "noise": self.noise, "shift": self.shift, "clutter": self.clutter}
        return settings, {"digits": self.digits}


def _below(bound: int, shape: int | tuple[int, ...], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return random integers in [0, bound), from uniform draws: their stream is the same in every numpy."""
    return np.floor(rng.random(shape) * bound).astype(np.int64)


def _enlarge(digits: NDArray[np.uint8], width: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sample digits bilinearly so that each is ``width`` pixels wide around ``centre`` [2, n] (y, x)."""
    source = digits.shape[-1]
    padded = np.pad(digits.astype(np.float64) / 255, ((0, 0), (1, 1), (1, 1)))
    step = source / width
    position = (np.arange(SIZE)[None, None, :] - centre[:, :, None]) * step[None, :, None] + (source - 1) / 2
    # One pixel of padding: anything beyond it is paper.
    position = np.clip(position + 1, 0, source + 1 - 1e-9)
    low = np.floor(position).astype(np.int64)
    part = position - low
    every = np.arange(len(digits))[:, None, None]
    y, x = low[0][:, :, None], low[1][:, None, :]
    fy, fx = part[0][:, :, None], part[1][:, None, :]
    top = padded[every, y, x] * (1 - fx) + padded[every, y, x + 1] * fx
    bottom = padded[every, y + 1, x] * (1 - fx) + padded[every, y + 1, x + 1] * fx
    sampled: NDArray[np.float64] = top * (1 - fy) + bottom * fy
    return sampled
