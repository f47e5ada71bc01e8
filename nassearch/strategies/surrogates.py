"""Models of what a strategy wants to know before measuring it, one for each metric."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.gaussian_process import GenotypeGP, PairFeatures
from nassearch.strategies.transfer import GPTransfer
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys

Values = NDArray[np.float64]

_PRIOR_ROWS_AT_MOST = 500  # a Gaussian process costs the cube of them


class Surrogate(Protocol):
    """Predicts one metric of genotypes."""

    quality: dict[str, Any]

    def set_prior(self, X: NDArray[np.float32], y: Values) -> None:
        """Take values under other conditions, of features ``[n, f]``: `fit` uses them where they help."""

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``; called for thousands of rows."""

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of the predicted values, float64 ``[n, len(X)]``."""


class GPSurrogate:
    """`GenotypeGP` as a surrogate; its quality is that of its leave-one-out predictions.

    Args:
        n_main: As in `GenotypeGP`.
    """

    def __init__(self, n_main: int) -> None:
        self._plain = GenotypeGP(n_main)
        self._model: GenotypeGP | GPTransfer = self._plain
        self._transfer: GPTransfer | None = None
        self.quality: dict[str, Any] = {}

    def set_prior(self, X: NDArray[np.float32], y: Values) -> None:
        """Take values under other conditions."""
        self._transfer = GPTransfer(self._plain.n_main, X, y)

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``; over the prior where leave-one-out errors are smaller so."""
        self._model = self._plain.fit(X, y)
        self.quality = {"model": "gp", **self._plain.quality}
        if self._transfer is not None:
            self._transfer.fit(X, y)
            if np.abs(self._transfer.loo - y).mean() < np.abs(self._plain.loo - y).mean():
                self._model = self._transfer
                self.quality = {"model": "gp over a prior", **self._transfer.quality}

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        return self._model.mean(X)

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of the predicted values, float64 ``[n, len(X)]``."""
        if isinstance(self._model, GPTransfer):
            return self._model.sample(X, _correlated(self._model.covariance(X), n, rng))
        mean, covariance = self._model.joint(X)
        return mean + _correlated(covariance, n, rng)


class PredictorSurrogate:
    """Any model of the ``predictors`` package as a surrogate.

    Such a model gives each row's uncertainty only; rows are taken to be the more correlated the more similar their
    features are, so that a batch does not consist of one guess repeated.

    Args:
        kind: Name for `predictors.make_predictor`.
        n_main: Number of leading feature columns to use (products are left out).
        seed: Seed of the model.
    """

    def __init__(self, kind: str, n_main: int, seed: int) -> None:
        self._kind, self._n_main, self._seed = kind, n_main, seed
        self._prior: Any = None
        self.quality: dict[str, Any] = {}

    def set_prior(self, X: NDArray[np.float32], y: Values) -> None:
        """Take values under other conditions."""
        from predictors import make_predictor

        self._prior = make_predictor(self._kind, seed=self._seed).fit(X[:, : self._n_main], y)

    def fit(self, X: NDArray[np.float32], y: Values) -> None:
        """Fit to features ``[n, f]`` and values ``[n]``."""
        from predictors import make_predictor

        self._model = make_predictor(self._kind, seed=self._seed).fit(X[:, : self._n_main], y, prior=self._prior)
        tau = float(self._model.quality.kendall_tau)
        self.quality = {"model": self._kind, "n": len(y), "kendall_tau": 0.0 if np.isnan(tau) else tau}

    def mean(self, X: NDArray[np.float32]) -> Values:
        """Return predicted values, float64 ``[n]``."""
        return np.asarray(self._model.predict(X[:, : self._n_main])[0], dtype=np.float64)

    def sample(self, X: NDArray[np.float32], n: int, rng: np.random.Generator) -> Values:
        """Return joint samples of the predicted values, float64 ``[n, len(X)]``."""
        main = X[:, : self._n_main].astype(np.float64)
        mean, std = self._model.predict(main.astype(np.float32))
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


def make_surrogate(kind: str, features: PairFeatures, seed: int) -> Surrogate:
    """Return a new surrogate: ``"gp"``, or the name of a model of the ``predictors`` package."""
    if kind == "gp":
        return GPSurrogate(features.n_main)
    return PredictorSurrogate(kind, features.n_main, seed)


class BadTail:
    """A monotone, invertible squeeze of values that are far worse than most.

    Broken networks (disconnected cells, accuracies at chance level) would otherwise decide the fit, and nothing is
    gained by predicting how bad they are. Values beyond the third quartile by more than twice the interquartile
    range grow logarithmically from there; all others are kept.

    Args:
        y: float ``[n]``, to be made small.
    """

    def __init__(self, y: Values) -> None:
        low, high = np.quantile(y, [0.25, 0.75])
        self._scale = float(high - low)
        self._start = float(high) + 2.0 * self._scale
        self._top = float(y.max())

    def __call__(self, y: Values) -> Values:
        """Return the squeezed values, of the same shape."""
        if self._scale <= 0 or self._top <= self._start:
            return y
        over = np.maximum(y - self._start, 0.0) / self._scale
        return np.asarray(np.minimum(y, self._start) + self._scale * np.log1p(over), dtype=np.float64)

    def inverse(self, z: Values) -> Values:
        """Return the values in their own unit; what is squeezed ends at twice the worst excess seen."""
        if self._scale <= 0 or self._top <= self._start:
            return z
        most = np.log1p(2.0 * (self._top - self._start) / self._scale)
        over = np.clip((z - self._start) / self._scale, 0.0, most)
        return np.asarray(np.minimum(z, self._start) + self._scale * np.expm1(over), dtype=np.float64)


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
        self.features = PairFeatures(space)
        self._tails: list[BadTail] = []
        self._surrogates = [make_surrogate(kind, self.features, seed) for _ in names]

    def set_prior(self, name: str, G: Rows, y: Values) -> None:
        """Take values of what is named under other conditions, to be made small too: rows and float ``[n]``."""
        pick = _spread(len(y))
        self._surrogates[self.names.index(name)].set_prior(self.features(G[pick]), BadTail(y[pick])(y[pick]))

    def fit(self, G: Rows, targets: Values, known: Mapping[str, tuple[Rows, Values]] | None = None) -> None:
        """Fit to what was evaluated, and to what is known besides.

        Args:
            G: int ``[n, n_genes]``.
            targets: float ``[n, len(names)]``.
            known: Name -> further rows ``[k, n_genes]`` and their values ``[k]``; rows of ``G`` are left out.
        """
        X, told = self.features(G), set(row_keys(G))
        self._tails = []
        for surrogate, name, y in zip(self._surrogates, self.names, targets.T, strict=True):
            more, values = (known or {}).get(name, (G[:0], y[:0]))
            new = np.array([i for i, key in enumerate(row_keys(more)) if key not in told], dtype=np.intp)
            new = new[_spread(len(new))]
            features, y = np.concatenate([X, self.features(more[new])]), np.concatenate([y, values[new]])
            self._tails.append(BadTail(y))
            surrogate.fit(features, self._tails[-1](y))

    def mean(self, G: Rows) -> Values:
        """Return predicted values, float64 ``[n, len(names)]``."""
        if not self.names:
            return np.empty((len(G), 0))
        X = self.features(G)
        return np.stack([t.inverse(s.mean(X)) for s, t in zip(self._surrogates, self._tails, strict=True)], axis=1)

    def sample(self, G: Rows, n: int, rng: np.random.Generator) -> Values:
        """Return joint samples, float64 ``[n, len(G), len(names)]``."""
        if not self.names:
            return np.empty((n, len(G), 0))
        X = self.features(G)
        drawn = [t.inverse(s.sample(X, n, rng)) for s, t in zip(self._surrogates, self._tails, strict=True)]
        return np.stack(drawn, axis=2)

    @property
    def quality(self) -> dict[str, dict[str, Any]]:
        """Quality of each surrogate by name, JSON data."""
        return {name: s.quality for name, s in zip(self.names, self._surrogates, strict=True)}
