"""Fits in the logarithm of the target: costs multiply, and relative errors are what matters of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors.model_errors import InvalidData, InvalidOption

Floats = NDArray[np.float64]

TARGETS = ("raw", "log", "auto")


def check_target(name: str, target: object) -> str:
    """Return ``target`` if it is one of `TARGETS`.

    Raises:
        InvalidOption: It is not.
    """
    if target not in TARGETS:
        raise InvalidOption(f"{name}: target must be one of {', '.join(TARGETS)}, got {target!r}")
    return str(target)


@dataclass(frozen=True)
class LogTargets:
    """The logarithm and its way back, bounded to what the data support.

    Attributes:
        low: Logarithm below which nothing is predicted: one range of the training targets below the least.
        high: The same above the greatest.
    """

    low: float
    high: float

    @classmethod
    def fit(cls, name: str, y: Floats) -> Self:
        """Fit to targets ``[n]``, all positive.

        Raises:
            InvalidData: Some are not.
        """
        if y.min() <= 0:
            raise InvalidData(
                f'{name}: target="log" needs positive targets, the least is {y.min():g}; use "auto" or "raw"'
            )
        z = np.log(y)
        return cls(float(2 * z.min() - z.max()), float(2 * z.max() - z.min()))

    def back(self, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
        """Return median and standard deviation (to first order) of the targets themselves, ``[n]`` each."""
        median = np.exp(np.clip(mean, self.low, self.high))
        return median, median * std
