"""Drop: the router and the experts without some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from supernets.experts.blocks import Block
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.plan import Plan, indices
from supernets.experts.statistics import LayerStatistics


@dataclass(frozen=True)
class Drop(Operator):
    """The rows of the router and the experts that are not kept are gone, before softmax and top-k."""

    name: ClassVar[str] = "drop"
    calibrated: ClassVar[bool] = False
    drops: ClassVar[bool] = True

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        kept = indices(request.kept, block.router_weight)
        return Plan(rows=kept, target=kept)


register_operator(Drop())
