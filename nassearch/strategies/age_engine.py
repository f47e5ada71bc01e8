"""Survival of AGE-MOEA without the just-in-time compiler that pymoo's class needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies.inner import ranks

Values = NDArray[np.float64]
Positions = NDArray[np.intp]

_TINY = 1e-8


class AgeEngine:
    """Survival by proximity and spread in the estimated geometry of the front (Panichella, 2019).

    The first front is normalised by the hyperplane through its extremes; the exponent ``p`` of the norm in which it
    looks like a unit sphere follows from its central row. Rows of that front are chosen one by one for the greatest
    ratio of their distance to those chosen before (the two nearest) and their own norm; rows of later fronts score the
    inverse of their distance to the ideal. Infeasible rows come behind, by violation.

    Args:
        population: Number of survivors.
    """

    least = 2

    def __init__(self, population: int) -> None:
        self._size = population
        self._members: Positions = np.empty(0, dtype=np.intp)  # best first

    @property
    def members(self) -> Positions:
        """Positions of the survivors, best first."""
        return self._members

    def advance(self, new: Positions, F: Values, violation: Values, rng: np.random.Generator) -> None:
        """Let new rows compete with the survivors (see `SurvivalEngine.advance`)."""
        merged = np.concatenate([self._members, new])
        feasible = merged[violation[merged] <= 0]
        infeasible = merged[violation[merged] > 0]
        parts = [infeasible[np.argsort(violation[infeasible], kind="stable")]]
        if len(feasible):
            rank = ranks(F[feasible], self._size)
            score = age_scores(F[feasible], rank)
            parts.insert(0, feasible[np.lexsort((-score, rank))])
        self._members = np.concatenate(parts)[: self._size]

    def parents(self, n: int, rng: np.random.Generator) -> Positions:
        """Return the positions of two parents for each of ``n`` children, ``[n, 2]``, by binary tournaments."""
        winners = rng.integers(0, len(self._members), size=(2, n, 2)).min(axis=0)
        return np.asarray(self._members[winners], dtype=np.intp)


def age_scores(F: Values, rank: NDArray[np.int64]) -> Values:
    """Return the survival score of each row, the greater the better within its rank.

    Args:
        F: float64 ``[n, m]``, all to be made small.
        rank: int64 ``[n]``, 0 for the first front.

    Returns:
        float64 ``[n]``; inf for the extremes of the first front.
    """
    first = rank == 0
    ideal = F[first].min(axis=0)
    shifted = F - ideal
    front = shifted[first]
    extreme = _extremes(front)
    scale = _intercepts(front, extreme)
    front, p = front / scale, 1.0
    if len(front) > len(extreme):
        p = _exponent(front, extreme)
    norm = np.power(np.power(shifted / scale, p).sum(axis=1), 1.0 / p)
    norm = np.where(norm < _TINY, 1.0, norm)
    score = 1.0 / norm
    score[first] = _spread(front, norm[first], extreme, p)
    return score


def _extremes(front: Values) -> Positions:
    """Return, for each axis, the row nearest to it; no row twice."""
    m = front.shape[1]
    if len(front) <= m:
        return np.arange(len(front))
    chosen: list[int] = []
    for j in range(m):
        axis = np.full(m, 1e-6)
        axis[j] += 1.0
        axis /= np.linalg.norm(axis)
        distance = np.linalg.norm(front - np.outer(front @ axis, axis), axis=1)
        distance[chosen] = np.inf
        chosen.append(int(np.argmin(distance)))
    return np.array(chosen, dtype=np.intp)


def _intercepts(front: Values, extreme: Positions) -> Values:
    """Return where the hyperplane through the extremes cuts the axes, or the front's extent where it does not."""
    extent = front.max(axis=0)
    extent = np.where(extent > 0, extent, 1.0)
    if len(extreme) < front.shape[1]:
        return np.asarray(extent, dtype=np.float64)
    try:
        plane = np.linalg.solve(front[extreme], np.ones(front.shape[1]))
    except np.linalg.LinAlgError:
        return np.asarray(extent, dtype=np.float64)
    if not np.isfinite(plane).all() or (plane <= _TINY).any():
        return np.asarray(extent, dtype=np.float64)
    return np.asarray(1.0 / plane, dtype=np.float64)


def _exponent(front: Values, extreme: Positions) -> float:
    """Return the exponent of the norm in which the front is nearest to a unit sphere, within [0.1, 20]."""
    m = front.shape[1]
    distance = np.linalg.norm(front - front.mean(axis=1, keepdims=True), axis=1)
    distance[extreme] = np.inf
    centre = float(front[int(np.argmin(distance))].mean())
    if not 0 < centre < 1 or m == 1:
        return 1.0
    p = float(np.log(m) / np.log(1.0 / centre))
    return min(p, 20.0) if p > 0.1 else 1.0


def _spread(front: Values, norm: Values, extreme: Positions, p: float) -> Values:
    score = np.zeros(len(front))
    score[extreme] = np.inf
    chosen = np.zeros(len(front), dtype=bool)
    chosen[extreme] = True
    distance = np.power(np.power(np.abs(front[:, None] - front[None]), p).sum(axis=2), 1.0 / p)
    distance = np.maximum(distance, _TINY) / norm[:, None]
    # The two least distances to the chosen rows, kept up to date as rows are chosen.
    nearest = np.sort(distance[:, extreme], axis=1)[:, :2]
    if nearest.shape[1] < 2:
        nearest = np.repeat(nearest, 2, axis=1)
    while not chosen.all():
        total = np.where(chosen, -np.inf, nearest.sum(axis=1))
        best = int(np.argmax(total))
        score[best] = total[best]
        chosen[best] = True
        nearest = np.sort(np.column_stack([nearest, distance[:, best]]), axis=1)[:, :2]
    return score
