"""Pareto fronts and their measures. Values are in the objectives' own units; NaN marks failed evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.objectives import Objective, to_min

Values = NDArray[np.float64]
Mask = NDArray[np.bool_]

_BLOCK = 512  # rows compared with all others at a time: bounds the memory of the comparison


def non_dominated(values: ArrayLike, objectives: Sequence[Objective]) -> Mask:
    """Return which rows no other row dominates.

    A row with a NaN is never on the front. Of rows with equal values only the first is.

    Args:
        values: float ``[n, m]``.
        objectives: The ``m`` objectives.

    Returns:
        bool ``[n]``.
    """
    return non_dominated_min(to_min(values, objectives))


def non_dominated_min(F: Values) -> Mask:
    """As `non_dominated` for ``[n, m]`` values that are all to be made small."""
    front = np.zeros(len(F), dtype=bool)
    valid = np.flatnonzero(~np.isnan(F).any(axis=1))
    if not len(valid):
        return front
    # Lexicographic order: a row can only be dominated by, or repeat, an earlier one.
    order = valid[np.lexsort((valid, *F[valid].T[::-1]))]
    ordered = F[order]
    if F.shape[1] <= 2:
        last = ordered[:, -1]
        best_before = np.concatenate([[np.inf], np.minimum.accumulate(last)[:-1]])
        keep = last < best_before
        keep[0] = True  # it may be (inf, inf)
    else:
        keep = np.ones(len(ordered), dtype=bool)
        for start in range(0, len(ordered), _BLOCK):
            block = ordered[start : start + _BLOCK]
            earlier = ordered[: start + len(block)]
            no_worse = np.ones((len(block), len(earlier)), dtype=bool)
            for j in range(F.shape[1]):
                no_worse &= earlier[None, :, j] <= block[:, None, j]
            before = np.arange(len(earlier))[None, :] < (start + np.arange(len(block)))[:, None]
            keep[start : start + len(block)] = ~(no_worse & before).any(axis=1)
    front[order[keep]] = True
    return front


def total_violation(violations: ArrayLike | None, n: int) -> Values:
    """Return the sum of violations of each row, float64 ``[n]``; zero where there are no constraints."""
    if violations is None:
        return np.zeros(n)
    array = np.asarray(violations, dtype=np.float64)
    if array.ndim != 2 or len(array) != n:
        raise ValueError(f"expected violations [{n}, n_constraints]; got {list(array.shape)}")
    return np.asarray(array.sum(axis=1), dtype=np.float64)


def constrained_front(values: ArrayLike, objectives: Sequence[Objective], violations: ArrayLike | None = None) -> Mask:
    """Return which rows satisfy all constraints and are dominated by no other that does.

    Args:
        values: float ``[n, m]``.
        objectives: The ``m`` objectives.
        violations: float ``[n, c]`` >= 0, 0 where met; NaN counts as not met. None: no constraints.

    Returns:
        bool ``[n]``; all False where no row satisfies the constraints.
    """
    F = to_min(values, objectives)
    feasible = total_violation(violations, len(F)) == 0
    return non_dominated_min(np.where(feasible[:, None], F, np.nan))


def reference_point(values: ArrayLike, objectives: Sequence[Objective], margin: float = 0.1) -> Values:
    """Return a reference for hypervolume: the worst value of each objective, and a tenth of its range beyond.

    The rule needs all values that are to be compared, of all strategies: hypervolumes of different references
    cannot be compared. A column of equal values goes beyond by a tenth of its magnitude, or of 1 if it is zero.

    Args:
        values: float ``[n, m]``; NaN rows are ignored.
        objectives: The ``m`` objectives.
        margin: Share of the range added beyond the worst value.

    Returns:
        float64 ``[m]`` in the objectives' own units.

    Raises:
        ValueError: No row is free of NaN.
    """
    F = to_min(values, objectives)
    F = F[~np.isnan(F).any(axis=1)]
    if not len(F):
        raise ValueError("a reference point needs at least one row without NaN")
    worst, best = F.max(axis=0), F.min(axis=0)
    magnitude = np.where(worst != 0, np.abs(worst), 1.0)
    spread = np.where(worst > best, worst - best, magnitude)
    return np.asarray((worst + margin * spread) * np.array([o.sign for o in objectives]), dtype=np.float64)


def hypervolume(values: ArrayLike, reference: ArrayLike, objectives: Sequence[Objective]) -> float:
    """Return the volume that the rows dominate within the reference point (Zitzler and Thiele, 1999).

    Args:
        values: float ``[n, m]``; rows with NaN and rows not better than the reference in all objectives add nothing.
        reference: float ``[m]``.
        objectives: The ``m`` objectives.
    """
    return hypervolume_min(to_min(values, objectives), to_min(np.asarray(reference)[None], objectives)[0])


def hypervolume_min(F: Values, reference: Values) -> float:
    """As `hypervolume` for values that are all to be made small."""
    F = F[non_dominated_min(F)]
    F = F[(F < reference).all(axis=1)]
    if not len(F):
        return 0.0
    if F.shape[1] == 1:
        return float(reference[0] - F.min())
    if F.shape[1] == 2:
        F = F[np.argsort(F[:, 0])]
        right = np.append(F[1:, 0], reference[0])
        return float(((right - F[:, 0]) * (reference[1] - F[:, 1])).sum())
    from pymoo.indicators.hv import HV

    return float(HV(ref_point=reference)(F))


def normalised_hypervolume(
    values: ArrayLike, ideal: ArrayLike, nadir: ArrayLike, objectives: Sequence[Objective]
) -> float:
    """Return the hypervolume after scaling ``ideal`` to 0 and ``nadir``, the reference, to 1: 1 at most."""
    low = to_min(np.asarray(ideal)[None], objectives)[0]
    high = to_min(np.asarray(nadir)[None], objectives)[0]
    return hypervolume_min((to_min(values, objectives) - low) / (high - low), np.ones(len(low)))


def knee(values: ArrayLike, objectives: Sequence[Objective]) -> int:
    """Return the row of a front that bulges furthest towards the ideal.

    With every objective scaled to [0, 1] over the front, that is the row furthest below the plane through the
    ends of the front (Das, 1999), the one with the least sum; the first of several.

    Args:
        values: float ``[n, m]``; rows with NaN are ignored.
        objectives: The ``m`` objectives.

    Raises:
        ValueError: No row is free of NaN.
    """
    F = to_min(values, objectives)
    valid = ~np.isnan(F).any(axis=1)
    if not valid.any():
        raise ValueError("a knee needs at least one row without NaN")
    low, high = F[valid].min(axis=0), F[valid].max(axis=0)
    scaled = (F - low) / np.where(high > low, high - low, 1.0)
    return int(np.argmin(np.where(valid, scaled.sum(axis=1), np.inf)))


def crowding(F: Values) -> Values:
    """Return NSGA-II's crowding distance of each row of one front (Deb et al., 2002).

    Args:
        F: float ``[n, m]``, without NaN.

    Returns:
        float64 ``[n]``: the sum over objectives of the scaled distance between both neighbours; inf at the ends.
    """
    n, m = F.shape
    distance = np.zeros(n)
    for j in range(m):
        order = np.argsort(F[:, j], kind="stable")
        ordered = F[order, j]
        gaps = np.full(n, np.inf)
        span = ordered[-1] - ordered[0] if n else 0.0
        if n > 2:
            gaps[1:-1] = (ordered[2:] - ordered[:-2]) / span if span > 0 else 0.0
        distance[order] += gaps
    return distance
