"""Features of a population for predictors: one-hot and ordinal columns, zero where a gene is inactive."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.gene import Gene
from search_spaces.rows import Rows

_CHUNK = 4096  # rows at a time: the output block of a chunk stays in the cache while it is filled
_JOINT_AT_MOST = 1024  # states of the genes that share one table


class FeatureEncoder:
    """Looks the columns of a few genes at a time up in a table of all their states.

    Each gene has one state more than choices: "inactive", whose columns are all zero. A gene with one choice
    has no columns. An ordinal gene has, after its one-hot columns, its value scaled to (0, 1]: zero is kept for
    "inactive".

    Args:
        genes: The genes, in column order.
    """

    def __init__(self, genes: Sequence[Gene]) -> None:
        names: list[str] = []
        self._groups: list[tuple[list[tuple[int, int]], int, NDArray[np.float32]]] = []
        members: list[tuple[int, NDArray[np.float32]]] = []
        states = 1
        for column, gene in enumerate(genes):
            if len(gene.choices) == 1:
                continue
            table, table_names = _gene_table(gene)
            if members and states * len(table) > _JOINT_AT_MOST:
                self._groups.append(_joint(members, len(names)))
                members, states = [], 1
            members.append((column, table))
            states *= len(table)
            names += table_names
        if members:
            self._groups.append(_joint(members, len(names)))
        self._n_choices = np.array([[len(g.choices)] for g in genes], dtype=np.int16)
        self.names: tuple[str, ...] = tuple(names)

    def __call__(self, columns: Rows, active: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return float32 ``[n, f]`` for canonical ``columns`` int ``[n_genes, n]`` and their activity."""
        n = columns.shape[1]
        out = np.empty((n, len(self.names)), dtype=np.float32)
        states = np.where(active, columns, self._n_choices)
        for start in range(0, n, _CHUNK):
            part = slice(start, start + _CHUNK)
            for members, end, table in self._groups:
                index = np.zeros(len(out[part]), dtype=np.int64)
                for column, stride in members:
                    index += states[column, part] * np.int64(stride)
                out[part, end - table.shape[1] : end] = table[index]
        return out


def _gene_table(gene: Gene) -> tuple[NDArray[np.float32], list[str]]:
    """Return the columns of each state of a gene, float32 ``[n_choices + 1, width]``, and their names."""
    k = len(gene.choices)
    # An alias never occurs in canonical rows: its one-hot column would be constant.
    alias = gene.canonical_indices()
    first = sorted(set(alias))
    names = [f"{gene.name}={gene.choices[i]}" for i in first] + ([gene.name] if gene.kind == "ordinal" else [])
    table = np.zeros((k + 1, len(names)), dtype=np.float32)
    for i in range(k):
        table[i, first.index(alias[i])] = 1.0
    if gene.kind == "ordinal":
        values = np.array(gene.choices, dtype=np.float64)
        low, high = values.min(), values.max()
        step = (high - low) / k
        table[:k, -1] = ((values - low + step) / (high - low + step))[alias]
    return table, names


def _joint(
    members: list[tuple[int, NDArray[np.float32]]], end: int
) -> tuple[list[tuple[int, int]], int, NDArray[np.float32]]:
    """Return (column, stride) of each gene, the column behind their last feature, and the table of all states."""
    tables = [t for _, t in members]
    sizes = [len(t) for t in tables]
    states = np.indices(sizes).reshape(len(sizes), -1)
    joint = np.concatenate([t[s] for t, s in zip(tables, states, strict=True)], axis=1)
    strides = [int(np.prod(sizes[i + 1 :])) for i in range(len(sizes))]
    return [(c, stride) for (c, _), stride in zip(members, strides, strict=True)], end, joint
