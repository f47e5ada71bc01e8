"""Variation of integer genotypes that respects which genes matter."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from search_spaces import Rows, SearchSpace
from search_spaces.rows import unique_rows


class Operators:
    """Uniform and one-point crossover, uniform-reset mutation and neighbourhoods of canonical rows.

    Polynomial mutation with rounding, the usual choice in NAS packages, changes a gene of three choices once in
    several hundred draws; here every child differs from its parent in at least one active gene.

    Args:
        space: The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        distinct = [sorted(set(g.canonical_indices())) for g in space.genes]
        self._n_values = np.array([len(d) for d in distinct])
        width = int(self._n_values.max())
        self._values = np.array([d + [d[0]] * (width - len(d)) for d in distinct], dtype=np.int64)
        self._place = np.zeros((len(distinct), int(space.n_choices.max())), dtype=np.int64)
        for g, (gene, values) in enumerate(zip(space.genes, distinct, strict=True)):
            for choice, root in enumerate(gene.canonical_indices()):
                self._place[g, choice] = values.index(root)

    def filled(self, G: Rows, donors: Rows, rng: np.random.Generator) -> Rows:
        """Return rows whose inactive genes have the donor's value where it is active there, else a random one.

        A canonical row holds 0 in its inactive genes; without this, every block that a child switches on
        would begin with the first choice.

        Args:
            G: int64 ``[n, n_genes]``, canonical.
            donors: int64 ``[n, n_genes]``, canonical.
            rng: Source of randomness.
        """
        drawn = self._at((rng.random(G.shape) * self._n_values).astype(np.int64))
        rows: Rows = np.where(self.space.active(G), G, np.where(self.space.active(donors), donors, drawn))
        return rows

    def _at(self, places: Rows) -> Rows:
        values: Rows = self._values[np.arange(len(self._n_values)), places]
        return values

    def crossover(self, A: Rows, B: Rows, rng: np.random.Generator, share: float = 0.5, kind: str = "uniform") -> Rows:
        """Return children of pairs of rows; they are neither canonical nor repaired, `mutate` is to follow.

        Args:
            A: int64 ``[n, n_genes]``, canonical.
            B: int64 ``[n, n_genes]``, canonical.
            rng: Source of randomness.
            share: Of uniform crossover: the probability that a gene comes from ``B``.
            kind: ``"uniform"``: each gene comes from either; ``"one-point"``: those behind a random column from ``B``.
        """
        if kind == "one-point":
            cut = rng.integers(1, max(A.shape[1], 2), size=len(A))
            take = np.arange(A.shape[1]) >= cut[:, None]
        else:
            take = rng.random(A.shape) < share
        children: Rows = np.where(take, self.filled(B, A, rng), self.filled(A, B, rng))
        return children

    def mutate(self, G: Rows, rng: np.random.Generator, rate: float | NDArray[np.float64] = 1.0) -> Rows:
        """Return canonical feasible rows in which some active genes have another value.

        Each active gene is reset with probability ``rate / number of active genes``, uniformly to one of its
        *other* values; a row in which none was drawn has one reset all the same.

        Args:
            G: int64 ``[n, n_genes]``.
            rng: Source of randomness.
            rate: Expected number of genes to reset, a number or ``[n]``.
        """
        if not len(G):
            return G
        mutable = self.space.active(G) & (self._n_values > 1)
        count = np.maximum(mutable.sum(axis=1), 1)
        draws = rng.random(G.shape)
        chosen = mutable & (draws < (np.broadcast_to(rate, len(G)) / count)[:, None])
        none = ~chosen.any(axis=1) & mutable.any(axis=1)
        # The least draw among the active genes: a uniform choice of one of them.
        chosen[none, np.where(mutable, draws, 2.0).argmin(axis=1)[none]] = True
        columns = np.arange(G.shape[1])
        shift = 1 + (rng.random(G.shape) * np.maximum(self._n_values - 1, 1)).astype(np.int64)
        moved = self._at((self._place[columns, G] + shift) % self._n_values)
        return self.space.repair(np.where(chosen, moved, G), rng)

    def neighbours(self, row: Rows) -> Rows:
        """Return the networks that differ from one row in the value of a single active gene.

        Genes that the change switches on begin with their first choice; forbidden combinations are left out.

        Args:
            row: int64 ``[n_genes]``, canonical.

        Returns:
            int64 ``[k, n_genes]``, canonical, distinct, in a fixed order.
        """
        active = self.space.active(row[None])[0]
        changed = []
        for g in np.flatnonzero(active & (self._n_values > 1)):
            for value in self._values[g, : self._n_values[g]]:
                if value != row[g]:
                    other = row.copy()
                    other[g] = value
                    changed.append(other)
        rows = self.space.canonical(np.array(changed, dtype=np.int64).reshape(-1, len(row)))
        return unique_rows(rows[self.space.feasible(rows)])

    def offspring(
        self,
        parents: Rows,
        rng: np.random.Generator,
        *,
        cross: float = 0.9,
        rate: float = 1.0,
        kind: str = "uniform",
    ) -> Rows:
        """Return one child for each pair of parents.

        Args:
            parents: int64 ``[n, 2, n_genes]``, canonical.
            rng: Source of randomness.
            cross: Probability of crossover; without it the child starts as its first parent.
            rate: As in `mutate`.
            kind: As in `crossover`.
        """
        A, B = parents[:, 0], parents[:, 1]
        children = self.crossover(A, B, rng, kind=kind)
        crossed = rng.random(len(A)) < cross
        return self.mutate(np.where(crossed[:, None], children, self.filled(A, B, rng)), rng, rate)

    def graded(self, n: int, rng: np.random.Generator) -> Rows:
        """Return rows of all sizes, from the smallest network's genes to the largest's.

        Rows that are uniform over genotypes are nearly all of medium size. Here row ``i`` of ``n`` has the size
        level ``t = (i + u) / n``; each gene lies between its smallest and its largest choice, at a binomial place
        with mean ``t``.

        Args:
            n: Number of rows.
            rng: Source of randomness.
        """
        level = (rng.permutation(n) + rng.random(n)) / max(n, 1)
        columns = []
        for gene in self.space.genes:
            small, large = gene.index(gene.smallest), gene.index(gene.largest)
            steps = rng.binomial(abs(large - small), level)
            graded = small + np.sign(large - small) * steps
            anything = rng.integers(0, len(gene.choices), size=n)
            # A categorical gene has no size: its choices stay equally likely.
            columns.append(np.where(gene.kind == "ordinal", graded, anything))
        return self.space.repair(np.stack(columns, axis=1).astype(np.int64), rng)
