"""EASY-EP: the weighted output of an expert, counted where the experts change the token."""

from __future__ import annotations

from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.statistics import LayerStatistics


@register_criterion("easy-ep")
def easy_ep(_: Block, statistics: LayerStatistics) -> Tensor:
    """Sum over the tokens routed to e of ``w_e * ||f_e||_2 * max(1 - cos(h, h'), 0)``.

    h and h' are the residual stream before and after the routed experts. Dong et al., "Domain-Specific Pruning of Large
    Mixture-of-Experts Models with Few-shot Demonstrations" (EASY-EP), 2025.
    """
    return statistics.token_change


@register_criterion("easy-ep-mixed")
def easy_ep_mixed(_: Block, statistics: LayerStatistics) -> Tensor:
    """EASY-EP for several domains: each domain's scores divided by their sum over the layer, then added.

    So that no domain counts more than another for its number of tokens or the size of its outputs. Domains are those of
    ``convert(model, calibration={NAME: batches, …})``; with one the order is that of ``easy-ep``.
    """
    return statistics.mixed_change
