"""The search space of expert configurations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search_spaces import Gene, SearchSpace
from supernets.errors import SupernetError
from supernets.experts.blocks import Block
from supernets.experts.choices import Choices, gene_name
from supernets.experts.operators import get_operator


def experts_space(name: str, blocks: Sequence[Block], choices: Choices, least: Sequence[int] = ()) -> SearchSpace:
    """Build the space; a dimension with one value has no gene.

    Genes: ``criterion``; ``block.i``, ``keep.i``, ``op.i``, ``k.i``, ``top_p.i``, ``width.i``, ``shared.i`` of block i
    (without the number where all agree). ``op.i`` matters where not all experts are kept; only ``width.i`` matters
    where the block is dense, nothing where it is skipped; ``top_p.i`` where a token asks several experts; ``criterion``
    where some block uses it, see `_chosen`. No token can have more experts than the router has, and a block with super
    experts keeps them all: its ``keep.i`` begins there, and it has no ``block.i``. Of operators that come to the same
    the first is left, see `_alike`.

    Args:
        name: What to call it.
        blocks: The blocks.
        choices: The values of all genes.
        least: How many experts each block must keep, 0 where it may lose all. Default: 0 for all.

    Raises:
        SupernetError: Nothing is elastic.
    """
    least = list(least) or [0] * len(blocks)
    # How many kept experts are all super experts, wherever the gene says so; groups could differ in theirs.
    supers = [0 if blocks[0].groups > 1 else n for n in least]
    if choices.uniform:
        least, supers = [max(least)], [min(supers)]
    keeps = [[v for v in choices.keep if v >= n] for n in least]
    genes: list[Gene] = []
    forbidden: list[dict[str, Any]] = []
    chosen = [c for s, v in enumerate(keeps) for c in _chosen(s, choices, v, supers[s])]
    if chosen and len(choices.criteria) > 1:
        genes.append(Gene("criterion", choices.criteria, "categorical", role="criterion", active_if_any=chosen))
    for slot, values in enumerate(keeps):
        genes += _genes(slot, blocks[slot], choices, values, may_vanish=not least[slot])
        forbidden += _impossible(slot, blocks[slot], choices, values)
        forbidden += _alike(slot, choices, values, supers[slot])
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
    if len(choices.k) > 1:
        yield Gene(gene_name("k", slot, choices), choices.k, role="top_k", layer=layer, active_when=routed)
    if len(choices.top_p) > 1 and max(choices.k) > 1:  # the first expert of a token always answers
        several = {gene_name("k", slot, choices): [k for k in choices.k if k > 1]} if len(choices.k) > 1 else {}
        name = gene_name("top_p", slot, choices)
        yield Gene(name, choices.top_p, role="top_p", layer=layer, active_when={**routed, **several})
    if len(choices.width) > 1:
        name = gene_name("width", slot, choices)
        yield Gene(name, choices.width, role="width", layer=layer, active_when=computed)
    if len(choices.shared) > 1:
        name = gene_name("shared", slot, choices)
        yield Gene(name, choices.shared, role="shared", layer=layer, largest=0, smallest=0, active_when=routed)


def _chosen(slot: int, choices: Choices, keeps: Sequence[int], supers: int) -> Iterator[dict[str, Any]]:
    """Yield the conditions under which the criterion decides something in a block.

    It does where not all experts are kept, but others than super experts, and the operator asks which; or where some of
    these answer every token.

    Args:
        slot: The block.
        choices: The values of all genes.
        keeps: The block's.
        supers: How many super experts it has.
    """
    keep, op, shared = (gene_name(d, slot, choices) for d in ("keep", "op", "shared"))
    open_to_choice = [v for v in keeps[:-1] if v > supers]
    asking = [o for o in choices.operators if get_operator(o).ordered]
    if not open_to_choice:
        return
    if len(asking) == len(choices.operators):
        yield {keep: open_to_choice}
        return
    if asking:
        yield {keep: open_to_choice, op: asking}
    if len(choices.shared) > 1:
        yield {keep: open_to_choice, shared: [n for n in choices.shared if n]}


def _alike(slot: int, choices: Choices, keeps: Sequence[int], supers: int) -> Iterator[dict[str, Any]]:
    """Yield the combinations with an operator that comes to the same as one before it.

    Where only super experts and those that answer every token are kept nobody can be merged into, so merging operators
    drop the others.
    """
    alike = [o for o in choices.operators if get_operator(o).drops or get_operator(o).merges][1:]
    for shared in choices.shared if alike and supers else ():
        if sealed := [v for v in keeps[:-1] if v - shared <= supers]:
            other = {gene_name("shared", slot, choices): [shared]} if len(choices.shared) > 1 else {}
            yield {gene_name("keep", slot, choices): sealed, gene_name("op", slot, choices): alike, **other}


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
