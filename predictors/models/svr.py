"""Support vector regression with an RBF kernel and a small cross-validated grid."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from predictors.base import Floats, Ints, Predictor
from predictors.models.options import choice, reals
from predictors.models.scaling import Scaler
from predictors.quality import calibration_factor, cross_calibrated
from predictors.registry import register_predictor
from predictors.serialization import Record
from predictors.targets import TARGETS

_EPSILON = 0.02  # width of the tube, in standard deviations of the targets
_DIRECTIONS = 128  # of the kernel matrix that the uncertainty keeps: linear cost in the training rows


@register_predictor("svr")
class SVR(Predictor):
    """Support vector regression (Drucker et al., NeurIPS 1996); kernel width and C by cross-validation.

    The solver is libsvm's; predictions are a NumPy formula over the stored support vectors. The standard
    deviation grows with the distance from the training rows, as a Gaussian process with the same kernel
    would have it, at the level of the cross-validation residuals.

    Args:
        seed: Seed of the folds.
        gammas: Kernel coefficients to choose from, relative to one over the mean squared distance of a row
            to the centre.
        costs: Values of C to choose from, for standardised targets.
        target: "raw", "log", or "auto": whichever predicts held-out rows better.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        gammas: Sequence[float] = (0.03, 0.1, 0.3),
        costs: Sequence[float] = (1.0, 10.0, 100.0),
        target: str = "raw",
    ) -> None:
        self._gammas, self._costs = reals(self.name, "gammas", gammas), reals(self.name, "costs", costs)
        super().__init__(
            seed=seed, gammas=self._gammas, costs=self._costs, target=choice(self.name, "target", target, TARGETS)
        )

    def _fit(self, X: Floats, y: Floats) -> None:
        self._scaler = Scaler.fit(X, y)
        scaled, targets = self._scaler.features(X), self._scaler.targets(y)
        squares = np.einsum("ij,ij->i", scaled, scaled)
        distances = np.maximum(squares[:, None] + squares - 2.0 * scaled @ scaled.T, 0.0)
        unit = 1.0 / max(float(squares.mean()), 1e-12)
        grid = [(g * unit, c) for g in self._gammas for c in self._costs]

        kernels = {g * unit: np.exp(-(g * unit) * distances) for g in self._gammas}
        predicted = np.stack([_out_of_fold(kernels[g], targets, c, self._folds) for g, c in grid])
        errors = (predicted - targets) ** 2
        best = int(np.argmin(errors.mean(axis=1)))
        self._gamma, cost = grid[best]
        kernel = kernels[self._gamma]
        model = _solved(kernel, targets, cost)
        support = model.support_
        self._vectors, self._intercept = scaled[support], float(model.intercept_[0])
        self._duals = model.dual_coef_[0].astype(np.float64)

        shape = self._prepare_uncertainty(scaled, kernel, jitter=float(np.clip(1.0 / cost, 0.01, 1.0)))
        residual = predicted[best] - targets
        level = float(np.sqrt(np.mean(residual**2 / shape**2)))
        self._level = level * calibration_factor(residual, level * shape)

        # The grid was chosen on these very residuals: each fold's own figures use the choice of the others.
        honest = _cross_chosen(predicted, errors, self._folds)
        std = cross_calibrated(honest - targets, level * shape, self._folds)
        self._out_of_fold = self._scaler.unscaled(honest, std)

    def _prepare_uncertainty(self, scaled: Floats, kernel: Floats, jitter: float) -> Floats:
        """Keep the leading directions of the kernel matrix; return leave-one-out deviations, ``[n]``."""
        values, vectors = np.linalg.eigh(kernel)
        top = slice(max(len(values) - _DIRECTIONS, 0), None)
        self._jitter, self._rows = jitter, scaled
        self._directions = vectors[:, top] / np.sqrt(np.maximum(values[top], 0.0) + jitter)
        precision = np.einsum("ij,ij->i", vectors / (np.maximum(values, 0.0) + jitter), vectors)
        return np.asarray(np.sqrt(1.0 / precision))

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        scaled = self._scaler.features(X)
        mean = self._kernel(scaled, self._vectors) @ self._duals + self._intercept
        known = self._kernel(scaled, self._rows) @ self._directions
        variance = np.maximum(1.0 - np.einsum("ij,ij->i", known, known), 0.0)
        return self._scaler.unscaled(mean, self._level * np.sqrt(variance + self._jitter))

    def _kernel(self, a: Floats, b: Floats) -> Floats:
        exponent = (2.0 * self._gamma) * (a @ b.T)
        exponent -= self._gamma * np.einsum("ij,ij->i", a, a)[:, None]
        exponent -= self._gamma * np.einsum("ij,ij->i", b, b)
        np.minimum(exponent, 0.0, out=exponent)  # rounding must not make a row nearer than itself
        return np.asarray(np.exp(exponent, out=exponent))

    def _store(self, record: Record) -> None:
        self._scaler.store(record)
        record.arrays["vectors"], record.arrays["duals"] = self._vectors, self._duals
        record.arrays["rows"], record.arrays["directions"] = self._rows, self._directions
        record.arrays["scalars"] = np.array([self._gamma, self._intercept, self._level, self._jitter])

    def _restore(self, record: Record) -> None:
        self._scaler = Scaler.restore(record)
        self._vectors, self._duals = record.arrays["vectors"], record.arrays["duals"]
        self._rows, self._directions = record.arrays["rows"], record.arrays["directions"]
        self._gamma, self._intercept, self._level, self._jitter = record.arrays["scalars"].tolist()


def _solved(kernel: Floats, targets: Floats, cost: float) -> Any:
    """Return libsvm's model of a kernel matrix ``[n, n]``."""
    from sklearn import svm
    from sklearn.exceptions import ConvergenceWarning

    # The cap bounds the worst case (large C on noisy targets); libsvm's iterate there is good enough to rank.
    model = svm.SVR(kernel="precomputed", C=cost, epsilon=_EPSILON, max_iter=20_000, cache_size=50)
    # Not a parameter of SVR, whose solution does not depend on it; left unset, the global state is advanced.
    model.random_state = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(kernel, targets)


def _out_of_fold(kernel: Floats, targets: Floats, cost: float, folds: Ints) -> Floats:
    """Return the prediction of each row by a model of the other folds, float64 ``[n]``."""
    predicted = np.empty(len(targets))
    for fold in np.unique(folds):
        held = folds == fold
        model = _solved(kernel[np.ix_(~held, ~held)], targets[~held], cost)
        predicted[held] = model.predict(kernel[np.ix_(held, ~held)])
    return predicted


def _cross_chosen(predicted: Floats, errors: Floats, folds: Ints) -> Floats:
    """Return, in each fold, the predictions of the grid point that is best on the other folds, ``[n]``."""
    chosen = np.empty(predicted.shape[1])
    for fold in np.unique(folds):
        held = folds == fold
        chosen[held] = predicted[np.argmin(errors[:, ~held].mean(axis=1))][held]
    return chosen
