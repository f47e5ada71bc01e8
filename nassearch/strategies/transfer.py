"""A Gaussian process of one device or data set as the prior of another one's."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.gaussian_process import GenotypeGP
from predictors.models.additive_gp import kendall_tau
from predictors.transfer import Line

Values = NDArray[np.float64]


class GPTransfer:
    """A line through the predictions of a prior, and a Gaussian process of what the line leaves.

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

    def _related(self, X: NDArray[np.float32]) -> Values:
        """Return the prior's value of rows, float64 ``[n]``: as evaluated where it was, else as predicted."""
        predicted = self._prior.mean(X)
        values = [self._known.get(key, z) for key, z in zip(_keys(X), predicted.tolist(), strict=True)]
        return np.array(values, dtype=np.float64)

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""
        z = self._related(X)
        self._line = Line.fit(z, y, log=self._positive and bool(y.min() > 0 and z.min() > 0))
        base = self._line(z)
        self._residual.fit(X, self._line.linked(y) - base)
        self.loo: Values = self._line.back(base + self._residual.loo, np.zeros(len(y)))[0]
        self.quality = {"n": len(y), "kendall_tau": kendall_tau(self.loo, y)}

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        linked = self._line(self._related(X)) + self._residual.mean(X)
        return linked if self._line.log is None else np.exp(linked)

    def sample(self, X: NDArray[np.float32], correlated: Values) -> Values:
        """Return samples of the values, float64 ``[n, len(X)]``, from centred ones of the residual, linked."""
        linked = self._line(self._related(X)) + self._residual.mean(X) + correlated
        return linked if self._line.log is None else np.exp(linked)

    def covariance(self, X: NDArray[np.float32]) -> Values:
        """Return the joint covariance of the residual, linked, float64 ``[k, k]``."""
        return self._residual.joint(X)[1]


def _keys(X: NDArray[np.float32]) -> list[bytes]:
    return [row.tobytes() for row in np.ascontiguousarray(X)]
