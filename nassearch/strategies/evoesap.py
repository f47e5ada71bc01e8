"""Evolution that moves a fixed budget between layers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from nassearch.strategies.base import Strategy, check_count, check_share
from nassearch.strategies.fixed_genes import fixed_genes, with_fixed
from nassearch.strategies.moving import CountMover
from nassearch.strategies.registry import register_strategy
from search_spaces import Rows, SearchSpace
from search_spaces.rows import unique_rows

Values = NDArray[np.float64]

_ATTEMPTS = 32  # at the moves of one child, as published
_MOVES = 3
_ROUNDS = 20  # of children, until enough of them are new
_PATTERNS = ("uniform", "up", "down", "middle", "edges", "front", "back")


@register_strategy("evoesap")
class EvoESAP(Strategy):
    """Counts per layer evolve at a fixed total, all else as it is, as EvoESAP does with experts (Liu et al., 2026).

    It starts from patterns (even, rising, falling, heavy in the middle, at the edges, in front, at the back), then
    random ones. A child is one of the best networks with up to three moves: a layer gives up to ``delta`` steps to
    another, so that the total stays. Only the first objective selects, behind the violations of constraints; the
    paper's is ``esap``. Genes of other roles are the largest network's unless ``fixed``; what a count does not allow,
    such as more experts a token than a layer keeps, is as large as it can be. The search ends when no more networks of
    that total are found.

    Args:
        space: See `Strategy`.
        role: Of the genes that share the total. Default: the ordinal role that most layers have, the first of several.
        share: The total, as a share of the largest network's. Default: as much as an even distribution may have under
            the limits on analytic metrics; a half where there are none.
        fixed: Genes that have one value throughout, see `fixed_genes`.
        population: Number of best networks from which parents come, and of those at the start; at most a quarter of the
            budget, where that is known, but at least 8.
        delta: Most steps of a move.
        **base: Arguments of `Strategy`.
    """

    fills: ClassVar[bool] = False

    def __init__(
        self,
        space: SearchSpace,
        *,
        role: str = "",
        share: float = 0.0,
        fixed: Any = "",
        population: int = 32,
        delta: int = 4,
        **base: Any,
    ) -> None:
        super().__init__(space, **base)
        self._fixed = fixed_genes(self.name, space, fixed)
        self.role = role or self._usual_role()
        self._columns = [i for i in space.columns_of_role(self.role) if i not in self._fixed]
        if len(self._columns) < 2 or any(space.genes[i].kind != "ordinal" for i in self._columns):
            raise ConfigError(
                f"strategy {self.name!r} moves a budget between layers, but space {space.name!r} has not two ordinal "
                f"genes of role {self.role!r} that are free; {self._roles_told()}. Choose another role, or a strategy "
                "such as nsga2"
            )
        self.population = check_count(self.name, "population", population, least=2)
        if self.budget is not None:
            self.population = min(self.population, max(8, self.budget // 4))
        self.delta = check_count(self.name, "delta", delta)
        self._share = check_share(self.name, "share", share)
        # Choice indices of each column by size, and the sizes.
        self._steps = [np.argsort(space.genes[c].choices, kind="stable") for c in self._columns]
        self._sizes = [np.sort(np.array(space.genes[c].choices, dtype=np.float64)) for c in self._columns]
        self._mover = CountMover(space, lambda G: np.zeros(len(G)))
        self._base = with_fixed(space.largest[None], self._fixed)[0]
        self.total = self._total()

    def _usual_role(self) -> str:
        counts: dict[str, int] = {}
        for gene in self.space.genes:
            if gene.role and gene.kind == "ordinal" and gene.layer is not None:
                counts[gene.role] = counts.get(gene.role, 0) + 1
        return max(counts, key=lambda r: counts[r]) if counts else ""

    def _roles_told(self) -> str:
        roles = dict.fromkeys(
            g.role for g in self.space.genes if g.role and g.kind == "ordinal" and g.layer is not None
        )
        return f"roles with a gene in each of several layers: {', '.join(map(str, roles)) or 'none'}"

    # -- counts --------------------------------------------------------------------------------------

    def _sum(self, levels: NDArray[np.int64]) -> float:
        return float(sum(s[v] for s, v in zip(self._sizes, levels, strict=True)))

    def _as_rows(self, levels: Sequence[NDArray[np.int64]]) -> Rows:
        """Return canonical rows of levels: places among the sizes of each column."""
        rows = np.tile(self._base, (len(levels), 1))
        for j, column in enumerate(self._columns):
            rows[:, column] = [self._steps[j][v[j]] for v in levels]
            # After each: what is not allowed is so by this count, and what follows is of its layer.
            rows = self._mover.followed(rows, np.full(len(rows), column))
        # Fixed genes that did not matter on the way there are back, where the network allows them.
        whole = self.space.canonical(with_fixed(rows, self._fixed))
        return np.where(self.space.feasible(whole)[:, None], whole, rows)

    def _levels(self, row: Rows) -> NDArray[np.int64]:
        return np.array(
            [int(np.flatnonzero(s == row[c])[0]) for s, c in zip(self._steps, self._columns, strict=True)],
            dtype=np.int64,
        )

    def _total(self) -> float:
        """Return the total: the given share, else the most that even levels may have under the analytic limits."""
        levels = np.array([len(s) - 1 for s in self._sizes], dtype=np.int64)
        limited = any(c.metric in self.analytic_metrics for c in self.constraints)
        if self._share or not limited:
            return (self._share or 0.5) * self._sum(levels)
        while self.analytic_violations(self._as_rows([levels])).sum() > 0 and levels.any():
            shares = [s[v] / s[-1] if v else -np.inf for s, v in zip(self._sizes, levels, strict=True)]
            levels[int(np.argmax(shares))] -= 1
        return self._sum(levels)

    def _near(self, wanted: Values, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return levels near wanted sizes whose sum is as near to the total as they can be, not above it."""
        levels = np.array(
            [int(np.abs(s - w).argmin()) for s, w in zip(self._sizes, wanted, strict=True)], dtype=np.int64
        )
        order = rng.permutation(len(levels))
        while self._sum(levels) > self.total and levels.any():
            for j in order:
                if self._sum(levels) > self.total and levels[j] > 0:
                    levels[j] -= 1
        grown = True
        while grown:
            grown = False
            for j in order:
                if levels[j] + 1 < len(self._sizes[j]):
                    step = self._sizes[j][levels[j] + 1] - self._sizes[j][levels[j]]
                    if self._sum(levels) + step <= self.total:
                        levels[j] += 1
                        grown = True
        return levels

    def _pattern(self, number: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the levels of a pattern by number; random ones for all other numbers."""
        n = len(self._columns)
        x = np.linspace(0.0, 1.0, n)
        named: dict[str, Values] = {
            "uniform": np.ones(n),
            "up": 0.5 + x,
            "down": 1.5 - x,
            "middle": 1.5 - np.abs(2 * x - 1),
            "edges": 0.5 + np.abs(2 * x - 1),
            "front": 0.7 ** (10 * x / 3),
            "back": 0.7 ** (10 * (1 - x) / 3),
        }
        weights = named[_PATTERNS[number]] if 0 <= number < len(_PATTERNS) else rng.random(n) + 1e-4
        full = np.array([s[-1] for s in self._sizes])
        return self._near(self.total * weights * full / (weights * full).sum(), rng)

    # -- search --------------------------------------------------------------------------------------

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        rows = self._fitting(self._start)
        if len(rows) >= n:
            return rows[:n]
        best = self._best() if self.valid.any() else self._start
        parents = [self._levels(row) for row in best]
        for _ in range(_ROUNDS):
            winners = rng.integers(len(parents), size=(2 * n, 2)).min(axis=1)
            bred = [self._child(parents[w], rng) for w in winners]
            rows = self._fitting(np.concatenate([rows, self._as_rows(bred)]))
            if len(rows) >= n:
                return rows[:n]
        # What moves do not reach may still have the total.
        return self._fitting(np.concatenate([rows, self._as_rows([self._pattern(-1, rng) for _ in range(8 * n)])]))[:n]

    @cached_property
    def _start(self) -> Rows:
        """The patterns, and random levels up to the size of the population."""
        rng = np.random.default_rng([self.seed, 0xE5A9])
        return unique_rows(self._as_rows([self._pattern(i, rng) for i in range(self.population)]))

    def _fitting(self, G: Rows) -> Rows:
        """Return new rows that violate the limits known beforehand no more than the even levels do."""
        new = self.unseen(G)
        fitting: Rows = new[self.analytic_violations(new).sum(axis=1) <= self._limit]
        return fitting

    @cached_property
    def _limit(self) -> float:
        return float(self.analytic_violations(self._start[:1]).sum())

    def _best(self) -> Rows:
        """Return the best networks so far, best first, at most a population; those of other origin only as levels."""
        valid = np.flatnonzero(self.valid)
        order = np.lexsort((self.F[valid, 0], self.V[valid].sum(axis=1)))
        return self.told[valid[order[: self.population]]]

    def _child(self, parent: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        levels, left = parent.copy(), int(rng.integers(1, _MOVES + 1, size=2).min())
        for _ in range(_ATTEMPTS):
            if not left:
                break
            giver, taker = rng.choice(len(levels), size=2, replace=False)
            lower = levels[giver] - int(rng.integers(1, self.delta + 1))
            if lower < 0:
                continue
            wanted = self._sizes[taker][levels[taker]] + self._sizes[giver][levels[giver]] - self._sizes[giver][lower]
            place = np.flatnonzero(np.isclose(self._sizes[taker], wanted))
            if len(place):
                levels[giver], levels[taker], left = lower, place[0], left - 1
        return levels

    def diagnostics(self) -> dict[str, Any]:
        """Return what the strategy knows of itself, as JSON data: the role and the total."""
        return {**super().diagnostics(), "role": self.role, "total": self.total}
