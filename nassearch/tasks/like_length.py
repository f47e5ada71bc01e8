"""Random batches of texts of like length, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nassearch.tasks.classifier import chunks

_SORTED_TOGETHER = 50  # batches whose rows are sorted by length among each other


def random_batches(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield all rows in batches of like length, in random order; one batch may be smaller.

    Args:
        rows: int64 ``[n]``.
        lengths: What rows are sorted by, indexed by row.
        batch_size: Rows of a batch.
        rng: Decides the order; the same generator state gives the same batches.
    """
    rows = rows[np.argsort(rng.random(len(rows)), kind="stable")]
    groups = [
        group
        for pool in chunks(rows, batch_size * _SORTED_TOGETHER)
        for group in chunks(pool[np.argsort(lengths[pool], kind="stable")], batch_size)
    ]
    return (groups[i] for i in np.argsort(rng.random(len(groups)), kind="stable"))


def token_batches(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], order: NDArray[np.int64], tokens: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Return all rows in batches of like length that have at most so many tokens, as fairseq makes them.

    A batch counts as its rows times its longest length, padding included; a row that alone has more is a batch.

    Args:
        rows: int64 ``[n]``.
        lengths: Tokens, indexed by row.
        order: What rows are sorted by, indexed by row.
        tokens: Most tokens of a batch.
        rng: Decides which rows of equal order come together.
    """
    rows = rows[np.argsort(rng.random(len(rows)), kind="stable")]
    rows = rows[np.argsort(order[rows], kind="stable")]
    starts, longest = [0], 0
    for place, length in enumerate(lengths[rows].tolist()):
        longest = max(longest, length)
        if place > starts[-1] and (place - starts[-1] + 1) * longest > tokens:
            starts.append(place)
            longest = length
    return np.split(rows, starts[1:])
