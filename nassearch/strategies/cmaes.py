"""CMA-ES on genotypes."""

from __future__ import annotations

from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.base import Strategy, check_count, check_positive
from nassearch.strategies.registry import register_strategy
from nassearch.strategies.scalarise import check_scalarise, scalarised
from search_spaces import Rows, SearchSpace

Values = NDArray[np.float64]


class EvolutionPath:
    """The distribution of CMA-ES: mean, step size, covariance and their paths (Hansen, 2016, arXiv:1604.00772).

    Args:
        n: Number of variables.
        population: Number of rows of a generation.
        sigma: First step size, where variables lie in [0, 1].
    """

    def __init__(self, n: int, population: int, sigma: float) -> None:
        self.mean, self.sigma, self.C = np.full(n, 0.5), sigma, np.eye(n)
        mu = population // 2
        weights = np.log((population + 1) / 2) - np.log(np.arange(1, mu + 1))
        self._weights = weights / weights.sum()
        self._mu_eff = mu_eff = 1.0 / np.square(self._weights).sum()
        self._c_sigma = (mu_eff + 2) / (n + mu_eff + 5)
        self._damping = 1 + 2 * max(0.0, np.sqrt((mu_eff - 1) / (n + 1)) - 1) + self._c_sigma
        self._c_c = (4 + mu_eff / n) / (n + 4 + 2 * mu_eff / n)
        self._c_1 = 2 / ((n + 1.3) ** 2 + mu_eff)
        self._c_mu = min(1 - self._c_1, 2 * (mu_eff - 2 + 1 / mu_eff) / ((n + 2) ** 2 + mu_eff))
        self._expected = np.sqrt(n) * (1 - 1 / (4 * n) + 1 / (21 * n * n))
        self._p_sigma, self._p_c = np.zeros(n), np.zeros(n)
        self._generation = 0

    def update(self, X: Values) -> None:
        """Learn from one generation, float64 ``[population, n]``, best row first."""
        self._generation += 1
        n = len(self.mean)
        Y = (X[: len(self._weights)] - self.mean) / self.sigma
        step = self._weights @ Y
        values, vectors = np.linalg.eigh(self.C)
        whitened = vectors @ ((vectors.T @ step) / np.sqrt(np.maximum(values, 1e-14)))
        c = self._c_sigma
        self._p_sigma = (1 - c) * self._p_sigma + np.sqrt(c * (2 - c) * self._mu_eff) * whitened
        length = float(np.linalg.norm(self._p_sigma))
        slow = length / np.sqrt(1 - (1 - c) ** (2 * self._generation)) < (1.4 + 2 / (n + 1)) * self._expected
        k = self._c_c
        self._p_c = (1 - k) * self._p_c + slow * np.sqrt(k * (2 - k) * self._mu_eff) * step
        rank_mu = (Y.T * self._weights) @ Y
        rank_one = np.outer(self._p_c, self._p_c) + (0.0 if slow else k * (2 - k)) * self.C
        self.C = (1 - self._c_1 - self._c_mu) * self.C + self._c_1 * rank_one + self._c_mu * rank_mu
        self.mean = self.mean + self.sigma * step
        self.sigma = float(np.clip(self.sigma * np.exp(c / self._damping * (length / self._expected - 1)), 1e-4, 1.0))

    def sample(self, n: int, rng: np.random.Generator, least: Values) -> Values:
        """Return ``n`` draws, float64 ``[n, k]``, whose standard deviations are at least ``least`` ``[k]``."""
        values, vectors = np.linalg.eigh(self.C)
        factor = self.sigma * vectors * np.sqrt(np.maximum(values, 0.0))
        std = np.sqrt(np.square(factor).sum(axis=1))
        wider = np.maximum(least / np.maximum(std, 1e-300), 1.0)
        drawn = rng.standard_normal((n, len(self.mean))) @ factor.T
        return np.asarray(self.mean + drawn * wider, dtype=np.float64)


