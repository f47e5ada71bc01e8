"""One alternative a block, so that a sum is least and other sums stay within limits: an exact integer program."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import NassearchError

Values = NDArray[np.float64]

_TIE = 1e-6  # weight of the other sums, each in units of its range, where the first is as good
_SLACK = 1e-9  # of limits, in units of the range: sums are rounded


def least_sum(
    tables: Sequence[Values], upper: Values, excluded: Sequence[Sequence[int]] = ()
) -> NDArray[np.int64] | None:
    """Return the alternative of each block with the least sum in column 0, int64 ``[blocks]``.

    Args:
        tables: For each block float64 ``[alternatives, columns]``; an alternative with a NaN is never chosen.
        upper: Greatest sum of each column, float64 ``[columns]``; infinity for none.
        excluded: Choices that must not come.

    Returns:
        None where no choice is within the limits.

    Raises:
        NassearchError: The solver failed.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    known = [~np.isnan(t).any(axis=1) for t in tables]
    if not all(k.any() for k in known):
        return None
    low, high = (sum(f(t[k], axis=0) for t, k in zip(tables, known, strict=True)) for f in (np.min, np.max))
    width = np.where(high > low, high - low, 1.0)
    everything = np.nan_to_num(np.concatenate(tables), nan=0.0) / width
    cost = everything[:, 0] + _TIE * everything[:, 1:].sum(axis=1)
    sizes = [len(t) for t in tables]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    n = int(sum(sizes))
    one = csr_array((np.ones(n), (np.repeat(np.arange(len(sizes)), sizes), np.arange(n))))
    rules = [LinearConstraint(one, 1.0, 1.0)]
    limited = np.flatnonzero(np.isfinite(upper))
    if len(limited):
        rules.append(LinearConstraint(everything[:, limited].T, -np.inf, upper[limited] / width[limited] + _SLACK))
    if len(excluded):
        columns = (starts + np.array(excluded, dtype=np.int64)).ravel()
        rows = np.repeat(np.arange(len(excluded)), len(sizes))
        cuts = csr_array((np.ones(len(columns)), (rows, columns)), shape=(len(excluded), n))
        rules.append(LinearConstraint(cuts, -np.inf, len(sizes) - 1.0))
    bounds = Bounds(0.0, np.concatenate(known).astype(np.float64))
    found = milp(cost, integrality=np.ones(n), bounds=bounds, constraints=rules, options={"mip_rel_gap": 0.0})
    if found.x is None:
        if found.status == 2:  # infeasible
            return None
        raise NassearchError(f"the integer program was not solved: {found.message}")
    return np.array([int(found.x[s : s + k].argmax()) for s, k in zip(starts, sizes, strict=True)], dtype=np.int64)
