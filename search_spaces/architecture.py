"""The readable form of a row: gene name -> value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from search_spaces.errors import InvalidArchitecture, SearchSpaceError, did_you_mean
from search_spaces.gene import Value
from search_spaces.rows import Rows

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace


def decode_rows(space: SearchSpace, rows: Rows) -> list[dict[str, Value]]:
    """Return the architecture of each row."""
    return [{g.name: g.choices[i] for g, i in zip(space.genes, row, strict=True)} for row in rows.tolist()]


def _ungrouped(space: SearchSpace, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """Spell ``{"ks": [3, 5]}`` out as ``{"ks.0": 3, "ks.1": 5}``."""
    flat: dict[str, Any] = {}
    for name, value in architecture.items():
        columns = space.groups.get(name)
        if columns is None or not isinstance(value, list | tuple):
            flat[name] = value
            continue
        if len(value) != len(columns):
            raise InvalidArchitecture(
                f"group {name!r} of search space {space.name!r} has {len(columns)} genes, got {len(value)} values"
            )
        flat.update((space.genes[c].name, v) for c, v in zip(columns, value, strict=True))
    return flat


def encode_one(space: SearchSpace, architecture: Mapping[str, Any]) -> list[int]:
    """Return the choice indices of one architecture, after checking it (see `SearchSpace.validate`)."""
    if not isinstance(architecture, Mapping):
        raise InvalidArchitecture(f"an architecture is a mapping gene name -> value, got {architecture!r}")
    flat = _ungrouped(space, architecture)
    names = {g.name for g in space.genes}
    for name in flat:
        if name not in names:
            raise InvalidArchitecture(
                f"search space {space.name!r} has no gene {name!r}{did_you_mean(name, [*names, *space.groups])}"
            )
    row = [0] * len(space.genes)
    for column, gene in enumerate(space.genes):
        if gene.name in flat:
            try:
                row[column] = gene.index(flat[gene.name])
            except SearchSpaceError as error:
                raise InvalidArchitecture(f"search space {space.name!r}: {error}") from None
    array = np.array([row], dtype=np.int64)
    missing = [g.name for g, on in zip(space.genes, space.active(array)[0], strict=True) if on and g.name not in flat]
    if missing:
        raise InvalidArchitecture(
            f"search space {space.name!r}: the architecture lacks a value for {', '.join(missing[:5])}"
            f"{' …' if len(missing) > 5 else ''}"
        )
    if not space.feasible(array)[0]:
        broken = next(f for f in space.forbidden if not _single(space, f).feasible(array)[0])
        given = {name: flat[name] for name in broken}
        raise InvalidArchitecture(f"search space {space.name!r} forbids the combination {given}")
    return row


def _single(space: SearchSpace, combination: Mapping[str, frozenset[Value]]) -> SearchSpace:
    return type(space)(space.name, space.genes, [combination])
