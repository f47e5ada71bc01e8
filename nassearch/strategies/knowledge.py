"""What is known of networks before a search begins: values of the same metrics, and of related ones as a prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.constraints import ResolvedConstraint
from nassearch.objectives import Objective
from nassearch.strategies.inner import Scored, best_first
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Knowledge:
    """Metrics of networks that other searches have evaluated.

    Attributes:
        G: int64 ``[n, n_genes]``, canonical and distinct.
        known: Metric -> float64 ``[n]`` as an evaluation of this search would give it; NaN where unknown.
        prior: Metric -> float64 ``[n]`` of the metric under other conditions (another device, another data set):
            related, never to be mixed with values of this search; NaN where unknown.
    """

    G: Rows
    known: Mapping[str, Values] = field(default_factory=dict)
    prior: Mapping[str, Values] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        space: SearchSpace,
        G: Rows,
        known: Mapping[str, ArrayLike] | None = None,
        prior: Mapping[str, ArrayLike] | None = None,
    ) -> Knowledge:
        """Make knowledge of rows in any form; of equal rows the first counts.

        Raises:
            ValueError: A metric has not one value a row.
        """
        rows = space.canonical(np.asarray(G, dtype=np.int64).reshape(-1, len(space.genes)))
        first: dict[bytes, int] = {}
        for i, (key, feasible) in enumerate(zip(row_keys(rows), space.feasible(rows), strict=True)):
            if feasible:
                first.setdefault(key, i)
        pick = np.array(list(first.values()), dtype=np.intp)
        parts = []
        for given in (known or {}, prior or {}):
            columns = {}
            for metric, values in given.items():
                column = np.asarray(values, dtype=np.float64)
                if column.shape != (len(rows),):
                    raise ValueError(f"expected {len(rows)} values of {metric!r}, one a row; got {list(column.shape)}")
                columns[metric] = np.where(np.isfinite(column), column, np.nan)[pick]
            parts.append(columns)
        return cls(rows[pick], *parts)

    def __len__(self) -> int:
        return len(self.G)

    def values(self, metric: str) -> tuple[Rows, Values]:
        """Return the rows of which a metric is known, and its values there: ``[k, n_genes]`` and ``[k]``."""
        return self._finite(self.known.get(metric))

    def prior_values(self, metric: str) -> tuple[Rows, Values]:
        """As `values`, under other conditions."""
        return self._finite(self.prior.get(metric))

    def _finite(self, column: Values | None) -> tuple[Rows, Values]:
        if column is None:
            return self.G[:0], np.empty(0)
        finite = np.isfinite(column)
        return self.G[finite], column[finite]

    def guess(self, metric: str) -> Values | None:
        """Return what a metric may be like, float64 ``[n]``: known or prior values, whichever are more; None: none are.

        The two are not mixed: milliseconds of two devices have no common scale.
        """
        columns = [c for c in (self.known.get(metric), self.prior.get(metric)) if c is not None]
        best = max(columns, key=lambda c: int(np.isfinite(c).sum()), default=None)
        return best if best is not None and np.isfinite(best).any() else None

    def best(
        self,
        n: int,
        objectives: Sequence[Objective],
        constraints: Sequence[ResolvedConstraint],
        exact: Mapping[str, Values],
    ) -> Rows:
        """Return the rows that promise most, spread over their front, int64 ``[<= n, n_genes]``.

        Args:
            n: Number of rows wanted.
            objectives: What is to be good.
            constraints: Limits; those on metrics that are known only under other conditions say nothing.
            exact: Metric -> float ``[n]`` of what can be computed of the rows.
        """
        guesses = {o: g for o in objectives if o.metric not in exact and (g := self.guess(o.metric)) is not None}
        if not guesses:
            return self.G[:0]  # nothing is known that could not be computed of any network
        guesses |= {o: exact[o.metric] for o in objectives if o.metric in exact}
        F = np.stack([o.to_min(guesses[o]) for o in objectives if o in guesses], axis=1)
        V = np.zeros(len(self))
        for c in constraints:
            column = exact.get(c.metric, self.known.get(c.metric))
            V += 0.0 if column is None else np.nan_to_num(c.violation(column), nan=0.0)
        complete = np.flatnonzero(np.isfinite(F).all(axis=1))
        if not len(complete):
            return self.G[:0]
        return self.G[complete][best_first(Scored(self.G[complete], F[complete], V[complete]), n)]
