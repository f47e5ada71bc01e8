"""How well a predictor ranks and how honest its intervals are, from predictions of rows it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INTERVAL = 0.90
"""Nominal coverage of the interval ``mean ± Z_INTERVAL * std``."""
Z_INTERVAL = 1.6448536269514722

_LEAVE_ONE_OUT_AT_MOST = 10
_SCALE_BOUNDS = (0.25, 4.0)


@dataclass(frozen=True)
class Quality:
    """Cross-validated quality of a predictor; NaN where a figure is undefined (constant targets, say).

    Attributes:
        kendall_tau: Kendall's tau-b between predicted and true values.
        spearman: Spearman's rank correlation.
        mape: Mean absolute percentage error, in percent, over the rows whose target is not 0.
        rmse: Root mean squared error, in the target's own unit.
        n: Number of rows that were predicted out of fold.
        coverage: Share of true values within ``mean ± Z_INTERVAL * std``, 0-1; `INTERVAL` is nominal.
        folds: Number of folds; equal to the number of distinct rows for leave-one-out.
    """

    kendall_tau: float
    spearman: float
    mape: float
    rmse: float
    n: int
    coverage: float
    folds: int

    @property
    def ranks_better_than_chance(self) -> bool:
        """Whether tau exceeds its 95 % one-sided bound under random ranking; False where tau is undefined."""
        n = self.n
        if n < 4 or math.isnan(self.kendall_tau):
            return False
        # Standard deviation of tau for independent rankings (Kendall, 1938).
        sd = math.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
        return self.kendall_tau > Z_INTERVAL * sd

    def to_json(self) -> dict[str, Any]:
        """Return the fields with None for NaN, which JSON does not have."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Quality:
        """Rebuild from `to_json`."""
        known: dict[str, Any] = {k: math.nan if v is None else v for k, v in fields.items()}
        return cls(**known)


def measure_quality(y: Floats, mean: Floats, std: Floats, folds: Ints) -> Quality:
    """Score out-of-fold predictions.

    Args:
        y: True values, float64 ``[n]``.
        mean: Predicted values, float64 ``[n]``.
        std: Predicted standard deviations, float64 ``[n]``.
        folds: Fold of each row, int64 ``[n]``.
    """
    from scipy.stats import kendalltau, spearmanr

    error = np.abs(y - mean)
    ranked = len(y) > 1 and np.ptp(y) > 0 and np.ptp(mean) > 0
    nonzero = y != 0
    return Quality(
        kendall_tau=float(kendalltau(mean, y).statistic) if ranked else math.nan,
        spearman=float(spearmanr(mean, y).statistic) if ranked else math.nan,
        mape=float(100 * np.mean(error[nonzero] / np.abs(y[nonzero]))) if nonzero.any() else math.nan,
        rmse=float(np.sqrt(np.mean(error**2))),
        n=len(y),
        coverage=float(np.mean(error <= Z_INTERVAL * std)),
        folds=len(np.unique(folds)),
    )


def assign_folds(X: Floats, seed: int, k: int = 5) -> Ints:
    """Assign rows to folds of equal size; leave-one-out for at most ten distinct rows.

    Equal rows share a fold: a row whose copy was trained on would be "predicted" from memory.

    Args:
        X: Features, float64 ``[n, f]``.
        seed: Seed of the permutation.
        k: Number of folds.

    Returns:
        Fold of each row, int64 ``[n]``, values 0..folds-1, each occurring at least once.
    """
    _, group = np.unique(X, axis=0, return_inverse=True)
    group = group.reshape(-1)
    n_groups = int(group.max()) + 1
    if n_groups == 1:  # nothing but copies of one row: folds of copies are all there is
        group, n_groups = np.arange(len(X)), len(X)
    folds = n_groups if n_groups <= _LEAVE_ONE_OUT_AT_MOST else k
    fold_of_group = np.empty(n_groups, dtype=np.int64)
    fold_of_group[np.random.default_rng(seed).permutation(n_groups)] = np.arange(n_groups) % folds
    return fold_of_group[group]


def calibration_factor(residual: Floats, std: Floats) -> float:
    """Return the factor on ``std`` with which ``± Z_INTERVAL * std`` covers `INTERVAL` of the residuals.

    The quantile is the one of split-conformal prediction, bounded so that a handful of residuals cannot blow
    the intervals up or collapse them.

    Args:
        residual: Out-of-fold residuals, float64 ``[n]``.
        std: Uncalibrated standard deviations of the same rows, float64 ``[n]``.
    """
    usable = std > 0
    if not usable.any():
        return 1.0
    ratio = np.sort(np.abs(residual[usable]) / std[usable])
    n = len(ratio)
    rank = min(math.ceil(INTERVAL * (n + 1)), n)
    return float(np.clip(ratio[rank - 1] / Z_INTERVAL, *_SCALE_BOUNDS))


def cross_calibrated(residual: Floats, std: Floats, folds: Ints) -> Floats:
    """Return ``std`` scaled in each fold by the factor found on the other folds, float64 ``[n]``."""
    scaled = std.copy()
    for fold in np.unique(folds):
        held = folds == fold
        if not held.all():
            scaled[held] *= calibration_factor(residual[~held], std[~held])
    return scaled
