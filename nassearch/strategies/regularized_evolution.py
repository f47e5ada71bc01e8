"""Regularised evolution."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.base import Strategy, check_count
from nassearch.strategies.inner import Scored, best_first
from nassearch.strategies.operators import Operators
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows, SearchSpace

_ATTEMPTS = 10
_ONE_GENE = 1e-9  # a mutation rate so small that only the one reset that is always made happens


@register_strategy("regularized-evolution")
class RegularizedEvolution(Strategy):
    """Evolution by tournaments and mutation in which the oldest die, however good (Real et al., 2019).

    The population is the networks told last. A child is the winner of a tournament among a random sample of them with
    one gene changed; it takes the place of the oldest. With several objectives the winner is the one with the best
    non-dominated rank, then the greatest crowding distance; violations of constraints come before both.

    Failed evaluations are no members. Children that were asked before are bred again, a bounded number of times.

    Args:
        space: See `Strategy`.
        population: Number of living networks, and of random ones at the start; at most a quarter of the budget,
            where that is known, but at least 10.
        sample: Number of networks in a tournament; at most a quarter of the population.
        **base: Arguments of `Strategy`.
    """

    def __init__(self, space: SearchSpace, *, population: int = 100, sample: int = 25, **base: Any) -> None:
        super().__init__(space, **base)
        self.population = check_count(self.name, "population", population, least=2)
        if self.budget is not None:
            self.population = min(self.population, max(10, self.budget // 4))
        self.sample = min(check_count(self.name, "sample", sample), max(2, self.population // 4))
        self._operators = Operators(space)

    @property
    def living(self) -> NDArray[np.intp]:
        """Positions in `told` of the members of the population, oldest first."""
        return np.flatnonzero(self.valid)[-self.population :]

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        living = self.living
        missing = self.population - len(self._rows) - len(self._asked)
        start = self.random_rows(min(n, max(missing, 0)) if len(living) else n, rng)
        if len(start) >= n:
            return start
        members = Scored(self.told[living], self.F[living], self.V[living].sum(axis=1))
        ordered = members.G[best_first(members)]
        return np.concatenate([start, self._children(n - len(start), ordered, rng)])

    def _children(self, n: int, ordered: Rows, rng: np.random.Generator) -> Rows:
        children = np.empty((0, len(self.space.genes)), dtype=np.int64)
        for _ in range(_ATTEMPTS):
            parents = ordered[self._winners(2 * n, len(ordered), rng)]
            # Donors fill the genes that the change of a depth switches on.
            donors = ordered[rng.integers(0, len(ordered), size=2 * n)]
            bred = self._operators.mutate(self._operators.filled(parents, donors, rng), rng, _ONE_GENE)
            children = self.unseen(np.concatenate([children, self.within_limits(bred, rng)]))
            satisfied = self.analytic_violations(children).sum(axis=1) == 0
            if satisfied.sum() >= n:
                break
        best: Rows = children[np.argsort(~satisfied, kind="stable")]
        return best[:n]

    def _winners(self, n: int, members: int, rng: np.random.Generator) -> NDArray[np.intp]:
        """Return the winner of each of ``n`` tournaments as a position in best-first order."""
        entrants = rng.random((n, members)).argsort(axis=1)[:, : self.sample]
        return np.asarray(entrants.min(axis=1), dtype=np.intp)
