"""Scores of single blocks, added up, and an integer program."""

from __future__ import annotations

from functools import cached_property
from itertools import product
from math import prod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from nassearch.strategies.additive_program import least_sum
from nassearch.strategies.base import Strategy, check_count, check_share
from nassearch.strategies.fixed_genes import fixed_genes, with_fixed
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows, SearchSpace
from search_spaces.rows import row_keys, unique_rows

Values = NDArray[np.float64]

_MOST_PRODUCT = 4096  # combinations of a block's genes that are listed; of more, those with two changes at most
_TRIES = 50  # programs in a row without a new network
_GOLDEN = (np.sqrt(5.0) - 1) / 2


@register_strategy("additive-mip")
class AdditiveMIP(Strategy):
    """Each alternative of a block is scored alone, then an integer program picks one for each block, as in Puzzletron.

    A block is the genes of one layer; a gene without a layer is a block of its own. First the largest network is
    evaluated, and networks that differ from it in one block. The score of a network is then the sum of its blocks'
    differences, and the program (NVIDIA Model-Optimizer's, solved exactly) finds the network with the best sum of the
    first objective within the limits on analytic metrics and objectives. With one objective the next best ones follow.
    With several the others get limits between their extremes, a new one for each network, so that a front is traced.
    Analytic metrics are added up, too: where they are not sums over blocks a network may miss a limit by a little.

    Where a block has too many alternatives for the budget, those with the fewest changes are scored, over all sizes.
    The first networks do not look at the limits. The search ends when there are no more networks of scored
    alternatives.

    Args:
        space: See `Strategy`.
        fixed: Genes that have one value throughout, see `fixed_genes`.
        share: Of the budget for single alternatives, where it is known.
        alternatives: Most alternatives of a block, where the budget is not known.
        **base: Arguments of `Strategy`.
    """

    fills: ClassVar[bool] = False
    probes: ClassVar[bool] = True

    def __init__(
        self, space: SearchSpace, *, fixed: Any = "", share: float = 0.5, alternatives: int = 64, **base: Any
    ) -> None:
        super().__init__(space, **base)
        self._fixed = fixed_genes(self.name, space, fixed)
        self.share = check_share(self.name, "share", share)
        most = check_count(self.name, "alternatives", alternatives)
        self._blocks = self._divided()
        if not self._blocks:
            raise ConfigError(f"strategy {self.name!r}: every gene of space {space.name!r} is fixed; leave some free")
        if self.budget is not None:
            most = max(1, int(self.share * self.budget - 1) // len(self._blocks))
        base_row = space.canonical(with_fixed(space.largest[None], self._fixed))
        self._base = base_row[0] if space.feasible(base_row)[0] else space.largest
        self.available: list[int] = []
        self._alternatives = [self._of_block(b, columns, most) for b, columns in enumerate(self._blocks)]

    @property
    def probes_left(self) -> Rows:
        """The networks with one block changed that were not asked yet."""
        return self.unseen(self._singles)

    @property
    def n_probes(self) -> int:
        """Number of networks that are asked before the first program."""
        return len(self._singles)

    def is_combined(self, G: Rows) -> NDArray[np.bool_]:
        """Return which rows are what a program may give: scored alternatives of several blocks, bool ``[n]``."""
        singles = set(row_keys(self._singles))
        return np.array([k not in singles and self._choice(r) is not None for k, r in zip(row_keys(G), G, strict=True)])

    def _divided(self) -> list[list[int]]:
        blocks: dict[tuple[bool, int], list[int]] = {}
        for column, gene in enumerate(self.space.genes):
            if column not in self._fixed and len(set(gene.canonical_indices())) > 1:
                key = (False, column) if gene.layer is None else (True, gene.layer)
                blocks.setdefault(key, []).append(column)
        return list(blocks.values())

    def _of_block(self, number: int, columns: list[int], most: int) -> Rows:
        """Return the rows with one block changed, the unchanged one first, then those with the fewest changes."""
        genes = [self.space.genes[c] for c in columns]
        start = with_fixed(self._base[None], self._fixed)[0]
        if prod(len(g.choices) for g in genes) <= _MOST_PRODUCT:
            places = np.array(list(product(*(range(len(g.choices)) for g in genes))), dtype=np.int64)
        else:
            places = self._two_changes(start[columns], [len(g.choices) for g in genes])
        rows = np.tile(start, (len(places), 1))
        rows[:, columns] = places
        rows = self.space.canonical(rows)
        rows = unique_rows(rows[self.space.feasible(rows)])
        rng = np.random.default_rng([self.seed, 0xADD, number])
        rows = rows[rng.permutation(len(rows))]
        self.available.append(len(rows) - 1)
        # Of the block alone: a change may make a fixed gene matter that the base does not use.
        changes = (rows[:, columns] != self._base[columns]).sum(axis=1)
        rows = rows[np.lexsort((self._turn(rows, changes), changes))][: most + 1]
        rest = rows[(rows != self._base).any(axis=1)][:most]
        return np.concatenate([self._base[None], rest])

    def _turn(self, rows: Rows, changes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return when the turn of each row comes among those with as many changes, int64 ``[n]``.

        By the limits that are known beforehand: the smallest first, then the largest, the one in the middle, …, so that
        few alternatives still reach a tight limit, and the levels in between. Those that bring a limit no nearer come
        last.
        """
        turn = np.zeros(len(rows), dtype=np.int64)
        if not any(c.metric in self.analytic_metrics for c in self.constraints):
            return turn
        beyond = self.analytic_violations(rows).sum(axis=1)
        useless = beyond >= 0.999 * self.analytic_violations(self._base[None]).sum()
        for number in np.unique(changes):
            own = np.flatnonzero((changes == number) & ~useless)
            by_size = own[np.argsort(beyond[own], kind="stable")]
            turn[by_size[spread(len(own))]] = np.arange(len(own))
        return np.where(useless, len(rows), turn)

    @staticmethod
    def _two_changes(start: Rows, sizes: list[int]) -> Rows:
        found = [start]
        for i, n in enumerate(sizes):
            for a in range(n):
                one = start.copy()
                one[i] = a
                found.append(one)
                for j in range(i + 1, len(sizes)):
                    for b in range(sizes[j]):
                        two = one.copy()
                        two[j] = b
                        found.append(two)
        return unique_rows(np.array(found, dtype=np.int64))

    @cached_property
    def _singles(self) -> Rows:
        """All networks with at most one block changed: the base, then the first alternative of each block, …."""
        most = max(len(a) for a in self._alternatives)
        turns = [a[i : i + 1] for i in range(1, most) for a in self._alternatives if i < len(a)]
        return unique_rows(np.concatenate([self._base[None], *turns]))

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        missing = self.probes_left
        if len(missing):
            return missing[:n]
        waiting = set(row_keys(self.pending)) & set(row_keys(self._singles))
        if waiting:  # the program is not complete
            return missing
        return self._solved(n)

    # -- the program ---------------------------------------------------------------------------------

    def _solved(self, n: int) -> Rows:
        """Return at most ``n`` new networks, each the solution of a program."""
        tables, upper = self._tables()
        excluded = [c for row in (*self.told, *self.pending) if (c := self._choice(row)) is not None]
        number = len(self._position) + len(self._asked) - len(self._singles)
        found = np.empty((0, len(self.space.genes)), dtype=np.int64)
        failed = 0
        while len(found) < n and failed < _TRIES:
            choice = least_sum(tables, self._limits(tables, upper, number), excluded)
            number += 1
            if choice is None:
                failed += 1
                if len(self.objectives) == 1:
                    break
                continue
            excluded.append(choice.tolist())
            new = self.unseen(self._combined(choice)[None])
            failed = 0 if len(new) else failed + 1
            found = np.concatenate([found, new])
        return found

    def _tables(self) -> tuple[list[Values], Values]:
        """Return for each block ``[alternatives, objectives + limits]``, all to be small, and the greatest sums."""
        limits = [c for c in self.constraints if self._source(c.metric) is not None]
        signs = [1.0 if c.op[0] == "<" else -1.0 for c in limits]
        base = self._values(self._base[None], limits, signs)[0]
        # Without the base the differences are to the mean of what is known: the best choice is the same.
        usual = np.concatenate([self._values(a[1:], limits, signs) for a in self._alternatives])
        with np.errstate(invalid="ignore"):
            known = ~np.isnan(usual)
            mean = np.where(known, usual, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
        base = np.where(np.isnan(base), mean, base)
        tables = []
        for rows in self._alternatives:
            table = self._values(rows, limits, signs) - base
            table[0] = 0.0
            tables.append(table)
        upper = np.full(base.shape, np.inf)
        for j, (c, sign) in enumerate(zip(limits, signs, strict=True), start=len(self.objectives)):
            upper[j] = sign * c.limit - base[j]
        return tables, upper

    def _source(self, metric: str) -> int | None:
        """Return the number of the objective that is the metric, -1 for an analytic one, None for any other."""
        names = [o.metric for o in self.objectives]
        return -1 if metric in self.analytic_metrics else (names.index(metric) if metric in names else None)

    def _values(self, G: Rows, limits: list[Any], signs: list[float]) -> Values:
        """Return the objectives and limited metrics of rows, all to be small; NaN where unknown."""
        exact = self.analytic_values(G) if len(G) else {}
        told = np.full((len(G), len(self.objectives)), np.nan)
        for i, key in enumerate(row_keys(G)):
            if key in self._position:
                told[i] = self._F[self._position[key]]
        columns = []
        for j, o in enumerate(self.objectives):
            columns.append(o.sign * exact[o.metric] if o.metric in exact else told[:, j])
        for c, sign in zip(limits, signs, strict=True):
            place = self._source(c.metric)
            own = told[:, place] * self.signs[place] if place is not None and place >= 0 else exact.get(c.metric)
            columns.append(sign * (np.full(len(G), np.nan) if own is None else own))
        return np.stack(columns, axis=1)

    def _limits(self, tables: list[Values], upper: Values, number: int) -> Values:
        """Return the greatest sums of a program: those given, and of further objectives one between their extremes."""
        limits = upper.copy()
        rng = np.random.default_rng([self.seed, 0x314D])
        for j in range(1, len(self.objectives)):
            columns = [t[~np.isnan(t).any(axis=1), j] for t in tables]
            low, high = (sum(float(f(c)) for c in columns) for f in (np.min, np.max))
            level = (rng.random() + number * _GOLDEN**j) % 1.0
            limits[j] = low + level * (high - low)
        return limits

    def _choice(self, row: Rows) -> list[int] | None:
        """Return which alternative of each block a row has, None where it has others."""
        choice = []
        for columns, places in zip(self._blocks, self._places, strict=True):
            place = places.get(row[columns].tobytes())
            if place is None:
                return None
            choice.append(place)
        return choice

    @cached_property
    def _places(self) -> list[dict[bytes, int]]:
        return [
            {key.tobytes(): i for i, key in enumerate(rows[:, columns])}
            for columns, rows in zip(self._blocks, self._alternatives, strict=True)
        ]

    def _combined(self, choice: NDArray[np.int64]) -> Rows:
        row = with_fixed(self._base[None], self._fixed)
        for columns, rows, place in zip(self._blocks, self._alternatives, choice, strict=True):
            row[0, columns] = rows[place, columns]
        combined: Rows = self.space.canonical(row)[0]
        return combined

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: the blocks and how many alternatives each has."""
        return {**super().diagnostics(), "alternatives": [len(a) for a in self._alternatives]}


def spread(n: int) -> NDArray[np.int64]:
    """Return 0 … n - 1 so that any first few are spread over all: the ends, the middle, the quarters, …."""
    order: dict[int, None] = {0: None, max(n - 1, 0): None} if n else {}
    step = 2
    while len(order) < n:
        order |= dict.fromkeys(round(i * (n - 1) / step) for i in range(1, step, 2))
        step *= 2
    return np.array(list(order), dtype=np.int64)
