"""Exact counting and enumeration of the distinct feasible networks of a space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.derived import any_present
from search_spaces.errors import SearchSpaceError
from search_spaces.rows import Rows

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

_TABLE_AT_MOST = 5_000_000

Factor = tuple[tuple[int, ...], NDArray[Any]]  # scope (gene columns, ascending), counts over their choices


def ancestors(space: SearchSpace, column: int) -> set[int]:
    """Return the genes on which the activity of ``column`` depends."""
    found: set[int] = set()
    todo = list(space._deciding(column))
    while todo:
        c = todo.pop()
        if c not in found:
            found.add(c)
            todo += list(space._deciding(c))
    return found


def _with_ancestors(space: SearchSpace, columns: Iterable[int]) -> tuple[int, ...]:
    members = set(columns)
    return tuple(sorted(members.union(*(ancestors(space, c) for c in members))))


def _sizes(space: SearchSpace, scope: Iterable[int]) -> list[int]:
    """Return the number of values of columns; those beyond the genes are true or false."""
    return [int(space.n_choices[c]) if c < len(space.genes) else 2 for c in scope]


def _grid(space: SearchSpace, scope: Sequence[int]) -> Rows:
    """Return all assignments of the genes in ``scope`` as full rows (others 0), first gene slowest."""
    sizes = _sizes(space, scope)
    if prod(sizes) > _TABLE_AT_MOST:
        raise SearchSpaceError(
            f"search space {space.name!r} is too entangled to count: {len(scope)} genes depend on one another"
        )
    rows = np.zeros((prod(sizes), len(space.genes)), dtype=np.int64)
    for c, values in zip(scope, np.indices(sizes).reshape(len(sizes), -1), strict=True):
        rows[:, c] = values
    return rows


def _factors(space: SearchSpace) -> list[Factor]:
    """Return indicator tables whose product is 1 exactly for canonical feasible rows."""
    factors: list[Factor] = []
    hidden = len(space.genes)
    for i in range(len(space.genes)):
        if space._alternatives[i]:
            factors += _chain(space, i, hidden)
            hidden += len(space._alternatives[i])
            continue
        scope = _with_ancestors(space, [i])
        rows = _grid(space, scope)
        # A column of the canonical form depends on the gene and its ancestors alone, all in scope.
        ok = space.canonical(rows)[:, i] == rows[:, i]
        factors.append((scope, ok.reshape([space.n_choices[c] for c in scope]).astype(object)))
    for j, combination in enumerate(space._forbidden):
        scope = _with_ancestors(space, combination)
        rows = _grid(space, scope)
        ok = ~space._violations(rows)[:, j]
        factors.append((scope, ok.reshape([space.n_choices[c] for c in scope]).astype(object)))
    return factors


def _chain(space: SearchSpace, column: int, hidden: int) -> list[Factor]:
    """Return the tables of a gene that is active if any of some conditions holds.

    One table of all that these conditions name would be too large. Beside condition j a hidden column ``hidden + j``
    says whether one of the first j + 1 holds: each table then has the genes of one condition and two hidden columns.
    """
    factors: list[Factor] = []
    for j, condition in enumerate(space._alternatives[column]):
        scope = _with_ancestors(space, condition)
        holds = _holding(space, _grid(space, scope), condition).reshape(_sizes(space, scope))
        now = np.stack([~holds, holds], -1)
        if j:
            now = np.stack([now, np.broadcast_to([False, True], now.shape)], -2)
        factors.append(((*scope, *([hidden + j - 1] if j else []), hidden + j), now.astype(object)))
    scope = tuple(sorted({column, *_with_ancestors(space, space._controllers[column])}))
    rows = _grid(space, scope)
    value = rows[:, column]
    active = np.where(
        _holding(space, rows, space._controllers[column]), space._alias[column][value] == value, value == 0
    )
    table = np.stack([value == 0, active], -1).reshape([*_sizes(space, scope), 2])
    factors.append(((*scope, hidden + len(space._alternatives[column]) - 1), table.astype(object)))
    return factors


def _holding(space: SearchSpace, rows: Rows, condition: Mapping[int, NDArray[np.bool_]]) -> NDArray[np.bool_]:
    columns, active = np.ascontiguousarray(rows.T), np.ascontiguousarray(space.active(rows).T)
    return any_present([dict(condition)], columns, active)


def _multiply(space: SearchSpace, factors: list[Factor]) -> Factor:
    scope = tuple(sorted(set().union(*(f[0] for f in factors))))
    sizes = _sizes(space, scope)
    if prod(sizes) > _TABLE_AT_MOST:
        raise SearchSpaceError(
            f"search space {space.name!r} is too entangled to count: {len(scope)} genes depend on one another"
        )
    table = np.ones(sizes, dtype=object)
    for other, counts in factors:
        table = table * counts.reshape([k if c in other else 1 for c, k in zip(scope, sizes, strict=True)])
    return scope, table


def _eliminate(space: SearchSpace) -> tuple[int, list[tuple[int, Factor]]]:
    """Return the number of canonical feasible rows, and each column's joint table in the order of elimination.

    The number is a sum over all rows of a product of small tables; summing the genes out one by one,
    cheapest first, keeps every table as small as the dependencies allow (Dechter, Bucket Elimination, 1999).
    """
    factors = _factors(space)
    remaining = set(range(len(space.genes))).union(*(f[0] for f in factors))
    steps: list[tuple[int, Factor]] = []
    while remaining:
        costs = {}
        for gene in sorted(remaining):
            joined: set[int] = set().union(*(f[0] for f in factors if gene in f[0]))
            costs[gene] = prod(_sizes(space, joined))
        gene = min(costs, key=costs.__getitem__)
        scope, table = _multiply(space, [f for f in factors if gene in f[0]])
        factors = [f for f in factors if gene not in f[0]]
        axis = scope.index(gene)
        factors.append((tuple(c for c in scope if c != gene), np.asarray(table.sum(axis=axis), dtype=object)))
        steps.append((gene, (scope, table)))
        remaining.remove(gene)
    return int(prod(int(counts.item()) for _, counts in factors)), steps


def count_distinct(space: SearchSpace) -> int:
    """Return the exact number of canonical feasible rows."""
    return _eliminate(space)[0]


def draw_networks(space: SearchSpace, n: int, rng: np.random.Generator) -> Rows:
    """Return ``n`` rows, each uniform over the canonical feasible rows, not necessarily distinct.

    Genes are drawn in the reverse order of elimination, each given those already drawn, in proportion to the
    number of networks that go on from there.

    Raises:
        SearchSpaceError: As `count_distinct`.
    """
    total, steps = _eliminate(space)
    rows = np.zeros((n if total else 0, len(steps)), dtype=np.int64)
    for gene, (scope, table) in reversed(steps):
        others = tuple(c for c in scope if c != gene)
        counts = np.moveaxis(table, scope.index(gene), -1)[tuple(rows[:, c] for c in others)]
        if not others:
            counts = np.broadcast_to(counts, (len(rows), len(counts)))
        # Counts may be beyond any float; their shares are not.
        shares = np.cumsum((counts / counts.sum(axis=1, keepdims=True)).astype(np.float64), axis=1)
        rows[:, gene] = (rng.random((len(rows), 1)) * shares[:, -1:] >= shares).sum(axis=1)
    return np.ascontiguousarray(rows[:, : len(space.genes)])


def enumerate_rows(space: SearchSpace, limit: int) -> Rows | None:
    """Return all canonical feasible rows, or None as soon as more than ``limit`` partial rows stand."""
    rows = np.zeros((1, len(space.genes)), dtype=np.int64)
    assigned: set[int] = set()
    for i in space._order:
        # Only ancestors decide activity, and they come first in the order.
        active = space.active(rows)[:, i]
        choices = sorted(set(space._alias[i].tolist()))
        grown = np.repeat(rows[active], len(choices), axis=0)
        grown[:, i] = np.tile(choices, int(active.sum()))
        rows = np.concatenate([rows[~active], grown])
        assigned.add(i)
        complete = [j for j, f in enumerate(space._forbidden) if i in f and set(f) <= assigned]
        if complete:
            rows = rows[~space._violations(rows)[:, complete].any(axis=1)]
        if len(rows) > limit:
            return None
    return rows[np.lexsort(rows.T[::-1])]
