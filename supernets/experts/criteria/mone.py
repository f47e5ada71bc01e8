"""MoNE's score: an expert whose output hardly varies can be a constant."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.statistics import LayerStatistics


def output_variance(statistics: LayerStatistics) -> Tensor:
    """Return ``mean ||f_e||^2 - ||mean f_e||^2`` over the tokens routed to e, float64 ``[E]``."""
    return (statistics.mean("squares") - statistics.mean("outputs").square().sum(1)).clamp(min=0)


@register_criterion("mone")
def mone(_: Block, statistics: LayerStatistics) -> Tensor:
    """Output variance times gate mass ("MoNE: Replacing Redundant Experts with Lightweight Novices", 2025)."""
    return torch.mul(output_variance(statistics), statistics.mass)
