"""A block without a router: one expert for every token, or none at all."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.plan import Plan, indices
from supernets.experts.probing import mix, probe_inputs, probe_outputs
from supernets.experts.statistics import LayerStatistics

KINDS = ("experts", "dense", "skip")
"""What a block can be: with its experts; dense, one for every token; without any."""


def skipped(block: Block) -> Plan:
    """Return the plan of a block whose routed experts and router are gone; shared experts of the model stay."""
    nothing = indices([], block.router_weight)
    return Plan(rows=nothing, target=nothing)


def best_constant_expert(outputs: Tensor, mixed: Tensor) -> tuple[int, Tensor]:
    """Return the expert e and the weight g that minimise ``sum_t ||y_t - g f_e(x_t)||^2``.

    For each e the best weight is ``g_e = sum_t <y_t, f_e(x_t)> / sum_t ||f_e(x_t)||^2``, and the error is then
    ``sum_t ||y_t||^2 - g_e sum_t <y_t, f_e(x_t)>``: never more than that of leaving the experts out.

    Args:
        outputs: Of all experts, ``[E, P, H]``.
        mixed: What the block gives, ``[P, H]``.

    Returns:
        The expert, and its weight, float64 ``[]``.
    """
    inner = (outputs.double() * mixed.double()).sum((1, 2))
    weights = inner / outputs.double().square().sum((1, 2)).clamp(min=1e-30)
    best = int((weights * inner).argmax())
    return best, weights[best]


@torch.no_grad()
def dense(block: Block, statistics: LayerStatistics) -> Plan:
    """Return the plan of a block in which one expert answers every token, at a constant weight; no router.

    Which expert and which weight: see `best_constant_expert`, on the probes.
    """
    outputs = probe_outputs(block, statistics)
    best, weight = best_constant_expert(outputs, mix(block, outputs, probe_inputs(block, statistics)))
    like = block.common["down"]
    nothing, alone = indices([], block.router_weight), indices([best], block.router_weight)
    return Plan(
        rows=nothing,
        target=nothing,
        always=alone,
        promoted=alone,
        always_weights=weight.reshape(1).to(like),
    )
