"""Networks whose layers are all alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from nassearch.strategies.base import Strategy
from nassearch.strategies.fixed_genes import fixed_genes, with_fixed
from nassearch.strategies.registry import register_strategy
from search_spaces import Gene, Rows, SearchSpace
from search_spaces.rows import unique_rows

_MOST = 100_000  # networks from which those to ask are taken


@register_strategy("uniform")
class Uniform(Strategy):
    """Only networks whose layers are all alike, in random order: what is published without a search.

    Genes of a group (``keep.0``, ``keep.1``, …) have one value, one that all of them know. With ``fixed`` this is a
    published method at several sizes: ``criterion=reap+op=drop+k=largest`` prunes a Mixture-of-Experts by REAP, the
    same number of experts in each layer. Networks beyond a limit on an analytic metric are left out where others meet
    it. The search ends when there are no more: no random ones stand in for them.

    Args:
        space: See `Strategy`.
        fixed: Genes that have one value throughout, see `fixed_genes`.
        **base: Arguments of `Strategy`.
    """

    fills: ClassVar[bool] = False
    learns: ClassVar[bool] = False

    def __init__(self, space: SearchSpace, *, fixed: Any = "", **base: Any) -> None:
        super().__init__(space, **base)
        self._fixed = fixed_genes(self.name, space, fixed)
        self._candidates: Rows | None = None

    def _propose(self, n: int, rng: np.random.Generator) -> Rows:
        if self._candidates is None:
            self._candidates = self._all()
        return self.unseen(self._candidates)[:n]

    def _all(self) -> Rows:
        """Return the networks that are alike throughout, in an order that the seed decides."""
        rng = np.random.default_rng([self.seed, 0x00F0])
        parts = alike(self.space.genes, free=[i for i in range(len(self.space.genes)) if i not in self._fixed])
        sizes = [len(places) for _, places in parts]
        total = int(np.prod([float(s) for s in sizes])) if sizes else 1
        if total <= _MOST:
            places = np.stack(np.unravel_index(rng.permutation(total), sizes or [1]), axis=1)
        else:
            places = np.stack([rng.integers(0, s, size=_MOST) for s in sizes], axis=1)
        rows = with_fixed(np.zeros((len(places), len(self.space.genes)), dtype=np.int64), self._fixed)
        for j, (columns, indices) in enumerate(parts):
            rows[:, columns] = indices[places[:, j]]
        rows = self.space.canonical(rows)
        rows = unique_rows(rows[self.space.feasible(rows)])
        missed = self.analytic_violations(rows).sum(axis=1)
        return rows[missed == 0] if (missed == 0).any() else rows[np.argsort(missed, kind="stable")]


def alike(genes: Sequence[Gene], free: Sequence[int]) -> list[tuple[list[int], Rows]]:
    """Return the columns of free genes in parts, and what each part can be, int64 ``[values, columns]`` of indices.

    Genes of one part have the same name before the dot; its values are those that all of them have. Where there are
    none, each gene is a part of its own.
    """
    named: dict[str, list[int]] = {}
    for column in free:
        prefix, _, number = genes[column].name.rpartition(".")
        named.setdefault(prefix if prefix and number.isdecimal() else genes[column].name, []).append(column)
    parts = []
    for columns in named.values():
        common = [v for v in genes[columns[0]].choices if all(v in genes[c].choices for c in columns)]
        for part in [columns] if common else [[c] for c in columns]:
            values = common or genes[part[0]].choices
            parts.append((part, np.array([[genes[c].index(v) for c in part] for v in values], dtype=np.int64)))
    return parts
