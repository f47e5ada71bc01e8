"""Products of the columns that matter: resolution times width, depth times feed-forward size, squared widths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from predictors.base import Floats


@dataclass(frozen=True)
class Products:
    """Appends the products of all pairs of some columns, squares included.

    Attributes:
        columns: The columns to multiply, int64 ``[k]``.
    """

    columns: NDArray[np.int64]

    @classmethod
    def fit(cls, scaled: Floats, targets: Floats, k: int) -> Self:
        """Choose the ``k`` columns with the greatest covariance with the targets (sure screening, Fan and Lv, 2008).

        Args:
            scaled: Centred features of comparable scale, float64 ``[n, f]``.
            targets: Centred targets, float64 ``[n]``.
            k: Number of columns; fewer where fewer vary.
        """
        strength = np.abs(scaled.T @ targets)
        order = np.argsort(-strength, kind="stable")[:k]
        return cls(np.sort(order[strength[order] > 0]).astype(np.int64))

    def __call__(self, scaled: Floats) -> Floats:
        """Return ``[n, f + k (k + 1) / 2]``."""
        some = scaled[:, self.columns]
        left, right = np.triu_indices(len(self.columns))
        return np.hstack([scaled, some[:, left] * some[:, right]])
