"""How often, and with how much weight, an expert is asked."""

from __future__ import annotations

from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.statistics import LayerStatistics


@register_criterion("frequency")
def frequency(_: Block, statistics: LayerStatistics) -> Tensor:
    """Share of the routings: tokens whose top-k contains e, over the sum of that over experts (M-SMoE's usage)."""
    return statistics.frequencies()


@register_criterion("gate-mass")
def gate_mass(_: Block, statistics: LayerStatistics) -> Tensor:
    """Sum over tokens of the weight of e."""
    return statistics.mass
