"""Ensembles whose members each leave one fold out: one set of fits gives mean, spread and honest residuals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from predictors.base import Floats, Ints
from predictors.quality import calibration_factor, cross_calibrated

_LEAST_NOISE_SHARE = 0.25  # of the out-of-fold variance; the spread of members never explains all of it


@dataclass(frozen=True)
class FoldEnsemble:
    """Combines members that were each fitted without one fold.

    The mean is the members' mean. The variance is their spread at the row plus a noise level such that both
    together have, on average, the variance of the out-of-fold residuals, scaled to cover 90 %.

    Attributes:
        noise: Standard deviation that the spread does not explain.
        factor: Calibration factor of the whole.
    """

    noise: float
    factor: float

    @classmethod
    def fit(cls, members: Floats, left_out: Ints, targets: Floats, folds: Ints) -> tuple[Self, Floats, Floats, Floats]:
        """Fit to the members' predictions of the training rows.

        Args:
            members: Predictions, float64 ``[m, n]``.
            left_out: Fold that each member was not fitted on, int64 ``[m]``; every fold at least once.
            targets: True values, float64 ``[n]``.
            folds: Fold of each row, int64 ``[n]``.

        Returns:
            The combination, out-of-fold mean and standard deviation of each row, float64 ``[n]``, the latter scaled by
            the factor of the other folds, and the same standard deviation scaled by the combination's own factor.
        """
        unseen = left_out[:, None] == folds
        mean = (members * unseen).sum(axis=0) / unseen.sum(axis=0)
        residual = mean - targets
        spread = members.var(axis=0)
        total = float(np.mean(residual**2))
        noise = float(np.sqrt(max(total - float(spread.mean()), _LEAST_NOISE_SHARE * total)))
        std = np.sqrt(noise**2 + spread)
        factor = calibration_factor(residual, std)
        return cls(noise, factor), mean, cross_calibrated(residual, std, folds), factor * std

    def combine(self, members: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation ``[n]`` of members' predictions ``[m, n]``."""
        return members.mean(axis=0), self.factor * np.sqrt(self.noise**2 + members.var(axis=0))
