"""REAM: the others are merged into the most important experts, and the router has only the rows of these."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from supernets.experts import weights
from supernets.experts.blocks import Block
from supernets.experts.operators.merging import (
    Groups,
    bank_of,
    best_order,
    neuron_similarity,
    one,
    shares_of,
    weighted_sum,
)
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.plan import Plan, indices
from supernets.experts.probing import probe_inputs, probe_outputs
from supernets.experts.statistics import LayerStatistics


@dataclass(frozen=True)
class REAM(Operator):
    """REAM of arXiv:2604.04356.

    Centroids are those that the criterion keeps (the paper's is ``reap``). From the most important centroid on, each
    takes the most similar experts that are left, up to a capacity; similarity is the mean of the cosines of two
    experts' outputs and of their router logits. Neurons are aligned to the centroid's by their activations on the
    probes and their weights; merged experts are means weighted by REAP's score. Rows of the other experts leave the
    router, so a stock class holds the result.

    Two differences from the paper: weights enter the alignment whole instead of projected on 64 principal components,
    and all layers are calibrated once, on the full model.

    Attributes:
        capacity: Experts in a group, at most (more where the groups could not hold all).
    """

    name: ClassVar[str] = "ream"
    merges: ClassVar[bool] = True
    capacity: int = 16

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        x = probe_inputs(block, statistics).to(block.tensors["down_proj"])
        groups = self._groups(self._similarity(block, statistics), request)
        saliency, common = statistics.mean("gated_norms"), block.common
        leaders = {m[0]: m for m in groups}
        merged = []
        for e in request.kept:
            aligned = [one(common, e), *(self._aligned(block, x, e, other) for other in leaders[e][1:])]
            merged.append(weighted_sum(aligned, shares_of(leaders[e], saliency)))
        return Plan(rows=indices(request.kept, block.router_weight), bank=bank_of(block, merged))

    @staticmethod
    def _similarity(block: Block, statistics: LayerStatistics) -> Tensor:
        flat = functional.normalize(probe_outputs(block, statistics).flatten(1).double(), dim=1)
        gates = 2 * statistics.logit_similarity() - 1
        return (flat @ flat.T + gates) / 2

    def _groups(self, similarity: Tensor, request: Request) -> Groups:
        left = set(request.others)
        most = max(self.capacity - 1, ceil(len(left) / len(request.open)))
        groups = {e: [e] for e in request.by_rank}
        for leader in request.open:
            ranked = sorted(left, key=lambda e: (-float(similarity[leader, e]), e))[:most]
            groups[leader] += ranked
            left -= set(ranked)
        return list(groups.values())

    @staticmethod
    @torch.no_grad()
    def _aligned(block: Block, x: Tensor, leader: int, other: int) -> weights.Tensors:
        mine, its = (weights.evaluate(block.experts, block.tensors, e, x)[0].double() for e in (leader, other))
        mine, its = functional.normalize(mine, dim=0), functional.normalize(its, dim=0)
        by_weight = neuron_similarity(block.common, leader, other)
        scale = by_weight.abs().max().clamp(min=1e-30)
        return weights.permuted(block.common, other, best_order(mine.T @ its + by_weight / scale))


register_operator(REAM())
