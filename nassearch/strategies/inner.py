"""NSGA-II on cheap scores: thousands of genotypes a second, for searching on predictions (Deb et al., 2002)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nassearch.pareto import crowding
from nassearch.strategies.operators import Operators
from search_spaces import Rows
from search_spaces.rows import row_keys

Values = NDArray[np.float64]
Score = Callable[[Rows], tuple[Values, Values]]  # rows -> F [n, m], all to be made small, and violation [n]


@dataclass
class Scored:
    """Rows with their scores.

    Args:
        G: int64 ``[n, n_genes]``, canonical.
        F: float64 ``[n, m]``, all to be made small.
        violation: float64 ``[n]``, 0 where all constraints are satisfied.
    """

    G: Rows
    F: Values
    violation: Values

    def __len__(self) -> int:
        return len(self.G)

    def take(self, index: NDArray[np.intp]) -> Scored:
        """Return the rows at these positions."""
        return Scored(self.G[index], self.F[index], self.violation[index])

    def joined(self, other: Scored) -> Scored:
        """Return both, without repeating rows; the first of equal rows stays."""
        G = np.concatenate([self.G, other.G])
        first: dict[bytes, int] = {}
        for i, key in enumerate(row_keys(G)):
            first.setdefault(key, i)
        both = Scored(G, np.concatenate([self.F, other.F]), np.concatenate([self.violation, other.violation]))
        return both if len(first) == len(G) else both.take(np.array(list(first.values()), dtype=np.intp))


def ranks(F: Values, enough: int | None = None) -> NDArray[np.int64]:
    """Return the non-domination rank of each row, 0 for the front, int64 ``[n]``.

    Args:
        F: float ``[n, m]`` without NaN, all to be made small.
        enough: Stop once as many rows are ranked; the others share the next rank. Default: rank all.
    """
    n = len(F)
    enough = n if enough is None else min(enough, n)
    rank = np.full(n, -1, dtype=np.int64)
    order = np.lexsort(F.T[::-1])
    k = done = 0
    if F.shape[1] <= 2:
        # In lexicographic order a row is on the front exactly when its last value beats all before it.
        while done < enough:
            F1 = F[order, -1]
            before = np.concatenate([[np.inf], np.minimum.accumulate(F1)[:-1]])
            same = np.concatenate([[True], (F[order[1:]] == F[order[:-1]]).all(axis=1)])
            front = F1 < before
            front[0] = True
            # Equal rows do not dominate one another.
            group = np.cumsum(~same)
            front = front[np.searchsorted(group, group)]
            rank[order[front]] = k
            order, done, k = order[~front], done + int(front.sum()), k + 1
    else:
        no_worse = np.asarray((F[:, None, :] <= F[None, :, :]).all(axis=2))
        dominates = no_worse & ~no_worse.T
        dominators = dominates.sum(axis=0)
        while done < enough:
            front = np.flatnonzero((dominators == 0) & (rank < 0))
            rank[front] = k
            dominators = dominators - dominates[front].sum(axis=0)
            done, k = done + len(front), k + 1
    rank[rank < 0] = k
    return rank


def best_first(scored: Scored, n: int | None = None) -> NDArray[np.intp]:
    """Return positions from best to worst by constrained domination (Deb, 2000).

    Feasible rows come first, by rank and crowding distance, then the others by violation.

    Args:
        scored: The rows.
        n: Number of positions wanted. Default: all.
    """
    n = len(scored) if n is None else n
    feasible = np.flatnonzero(scored.violation <= 0)
    infeasible = np.flatnonzero(scored.violation > 0)
    parts: list[NDArray[np.intp]] = []
    if len(feasible):
        F = scored.F[feasible]
        rank = ranks(F, n)
        distance = np.zeros(len(F))
        for k in range(int(rank.max()) + 1):
            members = np.flatnonzero(rank == k)
            distance[members] = crowding(F[members])
            if (rank <= k).sum() >= n:
                break
        parts.append(feasible[np.lexsort((-distance, rank))])
    parts.append(infeasible[np.argsort(scored.violation[infeasible], kind="stable")])
    return np.concatenate(parts)[:n]


def breed(
    operators: Operators,
    ordered: Rows,
    n: int,
    rng: np.random.Generator,
    *,
    cross: float = 0.9,
    rate: float = 1.0,
) -> Rows:
    """Return ``n`` children of parents chosen by binary tournaments.

    Args:
        operators: Crossover and mutation.
        ordered: int64 ``[p, n_genes]``, best first.
        n: Number of children.
        rng: Source of randomness.
        cross: Probability of crossover.
        rate: Expected number of genes mutated in a child.
    """
    # Rows are ordered, so the lower of two positions wins.
    winners = rng.integers(0, len(ordered), size=(2, n, 2)).min(axis=0)
    return operators.offspring(ordered[winners], rng, cross=cross, rate=rate)


def evolve(
    operators: Operators,
    score: Score,
    start: Rows,
    rng: np.random.Generator,
    *,
    population: int = 100,
    generations: int = 50,
    rate: float = 1.5,
) -> Scored:
    """Run NSGA-II on cheap scores, best first, and return its last population.

    Args:
        operators: Crossover and mutation.
        score: Scores rows.
        start: Distinct canonical rows to start from, any number above zero.
        rng: Source of randomness.
        population: Number of survivors of a generation.
        generations: Number of generations, each of as many children as survivors.
        rate: Expected number of genes mutated in a child.
    """
    current = Scored(start, *score(start))
    current = current.take(best_first(current, population))
    for _ in range(generations):
        children = breed(operators, current.G, population, rng, rate=rate)
        known = set(row_keys(current.G))
        fresh: dict[bytes, int] = {}
        for i, key in enumerate(row_keys(children)):
            if key not in known:
                fresh.setdefault(key, i)
        if not fresh:
            continue
        children = children[list(fresh.values())]
        everyone = current.joined(Scored(children, *score(children)))
        current = everyone.take(best_first(everyone, population))
    return current
