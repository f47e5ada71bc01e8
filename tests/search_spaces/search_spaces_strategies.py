"""Random small search spaces for property tests, with activity, aliases and forbidden combinations."""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import strategies as st

from search_spaces import Derived, Gene, SearchSpace


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """A space of one to five genes with up to four choices each."""
    count = draw(st.integers(1, 5))
    genes: list[Gene] = []
    for i in range(count):
        choices = list(range(10, 10 + draw(st.integers(1, 4))))
        kind = draw(st.sampled_from(["ordinal", "categorical"]))
        aliases = {}
        if len(choices) > 1 and draw(st.booleans()):
            a, b = draw(st.sampled_from(choices)), draw(st.sampled_from(choices))
            aliases = {a: b}
        active_when: dict[str, Any] = {}
        for controller in genes:
            if draw(st.integers(0, 3)) == 0:
                active_when[controller.name] = draw(st.sets(st.sampled_from(controller.choices)))
        any_of = []
        for _ in range(draw(st.integers(0, 2)) if genes else 0):
            members = draw(st.sets(st.sampled_from(genes), min_size=1, max_size=2))
            any_of.append({g.name: draw(st.sets(st.sampled_from(g.choices))) for g in members})
        genes.append(Gene(f"g{i}", choices, kind, active_when=active_when, active_if_any=any_of, aliases=aliases))
    order = draw(st.permutations(genes))  # a gene may come before those that control it
    forbidden = []
    for _ in range(draw(st.integers(0, 2))):
        members = draw(st.sets(st.sampled_from(genes), min_size=1, max_size=3))
        forbidden.append({g.name: draw(st.sets(st.sampled_from(g.choices), min_size=1)) for g in members})
    derived = []
    for i in range(draw(st.integers(0, 2))):
        any_of = []
        for _ in range(draw(st.integers(1, 2))):
            members = draw(st.sets(st.sampled_from(genes), min_size=1, max_size=2))
            any_of.append({g.name: draw(st.sets(st.sampled_from(g.choices), min_size=1)) for g in members})
        derived.append(Derived(f"both {i}", any_of))
    return SearchSpace("random", order, forbidden, derived)


def brute_force_networks(space: SearchSpace) -> set[tuple[tuple[str, Any], ...]]:
    """All feasible networks, each as the values that matter; written without the space's own arithmetic."""
    genes = {g.name: g for g in space.genes}

    def first_alias(gene: Gene, value: Any) -> Any:
        same = {value}
        for _ in gene.choices:
            same |= {b for a, b in gene.aliases.items() if a in same}
            same |= {a for a, b in gene.aliases.items() if b in same}
        return next(c for c in gene.choices if c in same)

    def closed(gene: Gene, values: Any) -> set[Any]:
        firsts = {first_alias(gene, v) for v in values}
        return {c for c in gene.choices if first_alias(gene, c) in firsts}

    def holds(condition: Any, arch: dict[str, Any]) -> bool:
        return all(is_active(c, arch) and arch[c] in closed(genes[c], allowed) for c, allowed in condition.items())

    def is_active(name: str, arch: dict[str, Any]) -> bool:
        any_of = genes[name].active_if_any
        return holds(genes[name].active_when, arch) and (not any_of or any(holds(c, arch) for c in any_of))

    networks = set()
    for values in product(*(g.choices for g in space.genes)):
        arch = dict(zip(genes, values, strict=True))
        on = {n for n in genes if is_active(n, arch)}
        broken = any(all(n in on and arch[n] in closed(genes[n], v) for n, v in f.items()) for f in space.forbidden)
        if not broken:
            networks.add(tuple(sorted((n, first_alias(genes[n], arch[n])) for n in on)))
    return networks
