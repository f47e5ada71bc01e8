"""Scales of features and targets, fitted on the training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from predictors.base import Floats
from predictors.serialization import Record


@dataclass(frozen=True)
class Scaler:
    """Centres features and targets and brings them to comparable units.

    A feature is divided by its range and then by the square root of the standard deviation that leaves: full
    standardisation would give a one-hot column that is set in one row of a hundred ten times the weight of
    one that is set in half of them, no standardisation a fifth. Units do not matter; constant columns become 0.

    Attributes:
        centre: Mean of each feature, float64 ``[f]``.
        factor: What centred features are multiplied by, float64 ``[f]``; 0 for constant columns.
        y_mean: Mean of the targets.
        y_scale: Standard deviation of the targets, > 0.
    """

    centre: Floats
    factor: Floats
    y_mean: float
    y_scale: float

    @classmethod
    def fit(cls, X: Floats, y: Floats) -> Self:
        """Fit to ``X`` ``[n, f]`` and ``y`` ``[n]``."""
        centre = X.mean(axis=0)
        span = np.ptp(X, axis=0)
        varies = span > 1e-12 * np.abs(X).max(axis=0)
        deviation = np.sqrt(np.mean((X - centre) ** 2, axis=0))
        factor = np.zeros(X.shape[1])
        factor[varies] = 1.0 / np.sqrt(span[varies] * deviation[varies])
        y_scale = float(y.std())
        return cls(centre, factor, float(y.mean()), y_scale if y_scale > 0 else 1.0)

    @property
    def features_used(self) -> int:
        """Number of features that vary among the training rows, at least 1."""
        return max(int(np.count_nonzero(self.factor)), 1)

    def features(self, X: Floats) -> Floats:
        """Return scaled features, float64 ``[n, f]``."""
        scaled = X - self.centre
        scaled *= self.factor
        return scaled

    def targets(self, y: Floats) -> Floats:
        """Return targets of mean 0 and standard deviation 1, float64 ``[n]``."""
        return (y - self.y_mean) / self.y_scale

    def unscaled(self, mean: Floats, std: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation in the unit of the targets."""
        return self.y_mean + self.y_scale * mean, self.y_scale * std

    def store(self, record: Record) -> None:
        """Put the scales into the record."""
        record.arrays["scaler.centre"] = self.centre
        record.arrays["scaler.factor"] = self.factor
        record.arrays["scaler.target"] = np.array([self.y_mean, self.y_scale])

    @classmethod
    def restore(cls, record: Record) -> Self:
        """Take the scales out of the record."""
        arrays = record.arrays
        y_mean, y_scale = arrays["scaler.target"].tolist()
        return cls(arrays["scaler.centre"], arrays["scaler.factor"], y_mean, y_scale)
