"""How well a predictor ranks and how honest its intervals are, from predictions of rows it was not fitted on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

INTERVAL = 0.90
"""Nominal coverage of the interval ``mean ± Z_INTERVAL * std``."""
Z_INTERVAL = 1.6448536269514722

_LEAVE_ONE_OUT_AT_MOST = 10
# Models of a tenth fewer rows are nearer to the one that is used; of many rows, a fifth fewer are near enough.
_TEN_FOLDS_AT_MOST = 120
_SCALE_BOUNDS = (0.25, 4.0)


_SHARES = (0.25, 0.5, 0.75)
"""Of the training rows, in a learning curve; the last point has all of them."""


@dataclass(frozen=True)
class LearningPoint:
    """Held-out quality after training on some of the rows.

    Attributes:
        n: Number of training rows, the mean over folds, rounded.
        kendall_tau: Kendall's tau-b between predicted and true values; NaN where undefined.
        mape: Mean absolute percentage error, in percent.
    """

    n: int
    kendall_tau: float
    mape: float

    def to_json(self) -> dict[str, Any]:
        """Return the fields with None for NaN."""
        return _json_fields(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> LearningPoint:
        """Rebuild from `to_json`."""
        return cls(**_from_json_fields(values))


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
        curve_source: Computes `learning_curve`; not part of the JSON form or of comparisons.
    """

    kendall_tau: float
    spearman: float
    mape: float
    rmse: float
    n: int
    coverage: float
    folds: int
    curve_source: Callable[[], tuple[LearningPoint, ...]] | None = field(default=None, repr=False, compare=False)

    @property
    def learning_curve(self) -> tuple[LearningPoint, ...]:
        """Held-out quality against the number of training rows; refits on first use, empty without a predictor."""
        return () if self.curve_source is None else self.curve_source()

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
        return _json_fields(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Quality:
        """Rebuild from `to_json`."""
        return cls(**_from_json_fields(values))


def _json_fields(record: Quality | LearningPoint) -> dict[str, Any]:
    values = {f.name: getattr(record, f.name) for f in fields(record) if f.name != "curve_source"}
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


def _from_json_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: math.nan if v is None else v for k, v in values.items()}


def measure_quality(y: Floats, mean: Floats, std: Floats, folds: Ints) -> Quality:
    """Score out-of-fold predictions.

    Args:
        y: True values, float64 ``[n]``.
        mean: Predicted values, float64 ``[n]``.
        std: Predicted standard deviations, float64 ``[n]``.
        folds: Fold of each row, int64 ``[n]``.
    """
    from scipy.stats import spearmanr

    error = np.abs(y - mean)
    return Quality(
        kendall_tau=_tau(y, mean),
        spearman=float(spearmanr(mean, y).statistic) if _ranked(y, mean) else math.nan,
        mape=_mape(y, mean),
        rmse=float(np.sqrt(np.mean(error**2))),
        n=len(y),
        coverage=float(np.mean(error <= Z_INTERVAL * std)),
        folds=len(np.unique(folds)),
    )


def measure_learning(
    y: Floats, full: Floats, folds: Ints, seed: int, predict: Callable[[Ints, Ints], Floats]
) -> tuple[LearningPoint, ...]:
    """Score predictions of each fold after training on growing shares of the others, nested in one another.

    Ten folds are taken in pairs but for the last point, which halves the fits.

    Args:
        y: True values, float64 ``[n]``.
        full: Out-of-fold predictions after training on all rows of the other folds, float64 ``[n]``.
        folds: Fold of each row, int64 ``[n]``.
        seed: Seed of the order in which training rows are added.
        predict: Fits to the rows with the indices that come first and predicts those that come second.
    """
    orders = []
    held_together = folds % 5 if folds.max() >= 5 else folds
    for fold in np.unique(held_together):
        rest, held = np.flatnonzero(held_together != fold), np.flatnonzero(held_together == fold)
        orders.append((np.random.default_rng([seed, int(fold)]).permutation(rest), held))
    points = []
    for share in _SHARES:
        sizes = [round(share * len(rest)) for rest, _ in orders]
        if min(sizes) < 2:
            continue
        mean = np.empty(len(y))
        for (rest, held), size in zip(orders, sizes, strict=True):
            mean[held] = predict(np.sort(rest[:size]), held)
        points.append(LearningPoint(round(float(np.mean(sizes))), _tau(y, mean), _mape(y, mean)))
    all_rows = round(float(np.mean([np.count_nonzero(folds != f) for f in np.unique(folds)])))
    return (*points, LearningPoint(all_rows, _tau(y, full), _mape(y, full)))


def _ranked(y: Floats, mean: Floats) -> bool:
    return bool(len(y) > 1 and np.ptp(y) > 0 and np.ptp(mean) > 0)


def _tau(y: Floats, mean: Floats) -> float:
    from scipy.stats import kendalltau

    return float(kendalltau(mean, y).statistic) if _ranked(y, mean) else math.nan


def _mape(y: Floats, mean: Floats) -> float:
    nonzero = y != 0
    return float(100 * np.mean(np.abs(y - mean)[nonzero] / np.abs(y[nonzero]))) if nonzero.any() else math.nan


def assign_folds(X: Floats, seed: int) -> Ints:
    """Assign rows to folds of equal size: one a row up to 10 distinct rows, 10 up to 120, 5 beyond.

    Equal rows share a fold: a row whose copy was trained on would be "predicted" from memory.

    Args:
        X: Features, float64 ``[n, f]``.
        seed: Seed of the permutation.

    Returns:
        Fold of each row, int64 ``[n]``, values 0..folds-1, each occurring at least once.
    """
    _, group = np.unique(X, axis=0, return_inverse=True)
    group = group.reshape(-1)
    n_groups = int(group.max()) + 1
    if n_groups == 1:  # nothing but copies of one row: folds of copies are all there is
        group, n_groups = np.arange(len(X)), len(X)
    folds = n_groups if n_groups <= _LEAVE_ONE_OUT_AT_MOST else 10 if n_groups <= _TEN_FOLDS_AT_MOST else 5
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
