"""Models of what a strategy wants to know before measuring it, one for each metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.gaussian_process import GenotypeGP, PairFeatures, correlated
from nassearch.strategies.transfer import GPTransfer
from nassearch.strategies.warp import Power, Squeeze, Warp
from predictors.models.additive_gp import settled_rows
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys

Values = NDArray[np.float64]

_PRIOR_ROWS_AT_MOST = 500  # a Gaussian process costs the cube of them


Features = Callable[[Rows], NDArray[np.float32]]
Prior = tuple[NDArray[np.float32], Values]  # features [p, f] and values [p]


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
        self.log_density = float("nan")
        self.quality: dict[str, Any] = {}

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""
        self._model.fit(X, y)
        error = (y - self._model.loo) / self._model.loo_std
        self.log_density = float((-0.5 * error**2 - np.log(self._model.loo_std)).sum())
        self.quality = {"model": "gp", **self._model.quality}

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        return self._model.mean(X)

    def marginal(self, X: NDArray[np.float32]) -> tuple[Values, Values]:
        """Return mean and standard deviation of what would be measured, float64 ``[n]`` each."""
        return self._model.marginals.predict(X)

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of what would be measured, float64 ``[n, len(X)]``.

        They include what the model cannot explain: to a search that counts measurements, luck is worth finding.
        """
        mean, covariance = self._model.joint(X)
        covariance[np.diag_indices_from(covariance)] += self._model.noise_variance
        return mean + correlated(covariance, n, rng)


class PredictorSurrogate:
    """Any model of the ``predictors`` package as a surrogate.

    Such a model gives each row's uncertainty only; rows are taken to be the more correlated the more similar their
    features are, so that a batch does not consist of one guess repeated.

    Args:
        kind: Name for `predictors.make_predictor`.
        seed: Seed of the model.
        prior: Features and values under other conditions, which `fit` uses where they help.
    """

    def __init__(self, kind: str, seed: int, prior: Prior | None = None) -> None:
        from predictors import make_predictor

        self._kind, self._seed = kind, seed
        self._prior = None if prior is None else make_predictor(kind, seed=seed).fit(*prior)
        self.log_density = float("nan")
        self.quality: dict[str, Any] = {}

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""
        from predictors import make_predictor

        self._model = make_predictor(self._kind, seed=self._seed).fit(X, y, prior=self._prior)
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
        return np.asarray(mean, dtype=np.float64) + correlated(covariance, n, rng)


def make_features(kind: str, space: SearchSpace) -> Features:
    """Return the features that a surrogate of this kind is made for: with products of them for a Gaussian process."""
    return PairFeatures(space) if kind == "gp" else space.features


def make_surrogate(kind: str, features: Features, seed: int, prior: Prior | None = None) -> Surrogate:
    """Return a new surrogate: ``"gp"``, or the name of a model of the ``predictors`` package.

    Args:
        kind: The name.
        features: As `make_features` gives them.
        seed: Seed of the model.
        prior: Features and values of the same networks' or others' metric under other conditions.
    """
    if not isinstance(features, PairFeatures):
        return PredictorSurrogate(kind, seed, prior)
    return GPSurrogate(features.n_main) if prior is None else GPTransfer(features.n_main, *prior)


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
        self._kind, self._features, self._seed = kind, features, seed
        warps: list[type[Warp]] = [Squeeze, Power] if kind == "gp" else [Squeeze]
        self._candidates = [(warp, make_surrogate(kind, features, seed)) for warp in warps]
        self._surrogate = self._candidates[0][1]

    def set_prior(self, X: NDArray[np.float32], y: Values) -> None:
        """Take values under other conditions, of features ``[p, f]``; they are used where they help."""
        surrogate = make_surrogate(self._kind, self._features, self._seed, (X, Squeeze(y)(y)))
        if self._kind != "gp":  # such a model sees for itself whether its prior helps
            self._candidates = []
        self._candidates.append((Squeeze, surrogate))

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


def _spread(n: int) -> NDArray[np.intp]:
    """Return positions of at most `_PRIOR_ROWS_AT_MOST` of ``n`` rows, spread evenly."""
    return np.unique(np.linspace(0, n - 1, min(n, _PRIOR_ROWS_AT_MOST)).astype(np.intp))


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

    def set_prior(self, name: str, G: Rows, y: Values) -> None:
        """Take values of what is named under other conditions, to be made small too: rows and float ``[n]``."""
        pick = _spread(len(y))
        self._surrogates[self.names.index(name)].set_prior(self.features(G[pick]), y[pick])

    def fit(self, G: Rows, targets: Values, known: Mapping[str, tuple[Rows, Values]] | None = None) -> None:
        """Fit to what was evaluated, and to what is known besides.

        What was known before comes first and stays there, evaluated or not: hyper-parameters are found from the first
        rows and hold until their number has grown, which they would not if each evaluation moved those behind it.

        Args:
            G: int ``[n, n_genes]``.
            targets: float ``[n, len(names)]``.
            known: Name -> further rows ``[k, n_genes]`` and their values ``[k]``; those of rows of ``G`` do not count.
        """
        X, told = self.features(G), {key: i for i, key in enumerate(row_keys(G))}
        for surrogate, name, y in zip(self._surrogates, self.names, targets.T, strict=True):
            more, values = (known or {}).get(name, (G[:0], y[:0]))
            pick = _spread(len(more))
            at = np.array([told.get(key, -1) for key in row_keys(more[pick])], dtype=np.intp)
            first = np.where(at >= 0, y[at], values[pick])
            rest = np.setdiff1d(np.arange(len(G)), at)
            surrogate.fit(np.concatenate([self.features(more[pick]), X[rest]]), np.concatenate([first, y[rest]]))

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
