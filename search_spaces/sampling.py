"""Random distinct networks of a space, and repair of forbidden ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from search_spaces.counting import ancestors, draw_networks
from search_spaces.errors import SearchSpaceError
from search_spaces.rows import Rows, unique_rows

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

_SAMPLING_ROUNDS = 10
_REPAIR_ROUNDS = 200


def repair(space: SearchSpace, rows: Rows, rng: np.random.Generator) -> Rows:
    """Return canonical rows made feasible, see `SearchSpace.repair`.

    One gene of each violated combination is redrawn among the values outside the combination, or one that
    decides whether these genes are active is redrawn at random, until nothing is violated.
    """
    for _ in range(_REPAIR_ROUNDS):
        violated = space._violations(rows)
        bad = np.flatnonzero(violated.any(axis=1))
        if not len(bad):
            return rows
        for r in bad:
            combination = space._forbidden[int(rng.choice(np.flatnonzero(violated[r])))]
            options = {c: np.flatnonzero(~values) for c, values in combination.items() if not values.all()}
            deciding = set().union(*(ancestors(space, c) for c in combination)) - set(options)
            options |= {c: np.arange(space.n_choices[c]) for c in sorted(deciding)}
            if not options:  # nothing of this combination can be changed: no row without it is like this one
                continue
            column = int(rng.choice(list(options)))
            rows[r, column] = rng.choice(options[column])
        rows[bad] = space.canonical(rows[bad])
    raise SearchSpaceError(
        f"search space {space.name!r}: {len(bad)} rows could not be repaired in {_REPAIR_ROUNDS} rounds; "
        "the forbidden combinations may leave no network"
    )


def sample(space: SearchSpace, n: int, rng: np.random.Generator) -> Rows:
    """Return at most ``n`` distinct canonical feasible rows, see `SearchSpace.sample`."""
    if n <= 0:
        return np.empty((0, len(space.genes)), dtype=np.int64)
    if space.n_genotypes <= max(4 * n, 4096) and (everything := space.enumerate()) is not None:
        return everything[rng.permutation(len(everything))[:n]]
    # Genotypes first, since their variety is what searches want; where few of them are new networks, networks.
    rows = np.empty((0, len(space.genes)), dtype=np.int64)
    for draw in (_draw, draw_networks):
        stalled = 0
        while len(rows) < n and stalled < _SAMPLING_ROUNDS:
            merged = unique_rows(np.concatenate([rows, draw(space, n - len(rows) + 16, rng)]))
            stalled += len(merged) - len(rows) < max(1, (n - len(rows)) // 20)
            rows = merged
    if len(rows) < n and (everything := space.enumerate()) is not None:
        return everything[rng.permutation(len(everything))[:n]]
    return rows[:n]


def _draw(space: SearchSpace, n: int, rng: np.random.Generator) -> Rows:
    """Return canonical feasible rows from ``n`` uniform genotypes, repaired where hardly any is feasible."""
    # Narrow integers: the work on large populations is bound by memory traffic.
    columns = np.empty((len(space.genes), n), dtype=np.uint16)
    for column, k in zip(columns, space.n_choices, strict=True):
        column[:] = rng.integers(0, k, size=n, dtype=np.uint16)
    rows = space._canonical_columns(columns).T.astype(np.int64, order="C")
    if not space._forbidden:
        return rows
    ok = space.feasible(rows)
    # Rejection keeps the draw uniform; where hardly anything passes, repair is the only way on.
    return rows[ok] if ok.mean() > 0.01 else repair(space, rows, rng)
