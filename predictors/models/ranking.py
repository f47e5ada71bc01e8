"""Losses of order rather than value, and the way back from scores to the unit of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors.base import Floats
from predictors.serialization import Record

LOSSES = ("squared", "rank")


@dataclass(frozen=True)
class Calibration:
    """A line of non-negative slope for each member of an ensemble: order is kept, the unit is the target's.

    Attributes:
        offsets: Value at score 0, float64 ``[m]``.
        scales: Slopes, float64 ``[m]``.
    """

    offsets: Floats
    scales: Floats

    @classmethod
    def fit(cls, scores: Floats, targets: Floats, seen: NDArray[np.bool_]) -> Self:
        """Fit by least squares on the rows that each member was fitted on.

        Args:
            scores: Scores of the members, float64 ``[m, n]``.
            targets: Targets, float64 ``[n]``.
            seen: Whether a member was fitted on a row, bool ``[m, n]``.
        """
        weights = seen / seen.sum(axis=1, keepdims=True)
        centre, level = (weights * scores).sum(axis=1), weights @ targets
        across = (weights * (scores - centre[:, None]) * (targets - level[:, None])).sum(axis=1)
        spread = (weights * (scores - centre[:, None]) ** 2).sum(axis=1)
        scales = np.maximum(across, 0.0) / np.maximum(spread, 1e-12)
        return cls(level - scales * centre, scales)

    def __call__(self, scores: Floats) -> Floats:
        """Return scores ``[m, n]`` in the unit of the targets."""
        return self.offsets[:, None] + self.scales[:, None] * scores

    def store(self, record: Record) -> None:
        """Put the lines into the record."""
        record.arrays["calibration"] = np.stack([self.offsets, self.scales])

    @classmethod
    def restore(cls, record: Record) -> Self:
        """Take the lines out of the record."""
        return cls(*record.arrays["calibration"])
