"""NAEE: the best of all subsets, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from math import comb
from typing import ClassVar

import torch

from supernets.experts.blocks import Block
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.plan import Plan, indices
from supernets.experts.probing import mix, probe_inputs, probe_outputs
from supernets.experts.statistics import LayerStatistics

_MOST = 1000  # subsets of a layer: all of 12 experts, not of 16


@dataclass(frozen=True)
class NAEE(Operator):
    """Keeps the subset of experts that changes the layer's output least, of all of its size (Lu et al., ACL 2024).

    Not All Experts are Equal, arXiv:2402.14800: for each subset S of the wanted size the router chooses among S alone,
    and S with the least Frobenius norm of ``Z - Z_S`` stays; Z is the output of the routed experts, here for the
    probes. The criterion does not matter; super experts and the same number of each routing group stay. The number of
    subsets explodes beyond a dozen experts, so it is offered only by name: an oracle that criteria and searches are
    graded by.
    """

    name: ClassVar[str] = "naee"
    offered: ClassVar[bool] = False
    drops: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    def impossible(self, block: Block, keep: int) -> str | None:
        """Return why the subsets of a size cannot all be tried; None where they can."""
        size, each = block.n_experts // block.groups, keep // block.groups
        number = comb(size, each) ** block.groups
        if number <= _MOST:
            return None
        return f"{keep} of {block.n_experts} experts are {number} subsets, and {_MOST} are the most that are tried"

    @torch.no_grad()
    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        losses = subset_losses(block, statistics, len(request.kept), request.protected)
        best = min(losses, key=lambda s: (losses[s], s))
        kept = indices(best, block.router_weight)
        return Plan(rows=kept, target=kept)


@torch.no_grad()
def subset_losses(
    block: Block, statistics: LayerStatistics, keep: int, protected: frozenset[int] = frozenset()
) -> dict[tuple[int, ...], float]:
    """Return the mean over the probes of ``||z - z_S||_2^2`` for each subset S of ``keep`` experts, ascending tuples.

    Args:
        block: The block.
        statistics: Where its probes are.
        keep: Size of the subsets; of each routing group equally many.
        protected: Experts that are in every subset.
    """
    x, outputs = probe_inputs(block, statistics), probe_outputs(block, statistics)
    full = mix(block, outputs, x)
    return {
        subset: float((full - mix(block, outputs, x, list(subset))).square().sum(1).mean())
        for subset in _subsets(block, keep)
        if protected <= set(subset)
    }


def _subsets(block: Block, keep: int) -> Iterator[tuple[int, ...]]:
    size, each = block.n_experts // block.groups, keep // block.groups
    groups = [combinations(range(g * size, (g + 1) * size), each) for g in range(block.groups)]
    for parts in product(*groups):
        yield tuple(e for part in parts for e in part)


register_operator(NAEE())
