"""The search space of expert configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces import Gene, SearchSpace
from supernets.errors import SupernetError
from supernets.experts.blocks import Block
from supernets.experts.choices import Choices, gene_name


def experts_space(name: str, blocks: Sequence[Block], choices: Choices, least: Sequence[int] = ()) -> SearchSpace:
    """Build the space; a dimension with one value has no gene.

    Genes: ``criterion``; ``block.i``, ``keep.i``, ``op.i``, ``k.i``, ``top_p.i``, ``width.i``, ``shared.i`` of block i
    (without the number where all agree). ``op.i`` matters where not all experts are kept; only ``width.i`` matters
    where the block is dense, nothing where it is skipped. No token can have more experts than the router has, and a
    block with super experts keeps them all: its ``keep.i`` begins there, and it has no ``block.i``.

    Args:
        name: What to call it.
        blocks: The blocks.
        choices: The values of all genes.
        least: How many experts each block must keep, 0 where it may lose all. Default: 0 for all.

    Raises:
        SupernetError: Nothing is elastic.
    """
    least = list(least) or [0] * len(blocks)
    if choices.uniform:
        least = [max(least)]
    full = blocks[0].n_experts
    keeps = [[v for v in choices.keep if v >= n] for n in least]
    genes: list[Gene] = []
    forbidden: list[dict[str, Any]] = []
    reduced = {gene_name("keep", s, choices): v[:-1] for s, v in enumerate(keeps) if len(v) > 1}
    if reduced and len(choices.criteria) > 1:
        alone = len(reduced) == 1 and len(choices.blocks) == 1
        genes.append(
            Gene("criterion", choices.criteria, "categorical", role="criterion", active_when=reduced if alone else {})
        )
        if not alone:  # where every expert is kept it does not matter: only the first one then
            forbidden.append({"criterion": choices.criteria[1:], **{k: [full] for k in reduced}})
    for slot, values in enumerate(keeps):
        genes += _genes(slot, blocks[slot], choices, values, may_vanish=not least[slot])
        forbidden += _impossible(slot, blocks[slot], choices, values)
    if not genes:
        raise SupernetError("every list has one value: nothing is elastic; give keep, k or width more values")
    return SearchSpace(f"experts-{name}", genes, forbidden)


def _genes(slot: int, block: Block, choices: Choices, keeps: Sequence[int], *, may_vanish: bool) -> Iterator[Gene]:
    """Yield the genes of one block."""
    layer = block.layer
    kind, keep = gene_name("block", slot, choices), gene_name("keep", slot, choices)
    vanishes = may_vanish and len(choices.blocks) > 1
    routed: Mapping[str, Any] = {kind: ["experts"]} if vanishes else {}
    computed: Mapping[str, Any] = {kind: [k for k in choices.blocks if k != "skip"]} if vanishes else {}
    if vanishes:
        yield Gene(kind, choices.blocks, "categorical", role="block", layer=layer, smallest=choices.blocks[-1])
    if len(keeps) > 1:
        yield Gene(keep, keeps, role="experts", layer=layer, active_when=routed)
        if len(choices.operators) > 1:
            op = gene_name("op", slot, choices)
            when = {**routed, keep: keeps[:-1]}
            yield Gene(op, choices.operators, "categorical", role="operator", layer=layer, active_when=when)
    for dim, values, role in (("k", choices.k, "top_k"), ("top_p", choices.top_p, "top_p")):
        if len(values) > 1:
            yield Gene(gene_name(dim, slot, choices), values, role=role, layer=layer, active_when=routed)
    if len(choices.width) > 1:
        name = gene_name("width", slot, choices)
        yield Gene(name, choices.width, role="width", layer=layer, active_when=computed)
    if len(choices.shared) > 1:
        name = gene_name("shared", slot, choices)
        yield Gene(name, choices.shared, role="shared", layer=layer, largest=0, smallest=0, active_when=routed)


def _impossible(slot: int, block: Block, choices: Choices, keeps: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the combinations in which a router has too few experts, or groups of different size."""
    names = {d: gene_name(d, slot, choices) for d in ("keep", "k", "shared")}
    counts = {"keep": keeps, "k": choices.k, "shared": choices.shared}

    def combination(**values: Any) -> dict[str, Any]:
        return {names[d]: v for d, v in values.items() if len(counts[d]) > 1}

    for shared in choices.shared:
        if none := [v for v in keeps if shared and not block.allows(v - shared)]:
            yield combination(shared=[shared], keep=none)
        for k in choices.k:
            if short := [v for v in keeps if v not in none and block.largest_k(v - shared) < k]:
                yield combination(shared=[shared], keep=short, k=[k])
