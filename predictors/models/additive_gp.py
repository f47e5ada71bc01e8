"""A Gaussian process of three parts: linear, products within a layer and global similarity.

Cost metrics are nearly sums over layers, accuracies nearly so with a smooth remainder; the kernel is the sum of
those three parts, weighed by marginal likelihood (Rasmussen and Williams, 2006, ch. 2 and 5).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Values = NDArray[np.float64]

_HYPER_ROWS = 200
_GROWTH = 1.15
_CHUNK = 2048  # rows that are predicted at a time
# log of: linear, pairs and global variance, length scale, noise variance; centre and width of the prior on each.
_CENTRE = np.log([0.5, 0.1, 0.1, 1.0, 0.01])
_WIDTH = np.array([1.5, 1.5, 1.5, 0.7, 2.0])


class AdditiveGP:
    """Gaussian process regression with closed-form leave-one-out predictions, made for the loop of a search.

    Hyper-parameters are found by L-BFGS from a fixed start on the first rows only, as many as there were when the
    data last grew by 15 %: they are a function of the data, not of how often the model was fitted.

    Args:
        n_main: Number of leading columns that are features; the rest are products of them.
    """

    def __init__(self, n_main: int) -> None:
        self.n_main = n_main
        self._hyper: dict[bytes, Values] = {}

    def fit(self, X: ArrayLike, y: ArrayLike) -> AdditiveGP:
        """Fit to ``X`` ``[n, f]`` and ``y`` ``[n]``, without NaN."""
        X, y = np.asarray(X, dtype=np.float64), np.asarray(y, dtype=np.float64)
        theta = self._hyper_parameters(X, y)
        self._prepare(X)
        self._y_mean, self._y_std = float(y.mean()), float(y.std()) or 1.0
        target = (y - self._y_mean) / self._y_std
        from scipy.linalg import cho_factor, cho_solve

        self._variances, self._scale = np.exp(theta[:3]), float(np.exp(theta[3]))
        noise = self._noise = float(np.exp(theta[4])) + 1e-6
        K = self._kernel(self._train, self._train)
        K[np.diag_indices_from(K)] += noise
        self._factor = cho_factor(K, lower=True)
        self._alpha = cho_solve(self._factor, target)
        inverse_diagonal = np.diag(cho_solve(self._factor, np.eye(len(K))))
        self.loo = self._y_mean + self._y_std * (target - self._alpha / inverse_diagonal)
        self.loo_std = self._y_std / np.sqrt(inverse_diagonal)
        self._collapse()
        self._marginals: AdditiveMarginals | None = None
        self.quality: dict[str, Any] = {"n": len(y), "kendall_tau": kendall_tau(self.loo, y)}
        return self

    def _prepare(self, X: Values) -> None:
        main, pairs = X[:, : self.n_main], X[:, self.n_main :]
        self._centre = X.mean(axis=0)
        self._norms = [
            float(np.sqrt(np.square(part - part.mean(axis=0)).sum(axis=1).mean())) or 1.0 if part.shape[1] else 1.0
            for part in (main, pairs)
        ]
        self._train = self._parts(X)

    def _parts(self, X: Values) -> tuple[Values, Values]:
        centred = X - self._centre
        return centred[:, : self.n_main] / self._norms[0], centred[:, self.n_main :] / self._norms[1]

    def _kernel(self, A: tuple[Values, Values], B: tuple[Values, Values]) -> Values:
        K = self._variances[0] * (A[0] @ B[0].T) + self._variances[1] * (A[1] @ B[1].T)
        K += self._variances[2] * np.exp(_distances(A[0], B[0]) / (-2.0 * self._scale**2))
        return np.asarray(K, dtype=np.float64)

    def _hyper_parameters(self, X: Values, y: Values) -> Values:
        n = settled_rows(len(y))
        key = X[:n].tobytes() + y[:n].tobytes()
        if key not in self._hyper:
            pick = np.unique(np.linspace(0, n - 1, min(n, _HYPER_ROWS)).astype(int))
            some = y[pick]
            # Centred and scaled by these rows alone: with later ones the result would depend on when it is found,
            # and a resumed search would not be the uninterrupted one.
            self._prepare(X[:n])
            self._hyper = {key: self._maximise((some - some.mean()) / (some.std() or 1.0), pick)}
        return self._hyper[key]

    def _maximise(self, target: Values, pick: NDArray[np.int64]) -> Values:
        """Return the hyper-parameters of greatest posterior density given standardised targets."""
        from scipy.linalg import cho_factor, cho_solve, lapack
        from scipy.optimize import minimize

        main, pairs = (part[pick] for part in self._train)
        linear, paired, distances = main @ main.T, pairs @ pairs.T, _distances(main, main)
        eye = np.eye(len(pick))

        def negative_log_posterior(theta: Values) -> tuple[float, Values]:
            a, b, c, scale, noise = np.exp(theta)
            smooth = c * np.exp(distances / (-2.0 * scale**2))
            K = a * linear + b * paired + smooth + (noise + 1e-6) * eye
            factor, lower = cho_factor(K, lower=True)
            alpha = cho_solve((factor, lower), target)
            inverse, _ = lapack.dpotri(factor, lower=1)
            inverse = np.tril(inverse) + np.tril(inverse, -1).T
            value = 0.5 * target @ alpha + np.log(np.diag(factor)).sum()
            M = inverse - np.outer(alpha, alpha)
            gradient = 0.5 * np.array(
                [
                    a * (M * linear).sum(),
                    b * (M * paired).sum(),
                    (M * smooth).sum(),
                    (M * smooth * distances).sum() / scale**2,
                    noise * np.trace(M),
                ]
            )
            z = (theta - _CENTRE) / _WIDTH
            return float(value + 0.5 * z @ z), gradient + z / _WIDTH

        bounds = list(zip(_CENTRE - 4 * _WIDTH, _CENTRE + 4 * _WIDTH, strict=True))
        found = minimize(
            negative_log_posterior, _CENTRE, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40}
        )
        return np.asarray(found.x, dtype=np.float64)

    def _collapse(self) -> None:
        """Turn the linear parts of the mean into one weight vector, in float32 for the inner loop."""
        main, pairs = self._train
        weights = np.concatenate(
            [
                self._variances[0] * (main.T @ self._alpha) / self._norms[0],
                self._variances[1] * (pairs.T @ self._alpha) / self._norms[1],
            ]
        )
        self._offset = float(weights @ self._centre)
        self._weights = weights.astype(np.float32)
        self._anchors = (main + self._centre[: self.n_main] / self._norms[0]).astype(np.float32) / self._scale
        self._anchor_norms = np.square(self._anchors).sum(axis=1)
        self._smooth_weights = (self._variances[2] * self._alpha).astype(np.float32)

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values only, float64 ``[n]``: the fast path."""
        points = X[:, : self.n_main] / np.float32(self._norms[0] * self._scale)
        exponent = points @ self._anchors.T
        exponent -= 0.5 * np.square(points).sum(axis=1)[:, None]
        exponent -= 0.5 * self._anchor_norms
        np.exp(np.minimum(exponent, 0.0, out=exponent), out=exponent)
        standardised = (X @ self._weights).astype(np.float64) - self._offset + exponent @ self._smooth_weights
        return np.asarray(self._y_mean + self._y_std * standardised, dtype=np.float64)

    def joint(self, X: ArrayLike) -> tuple[Values, Values]:
        """Return mean ``[n]`` and covariance ``[n, n]`` of the noise-free function at ``X`` ``[n, f]``."""
        from scipy.linalg import solve_triangular

        parts = self._parts(np.asarray(X, dtype=np.float64))
        across = self._kernel(self._train, parts)
        explained = solve_triangular(self._factor[0], across, lower=True)
        covariance = self._kernel(parts, parts) - explained.T @ explained
        mean = self._y_mean + self._y_std * (across.T @ self._alpha)
        return mean, self._y_std**2 * covariance

    @property
    def marginals(self) -> AdditiveMarginals:
        """Mean and standard deviation of single rows, noise included: many of them need no joint covariance."""
        if self._marginals is None:
            self._marginals = AdditiveMarginals(self.arrays())
        return self._marginals

    @property
    def noise_variance(self) -> float:
        """Variance of what the model does not explain, in the squared unit of the targets."""
        return self._noise * self._y_std**2

    def predict(self, X: ArrayLike) -> tuple[Values, Values]:
        """Return mean and standard deviation, each float64 ``[n]``, of the noise-free function."""
        mean, covariance = self.joint(X)
        return mean, np.sqrt(np.maximum(np.diag(covariance), 0.0))

    def arrays(self) -> dict[str, Values]:
        """Return what `AdditiveMarginals` needs."""
        main, pairs = self._train
        return {
            "main": main,
            "pairs": pairs,
            "alpha": self._alpha,
            "whitening": np.linalg.inv(np.tril(self._factor[0])),
            "centre": self._centre,
            "variances": self._variances,
            "scalars": np.array([*self._norms, self._scale, self._noise, self._y_mean, self._y_std]),
        }


