"""Architectures in few words, and which choices the front prefers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nassearch.runs import Record
from search_spaces import SearchSpace

INACTIVE = "·"


def compact(space: SearchSpace, records: Sequence[Record]) -> list[list[str]]:
    """Return each architecture as lines such as ``ks: 3 5 · 3``: genes of one name but for numbers share a line.

    Args:
        space: The space of the records.
        records: Evaluated architectures.

    Returns:
        For each record its lines; genes that are not active show as ``·``.
    """
    families: dict[str, list[int]] = {}
    for column, gene in enumerate(space.genes):
        families.setdefault(re.sub(r"[._-]?\d+", "", gene.name) or gene.name, []).append(column)
    active = space.active(_rows(space, records))
    lines = []
    for r, on in zip(records, active, strict=True):
        values = [_short(r.arch[g.name]) if on[i] else INACTIVE for i, g in enumerate(space.genes)]
        lines.append(
            [
                f"{name if len(columns) > 1 else space.genes[columns[0]].name}: {' '.join(values[c] for c in columns)}"
                for name, columns in families.items()
            ]
        )
    return lines


def _rows(space: SearchSpace, records: Sequence[Record]) -> NDArray[np.int64]:
    return np.array([r.row for r in records], dtype=np.int64).reshape(len(records), len(space.genes))


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class GeneShares:
    """How often each choice of a gene occurs among networks in which the gene matters.

    Attributes:
        name: The gene.
        choices: Its choices as text, in their order.
        front: Share of each choice on the front, 0-1; NaN where the gene matters in no member.
        evaluated: Share of each choice among all evaluated networks, likewise.
        n_front: Number of front members in which the gene matters.
    """

    name: str
    choices: list[str]
    front: NDArray[np.float64]
    evaluated: NDArray[np.float64]
    n_front: int


def gene_shares(space: SearchSpace, front: Sequence[Record], evaluated: Sequence[Record]) -> list[GeneShares]:
    """Return how often each choice occurs on the front and among all evaluated networks, gene by gene."""
    groups = []
    for records in (front, evaluated):
        G = _rows(space, records)
        groups.append((G, space.active(G)))
    shares = []
    for column, gene in enumerate(space.genes):
        counts = [
            np.bincount(G[on[:, column], column], minlength=len(gene.choices)).astype(np.float64) for G, on in groups
        ]
        on_front, among_all = (c / c.sum() if c.sum() else np.full(len(c), np.nan) for c in counts)
        shares.append(
            GeneShares(gene.name, [_short(c) for c in gene.choices], on_front, among_all, int(counts[0].sum()))
        )
    return shares
