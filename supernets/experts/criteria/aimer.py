"""AIMER: a score of the weights alone."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.statistics import LayerStatistics


@register_criterion("aimer", calibrated=False)
def aimer(block: Block, _: LayerStatistics) -> Tensor:
    """Minus the ratio ``mean|w| / rms(w)`` over all weights of e: experts of the highest ratio go first.

    Liu et al., "AIMER", 2026. Of Gaussian weights the ratio is ``sqrt(2 / pi)``, about 0.798.
    """
    flat = torch.cat([t.flatten(1) for n, t in block.common.items() if not n.endswith("bias")], 1).double()
    return -flat.abs().mean(1) / flat.square().mean(1).sqrt().clamp(min=1e-30)
