"""From features back to rows: what was fitted on features can ask which networks they are of."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.errors import SearchSpaceError
from search_spaces.rows import Rows
from search_spaces.space import SearchSpace


def rows_of_features(space: SearchSpace, X: NDArray[Any]) -> Rows:
    """Return the canonical rows whose features are given.

    Args:
        space: The space.
        X: Features as `SearchSpace.features` returns them, of any float type, ``[n, f]``.

    Raises:
        SearchSpaceError: They are not features of rows of this space.
    """
    n_features = len(space.feature_names)
    if X.ndim != 2 or X.shape[1] != n_features:
        raise SearchSpaceError(
            f"features of search space {space.name!r} are [n, {n_features}], got {list(X.shape)}; are they of another "
            "space?"
        )
    rows = np.zeros((len(X), len(space.genes)), dtype=np.int64)
    start = 0
    for column, gene in enumerate(space.genes):
        if len(gene.choices) == 1:
            continue
        first = np.array(sorted(set(gene.canonical_indices())))
        # An inactive gene's columns are all zero: the maximum is the first, which is its canonical index.
        rows[:, column] = first[X[:, start : start + len(first)].argmax(axis=1)]
        start += len(first) + (gene.kind == "ordinal")
    # One pass tells whether these were features at all: rows of other values would give others.
    if not np.array_equal(space.features(rows), X.astype(np.float32)):
        raise SearchSpaceError(
            f"these are not features of networks of search space {space.name!r}; give what space.features(rows) returns"
        )
    return rows