@register_strategy("cmaes")
class CMAES(Strategy):
    """CMA-ES on a continuous relaxation of the genes, for one objective (Hansen, 2016).

    Each gene with ``k`` distinct choices is a variable in [0, 1] cut into ``k`` equal bins; a draw is the network of
    its bins. The strategy learns from the centres of the bins of the networks told, in generations of consecutive
    successful ones, hence its state is a function of the history; an inactive gene counts as at the present mean. The
    standard deviation of a gene never falls so low that its mean's bin is left less than once in as many draws as there
    are genes (after Hamano et al., 2022). Draws that were asked before are drawn again, a bounded number of times; what
    is missing then is filled with random networks. A network that violates a constraint ranks behind all that do not.

    Args:
        space: See `Strategy`.
        population: Rows of a generation; 0 for ``4 + 3 ln(number of genes)``.
        sigma: First step size, where a gene's range is 1.
        redraws: Rounds of new draws for those that were asked before.
        scalarise: With several objectives: ``"sum"`` or ``"chebyshev"`` makes one of them, see `scalarised`.
        **base: Arguments of `Strategy`.
    """

    single_objective = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int = 0,
        sigma: float = 0.3,
        redraws: int = 10,
        scalarise: str = "none",
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        values = [sorted(set(g.canonical_indices())) for g in space.genes]
        self._columns = np.array([i for i, v in enumerate(values) if len(v) > 1], dtype=np.intp)
        self._values = [np.array(values[i], dtype=np.int64) for i in self._columns]
        self._bins = np.array([len(v) for v in self._values], dtype=np.float64)
        n = max(len(self._columns), 1)
        self.population = check_count(self.name, "population", population, least=0) or 4 + int(3 * np.log(n))
        self.population = max(self.population, 4)
        self.sigma = check_positive(self.name, "sigma", sigma)
        self.redraws = check_count(self.name, "redraws", redraws)
        self.scalarise = check_scalarise(self.name, scalarise, len(self.objectives))
        self.redrawn = 0
        self._path = EvolutionPath(n, self.population, self.sigma)
        self._learned = 0  # rows of complete generations
        quantile = NormalDist().inv_cdf(1 - 1 / (2 * max(n, 2)))
        self._least_std = 0.5 / self._bins / quantile

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        if not len(self._columns):
            return self.random_rows(n, rng)
        self._catch_up()
        found = np.empty((0, len(self.space.genes)), dtype=np.int64)
        for attempt in range(1 + self.redraws):
            X = self._path.sample(n, rng, self._least_std * (1 + attempt / 3))
            drawn = self.unseen(self.within_limits(self.space.repair(self._rounded(X, rng), rng), rng))
            drawn = drawn[self.analytic_violations(drawn).sum(axis=1) == 0]
            self.redrawn += n - len(drawn)
            found = self.unseen(np.concatenate([found, drawn]))
            if len(found) >= n:
                break
        return found[:n]

    def _catch_up(self) -> None:
        """Learn from every complete generation that was not learned from yet."""
        valid = np.flatnonzero(self.valid)
        while len(valid) - self._learned >= self.population:
            rows = valid[self._learned : self._learned + self.population]
            seen = valid[: self._learned + self.population]
            value = scalarised(self.F[seen], self.scalarise)[-self.population :]
            order = np.lexsort((value, self.V[rows].sum(axis=1)))
            self._path.update(self._centres(self.told[rows[order]]))
            self._learned += self.population

    def _rounded(self, X: Values, rng: np.random.Generator) -> Rows:
        G = np.zeros((len(X), len(self.space.genes)), dtype=np.int64)
        bins = np.clip(np.floor(X * self._bins), 0, self._bins - 1).astype(np.int64)
        for j, column in enumerate(self._columns):
            G[:, column] = self._values[j][bins[:, j]]
        return G

    def _centres(self, G: Rows) -> Values:
        places = np.stack(
            [np.searchsorted(v, G[:, c]) for v, c in zip(self._values, self._columns, strict=True)], axis=1
        )
        active = self.space.active(G)[:, self._columns]
        return np.where(active, (places + 0.5) / self._bins, self._path.mean)

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: its step size and the draws repeated since start."""
        return {**super().diagnostics(), "sigma": self._path.sigma, "redrawn": self.redrawn}
