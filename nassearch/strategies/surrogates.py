"""Models of what a strategy wants to know before measuring it, one for each metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.gaussian_process import GenotypeGP, PairFeatures
from nassearch.strategies.warp import Power, Squeeze, Warp
from predictors.models.additive_gp import AdditiveMarginals, settled_rows
from search_spaces import Rows, SearchSpace

Values = NDArray[np.float64]

_CHUNK = 2048  # rows


class Surrogate(Protocol):
    """Predicts one metric of genotypes.

    Attributes:
        quality: JSON data, with ``kendall_tau``.
        log_density: Logarithm of the density of the measurements, each predicted from the others; NaN where unknown.
    """

    quality: dict[str, Any]
    log_density: float

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``; called for thousands of rows."""

    def marginal(self, X: NDArray[np.float32]) -> tuple[Values, Values]:
        """Return mean and standard deviation of what would be measured, float64 ``[n]`` each."""

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of what would be measured, float64 ``[n, len(X)]``."""


class GPSurrogate:
    """`GenotypeGP` as a surrogate; its quality is that of its leave-one-out predictions.

    Args:
        n_main: As in `GenotypeGP`.
    """

    def __init__(self, n_main: int) -> None:
        self._model = GenotypeGP(n_main)
        self._marginals: AdditiveMarginals | None = None
        self.log_density = float("nan")
        self.quality: dict[str, Any] = {}

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""
        self._model.fit(X, y)
        self._marginals = None
        error = (y - self._model.loo) / self._model.loo_std
        self.log_density = float((-0.5 * error**2 - np.log(self._model.loo_std)).sum())
        self.quality = {"model": "gp", **self._model.quality}

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        return self._model.mean(X)

    def marginal(self, X: NDArray[np.float32]) -> tuple[Values, Values]:
        """Return mean and standard deviation of what would be measured, float64 ``[n]`` each."""
        if self._marginals is None:
            self._marginals = AdditiveMarginals(self._model.arrays())
        parts = [self._marginals.predict(X[i : i + _CHUNK].astype(np.float64)) for i in range(0, len(X), _CHUNK)]
        return np.concatenate([m for m, _ in parts]), np.concatenate([s for _, s in parts])

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of what would be measured, float64 ``[n, len(X)]``.

        They include what the model cannot explain: to a search that counts measurements, luck is worth finding.
        """
        mean, covariance = self._model.joint(X)
        covariance[np.diag_indices_from(covariance)] += self._model.noise_variance
        return mean + _correlated(covariance, n, rng)


class PredictorSurrogate:
    """Any model of the ``predictors`` package as a surrogate.

    Such a model gives each row's uncertainty only; rows are taken to be the more correlated the more similar their
    features are, so that a batch does not consist of one guess repeated.

    Args:
        kind: Name for `predictors.make_predictor`.
        seed: Seed of the model.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self.log_density = float("nan")
        self.quality: dict[str, Any] = {}

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""
        from predictors import make_predictor

        self._model = make_predictor(self._kind, seed=self._seed).fit(X, y)
        tau = float(self._model.quality.kendall_tau)
        self.quality = {"model": self._kind, "n": len(y), "kendall_tau": 0.0 if np.isnan(tau) else tau}

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        return self._model.predict_mean(X)

    def marginal(self, X: NDArray[np.float32]) -> tuple[Values, Values]:
        """Return mean and standard deviation of what would be measured, float64 ``[n]`` each."""
        return self._model.predict(X)

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of what would be measured, float64 ``[n, len(X)]``."""
        main = X.astype(np.float64)
        mean, std = self._model.predict(main)
        distance = np.square(main).sum(axis=1)[:, None] + np.square(main).sum(axis=1) - 2 * main @ main.T
        distance = np.maximum(distance, 0.0)
        typical = float(np.median(distance)) or 1.0
        covariance = np.exp(-distance / typical) * np.outer(std, std)
        return np.asarray(mean, dtype=np.float64) + _correlated(covariance, n, rng)


def _correlated(covariance: Values, n: int, rng: np.random.Generator) -> Values:
    """Return ``n`` draws of a centred Gaussian, float64 ``[n, k]``; a covariance of deficient rank is fine."""
    k = len(covariance)
    jitter = 1e-9 * max(float(np.trace(covariance)) / max(k, 1), 1e-12)
    noise = rng.standard_normal((n, k))
    for _ in range(8):
        try:
            factor = np.linalg.cholesky(covariance + jitter * np.eye(k))
        except np.linalg.LinAlgError:
            jitter *= 30
            continue
        return np.asarray(noise @ factor.T, dtype=np.float64)
    return np.asarray(noise * np.sqrt(np.maximum(np.diag(covariance), 0.0)), dtype=np.float64)


