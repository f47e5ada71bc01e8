"""How alike two experts are, by what M-SMoE compares: router, weights or outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from supernets.experts.blocks import Block
from supernets.experts.probing import probe_outputs
from supernets.experts.statistics import LayerStatistics

Similarity: TypeAlias = Callable[[Block, LayerStatistics], Tensor]
"""A block and what calibration knows of it -> float64 ``[E, E]``; larger is more alike."""


def _cosines(vectors: Tensor) -> Tensor:
    unit = functional.normalize(vectors.double(), dim=1)
    return (unit @ unit.T + 1) / 2


def router_logits(_: Block, statistics: LayerStatistics) -> Tensor:
    """``(cos + 1) / 2`` of two experts' router logits over the calibration tokens; the paper's default."""
    return statistics.logit_similarity()


def router_weight(block: Block, _: LayerStatistics) -> Tensor:
    """``(cos + 1) / 2`` of two experts' rows of the router."""
    return _cosines(block.router_weight)


def weight(block: Block, statistics: LayerStatistics) -> Tensor:
    """``1 / (1 + 0.1 log SSE)``, SSE being the sum of the squared differences of all weights (1 at least).

    Neurons are paired as in the model, whatever order experts of elastic width have them in.
    """
    flat = []
    for e in range(block.n_experts):
        places = statistics.order[e].argsort()
        parts = [block.common["gate"][e][places], block.common["up"][e][places], block.common["down"][e].T[places]]
        flat.append(torch.cat([p.double().flatten() for p in parts]))
    return _of_distance(torch.stack(flat))


def feature(block: Block, statistics: LayerStatistics) -> Tensor:
    """The same of the experts' outputs on the probes."""
    return _of_distance(probe_outputs(block, statistics).flatten(1).double())


def weight_feature(block: Block, statistics: LayerStatistics) -> Tensor:
    """The mean of `weight` and `feature`."""
    return (weight(block, statistics) + feature(block, statistics)) / 2


def random(block: Block, statistics: LayerStatistics) -> Tensor:
    """Seeded noise: what the choice of a similarity is worth is its distance from this."""
    generator = torch.Generator().manual_seed(block.layer)
    noise = torch.rand(block.n_experts, block.n_experts, generator=generator, dtype=torch.float64)
    return ((noise + noise.T) / 2).to(statistics.counts.device)


def _of_distance(vectors: Tensor) -> Tensor:
    squares = vectors.square().sum(1)
    sse = squares[:, None] + squares[None, :] - 2 * vectors @ vectors.T
    return 1 / (1 + 0.1 * sse.clamp(min=1).log())


SIMILARITIES: dict[str, Similarity] = {
    "router-logits": router_logits,
    "router-weight": router_weight,
    "weight": weight,
    "feature": feature,
    "weight-feature": weight_feature,
    "random": random,
}
