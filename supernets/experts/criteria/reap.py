"""REAP: the mean weighted output of an expert."""

from __future__ import annotations

from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.statistics import LayerStatistics


@register_criterion("reap")
def reap(_: Block, statistics: LayerStatistics) -> Tensor:
    """Router-weighted expert activation: mean over the tokens routed to e of ``w_e * ||f_e||_2``.

    Lasby et al., "REAP the Experts", ICLR 2026. The weights are those that the model uses.
    """
    return statistics.mean("gated_norms")
