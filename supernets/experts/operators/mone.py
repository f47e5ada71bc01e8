"""MoNE: experts that are not kept become constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from supernets.experts.blocks import Block
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.plan import Plan, indices
from supernets.experts.statistics import LayerStatistics


@dataclass(frozen=True)
class MoNE(Operator):
    """Novices of Zhang et al., "MoNE: Replacing Redundant Experts with Lightweight Novices", 2025.

    An expert that is not kept keeps its row in the router and answers with the mean of its outputs over the calibration
    tokens that were routed to it (H numbers). The paper chooses by output variance times routing mass: criterion
    ``mone``. Stock kernels compute a stand-in at weight zero for a token routed to a novice: memory falls, time does
    not.
    """

    name: ClassVar[str] = "mone"
    all_rows: ClassVar[bool] = True
    constants: ClassVar[bool] = True

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        weight, novices = block.router_weight, sorted(request.others)
        means = statistics.mean("outputs")[indices(novices, weight)]
        places = [novices.index(e) if e in novices else -1 for e in range(block.n_experts)]
        target = [request.kept[0] if e in novices else e for e in range(block.n_experts)]
        return Plan(
            target=indices(target, weight),
            constants=means.to(block.common["down"]),
            places=indices(places, weight),
        )


register_operator(MoNE())
