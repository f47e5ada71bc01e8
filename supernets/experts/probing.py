"""What all experts of a block answer to the probes that calibration kept."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from supernets.experts import weights
from supernets.experts.blocks import Block
from supernets.experts.plan import EVERYTHING, Plan, indices
from supernets.experts.statistics import LayerStatistics


def probe_inputs(block: Block, statistics: LayerStatistics) -> Tensor:
    """Return the probes in the dtype of the model, ``[P, H]``."""
    return statistics.used_probes().to(block.router_weight)


@torch.no_grad()
def probe_outputs(block: Block, statistics: LayerStatistics) -> Tensor:
    """Return the outputs of all experts for all probes, float32 ``[E, P, H]``."""
    x = probe_inputs(block, statistics).to(block.tensors["down_proj"])
    return torch.stack(
        [weights.evaluate(block.experts, block.tensors, e, x)[1].float() for e in range(block.n_experts)]
    )


@torch.no_grad()
def mix(block: Block, outputs: Tensor, x: Tensor, rows: list[int] | None = None) -> Tensor:
    """Return what the block's routed experts give for the probes, float32 ``[P, H]``.

    Args:
        block: The block.
        outputs: Of all experts, ``[E, P, H]``.
        x: The probes.
        rows: The rows of the router that take part. Default: all.
    """
    setting = block.setting
    before = setting.plan, setting.k, setting.top_p
    kept = None if rows is None else indices(rows, x)
    setting.plan = EVERYTHING if kept is None else replace(Plan(), rows=kept)
    setting.k, setting.top_p = block.k if kept is None else min(block.k, len(kept)), 1.0
    try:
        _, chosen, index = block.router(x)
    finally:
        setting.plan, setting.k, setting.top_p = before
    experts = index if kept is None else kept[index]
    tokens = torch.arange(len(x), device=x.device)[:, None]
    mixed: Tensor = (chosen.unsqueeze(-1).float() * outputs[experts, tokens]).sum(1)
    return mixed
