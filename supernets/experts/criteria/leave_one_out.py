"""Leave-one-out: what the block's output changes by without an expert."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.probing import mix, probe_inputs, probe_outputs
from supernets.experts.statistics import LayerStatistics


@register_criterion("leave-one-out")
def leave_one_out(block: Block, statistics: LayerStatistics) -> Tensor:
    """Mean over the probes of ``||y - y_without_e||_2^2``, where y is the sum of the routed experts.

    Without e the router chooses again among the others, as after dropping it. Where it cannot (groups of equal size, or
    every expert is needed), e's part is left out of the sum instead.
    """
    x, outputs = probe_inputs(block, statistics), probe_outputs(block, statistics)
    full = mix(block, outputs, x)
    scores = []
    for e in range(block.n_experts):
        if block.groups == 1 and block.n_experts > block.k:
            without = mix(block, outputs, x, [r for r in range(block.n_experts) if r != e])
        else:
            silent = outputs.clone()
            silent[e] = 0
            without = mix(block, silent, x)
        scores.append((full - without).square().sum(1).mean())
    return torch.stack(scores).double()
