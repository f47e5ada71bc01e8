"""The order of the neurons in each expert."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.experts import weights
from supernets.experts.blocks import Block
from supernets.experts.statistics import LayerStatistics


def neuron_scores(block: Block, statistics: LayerStatistics | None) -> Tensor:
    """Return how much each neuron matters, float64 ``[E, I]``; see `ExpertSupernet.sort_by_importance`."""
    common = {n: t.double() for n, t in block.common.items() if n in ("gate", "up", "down")}
    if statistics is not None and bool(statistics.counts.any()):
        used: Tensor = statistics.neurons.double() * common["down"].norm(dim=1)
        return used
    size: Tensor = common["gate"].abs().sum(2) + common["up"].abs().sum(2) + common["down"].abs().sum(1)
    return size


@torch.no_grad()
def sort_neurons(block: Block, statistics: LayerStatistics | None) -> None:
    """Put the neurons of each expert in descending order of importance, in place; the function stays."""
    orders = neuron_scores(block, statistics).argsort(dim=1, descending=True, stable=True)
    common = block.common
    sorted_experts = [weights.permuted(common, e, orders[e]) for e in range(block.n_experts)]
    stacked = {n: torch.stack([one[n] for one in sorted_experts]) for n in common}
    for name, tensor in weights.join(block.experts, stacked).items():
        block.tensors[name].copy_(tensor)
    if statistics is not None:
        statistics.neurons.copy_(statistics.neurons.gather(1, orders))
        statistics.order.copy_(statistics.order.gather(1, orders))
