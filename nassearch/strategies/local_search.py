"""Local search."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.pareto import non_dominated_min
from nassearch.strategies.base import Strategy, check_count
from nassearch.strategies.operators import Operators
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys


@register_strategy("local-search")
class LocalSearch(Strategy):
    """Hill climbing by changes of one gene, restarted from random networks at a local optimum (White et al., 2021).

    From a few random networks the best are kept (the front, with several objectives: Pareto local search, Paquete et
    al., 2004) and networks that differ from one of them in a single gene are evaluated in random order. Once every
    neighbour of the front is known, the climb is over: the next one begins with new random networks and a front of its
    own. Neighbours whose violation of an analytic limit is greater than that of the network they come from are skipped.

    Where results are awaited and no neighbour is left to ask for, or fewer than wanted, the batch is filled with
    random networks.

    Args:
        space: See `Strategy`.
        startup: Number of random networks at the start of a climb; at most a quarter of the budget, where known.
        **base: Arguments of `Strategy`.
    """

    def __init__(self, space: SearchSpace, *, startup: int = 10, **base: Any) -> None:
        super().__init__(space, **base)
        self.startup = check_count(self.name, "startup", startup)
        if self.budget is not None:
            self.startup = min(self.startup, max(1, self.budget // 4))
        self.restarts = 0
        self._operators = Operators(space)
        self._neighbours: dict[bytes, Rows] = {}
        self._epoch = -1  # rows told after a later batch than this belong to the present climb
        self._through = -1

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        for b in range(self._through + 1, self.batch + 1):
            self._end_climb(b)
        self._through = self.batch
        climb = self._climb(self.batch)
        missing = self.startup - len(climb) - len(self._asked)
        if missing > 0 or not len(climb):
            return self.random_rows(n, rng)
        around = self.unseen(self._around(self.front))
        return around[rng.permutation(len(around))][:n]

    def _climb(self, through: int) -> NDArray[np.intp]:
        """Return the positions of the valid rows of the present climb, as known after some batch."""
        after = self.told_after
        return np.flatnonzero((after > self._epoch) & (after <= through) & self.valid)

    @property
    def front(self) -> NDArray[np.intp]:
        """Positions in `told` of the best networks of the present climb."""
        return self._front(self._climb(self.batch))

    def _front(self, climb: NDArray[np.intp]) -> NDArray[np.intp]:
        violation = self.V[climb].sum(axis=1)
        if len(climb) and (violation > 0).all():
            return np.asarray(climb[violation == violation.min()], dtype=np.intp)
        feasible = climb[violation <= 0]
        return np.asarray(feasible[non_dominated_min(self.F[feasible])], dtype=np.intp)

    def _around(self, front: NDArray[np.intp]) -> Rows:
        """Return the neighbours of the front that are worth asking for."""
        rows = [np.empty((0, len(self.space.genes)), dtype=np.int64)]
        told, violation = self.told[front], self.V[front].sum(axis=1)
        for row, key, limit in zip(told, row_keys(told), violation, strict=True):
            if key not in self._neighbours:
                self._neighbours[key] = self._operators.neighbours(row)
            near = self._neighbours[key]
            rows.append(near[self.analytic_violations(near).sum(axis=1) <= limit])
        return np.concatenate(rows)

    def _end_climb(self, b: int) -> None:
        """End the climb if every neighbour of its front had been told when batch ``b`` was asked for."""
        climb = self._climb(b)
        if len(climb) < self.startup:
            return
        after = self.told_after
        around = self._around(self._front(climb))
        if all(after[self._position[k]] <= b if k in self._position else False for k in row_keys(around)):
            self._epoch = b
            self.restarts += 1

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: how often it restarted."""
        return {**super().diagnostics(), "restarts": self.restarts}
