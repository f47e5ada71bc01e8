"""NSGA-II on measured values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.base import Strategy, check_count, check_flag, check_positive, check_share
from nassearch.strategies.inner import breed
from nassearch.strategies.operators import Operators
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows, SearchSpace


@register_strategy("nsga2")
class NSGA2(Strategy):
    """Evolution by non-dominated sorting and crowding (Deb et al., 2002), with mutation that really mutates.

    Survival is pymoo's rank and crowding, with constrained domination. Variation is uniform crossover and
    uniform-reset mutation; children that were asked before are bred again.

    Args:
        space: See `Strategy`.
        population: Number of survivors, and of random networks at the start; at most a quarter of the budget,
            where that is known, but at least 10.
        crossover: Probability of crossover.
        mutation: Expected number of genes mutated in a child; at least one always is.
        landmarks: Whether the largest and the smallest network are among the first.
        **base: Arguments of `Strategy`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        population: int = 50,
        crossover: float = 0.9,
        mutation: float = 1.0,
        landmarks: bool = False,
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        self.population = check_count(self.name, "population", population, least=2)
        if self.budget is not None:
            self.population = min(self.population, max(10, self.budget // 4))
        self.crossover = check_share(self.name, "crossover", crossover)
        self.mutation = check_positive(self.name, "mutation", mutation)
        self.landmarks = check_flag(self.name, "landmarks", landmarks)
        self._operators = Operators(space)
        self._survivors: NDArray[np.int64] = np.empty(0, dtype=np.int64)
        self._through = -1

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        ordered = self._ordered_population()
        begun = len(self._rows) + len(self._asked)
        start = max(self.population - begun, 0) if len(ordered) else n
        rows = self._start(min(n, start), rng)
        return rows if len(rows) >= n else np.concatenate([rows, self._children(n - len(rows), ordered, rng)])

    def _start(self, n: int, rng: np.random.Generator) -> Rows:
        ends = self.space.repair(np.stack([self.space.largest, self.space.smallest]), rng)
        known = self.unseen(ends)[:n] if self.landmarks else ends[:0]
        return np.concatenate([known, self.random_rows(n - len(known), rng, exclude=known)])

    def _children(self, n: int, ordered: Rows, rng: np.random.Generator) -> Rows:
        """Return distinct new children; a bounded number of tries, since a converged population repeats itself."""
        children = np.empty((0, len(self.space.genes)), dtype=np.int64)
        for attempt in range(10):
            bred = breed(
                self._operators, ordered, 2 * n, rng, cross=self.crossover, rate=self.mutation * (1 + attempt / 3)
            )
            children = self.unseen(np.concatenate([children, self.within_limits(bred, rng)]))
            satisfied = self.analytic_violations(children).sum(axis=1) == 0
            if satisfied.sum() >= n:
                break
        best: Rows = children[np.argsort(~satisfied, kind="stable")]
        return best[:n]

    def _ordered_population(self) -> Rows:
        """Return the survivors, best first.

        Survival is computed batch by batch over what was told between two asks, in that order, so that it does
        not matter whether results came one at a time or together.
        """
        after, valid = self.told_after, self.valid
        for b in range(self._through + 1, self.batch + 1):
            new = np.flatnonzero((after == b) & valid)
            if len(new):
                merged = np.concatenate([self._survivors, new])
                self._survivors = self._survive(merged, np.random.default_rng([self.seed, b, 1]))
        self._through = self.batch
        rows: Rows = self.told[self._survivors]
        return rows

    def _survive(self, candidates: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        from pymoo.core.population import Population
        from pymoo.core.problem import Problem
        from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

        F, V = self.F[candidates], self.V[candidates]
        constrained = {"G": V} if V.shape[1] else {}
        population = Population.new(F=F, **constrained)
        problem = Problem(n_var=1, n_obj=F.shape[1], n_ieq_constr=V.shape[1])
        kept = RankAndCrowding().do(
            problem,
            population,
            n_survive=min(self.population, len(candidates)),
            random_state=rng,
            return_indices=True,
        )
        keys = [(p.CV[0] if V.shape[1] else 0.0, p.get("rank") or 0, -(p.get("crowding") or 0.0)) for p in population]
        order = np.array(sorted(kept, key=lambda i: keys[i]), dtype=np.int64)
        survivors: NDArray[np.int64] = candidates[order]
        return survivors
