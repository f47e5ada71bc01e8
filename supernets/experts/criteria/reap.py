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


@register_criterion("reap-renormalised")
def reap_renormalised(_: Block, statistics: LayerStatistics) -> Tensor:
    """REAP with weights that add up to 1 over the experts of a token, also where the model does not renormalise them.

    As the published code does. The same order as ``reap`` where the model renormalises.
    """
    return statistics.mean("shared_norms")
