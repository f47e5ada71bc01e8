"""Choosing a batch by expected hypervolume improvement over samples of predicted objectives.

The greedy form of q-EHVI (Daulton et al., 2020): each next network is the one that adds most, averaged over joint
samples, to the front of everything measured and everything chosen before it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_POINTS = 2000  # of each kind


def choose_batch(
    samples: Values,
    satisfied: NDArray[np.bool_],
    front: Values,
    reference: Values,
    n: int,
    rng: np.random.Generator,
    taken: int = 0,
) -> list[int]:
    """Return the candidates to evaluate, best first.

    Args:
        samples: float ``[s, k, m]``, ``s`` joint samples of the objectives of ``k`` candidates, to be made small.
        satisfied: bool ``[s, k]``, whether a candidate satisfies all constraints in a sample.
        front: float ``[p, m]``, measured front.
        reference: float ``[m]``; nothing beyond it counts.
        n: Number of candidates wanted.
        rng: Source of randomness (three or more objectives).
        taken: The first so many candidates are being evaluated already; they count as chosen and are not returned.

    Returns:
        Positions among the candidates, fewer than ``n`` only when no other improves any sample.
    """
    usable = np.where(satisfied[:, :, None], samples, np.inf)
    exact = samples.shape[2] <= 2
    tally = _Staircase(usable, front, reference) if exact else _Coverage(usable, front, reference, rng)
    free = np.ones(samples.shape[1], dtype=bool)
    for c in range(taken):
        tally.choose(c)
        free[c] = False
    chosen: list[int] = []
    while len(chosen) < n and free.any():
        gain = np.where(free, tally.gains(), -np.inf)
        best = int(gain.argmax())
        if gain[best] <= 0:
            break
        chosen.append(best)
        free[best] = False
        tally.choose(best)
    return chosen


class _Staircase:
    """Exact improvements for one and two objectives; one objective is two with a constant second."""

    def __init__(self, samples: Values, front: Values, reference: Values) -> None:
        s = len(samples)
        if samples.shape[2] == 1:
            samples = np.concatenate([samples, np.where(np.isinf(samples), np.inf, 0.0)], axis=2)
            front = np.concatenate([front, np.zeros_like(front)], axis=1)
            reference = np.append(reference, 1.0)
        self.samples, self.reference = samples, reference
        front = front[np.asarray((front < reference).all(axis=1))]
        order = np.argsort(front[:, 0])
        self.x = np.tile(front[order, 0], (s, 1))
        self.y = np.minimum.accumulate(np.tile(front[order, 1], (s, 1)), axis=1)

    def gains(self) -> Values:
        s = len(self.samples)
        right = np.concatenate([self.x, np.full((s, 1), self.reference[0])], axis=1)
        left = np.concatenate([np.full((s, 1), -np.inf), self.x], axis=1)
        top = np.concatenate([np.full((s, 1), self.reference[1]), self.y], axis=1)
        px, py = self.samples[:, :, :1], self.samples[:, :, 1:]
        width = right[:, None, :] - np.maximum(px, left[:, None, :])
        height = top[:, None, :] - py
        area = np.maximum(width, 0.0) * np.maximum(height, 0.0)
        return np.asarray(area.sum(axis=2).mean(axis=0), dtype=np.float64)

    def choose(self, candidate: int) -> None:
        new = self.samples[:, candidate]
        inside = np.asarray((new < self.reference).all(axis=1))
        # Outside the reference a point adds nothing: a corner of the box stands in for it.
        new = np.where(inside[:, None], new, self.reference)
        x = np.concatenate([self.x, new[:, :1]], axis=1)
        y = np.concatenate([self.y, new[:, 1:]], axis=1)
        order = np.argsort(x, axis=1, kind="stable")
        self.x = np.take_along_axis(x, order, axis=1)
        self.y = np.minimum.accumulate(np.take_along_axis(y, order, axis=1), axis=1)


class _Coverage:
    """Improvements for more objectives: the weight of random points that a candidate newly dominates.

    The points are drawn from a mixture: half uniform over the box, half just beyond the samples, since near
    convergence hardly any uniform point is left to win. Far points count in full and near ones little: the
    density of the near ones is the greater.
    """

    def __init__(self, samples: Values, front: Values, reference: Values, rng: np.random.Generator) -> None:
        finite = np.where(np.isinf(samples), reference, samples)
        low = np.minimum(finite.min(axis=(0, 1)), front.min(axis=0) if len(front) else reference)
        uniform = low + rng.random((_POINTS, len(reference))) * (reference - low)
        picks = finite[rng.integers(0, finite.shape[0], _POINTS), rng.integers(0, finite.shape[1], _POINTS)]
        near = picks + rng.random(picks.shape) ** 3 * np.maximum(reference - picks, 0.0)
        points = np.concatenate([uniform, near])
        weights = np.repeat([1.0, 0.05], _POINTS)
        for member in front:
            beyond = ~np.asarray((member <= points).all(axis=1))
            points, weights = points[beyond], weights[beyond]
        self.weights = weights.astype(np.float32)
        covered = np.ones((len(samples), samples.shape[1], len(points)), dtype=bool)
        for j in range(samples.shape[2]):
            covered &= samples[:, :, j, None] <= points[None, None, :, j]
        self.covered = covered.astype(np.float32)
        self.open = np.ones((len(samples), len(points)), dtype=np.float32)

    def gains(self) -> Values:
        won = np.matmul(self.covered, (self.open * self.weights)[:, :, None])
        return np.asarray(won[:, :, 0].mean(axis=0), dtype=np.float64)

    def choose(self, candidate: int) -> None:
        self.open *= 1.0 - self.covered[:, candidate]
