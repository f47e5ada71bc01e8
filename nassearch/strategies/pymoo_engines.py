"""Survival and parent selection of pymoo's algorithms, fed by history instead of by generations."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Positions = NDArray[np.intp]


def reference_directions(n_objectives: int, at_most: int) -> Values:
    """Return evenly spread directions (Das and Dennis, 1998), float64 ``[k, n_objectives]`` with ``k <= at_most``.

    The number of partitions is the greatest that fits; where not even one does, the axes are returned.
    """
    from pymoo.util.ref_dirs import get_reference_directions

    partitions = 1
    while _das_dennis_count(n_objectives, partitions + 1) <= at_most:
        partitions += 1
    return np.asarray(get_reference_directions("das-dennis", n_objectives, n_partitions=partitions), dtype=np.float64)


def _das_dennis_count(n_objectives: int, partitions: int) -> int:
    from math import comb

    return comb(partitions + n_objectives - 1, n_objectives - 1)


class SurvivalEngine:
    """The survival and the mating selection of a pymoo algorithm, for any number of new rows at a time.

    Args:
        algorithm: An algorithm of pymoo that is not set up: only its ``survival`` and its selection are used.
        n_objectives: Number of objectives that it will see.
        population: Number of survivors.
    """

    least = 2  # rows that must be there before the first survival

    def __init__(self, algorithm: Any, n_objectives: int, population: int) -> None:
        from pymoo.core.population import Population
        from pymoo.core.problem import Problem

        self._population_class = Population
        self._algorithm = algorithm
        self._size = population
        # One constraint always: the sum of violations, zero where there is nothing to violate.
        self._problem = Problem(n_var=1, n_obj=n_objectives, n_ieq_constr=1)
        self._pop: Any = Population.empty()

    @property
    def members(self) -> Positions:
        """Positions of the survivors."""
        return self._positions(self._pop)

    def _positions(self, pop: Any) -> Positions:
        return np.array([int(i.X[0]) for i in pop], dtype=np.intp)

    def _created(self, positions: Positions, F: Values, violation: Values) -> Any:
        # Several of pymoo's tournaments break ties between equal violations with an unseeded generator; violations
        # that differ in the tenth digit leave no ties: the older row wins.
        G = violation[positions] * (1.0 + 1e-9 * positions)
        return self._population_class.new(X=positions[:, None].astype(float), F=F[positions], G=G[:, None])

    def advance(self, new: Positions, F: Values, violation: Values, rng: np.random.Generator) -> None:
        """Let new rows compete with the survivors.

        Args:
            new: Positions of the new rows.
            F: float64 ``[N, m]``, scaled values of all rows; those of new rows are free of NaN.
            violation: float64 ``[N]``, sums of violations.
            rng: Source of randomness.
        """
        for individual in self._pop:
            individual.F = F[int(individual.X[0])].copy()
        merged = self._population_class.merge(self._pop, self._created(new, F, violation))
        self._pop = self._survive(merged, rng)

    def _survive(self, merged: Any, rng: np.random.Generator) -> Any:
        return self._algorithm.survival.do(
            self._problem,
            merged,
            n_survive=min(self._size, len(merged)),
            algorithm=self._algorithm,
            random_state=rng,
        )

    def parents(self, n: int, rng: np.random.Generator) -> Positions:
        """Return the positions of two parents for each of ``n`` children, ``[n, 2]``."""
        pool = self._pool()
        self._algorithm.random_state = rng
        chosen = self._algorithm.mating.selection.do(
            self._problem, pool, n, 2, to_pop=False, algorithm=self._algorithm, random_state=rng
        )
        return self._positions(pool)[np.asarray(chosen, dtype=np.intp)]

    def _pool(self) -> Any:
        return self._pop


class TwoArchiveEngine(SurvivalEngine):
    """C-TAEA's convergence and diversity archives (Li et al., 2019).

    pymoo's class expects as many children as there are directions; its two updates are called here with any number.
    """

    def __init__(self, algorithm: Any, n_objectives: int, population: int) -> None:
        super().__init__(algorithm, n_objectives, population)
        self._diverse: Any = self._population_class.empty()
        # The diversity archive can be filled only from at least as many rows as there are niches.
        self.least = population

    def advance(self, new: Positions, F: Values, violation: Values, rng: np.random.Generator) -> None:
        """Let new rows compete with both archives (see `SurvivalEngine.advance`)."""
        for individual in [*self._pop, *self._diverse]:
            individual.F = F[int(individual.X[0])].copy()
        fresh = self._created(new, F, violation)
        survival = self._algorithm.survival
        survival.ideal_point = np.zeros(F.shape[1])  # the values come scaled to it
        merge = self._population_class.merge
        self._pop = survival._updateCA(merge(self._pop, fresh), self._size, random_state=rng)
        self._diverse = survival._updateDA(self._pop, merge(self._diverse, fresh), self._size)

    def _pool(self) -> Any:
        return self._population_class.merge(self._pop, self._diverse)


class DecompositionEngine:
    """MOEA/D: one incumbent for each of many directions, mating among neighbours (Zhang and Li, 2007).

    pymoo ties a child to the direction it was bred for, which a history of results does not tell. Here a child
    belongs to the direction that it serves best and may replace incumbents of that one's neighbours (global
    replacement, Wang et al., 2016). A feasible row replaces an infeasible one, and a less infeasible one a more
    infeasible one, whatever their values: pymoo's class refuses constraints.

    Args:
        directions: float64 ``[k, m]``.
        neighbours: Number of directions in a neighbourhood.
        within: Probability that both parents come from one neighbourhood.
    """

    least = 2

    def __init__(self, directions: Values, neighbours: int, within: float = 0.9) -> None:
        from pymoo.decomposition.pbi import PBI
        from pymoo.decomposition.tchebicheff import Tchebicheff

        self._directions = directions
        self._decomposition = Tchebicheff() if directions.shape[1] <= 2 else PBI()
        distance = np.linalg.norm(directions[:, None] - directions[None], axis=2)
        self._near = np.argsort(distance, axis=1, kind="stable")[:, : max(neighbours, 2)]
        self._within = within
        self._incumbents: Positions = np.empty(0, dtype=np.intp)

    @property
    def members(self) -> Positions:
        """Positions of the incumbents, without repeats."""
        return np.unique(self._incumbents)

    def _served(self, F: Values, rows: Positions) -> Values:
        """Return how well each row serves each direction, float64 ``[n, k]``, less being better."""
        served = self._decomposition.do(
            F[rows], self._directions, _type="many_to_many", ideal_point=np.zeros(F.shape[1])
        )
        return np.asarray(served, dtype=np.float64).reshape(len(rows), len(self._directions))

    def advance(self, new: Positions, F: Values, violation: Values, rng: np.random.Generator) -> None:
        """Let new rows compete with the incumbents (see `SurvivalEngine.advance`)."""
        served = self._served(F, new)
        if not len(self._incumbents):
            order = np.lexsort((served, np.broadcast_to(violation[new][:, None], served.shape)), axis=0)
            self._incumbents = new[order[0]]
            return
        every = np.arange(len(self._directions))
        held = self._served(F, self._incumbents)[every, every]
        for i, row in enumerate(new):
            near = self._near[int(np.argmin(served[i]))]
            theirs = violation[self._incumbents[near]]
            better = (violation[row] < theirs) | ((violation[row] == theirs) & (served[i, near] < held[near]))
            self._incumbents[near[better]] = row
            held[near[better]] = served[i, near[better]]

    def parents(self, n: int, rng: np.random.Generator) -> Positions:
        """Return the positions of two parents for each of ``n`` children, ``[n, 2]``."""
        k = len(self._directions)
        turns = np.concatenate([rng.permutation(k) for _ in range(-(-n // k))])[:n]
        chosen = np.empty((n, 2), dtype=np.intp)
        for i, direction in enumerate(turns):
            pool = self._near[direction] if rng.random() < self._within else np.arange(k)
            chosen[i] = rng.choice(pool, size=2, replace=False)
        return self._incumbents[chosen]
