"""The blocks of which subnets are made, so that costs of networks can be summed from costs of blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from torch import nn

from search_spaces import SearchSpace, Value
from supernets.errors import SupernetError

if TYPE_CHECKING:
    from supernets.base import Architecture, Inputs, Supernet

_STATES_AT_MOST = 100_000


@dataclass(frozen=True)
class Block:
    """A piece of a subnet that runs on its own.

    Attributes:
        key: Names everything that its cost depends on: kind, shapes, configuration. Blocks of equal keys cost the same,
            wherever they stand.
        make: Returns the plain module, with random weights and no class of ours inside, and random inputs for it with
            the given batch size.
    """

    key: str
    make: Callable[[int], tuple[nn.Module, Inputs]]


@dataclass(frozen=True)
class BlockSlot:
    """A place in the network, and what may stand there.

    Attributes:
        name: E.g. ``"block 3"``; no two slots of a supernet share one.
        genes: Names of all genes that decide what stands there; the fewer, the smaller the table.
        block: Maps values of these genes, as a dict, to the block; None where the place is empty then. It is asked for
            every combination of values, those that no canonical architecture has included.
    """

    name: str
    genes: tuple[str, ...]
    block: Callable[[Mapping[str, Value]], Block | None]

    def states(self, space: SearchSpace) -> list[Block | None]:
        """Return what stands there for every combination of the genes' choices, the last gene fastest.

        Raises:
            SupernetError: There are more than 100,000 combinations.
        """
        genes = [space.genes[space.column(name)] for name in self.genes]
        total = 1
        for gene in genes:
            total *= len(gene.choices)
        if total > _STATES_AT_MOST:
            raise SupernetError(
                f"block slot {self.name!r} depends on {len(genes)} genes with {total:,} combinations, more than "
                f"{_STATES_AT_MOST:,}; split it into slots of fewer genes"
            )
        choices = product(*(gene.choices for gene in genes))
        return [self.block(dict(zip(self.genes, values, strict=True))) for values in choices]


def blocks_of(net: Supernet, arch: Architecture) -> list[Block]:
    """Return the blocks of an architecture in the order of computation.

    Raises:
        InvalidArchitecture: The architecture is not in the space.
        SupernetError: The family does not tell its blocks.
    """
    canonical: dict[str, Any] = net.space.decode(net.space.encode([arch]))[0]
    found = [slot.block({name: canonical[name] for name in slot.genes}) for slot in net.block_slots()]
    return [block for block in found if block is not None]
