"""A Gaussian process that learns which columns matter, which of them multiply, and which rows are outliers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors.base import Floats

_PARTS = 4  # linear, product and smooth variance, noise variance: the leading hyper-parameters
_CENTRE = np.log([0.5, 0.1, 0.3, 0.02])
_WIDTH = np.array([1.5, 1.5, 1.5, 2.0])
_RELEVANCE_WIDTH = 1.5  # of the prior on the logarithm of a relevance: most columns may matter little
_JITTER = 1e-6
_FREEDOM = 4.0  # degrees of freedom of the noise: outliers are forgiven, normal noise costs little
_REWEIGHTINGS = 3
_ROWS_FOR_STUDENT = 12  # fewer residuals do not tell an outlier from a bad start
_STEPS, _LATER_STEPS = 60, 10
_HYPER_ROWS = 200
_ROWS_AT_MOST = 2000


@dataclass(frozen=True)
class _Kernel:
    """Variances ``[4]`` and relevances ``[f]``; a sum of linear, product and squared exponential kernels."""

    variances: Floats
    relevances: Floats

    def __call__(self, A: Floats, B: Floats) -> Floats:
        """Return the covariance of rows ``A`` ``[n, f]`` and ``B`` ``[m, f]``, float64 ``[n, m]``."""
        linear = (A * self.relevances) @ B.T
        smooth = np.exp(-0.5 * _distances(self._squares(A), self._squares(B), linear))
        return np.asarray(
            self.variances[0] * linear + self.variances[1] * linear**2 + self.variances[2] * smooth, dtype=np.float64
        )

    def diagonal(self, A: Floats) -> Floats:
        """Return the variance of each row, float64 ``[n]``."""
        linear = self._squares(A)
        return np.asarray(
            self.variances[0] * linear + self.variances[1] * linear**2 + self.variances[2], dtype=np.float64
        )

    def _squares(self, A: Floats) -> Floats:
        return np.asarray(np.einsum("ij,ij->i", A * self.relevances, A), dtype=np.float64)


def _distances(a: Floats, b: Floats, products: Floats) -> Floats:
    return np.asarray(np.maximum(a[:, None] + b - 2.0 * products, 0.0), dtype=np.float64)


class RelevanceGP:
    """Gaussian process with relevances, products and Student noise.

    The kernel is ``a l + b l² + c exp(-d²/2)`` of one weighted inner product ``l`` and its distance ``d``: the
    square covers the products of all pairs of columns (depth times width, resolution times either) without forming
    them. Weights are automatic relevances (Neal, 1996), shared by the three parts and shrunk by a prior, found with
    the variances by L-BFGS on the marginal likelihood (type II, Rasmussen and Williams, 2006, ch. 5), from a fixed
    start and for a bounded number of steps. Noise is Student's, by expectation-maximisation on leave-one-out
    residuals (Lange, Little and Taylor, 1989): measurements of hardware have outliers.

    Args:
        groups: Columns with equal numbers share their relevance, ints ``[f]``; each its own where None.
        student: Whether noise is Student's rather than normal.
        seed: Seed of the rows that are used where there are too many.
    """

    def __init__(self, *, groups: NDArray[np.int64] | None = None, student: bool = True, seed: int = 0) -> None:
        self._groups, self._student, self._seed = groups, student, seed

    def fit(self, X: Floats, y: Floats) -> Self:
        """Fit to centred features ``[n, f]`` of comparable scale and targets ``[n]``; 2,000 rows are used at most."""
        rows = self._some(len(y), _ROWS_AT_MOST)
        X, y = X[rows], y[rows]
        self._unit = float(np.sqrt(np.mean(np.einsum("ij,ij->i", X, X)))) or 1.0
        self._rows = X / self._unit
        self._columns = self._tied(X)
        theta = np.concatenate([_CENTRE, np.zeros(self._columns.max() + 1)])
        self._spread = np.ones(len(y))  # of the noise variance, one for each row
        student = self._student and len(y) >= _ROWS_FOR_STUDENT
        for i in range(1 + _REWEIGHTINGS * student):
            if i:
                self._reweigh(y)
            theta = self._maximise(y, theta, _LATER_STEPS if i else _STEPS)
            self._condition(y, theta)
        return self

    def predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation, noise included, float64 ``[n]`` each."""
        points = X / self._unit
        across = self._kernel(points, self._rows)
        mean = self._mean + self._scale * (across @ self._alpha)
        known = across @ self._whitening.T
        variance = self._kernel.diagonal(points) - np.einsum("ij,ij->i", known, known)
        return mean, self._scale * np.sqrt(np.maximum(variance, 0.0) + self._kernel.variances[3])

    @property
    def loo_error(self) -> Floats:
        """Leave-one-out prediction less target of the rows used, float64 ``[n]``, in closed form.

        Its hyper-parameters saw all rows: it tells outliers from others, but flatters the model.
        """
        error: Floats = self._scale * (self._loo - self._targets)
        return error

    def arrays(self) -> dict[str, Floats]:
        """Return what `predict` needs."""
        return {
            "rows": self._rows,
            "alpha": self._alpha,
            "whitening": self._whitening,
            "variances": self._kernel.variances,
            "relevances": self._kernel.relevances,
            "scalars": np.array([self._unit, self._mean, self._scale]),
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, Floats]) -> Self:
        """Rebuild from `arrays`."""
        model = cls()
        model._rows, model._alpha, model._whitening = (arrays[k] for k in ("rows", "alpha", "whitening"))
        model._kernel = _Kernel(arrays["variances"], arrays["relevances"])
        model._unit, model._mean, model._scale = arrays["scalars"].tolist()
        return model

    def _some(self, n: int, at_most: int) -> NDArray[np.int64]:
        if n <= at_most:
            return np.arange(n)
        return np.sort(np.random.default_rng(self._seed).permutation(n)[:at_most])

    def _tied(self, X: Floats) -> NDArray[np.int64]:
        """Return the number of the relevance of each column; columns that do not vary share one."""
        given = np.arange(X.shape[1]) if self._groups is None else self._groups
        varies = np.any(X != 0, axis=0)
        _, numbers = np.unique(np.where(varies, given, given.min() - 1), return_inverse=True)
        return numbers.reshape(-1)

    def _reweigh(self, y: Floats) -> None:
        """Give rows whose leave-one-out residuals are large a larger noise variance."""
        residual = self.loo_error / self._scale
        typical = 1.4826 * float(np.median(np.abs(residual))) + 1e-9
        self._spread = (_FREEDOM + (residual / typical) ** 2) / (_FREEDOM + 1.0)

    def _standardised(self, y: Floats) -> Floats:
        weights = 1.0 / self._spread
        self._mean = float(np.average(y, weights=weights))
        self._scale = float(np.sqrt(np.average((y - self._mean) ** 2, weights=weights))) or 1.0
        return (y - self._mean) / self._scale

    def _condition(self, y: Floats, theta: Floats) -> None:
        self._targets = self._standardised(y)
        self._kernel = _Kernel(np.exp(theta[:_PARTS]), np.exp(theta[_PARTS:])[self._columns])
        K = self._kernel(self._rows, self._rows)
        K[np.diag_indices_from(K)] += self._kernel.variances[3] * self._spread + _JITTER
        # NumPy only: its thread count is the one that predictions pin.
        self._whitening = np.linalg.inv(np.linalg.cholesky(K))
        self._alpha = self._whitening.T @ (self._whitening @ self._targets)
        precision = np.einsum("ij,ij->j", self._whitening, self._whitening)
        self._loo = self._targets - self._alpha / precision

    def _maximise(self, y: Floats, start: Floats, steps: int) -> Floats:
        """Return the logarithms of variances and relevances of greatest posterior density."""
        from scipy.optimize import minimize

        some = self._some(len(y), _HYPER_ROWS)
        target = self._standardised(y)[some]
        rows, spread, columns = self._rows[some], self._spread[some], self._columns
        squared, n_relevances = rows**2, int(columns.max()) + 1
        centre = np.concatenate([_CENTRE, np.zeros(n_relevances)])
        width = np.concatenate([_WIDTH, np.full(n_relevances, _RELEVANCE_WIDTH)])

        def negative_log_posterior(theta: Floats) -> tuple[float, Floats]:
            a, b, c, noise = np.exp(theta[:_PARTS])
            weights = np.exp(theta[_PARTS:])[columns]
            weighted = rows * weights
            linear = weighted @ rows.T
            diagonal = np.diag(linear)
            smooth = np.exp(-0.5 * _distances(diagonal, diagonal, linear))
            K = a * linear + b * linear**2 + c * smooth
            K[np.diag_indices_from(K)] += noise * spread + _JITTER
            factor = np.linalg.cholesky(K)
            whitening = np.linalg.inv(factor)
            alpha = whitening.T @ (whitening @ target)
            value = 0.5 * target @ alpha + np.log(np.diag(factor)).sum()
            M = whitening.T @ whitening - np.outer(alpha, alpha)
            smoothed = c * (M * smooth)
            # d(linear)/d(weight j) = x_j x_j'; the distance of a pair is a sum of such terms.
            inner = M * (a + 2.0 * b * linear) + smoothed
            by_column = ((inner @ rows) * rows).sum(axis=0) - smoothed.sum(axis=1) @ squared
            gradient = np.concatenate(
                [
                    [
                        0.5 * a * (M * linear).sum(),
                        0.5 * b * (M * linear**2).sum(),
                        0.5 * smoothed.sum(),
                        0.5 * noise * (np.diag(M) @ spread),
                    ],
                    np.bincount(columns, 0.5 * weights * by_column, n_relevances),
                ]
            )
            z = (theta - centre) / width
            return float(value + 0.5 * z @ z), gradient + z / width

        bounds = list(zip(centre - 4 * width, centre + 4 * width, strict=True))
        found = minimize(
            negative_log_posterior, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": steps}
        )
        return np.asarray(found.x, dtype=np.float64)
