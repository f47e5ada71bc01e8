"""Random search."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from nassearch.strategies.base import Strategy
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows


@register_strategy("random")
class RandomSearch(Strategy):
    """Distinct networks, uniform over genotypes: the baseline every strategy has to beat.

    Where a limit on a size is kept by moving counts, those beyond it are moved to it first.
    """

    learns: ClassVar[bool] = False

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        return self.random_rows(n, rng)