class AdditiveMarginals:
    """Mean and standard deviation of single rows by a fitted `AdditiveGP`, from arrays that can be stored.

    Args:
        arrays: As `AdditiveGP.arrays` gives them.
    """

    def __init__(self, arrays: dict[str, Values]) -> None:
        self.arrays = arrays
        self._like = AdditiveGP(arrays["main"].shape[1])
        self._like._centre, self._like._variances = arrays["centre"], arrays["variances"]
        *norms, scale, self._noise, self._y_mean, self._y_std = arrays["scalars"].tolist()
        self._like._norms, self._like._scale = norms, scale

    def predict(self, X: ArrayLike) -> tuple[Values, Values]:
        """Return mean and standard deviation, noise included, each float64 ``[n]``."""
        rows = np.asarray(X)
        chunks = [self._predict(rows[i : i + _CHUNK].astype(np.float64)) for i in range(0, len(rows), _CHUNK)]
        if not chunks:
            return np.empty(0), np.empty(0)
        return np.concatenate([m for m, _ in chunks]), np.concatenate([s for _, s in chunks])

    def _predict(self, X: Values) -> tuple[Values, Values]:
        parts = self._like._parts(X)
        across = self._like._kernel(parts, (self.arrays["main"], self.arrays["pairs"]))
        known = across @ self.arrays["whitening"].T
        a, b, c = self._like._variances
        variance = a * np.square(parts[0]).sum(axis=1) + b * np.square(parts[1]).sum(axis=1) + c
        variance += self._noise - np.square(known).sum(axis=1)
        mean = self._y_mean + self._y_std * (across @ self.arrays["alpha"])
        return mean, self._y_std * np.sqrt(np.maximum(variance, self._noise))


def settled_rows(n: int) -> int:
    """Return how many rows there were when the data last grew by 15 %, of ``n`` now.

    What is costly to find, or unsettles the rest, is found from so many first rows.
    """
    settled = 8
    while int(settled * _GROWTH) + 1 <= n:
        settled = int(settled * _GROWTH) + 1
    return min(settled, n)


def _distances(A: Values, B: Values) -> Values:
    """Return squared distances, float64 ``[len(A), len(B)]``."""
    squared = np.square(A).sum(axis=1)[:, None] + np.square(B).sum(axis=1) - 2.0 * (A @ B.T)
    return np.asarray(np.maximum(squared, 0.0), dtype=np.float64)


def kendall_tau(a: Values, b: Values) -> float:
    """Return Kendall's tau-b of two ``[n]`` arrays; 0 where either is constant."""
    from scipy.stats import kendalltau

    tau = float(kendalltau(a, b).statistic) if len(a) > 1 else 0.0
    return 0.0 if np.isnan(tau) else tau
