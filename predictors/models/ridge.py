"""Ridge regression with an exact leave-one-out choice of its penalty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predictors.base import Floats, Predictor
from predictors.models.options import reals
from predictors.models.scaling import Scaler
from predictors.quality import calibration_factor
from predictors.registry import register_predictor
from predictors.serialization import Record

_DEFAULT_ALPHAS = tuple(float(a) for a in np.logspace(-4, 5, 55))
_SMALLEST_SLACK = 1e-6


@register_predictor("ridge")
class Ridge(Predictor):
    """Linear model; the penalty with the least leave-one-out error, from one singular value decomposition.

    The standard deviation is that of Bayesian linear regression, residual variance times one plus the
    leverage of the row, scaled so that 90 % of the leave-one-out residuals lie within the 90 % interval.

    Args:
        seed: Seed of the folds of `quality`; the fit itself draws nothing.
        alphas: Penalties to choose from, relative to scaled features.
    """

    def __init__(self, *, seed: int = 0, alphas: Sequence[float] = _DEFAULT_ALPHAS) -> None:
        chosen = reals(self.name, "alphas", alphas)
        super().__init__(seed=seed, **({} if tuple(chosen) == _DEFAULT_ALPHAS else {"alphas": chosen}))
        self._alphas = np.array(chosen)

    def _fit(self, X: Floats, y: Floats) -> None:
        self._scaler = Scaler.fit(X, y)
        targets = self._scaler.targets(y)
        left, singular, right = np.linalg.svd(self._scaler.features(X), full_matrices=False)
        kept = singular > singular.max() * 1e-10 if len(singular) and singular.max() > 0 else singular > 0
        left, singular, right = left[:, kept], singular[kept], right[kept]

        shrink = singular**2 / (singular**2 + self._alphas[:, None])  # [alphas, r]
        projected = left.T @ targets
        fitted = left @ (shrink * projected).T  # [n, alphas]
        # 1/n: the leverage of the mean, which centring takes out of the decomposition.
        slack = np.maximum(1.0 - 1.0 / len(y) - left**2 @ shrink.T, _SMALLEST_SLACK)
        residual = (targets[:, None] - fitted) / slack
        best = int(np.argmin(np.mean(residual**2, axis=0)))

        alpha = float(self._alphas[best])
        self._alpha = alpha
        self._coefficients = right.T @ (singular / (singular**2 + alpha) * projected)
        # Row leverage is |x|²/alpha less what the data explain of it: see `_predict`.
        self._explained = right.T * np.sqrt(singular**2 / (alpha * (singular**2 + alpha)))
        self._centre_leverage = 1.0 / len(y)
        left_out, room = residual[:, best], slack[:, best]
        # The predictive variance of a row left out is the noise over (1 - leverage).
        self._noise = float(np.sqrt(np.mean(left_out**2 * room)))
        self._noise *= calibration_factor(left_out, self._noise / np.sqrt(room))

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        scaled = self._scaler.features(X)
        mean = scaled @ self._coefficients
        # x'(A'A + alpha I)^-1 x, with the directions that the training rows do not span included.
        explained = scaled @ self._explained
        leverage = np.einsum("ij,ij->i", scaled, scaled) / self._alpha
        leverage -= np.einsum("ij,ij->i", explained, explained)
        std = self._noise * np.sqrt(1.0 + self._centre_leverage + np.maximum(leverage, 0.0))
        return self._scaler.unscaled(mean, std)

    def _store(self, record: Record) -> None:
        self._scaler.store(record)
        record.arrays["coefficients"] = self._coefficients
        record.arrays["explained"] = self._explained
        record.arrays["scalars"] = np.array([self._alpha, self._centre_leverage, self._noise])

    def _restore(self, record: Record) -> None:
        self._scaler = Scaler.restore(record)
        self._coefficients = record.arrays["coefficients"]
        self._explained = record.arrays["explained"]
        self._alpha, self._centre_leverage, self._noise = record.arrays["scalars"].tolist()