Features = Callable[[Rows], NDArray[np.float32]]


def make_features(kind: str, space: SearchSpace) -> Features:
    """Return the features that a surrogate of this kind is made for: with products of them for a Gaussian process."""
    return PairFeatures(space) if kind == "gp" else space.features


def make_surrogate(kind: str, features: Features, seed: int) -> Surrogate:
    """Return a new surrogate: ``"gp"``, or the name of a model of the ``predictors`` package."""
    return GPSurrogate(features.n_main) if isinstance(features, PairFeatures) else PredictorSurrogate(kind, seed)


class WarpedSurrogate:
    """A surrogate of one metric, and the warp under which it explains the measurements best.

    Sums over layers are sums only in the metric's own unit, so nothing is warped without need: the warps compete by the
    leave-one-out density of the measurements (Rasmussen and Williams, 2006, ch. 5.4.2), each in the metric's own unit.

    Args:
        kind: As in `make_surrogate`.
        features: As `make_features` gives them.
        seed: Seed of the model.
    """

    def __init__(self, kind: str, features: Features, seed: int) -> None:
        warps: list[type[Warp]] = [Squeeze, Power] if kind == "gp" else [Squeeze]
        self._candidates = [(warp, make_surrogate(kind, features, seed)) for warp in warps]
        self._surrogate = self._candidates[0][1]

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``, to be made small."""
        best = -np.inf
        for kind, surrogate in self._candidates:
            warp = kind(y[: settled_rows(len(y))])  # hyper-parameters found before stay valid under the same warp
            surrogate.fit(X, warp(y))
            density = surrogate.log_density + float(warp.log_slope(y).sum())
            if density > best or len(self._candidates) == 1:
                best, self._warp, self._surrogate = density, warp, surrogate

    @property
    def quality(self) -> dict[str, Any]:
        """Quality of the surrogate, JSON data."""
        return self._surrogate.quality

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        return self._warp.inverse(self._surrogate.mean(X))

    def optimistic(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values less a standard deviation, float64 ``[n]``."""
        mean, std = self._surrogate.marginal(X)
        return self._warp.inverse(mean - std)

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of what would be measured, float64 ``[n, len(X)]``."""
        return self._warp.inverse(self._surrogate.sample(X, n, rng))


class SurrogateSet:
    """One surrogate for each thing that has to be predicted, all to be made small, sharing features.

    Args:
        space: The search space.
        names: What is predicted.
        kind: As in `make_surrogate`.
        seed: Seed of the models.
    """

    def __init__(self, space: SearchSpace, names: list[str], kind: str, seed: int) -> None:
        self.names = names
        self.features = make_features(kind, space)
        self._surrogates = [WarpedSurrogate(kind, self.features, seed) for _ in names]

    def fit(self, G: Rows, targets: Values) -> None:
        """Fit to rows ``[n, n_genes]`` and ``[n, len(names)]`` values."""
        X = self.features(G)
        for surrogate, y in zip(self._surrogates, targets.T, strict=True):
            surrogate.fit(X, y)

    def mean(self, G: Rows) -> Values:
        """Return predicted values, float64 ``[n, len(names)]``."""
        if not self.names:
            return np.empty((len(G), 0))
        X = self.features(G)
        return np.stack([s.mean(X) for s in self._surrogates], axis=1)

    def optimistic(self, G: Rows) -> Values:
        """Return predicted values less a standard deviation, float64 ``[n, len(names)]``."""
        if not self.names:
            return np.empty((len(G), 0))
        X = self.features(G)
        return np.stack([s.optimistic(X) for s in self._surrogates], axis=1)

    def sample(self, G: Rows, n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of what would be measured, float64 ``[n, len(G), len(names)]``."""
        if not self.names:
            return np.empty((n, len(G), 0))
        X = self.features(G)
        return np.stack([s.sample(X, n, rng) for s in self._surrogates], axis=2)

    @property
    def quality(self) -> dict[str, dict[str, Any]]:
        """Quality of each surrogate by name, JSON data."""
        return {name: s.quality for name, s in zip(self.names, self._surrogates, strict=True)}
