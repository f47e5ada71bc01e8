"""Norms of an expert's output over the tokens routed to it."""

from __future__ import annotations

from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.statistics import LayerStatistics


@register_criterion("ean")
def ean(_: Block, statistics: LayerStatistics) -> Tensor:
    """Expert activation norm: the sum of ``||f_e||_2`` over the tokens routed to e (as in REAP's comparison)."""
    return statistics.norms


@register_criterion("man")
def man(_: Block, statistics: LayerStatistics) -> Tensor:
    """Mean activation norm: the mean of ``||f_e||_2`` (unified expert pruning, arXiv:2606.15716)."""
    return statistics.mean("norms")


@register_criterion("msan")
def msan(_: Block, statistics: LayerStatistics) -> Tensor:
    """Mean squared activation norm: the mean of ``||f_e||_2^2`` (unified expert pruning, arXiv:2606.15716)."""
    return statistics.mean("squares")
