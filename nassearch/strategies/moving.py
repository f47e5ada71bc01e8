"""Repair of limits that can be computed beforehand, by moving counts between layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces import Rows, SearchSpace

COUNTS = "experts"
_ROLES = (COUNTS, "width", "top_k")
_FOLLOWERS = ("top_k", "shared")
_GROWING = (COUNTS, "width")


class CountMover:
    """Makes networks keep a limit on their size instead of throwing them away, in spaces with counts a layer.

    As EvoESAP keeps the number of experts (Liu et al., 2026): a network beyond the limit gives up counts in layers
    drawn at random, one step at a time, until it is within; then layers in random order take back what still has room,
    so that it uses its budget. Where counts alone do not do, widths and then experts per token get smaller. A network
    within the limits stays as it is, unless all of them are to use their budget.

    Args:
        space: The space; it has genes of role ``"experts"``.
        violation: Rows -> what they miss all limits by, float64 ``[n]``, 0 where none.
        fill: Whether networks within the limits grow, too, counts and widths in random order, until nothing more fits:
            for searches to which being smaller than the limit is worth nothing.
    """

    def __init__(
        self, space: SearchSpace, violation: Callable[[Rows], NDArray[np.float64]], *, fill: bool = False
    ) -> None:
        self._space = space
        self._violation = violation
        self._fill = fill
        # Of each ordinal gene: choice index -> place by size, and the other way round.
        self._order = [np.argsort(g.choices, kind="stable") if g.kind == "ordinal" else None for g in space.genes]

    @staticmethod
    def serves(space: SearchSpace) -> bool:
        """Return whether a space has counts to move."""
        return any(space.genes[c].kind == "ordinal" for c in space.columns_of_role(COUNTS))

    def __call__(self, G: Rows, rng: np.random.Generator) -> Rows:
        """Return canonical feasible rows; those within the limits are unchanged, unless they are to be filled.

        Args:
            G: int64 ``[n, n_genes]``, canonical and feasible.
            rng: Source of randomness; not used where nothing changes.
        """
        bad = np.flatnonzero(self._violation(G) > 0) if len(G) else np.empty(0, dtype=np.int64)
        result = G
        if len(bad):
            rows = G[bad]
            for role in _ROLES:
                rows = self._lowered(rows, self._columns(role), rng)
            result = G.copy()
            result[bad] = self._filled(rows, self._columns(COUNTS), rng)
        if self._fill and len(G):
            growing = [c for role in _GROWING for c in self._columns(role)]
            before = None
            while before is None or (before != result).any():
                before, result = result, self._filled(result, growing, rng)
        return result

    def _columns(self, role: str) -> list[int]:
        return [c for c in self._space.columns_of_role(role) if self._order[c] is not None]

    def _stepped(self, rows: Rows, columns: NDArray[np.int64], by: int) -> tuple[Rows, NDArray[np.bool_]]:
        """Return rows with one gene each a step smaller or larger, and for which of them there is such a step."""
        stepped, possible = rows.copy(), np.zeros(len(rows), dtype=bool)
        active = self._space.active(rows)
        for i, column in enumerate(columns):
            order = self._order[column]
            if order is None or not active[i, column]:
                continue
            place = int(np.flatnonzero(order == rows[i, column])[0]) + by
            if 0 <= place < len(order):
                stepped[i, column], possible[i] = order[place], True
        return stepped, possible

    def _lowered(self, rows: Rows, columns: Sequence[int], rng: np.random.Generator) -> Rows:
        """Return rows with smaller genes where they violate; a gene that does not help stays."""
        violation = self._violation(rows)
        useless = np.zeros((len(rows), len(columns)), dtype=bool)
        while len(columns):
            todo = np.flatnonzero((violation > 0) & ~useless.all(axis=1))
            if not len(todo):
                break
            draws = np.where(useless[todo], 2.0, rng.random((len(todo), len(columns))))
            chosen = draws.argmin(axis=1)
            stepped, possible = self._stepped(rows[todo], np.array(columns)[chosen], -1)
            stepped = self._space.repair(self.followed(stepped, np.array(columns)[chosen]), rng)
            after = self._violation(stepped)
            helped = possible & (after < violation[todo])
            useless[todo[~helped], chosen[~helped]] = True
            rows[todo[helped]], violation[todo[helped]] = stepped[helped], after[helped]
        return rows

    def followed(self, rows: Rows, changed: NDArray[np.int64]) -> Rows:
        """Return canonical rows in which what a smaller count does not allow any more is smaller, too.

        A repair at random could bring the count back instead.

        Args:
            rows: int64 ``[n, n_genes]``.
            changed: The column of the count that got smaller in each row, int64 ``[n]``.
        """
        rows = self._space.canonical(rows)
        for role in _FOLLOWERS:
            columns = self._columns(role)
            followers = [
                next((c for c in columns if self._space.genes[c].layer == self._space.genes[j].layer), -1)
                for j in changed
            ]
            todo = np.flatnonzero(~self._space.feasible(rows) & (np.array(followers) >= 0))
            before, tried = rows.copy(), todo
            while len(todo):
                stepped, possible = self._stepped(rows[todo], np.array(followers)[todo], -1)
                rows[todo[possible]] = self._space.canonical(stepped[possible])
                todo = todo[possible & ~self._space.feasible(rows[todo])]
            failed = tried[~self._space.feasible(rows[tried])]  # it was not that: all as it was
            rows[failed] = before[failed]
        return self._other_choices(rows, changed)

    def _other_choices(self, rows: Rows, changed: NDArray[np.int64]) -> Rows:
        """Return rows, those that are still not allowed with the first choice of a category that allows them.

        Of the same layer: what became of experts, say, where nothing is left to merge them into.
        """
        for row in np.flatnonzero(~self._space.feasible(rows)):
            for column, gene in enumerate(self._space.genes):
                if gene.kind != "categorical" or gene.layer != self._space.genes[changed[row]].layer:
                    continue
                tried = np.tile(rows[row], (len(gene.choices), 1))
                tried[:, column] = np.arange(len(gene.choices))
                allowed = np.flatnonzero(self._space.feasible(tried))
                if len(allowed):
                    rows[row] = self._space.canonical(tried[allowed[:1]])[0]
                    break
        return rows

    def _filled(self, rows: Rows, columns: Sequence[int], rng: np.random.Generator) -> Rows:
        """Return rows with larger counts where there is room within the limits."""
        orders = np.array([rng.permutation(columns) for _ in range(len(rows))], dtype=np.int64)
        for chosen in orders.T:
            within = self._violation(rows) == 0
            stepped, possible = self._stepped(rows, chosen, 1)
            stepped = self._space.canonical(stepped)
            taken = within & possible & self._space.feasible(stepped)
            taken &= self._violation(stepped) == 0
            rows = np.where(taken[:, None], stepped, rows)
        return rows
