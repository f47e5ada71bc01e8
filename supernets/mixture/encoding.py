"""phi: what the routers see of an architecture, from its space alone.

Numbers are divided by the gene's largest value, so they are in (0, 1]; an inactive gene gives zeros. Genes whose values
are no positive numbers are one-hot.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from search_spaces import Gene, SearchSpace
from search_spaces.errors import did_you_mean
from supernets.errors import SupernetError

ArchitectureEncoding = Callable[[NDArray[np.int64]], NDArray[np.float32]]
"""Canonical rows ``[n, n_genes]`` -> float32 ``[n, f]``."""

_ENCODINGS: dict[str, Callable[[SearchSpace], ArchitectureEncoding]] = {}


def register_encoding(
    name: str,
) -> Callable[[Callable[[SearchSpace], ArchitectureEncoding]], Callable[[SearchSpace], ArchitectureEncoding]]:
    """Register a function that makes the encoding of a space.

    Raises:
        SupernetError: The name is taken.
    """

    def register(maker: Callable[[SearchSpace], ArchitectureEncoding]) -> Callable[[SearchSpace], ArchitectureEncoding]:
        if name in _ENCODINGS:
            raise SupernetError(f"an architecture encoding named {name!r} is registered already; choose another name")
        _ENCODINGS[name] = maker
        return maker

    return register


def list_encodings() -> list[str]:
    """Return the names of the encodings, sorted."""
    return sorted(_ENCODINGS)


def make_encoding(name: str, space: SearchSpace) -> ArchitectureEncoding:
    """Return the encoding of a space.

    Raises:
        SupernetError: No encoding has the name.
    """
    if name not in _ENCODINGS:
        near = did_you_mean(name, _ENCODINGS)
        raise SupernetError(f"unknown architecture encoding {name!r}{near}; available: {', '.join(list_encodings())}")
    maker = _ENCODINGS[name](space)
    return lambda rows: maker(space.canonical(rows))


def _one_hot(gene: Gene) -> NDArray[np.float32]:
    """Return the features of each choice, ``[n_choices, n_choices]``."""
    return np.eye(len(gene.choices), dtype=np.float32)


def _numbers(gene: Gene) -> NDArray[np.float32]:
    """Return the features of each choice, ``[n_choices, 1]`` where a number can tell all of them from nothing."""
    if gene.kind != "ordinal":
        return _one_hot(gene)
    values = np.array(gene.choices, dtype=np.float64)
    if values.min() <= 0:
        return _one_hot(gene)
    scaled: NDArray[np.float32] = (values / values.max()).astype(np.float32)
    if scaled.min() <= 0 or len(np.unique(scaled)) < len(scaled):
        return _one_hot(gene)
    return scaled.reshape(-1, 1)


def _per_gene(space: SearchSpace, tables: list[NDArray[np.float32]]) -> ArchitectureEncoding:
    def encode(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        active = space.active(rows)
        columns = [t[rows[:, i]] * active[:, i, None] for i, t in enumerate(tables)]
        return np.concatenate(columns, axis=1).astype(np.float32)

    return encode


@register_encoding("fine")
def fine(space: SearchSpace) -> ArchitectureEncoding:
    """Every gene by itself: two different networks never have the same features."""
    return _per_gene(space, [_numbers(g) for g in space.genes])


@register_encoding("one-hot")
def one_hot(space: SearchSpace) -> ArchitectureEncoding:
    """Every choice of every gene by itself."""
    return _per_gene(space, [_one_hot(g) for g in space.genes])


@register_encoding("average")
def average(space: SearchSpace) -> ArchitectureEncoding:
    """The paper's form: of each group of genes (``ffn.0``, ``ffn.1``, …) the mean over the active ones.

    Networks whose layers are permuted have the same features.
    """
    tables = [_numbers(g) for g in space.genes]
    groups: list[list[int]] = []
    grouped = {column: members for members in space.groups.values() for column in members}
    for column in range(len(space.genes)):
        members = grouped.get(column, [column])
        like = len({tables[c].shape for c in members}) == 1
        if not like:
            groups.append([column])
        elif column == members[0]:
            groups.append(members)
    fine_encoding = _per_gene(space, tables)
    starts = np.cumsum([0, *(t.shape[1] for t in tables)])

    def encode(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        features, active = fine_encoding(rows), space.active(rows)
        means = []
        for members in groups:
            total = np.sum([features[:, starts[c] : starts[c + 1]] for c in members], axis=0)
            means.append(total / np.maximum(active[:, members].sum(1), 1)[:, None])
        return np.concatenate(means, axis=1).astype(np.float32)

    return encode


@register_encoding("constant")
def constant(space: SearchSpace) -> ArchitectureEncoding:
    """One number, the same for all: mixtures that learn but do not follow the architecture, for ablations."""
    return lambda rows: np.full((len(rows), 1), 0.5, dtype=np.float32)
