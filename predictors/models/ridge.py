"""Ridge regression with an exact leave-one-out choice of its penalty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from predictors.base import Floats, Predictor
from predictors.models.options import choice, reals, whole
from predictors.models.products import Products
from predictors.models.scaling import Scaler
from predictors.quality import calibration_factor
from predictors.registry import register_predictor
from predictors.serialization import Record
from predictors.targets import TARGETS

_DEFAULT_ALPHAS = tuple(float(a) for a in np.logspace(-4, 5, 55))
_SMALLEST_SLACK = 1e-6
_ROWS_FOR_PRODUCTS = 20


@register_predictor("ridge")
class Ridge(Predictor):
    """Linear model; the penalty with the least leave-one-out error, from one singular value decomposition.

    The standard deviation is that of Bayesian linear regression, residual variance times one plus the
    leverage of the row, scaled so that 90 % of the leave-one-out residuals lie within the 90 % interval.

    Args:
        seed: Seed of the folds of `quality`; the fit itself draws nothing.
        alphas: Penalties to choose from, relative to scaled features.
        products: Number of columns, those that matter most, whose products are features too where the leave-one-out
            error is smaller with them; 0 for none.
        target: "raw", "log", or "auto": whichever predicts held-out rows better.
    """

    def __init__(
        self, *, seed: int = 0, alphas: Sequence[float] = _DEFAULT_ALPHAS, products: int = 0, target: str = "raw"
    ) -> None:
        chosen = reals(self.name, "alphas", alphas)
        super().__init__(
            seed=seed,
            products=whole(self.name, "products", products, at_least=0),
            target=choice(self.name, "target", target, TARGETS),
            **({} if tuple(chosen) == _DEFAULT_ALPHAS else {"alphas": chosen}),
        )
        self._alphas = np.array(chosen)
        self._products: tuple[Products, Scaler] | None = None

    def _fit(self, X: Floats, y: Floats) -> None:
        self._scaler, self._products = Scaler.fit(X, y), None
        scaled, targets = self._scaler.features(X), self._scaler.targets(y)
        error = self._solve(scaled, targets)
        if self.options["products"] and len(y) >= _ROWS_FOR_PRODUCTS:
            products = Products.fit(scaled, targets, self.options["products"])
            expanded = products(scaled)
            again = Scaler.fit(expanded, targets)
            if self._solve(again.features(expanded), targets) < error:
                self._products = products, again
            else:
                self._solve(scaled, targets)

    def _inputs(self, X: Floats) -> Floats:
        scaled = self._scaler.features(X)
        if self._products is None:
            return scaled
        products, again = self._products
        return again.features(products(scaled))

    def _solve(self, inputs: Floats, targets: Floats) -> float:
        """Fit to scaled inputs ``[n, f]`` and targets ``[n]``; return the mean squared leave-one-out error."""
        left, singular, right = np.linalg.svd(inputs, full_matrices=False)
        kept = singular > singular.max() * 1e-10 if len(singular) and singular.max() > 0 else singular > 0
        left, singular, right = left[:, kept], singular[kept], right[kept]

        shrink = singular**2 / (singular**2 + self._alphas[:, None])  # [alphas, r]
        projected = left.T @ targets
        fitted = left @ (shrink * projected).T  # [n, alphas]
        # 1/n: the leverage of the mean, which centring takes out of the decomposition.
        slack = np.maximum(1.0 - 1.0 / len(targets) - left**2 @ shrink.T, _SMALLEST_SLACK)
        residual = (targets[:, None] - fitted) / slack
        best = int(np.argmin(np.mean(residual**2, axis=0)))

        alpha = float(self._alphas[best])
        self._alpha = alpha
        self._coefficients = right.T @ (singular / (singular**2 + alpha) * projected)
        # Row leverage is |x|²/alpha less what the data explain of it: see `_predict`.
        self._explained = right.T * np.sqrt(singular**2 / (alpha * (singular**2 + alpha)))
        self._centre_leverage = 1.0 / len(targets)
        left_out, room = residual[:, best], slack[:, best]
        # The predictive variance of a row left out is the noise over (1 - leverage).
        self._noise = float(np.sqrt(np.mean(left_out**2 * room)))
        self._noise *= calibration_factor(left_out, self._noise / np.sqrt(room))
        return float(np.mean(left_out**2))

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        scaled = self._inputs(X)
        mean = scaled @ self._coefficients
        # x'(A'A + alpha I)^-1 x, with the directions that the training rows do not span included.
        explained = scaled @ self._explained
        leverage = np.einsum("ij,ij->i", scaled, scaled) / self._alpha
        leverage -= np.einsum("ij,ij->i", explained, explained)
        std = self._noise * np.sqrt(1.0 + self._centre_leverage + np.maximum(leverage, 0.0))
        return self._scaler.unscaled(mean, std)

    def _predict_mean(self, X: NDArray[np.floating[Any]]) -> Floats:
        if self._products is not None:
            return super()._predict_mean(X)
        # The scaler is linear too: one product in the precision of the features.
        weights = self._scaler.y_scale * self._scaler.factor * self._coefficients
        offset = self._scaler.y_mean - float(weights @ self._scaler.centre)
        return np.asarray(X @ weights.astype(X.dtype), dtype=np.float64) + offset

    def _store(self, record: Record) -> None:
        self._scaler.store(record)
        if self._products is not None:
            products, again = self._products
            record.arrays["products.columns"] = products.columns
            record.children["products"] = Record()
            again.store(record.children["products"])
        record.arrays["coefficients"] = self._coefficients
        record.arrays["explained"] = self._explained
        record.arrays["scalars"] = np.array([self._alpha, self._centre_leverage, self._noise])

    def _restore(self, record: Record) -> None:
        self._scaler = Scaler.restore(record)
        if "products.columns" in record.arrays:
            again = Scaler.restore(record.children["products"])
            self._products = Products(record.arrays["products.columns"]), again
        self._coefficients = record.arrays["coefficients"]
        self._explained = record.arrays["explained"]
        self._alpha, self._centre_leverage, self._noise = record.arrays["scalars"].tolist()
