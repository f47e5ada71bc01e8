"""Several objectives as one, for strategies that know a single objective only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from nassearch.strategies.base import check_choice

Values = NDArray[np.float64]

SCALARISATIONS = ("none", "sum", "chebyshev")

_AUGMENTATION = 0.05  # share of the sum in the augmented Chebyshev norm (Knowles, 2006)


def check_scalarise(strategy: str, value: object, n_objectives: int) -> str:
    """Return the option ``scalarise`` of a single-objective strategy.

    Args:
        strategy: Its name.
        value: The option's value.
        n_objectives: Number of objectives of the search.

    Raises:
        ConfigError: It is none of `SCALARISATIONS`, or ``"none"`` with several objectives.
    """
    how = check_choice(strategy, "scalarise", value, SCALARISATIONS)
    if how == "none" and n_objectives > 1:
        raise ConfigError(
            f"strategy {strategy!r} optimises one objective; {n_objectives} are given. Make the others constraints, "
            "give the option scalarise=sum or scalarise=chebyshev (which find one trade-off, not a front), or choose "
            "a strategy for several objectives such as linas or nsga2"
        )
    return how


def scalarised(F: Values, how: str) -> Values:
    """Return one value a row, to be made small, with equal weights.

    Each objective is scaled to [0, 1] over the rows given, then the mean is taken, or the greatest scaled value plus a
    twentieth of their sum (augmented Chebyshev).

    Args:
        F: float64 ``[n, m]``, all to be made small, without NaN.
        how: One of `SCALARISATIONS`.
    """
    if F.shape[1] == 1 or not len(F):
        return F[:, 0] if len(F) else np.empty(0)
    low, high = F.min(axis=0), F.max(axis=0)
    scaled = (F - low) / np.where(high > low, high - low, 1.0)
    total: Values = scaled.sum(axis=1)
    if how == "sum":
        return np.asarray(total / F.shape[1], dtype=np.float64)
    return np.asarray(scaled.max(axis=1) + _AUGMENTATION * total, dtype=np.float64)
