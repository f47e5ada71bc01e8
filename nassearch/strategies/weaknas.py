"""WeakNAS."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.base import Strategy, check_count
from nassearch.strategies.registry import register_strategy
from nassearch.strategies.scalarise import check_scalarise, scalarised
from search_spaces import Rows, SearchSpace
from search_spaces.rows import unique_rows

Values = NDArray[np.float64]


@register_strategy("weaknas")
class WeakNAS(Strategy):
    """A fixed pool ranked by boosted trees, sampled from its predicted top, round by round (Wu et al., 2021).

    A pool of random networks is drawn once; limits on analytic metrics cut it, as the published window of FLOPs does.
    Each round queries some of them: at first at random, then uniformly among the ``top`` of the pool by the prediction
    of XGBoost, which is fitted afresh to everything queried, from the raw values of the genes. One objective; for a
    limit on a measured metric a second model predicts the violation, and networks predicted to keep it rank first.

    As published: 10,000 networks in the pool, rounds of 100, the top 1,000, trees of depth 20. Different: results that
    arrive within a round do not change its model, however small the batches are; with a known budget a round is its
    eighth part, as in the published 800 queries; the top is at most a tenth of the pool; once the pool is used up,
    random networks follow; inactive genes count as their first choice.

    Args:
        space: See `Strategy`.
        pool: Number of networks in the pool.
        rounds: Number of rounds that a known budget is cut into.
        query: Networks queried in a round; 0 for the budget's share, or 100 without a budget.
        top: Number of networks, of the best predicted, that are sampled from.
        trees: Number of trees.
        depth: Depth of a tree.
        scalarise: With several objectives: ``"sum"`` or ``"chebyshev"`` makes one of them, see `scalarised`.
        **base: Arguments of `Strategy`.
    """

    single_objective = True

    def __init__(
        self,
        space: SearchSpace,
        *,
        pool: int = 10_000,
        rounds: int = 8,
        query: int = 0,
        top: int = 1_000,
        trees: int = 1_000,
        depth: int = 20,
        scalarise: str = "none",
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        self.pool_size = check_count(self.name, "pool", pool, least=10)
        self.rounds = check_count(self.name, "rounds", rounds)
        self.query = check_count(self.name, "query", query, least=0)
        if not self.query:
            self.query = 100 if self.budget is None else max(5, -(-self.budget // self.rounds))
        self.top = check_count(self.name, "top", top)
        self.trees = check_count(self.name, "trees", trees)
        self.depth = check_count(self.name, "depth", depth)
        self.scalarise = check_scalarise(self.name, scalarise, len(self.objectives))
        self._pool: Rows | None = None
        self._raw = [
            np.array([float(v) if g.kind == "ordinal" else float(i) for i, v in enumerate(g.choices)])
            for g in space.genes
        ]
        self._round = 0  # rows that the present ranking was fitted to
        self._ranking: NDArray[np.intp] | None = None

    @property
    def pool(self) -> Rows:
        """The pool, int64 ``[n, n_genes]``: a function of the seed, the space and the analytic limits."""
        if self._pool is None:
            rng = np.random.default_rng([self.seed, 0, 3])
            drawn = unique_rows(self.within_limits(self.space.sample(self.pool_size, rng), rng))
            for _ in range(10):
                within = drawn[self.analytic_violations(drawn).sum(axis=1) == 0]
                if len(within) >= self.pool_size or len(within) == len(drawn):
                    break
                more = np.concatenate([within, self.space.sample(self.pool_size, rng)])
                drawn = more[np.sort(np.unique(more, axis=0, return_index=True)[1])]
            self._pool = (within if len(within) else drawn)[: self.pool_size]
        return self._pool

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        self._rank()
        if self._ranking is None:
            candidates = self.unseen(self.pool)
        else:
            # "Not yet queried" networks only are ranked: the top moves on as it is used up.
            ranked = self.unseen(self.pool[self._ranking])
            candidates = ranked[: max(n, min(self.top, len(self.pool) // 10))]
        return candidates[rng.permutation(len(candidates))[:n]]

    def _rank(self) -> None:
        """Rank the pool by models of all complete rounds, once a round."""
        complete = len(self._rows) // self.query * self.query
        if complete == self._round:
            return
        rows = np.flatnonzero(self.valid[:complete])
        if len(rows) < 2:
            return
        self._round = complete
        X, told = self._features(self.pool), self._features(self.told[rows])
        value = self._predicted(told, scalarised(self.F[rows], self.scalarise), X)
        violation = self.V[rows].sum(axis=1)
        late = self._predicted(told, violation, X) if violation.any() else np.zeros(len(X))
        # A predicted violation below a hundredth of the typical one is taken for none.
        typical = float(violation[violation > 0].mean()) if violation.any() else 1.0
        self._ranking = np.lexsort((value, np.where(late > 0.01 * typical, late, 0.0)))

    def _features(self, G: Rows) -> Values:
        return np.stack([raw[G[:, g]] for g, raw in enumerate(self._raw)], axis=1)

    def _predicted(self, X: Values, y: Values, wanted: Values) -> Values:
        import xgboost

        low, spread = float(y.min()), float(np.ptp(y)) or 1.0
        model = xgboost.XGBRegressor(
            n_estimators=self.trees,
            max_depth=self.depth,
            objective="reg:squarederror",
            random_state=self.seed,
            n_jobs=1,
        ).fit(X, (y - low) / spread)
        return np.asarray(model.predict(wanted), dtype=np.float64) * spread + low

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: the rows that its ranking is of."""
        return {**super().diagnostics(), "ranked_after": self._round}
