"""Small vectorised helpers on populations."""

from __future__ import annotations

from typing import TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.int64]


def row_keys(rows: Rows) -> list[bytes]:
    """Return the bytes of each row as a hashable key; choice indices must be below 65,536."""
    if not len(rows):
        return []
    packed = np.ascontiguousarray(rows, dtype="<u2")
    return cast("list[bytes]", packed.view(np.dtype((np.void, packed.shape[1] * 2))).ravel().tolist())


def unique_rows(rows: Rows) -> Rows:
    """Return the rows without repeats, each at its first position."""
    keys = row_keys(rows)
    if len(set(keys)) == len(keys):
        return rows
    seen: dict[bytes, int] = {}
    for i, key in enumerate(keys):
        seen.setdefault(key, i)
    return rows[list(seen.values())]
