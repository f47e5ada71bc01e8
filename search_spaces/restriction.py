"""A space with fewer choices of the same genes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from typing import TYPE_CHECKING

from search_spaces.derived import Derived
from search_spaces.gene import Gene, Value

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

Kept = list[tuple[Value, ...]]


def restrict(space: SearchSpace, keep: Mapping[int, Set[int]], name: str) -> SearchSpace:
    """Return the space with fewer choices.

    Args:
        space: The space.
        keep: Gene column -> indices of the choices to keep; the others keep all.
        name: Name of the new space.
    """
    kept = [
        tuple(v for j, v in enumerate(g.choices) if i not in keep or j in keep[i]) for i, g in enumerate(space.genes)
    ]
    genes = [_gene(space, i, kept) for i in range(len(space.genes))]
    forbidden = [{g: _kept(space, g, v, kept) for g, v in c.items()} for c in space.forbidden]
    derived = []
    for d in space.derived:
        any_of = [{g: _kept(space, g, v, kept) for g, v in c.items()} for c in d.any_of]
        if possible := [c for c in any_of if all(c.values())]:
            derived.append(Derived(d.name, possible))
    return type(space)(name, genes, [f for f in forbidden if all(f.values())], derived)


def _gene(space: SearchSpace, column: int, kept: Kept) -> Gene:
    gene, values = space.genes[column], kept[column]
    alias = gene.canonical_indices()
    first: dict[int, Value] = {}
    aliases: dict[Value, Value] = {}
    for value in values:
        root = alias[gene.index(value)]
        if root in first:
            aliases[value] = first[root]
        first.setdefault(root, value)
    return Gene(
        gene.name,
        values,
        gene.kind,
        largest=gene.largest if gene.largest in values else None,
        smallest=gene.smallest if gene.smallest in values else None,
        role=gene.role,
        layer=gene.layer,
        active_when={c: _kept(space, c, v, kept) for c, v in gene.active_when.items()},
        active_if_any=[{c: _kept(space, c, v, kept) for c, v in a.items()} for a in gene.active_if_any],
        aliases=aliases,
    )


def _kept(space: SearchSpace, name: str, values: Iterable[Value], kept: Kept) -> set[Value]:
    """Return the kept choices among ``values`` and their aliases: an alias may be kept without its twin."""
    column = space.column(name)
    closed = space._closed(column, values)
    return {v for v, on in zip(space.genes[column].choices, closed, strict=True) if on and v in kept[column]}
