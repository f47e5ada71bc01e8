"""A Gaussian process of one device or data set as the prior of another one's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.gaussian_process import GenotypeGP, correlated
from predictors.models.additive_gp import kendall_tau
from predictors.transfer import Line

Values = NDArray[np.float64]


class GPTransfer:
    """A surrogate: a line through the predictions of a prior, and a Gaussian process of what the line leaves.

    Latencies of two devices, or accuracies on two data sets, rank networks much alike; ten rows tell how the scales
    differ, and the process learns what is left. Where all values are positive the line is one of logarithms.

    Args:
        n_main: As in `GenotypeGP`.
        X: Features of the prior's rows, float ``[p, f]``.
        y: Its values, float ``[p]``.
    """

    def __init__(self, n_main: int, X: NDArray[np.float32], y: Values) -> None:
        self._prior = GenotypeGP(n_main).fit(X, y)
        self._known = dict(zip(_keys(X), y.tolist(), strict=True))
        self._positive = bool(y.min() > 0)
        self._residual = GenotypeGP(n_main)
        self.quality: dict[str, Any] = {}
        self.log_density = float("nan")

    def _related(self, X: NDArray[np.float32]) -> Values:
        """Return the prior's value of rows, float64 ``[n]``: as evaluated where it was, else as predicted."""
        predicted = self._prior.mean(X)
        values = [self._known.get(key, z) for key, z in zip(_keys(X), predicted.tolist(), strict=True)]
        return np.array(values, dtype=np.float64)

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""
        z = self._related(X)
        self._line = Line.fit(z, y, log=self._positive and bool(y.min() > 0 and z.min() > 0))
        base, linked = self._line(z), self._line.linked(y)
        self._residual.fit(X, linked - base)
        error = (linked - base - self._residual.loo) / self._residual.loo_std
        slope = 0.0 if self._line.log is None else -float(np.log(y).sum())
        self.log_density = float((-0.5 * error**2 - np.log(self._residual.loo_std)).sum()) + slope
        self.loo: Values = self._line.back(base + self._residual.loo, np.zeros(len(y)))[0]
        self.quality = {"model": "gp over a prior", "n": len(y), "kendall_tau": kendall_tau(self.loo, y)}

    def _back(self, linked: Values) -> Values:
        return linked if self._line.log is None else np.exp(linked)

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        return self._back(self._line(self._related(X)) + self._residual.mean(X))

    def marginal(self, X: NDArray[np.float32]) -> tuple[Values, Values]:
        """Return mean and standard deviation of what would be measured, float64 ``[n]`` each."""
        rest, std = self._residual.marginals.predict(X)
        return self._line.back(self._line(self._related(X)) + rest, std)

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of what would be measured, float64 ``[n, len(X)]``."""
        rest, covariance = self._residual.joint(X)
        covariance[np.diag_indices_from(covariance)] += self._residual.noise_variance
        return self._back(self._line(self._related(X)) + rest + correlated(covariance, n, rng))


def _keys(X: NDArray[np.float32]) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(X)]
