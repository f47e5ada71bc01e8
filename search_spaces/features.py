"""Features of a population for predictors: one-hot and ordinal columns, zero where a gene is inactive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.gene import Gene
from search_spaces.rows import Rows

_CHUNK = 4096  # rows at a time: the output block of a chunk stays in the cache while genes are written


class FeatureEncoder:
    """Looks each gene's columns up in a small table; the table's last row, all zero, is "inactive".

    A gene with one choice has no columns. An ordinal gene has, after its one-hot columns, its value scaled
    to (0, 1]: zero is kept for "inactive".

    Args:
        genes: The genes, in column order.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        names: list[str] = []
        self._tables: list[tuple[int, int, NDArray[np.float32]]] = []
        for column, gene in enumerate(genes):
            k = len(gene.choices)
            if k == 1:
                continue
            # An alias never occurs in canonical rows: its one-hot column would be constant.
            alias = gene.canonical_indices()
            first = sorted(set(alias))
            width = len(first) + (gene.kind == "ordinal")
            table = np.zeros((k + 1, width), dtype=np.float32)
            for i in range(k):
                table[i, first.index(alias[i])] = 1.0
            if gene.kind == "ordinal":
                values = np.array(gene.choices, dtype=np.float64)
                low, high = values.min(), values.max()
                table[:k, -1] = (values - low + (high - low) / k) / (high - low + (high - low) / k)
                table[:k, -1] = table[alias, -1]
            self._tables.append((column, len(names), table))
            names += [f"{gene.name}={gene.choices[i]}" for i in first]
            names += [gene.name] if gene.kind == "ordinal" else []
        self.names: tuple[str, ...] = tuple(names)

    def __call__(self, columns: Rows, active: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return float32 ``[n, f]`` for canonical ``columns`` int ``[n_genes, n]`` and their activity."""
        n = columns.shape[1]
        out = np.empty((n, len(self.names)), dtype=np.float32)
        for start in range(0, n, _CHUNK):
            part = slice(start, start + _CHUNK)
            for column, offset, table in self._tables:
                index = np.where(active[column, part], columns[column, part], len(table) - 1)
                out[part, offset : offset + table.shape[1]] = table[index]
        return out
