"""LINAS as published, for comparison with the default strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.base import Strategy, check_count, check_positive
from nassearch.strategies.inner import Scored, best_first, breed
from nassearch.strategies.operators import Operators
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys

Values = NDArray[np.float64]

_ALPHAS = np.arange(1, 101) / 10.0
_COSTS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
_FOLDS = 5
_LEAST_ROWS = 2 * _FOLDS


class PaperPredictor:
    """Ridge regression or a support vector machine, whichever has the lower cross-validated MAPE.

    Penalties 0.1 to 10 by 0.1; RBF kernel of width one over the number of features, C from 1 to 100 (seven values of
    the published hundred, at equal ratios), no insensitive zone; five folds; targets divided by a power of ten.

    Args:
        X: float64 ``[n, f]``, at least ten rows.
        y: float64 ``[n]``.
        seed: Seed of the folds.
    """

    def __init__(self, X: Values, y: Values, seed: int) -> None:
        largest = float(np.abs(y).max())
        self._scale = 10.0 ** (np.floor(np.log10(largest)) - 1) if largest > 0 else 1.0
        y = y / self._scale
        fold = np.random.default_rng([seed, len(y)]).permutation(len(y)) % _FOLDS
        # Two matrices of errors, [settings, n]: relative, as the published choice has it.
        size = np.maximum(np.abs(y), 1e-9)
        ridge, svm = np.empty((len(_ALPHAS), len(y))), np.empty((len(_COSTS), len(y)))
        for f in range(_FOLDS):
            held = fold == f
            ridge[:, held] = np.abs(_ridge(X[~held], y[~held], X[held], _ALPHAS) - y[held]) / size[held]
            for i, cost in enumerate(_COSTS):
                svm[i, held] = np.abs(_svr(X[~held], y[~held], cost).predict(X[held]) - y[held]) / size[held]
        self.mape = {"ridge": float(ridge.mean(axis=1).min()), "svr": float(svm.mean(axis=1).min())}
        self.model = min(self.mape, key=lambda m: self.mape[m])
        self._X, self._y = X, y
        self._alpha = _ALPHAS[[int(ridge.mean(axis=1).argmin())]]
        self._svr: Any = _svr(X, y, _COSTS[int(svm.mean(axis=1).argmin())]) if self.model == "svr" else None
        self._linear = None if self._svr is not None else _ridge_weights(X, y, self._alpha[0])

    def predict(self, X: Values) -> Values:
        """Return predicted values, float64 ``[n]``."""
        if self._linear is None:
            return np.asarray(self._svr.predict(X), dtype=np.float64) * self._scale
        weights, intercept = self._linear
        return np.asarray((X @ weights + intercept) * self._scale, dtype=np.float64)


def _ridge(X: Values, y: Values, wanted: Values, alphas: Values) -> Values:
    """Return the predictions of ridge regression for each penalty, float64 ``[len(alphas), len(wanted)]``."""
    centre, mean = X.mean(axis=0), y.mean()
    left, singular, right = np.linalg.svd(X - centre, full_matrices=False)
    shrink = singular / (singular**2 + alphas[:, None])
    projected = (wanted - centre) @ right.T
    return np.asarray(mean + (shrink * (left.T @ (y - mean))) @ projected.T, dtype=np.float64)


def _ridge_weights(X: Values, y: Values, alpha: float) -> tuple[Values, float]:
    centre, mean = X.mean(axis=0), float(y.mean())
    left, singular, right = np.linalg.svd(X - centre, full_matrices=False)
    weights = right.T @ (singular / (singular**2 + alpha) * (left.T @ (y - mean)))
    return weights, mean - float(centre @ weights)


def _svr(X: Values, y: Values, cost: float) -> Any:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVR

    # A cap, since a large C without an insensitive zone may iterate for minutes on noisy values.
    model = SVR(kernel="rbf", gamma="auto", C=cost, epsilon=0.0, max_iter=100_000)
    # No parameter of SVR, whose solution does not depend on it; without it the global generator is advanced.
    model.random_state = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


@register_strategy("linas-paper")
class LinasPaper(Strategy):
    """LINAS as published: rounds of NSGA-II on freshly fitted ridge or SVR predictors (Sarah et al., 2022).

    A round measures ``population`` networks, at first random ones; fits a predictor of each objective to all that was
    measured; runs NSGA-II on the predictions alone, from a random population of that size, for ``evaluations``
    predictions; and measures its last population next (arXiv:2205.10358, with the predictors of the released DyNAS-T).

    Departures: nothing is measured twice, so members of the last population that were measured before make way for
    the best predicted of the other networks that the inner search has seen; results that arrive within a round do
    not change it, however small the batches are; mutation resets genes (the published one, with rounding, changes
    none); crossover is uniform; inactive genes count as their first choice; NSGA-II also serves one objective and
    more than two. As published, metrics that could be computed are predicted. Constraints are an addition: analytic
    ones are computed, others follow from the predicted objectives or are predicted as violations.

    Args:
        space: See `Strategy`.
        population: Networks of a round and size of the inner population.
        evaluations: Predictions in a round: 20,000 for large spaces in the paper, 2,000 for small ones.
        mutation: Expected number of genes mutated in a child of the inner search; 0 for crossover alone, which is what
            the released settings amount to.
        **base: Arguments of `Strategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int = 50,
        evaluations: int = 20_000,
        mutation: float = 1.0,
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        self.population = check_count(self.name, "population", population, least=4)
        if self.budget is not None:
            self.population = min(self.population, max(10, self.budget // 4))
        self.evaluations = check_count(self.name, "evaluations", evaluations)
        self.mutation = check_positive(self.name, "mutation", mutation) if mutation != 0 else 0.0
        self._operators = Operators(space)
        self._known = {o.metric for o in self.objectives} | self.analytic_metrics
        self._unknown = [j for j, c in enumerate(self.constraints) if c.metric not in self._known]
        self._identity = [np.eye(len(g.choices)) for g in space.genes]
        self._round = 0
        self._queue = np.empty((0, len(space.genes)), dtype=np.int64)
        self._predictors: list[PaperPredictor] = []

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        complete = len(self._rows) // self.population
        if complete > self._round:
            rows = np.flatnonzero(self.valid[: complete * self.population])
            if len(rows) < _LEAST_ROWS:
                return self.random_rows(n, rng)
            self._round = complete
            self._queue = self._searched(rows, np.random.default_rng([self.seed, complete, 4]))
        if not self._round:
            return self.random_rows(n, rng)
        return self.unseen(self._queue)[:n]

    # -- one round -----------------------------------------------------------------------------------

    def _searched(self, rows: NDArray[np.intp], rng: np.random.Generator) -> Rows:
        """Return the last population of a search on predictions, then the best others that it has seen."""
        X, F, V = self._one_hot(self.told[rows]), self.F[rows], self.V[rows]
        targets = [*F.T, *(V[:, j] for j in self._unknown)]
        self._predictors = [PaperPredictor(X, y, self.seed) for y in targets]
        current = self._scored(self.space.sample(self.population, rng))
        # The state of a round follows from its results alone, not from what has been asked for since.
        measured = set(row_keys(self.told[: self._round * self.population]))
        spare = current
        for _ in range(max(self.evaluations // self.population - 1, 0)):
            children = self._new_to(current, self._children(current.G, rng))
            if not len(children):
                continue
            both = current.joined(self._scored(children))
            order = best_first(both)
            spare = self._best(spare.joined(both.take(order[self.population :])), measured)
            current = both.take(order[: self.population])
        last = current.G[rng.permutation(len(current))]
        return np.concatenate([last, spare.G])

    def _children(self, ordered: Rows, rng: np.random.Generator) -> Rows:
        if self.mutation:
            return breed(self._operators, ordered, self.population, rng, rate=self.mutation)
        winners = rng.integers(0, len(ordered), size=(2, self.population, 2)).min(axis=0)
        parents = ordered[winners]
        return self.space.repair(self._operators.crossover(parents[:, 0], parents[:, 1], rng), rng)

    def _best(self, spare: Scored, measured: set[bytes]) -> Scored:
        """Return unmeasured rows, best first, as many as a round can need."""
        spare = spare.take(np.array([i for i, k in enumerate(row_keys(spare.G)) if k not in measured], dtype=np.intp))
        return spare.take(best_first(spare, 2 * self.population)) if len(spare) else spare

    def _new_to(self, current: Scored, children: Rows) -> Rows:
        """Return the distinct children that are not in the population: duplicate elimination as published."""
        scored = Scored(children, np.zeros((len(children), 1)), np.zeros(len(children)))
        merged = Scored(current.G, np.zeros((len(current), 1)), np.zeros(len(current))).joined(scored)
        return merged.G[len(current) :]

    def _scored(self, G: Rows) -> Scored:
        """Return rows with predicted objectives and the sum of their violations."""
        X = self._one_hot(G)
        predicted = np.stack([p.predict(X) for p in self._predictors], axis=1)
        m = len(self.objectives)
        F = predicted[:, :m]
        violation = np.maximum(predicted[:, m:], 0.0).sum(axis=1) + self.analytic_violations(G).sum(axis=1)
        for j, o in enumerate(self.objectives):
            for c in self.constraints:
                if c.metric == o.metric and c.metric not in self.analytic_metrics:
                    violation = violation + c.violation(F[:, j] * o.sign)
        return Scored(G, F, violation)

    def _one_hot(self, G: Rows) -> Values:
        return np.concatenate([eye[G[:, g]] for g, eye in enumerate(self._identity)], axis=1)

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: rounds, chosen models and their errors."""
        chosen = {
            name: {"model": p.model, "mape": p.mape}
            for name, p in zip([o.metric for o in self.objectives], self._predictors, strict=False)
        }
        return {**super().diagnostics(), "rounds": self._round, "predictors": chosen}
