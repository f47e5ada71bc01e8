"""Super experts: the few whose outputs are enormous, and which no configuration may lose."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

QUANTILE = 0.995
SHARE_OF_MAX = 0.1
SHARE_OF_LAYERS = 0.75


def super_experts(peaks: Sequence[Tensor], layers: Sequence[int], n_layers: int) -> list[list[int]]:
    """Return the super experts of each block.

    An expert of the first ``round(0.75 n_layers)`` layers is one when the greatest absolute value of its output is
    above the 99.5th percentile of all experts' and above a tenth of the greatest. Su et al., "Unveiling Super Experts
    in Mixture-of-Experts Large Language Models", 2025. Absolute values: outliers may be negative.

    Args:
        peaks: Of each block, ``[E]``.
        layers: The decoder layer of each block.
        n_layers: Of the model.
    """
    early = [
        peak if layer < round(SHARE_OF_LAYERS * n_layers) else peak[:0]
        for peak, layer in zip(peaks, layers, strict=True)
    ]
    every = torch.cat([p.double().cpu() for p in early])
    if not len(every) or not every.max():
        return [[] for _ in peaks]
    threshold = max(float(every.quantile(QUANTILE)), SHARE_OF_MAX * float(every.max()))
    return [(p > threshold).nonzero().flatten().tolist() for p in early]
