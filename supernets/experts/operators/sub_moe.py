"""Sub-MoE: experts merged in a common subspace."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from supernets.experts.blocks import Block
from supernets.experts.operators.merging import Groups, closest, in_one_order, one, shares_of, tied_plan, weighted_sum
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.plan import Plan
from supernets.experts.probing import probe_outputs
from supernets.experts.statistics import LayerStatistics
from supernets.experts.weights import Tensors

_ROUNDS = 20


@dataclass(frozen=True)
class SubMoE(Operator):
    """Sub-MoE of Li et al., "Sub-MoE: Efficient Mixture-of-Expert LLMs Compression via Subspace Expert Merging", 2025.

    Groups are K-means clusters of the experts' mean outputs on the probes by cosine, begun at the experts that the
    criterion keeps. In a group, each matrix: ``[W_1 ... W_n] = U S [V_1 ... V_n]`` along the inputs, then
    ``W = U S sum_i f_i V_i`` with frequencies f that add up to 1. At full rank that *is* ``sum_i f_i W_i``; only a
    lower rank differs: the mean is projected on the leading left singular vectors. All rows of the router stay.

    Attributes:
        rank: Share of the singular values that is kept, above 0; at 1 the weighted mean without any decomposition.
    """

    name: ClassVar[str] = "sub-moe"
    all_rows: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    rank: float = 1.0

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        means = functional.normalize(probe_outputs(block, statistics).mean(1).double(), dim=1)
        groups = _clusters(means, request)
        frequencies = statistics.frequencies()
        merged = []
        for members in groups:
            shares = shares_of(members, frequencies)
            paired = in_one_order(block.common, statistics, members, shares)
            stacked = {n: torch.stack([p[n] for p in paired]) for n in paired[0]}
            merged.append(self.merge(stacked, list(range(len(members))), shares))
        return tied_plan(block, groups, merged)

    def merge(self, common: Tensors, members: list[int], shares: Tensor) -> Tensors:
        """Return one group's expert, float64; ``shares`` add up to 1."""
        mean = weighted_sum([one(common, e) for e in members], shares)
        if self.rank >= 1 or len(members) == 1:
            return mean
        for name in ("gate", "up", "down"):
            beside = torch.cat([common[name][e].double() for e in members], 1)
            left, values, _ = torch.linalg.svd(beside, full_matrices=False)
            basis = left[:, : max(1, ceil(self.rank * len(values)))]
            mean[name] = basis @ (basis.T @ mean[name])  # S V_i = U^T W_i: the sum is linear in the experts
        return mean


def _clusters(means: Tensor, request: Request) -> Groups:
    """Return K-means clusters by cosine; super experts stay alone, and no cluster is empty."""
    leaders, members = request.by_rank, request.others
    groups = closest(means @ means.T, leaders, members, request.protected)
    for _ in range(_ROUNDS):
        centres = functional.normalize(torch.stack([means[g].mean(0) for g in groups]), dim=1)
        fixed = [bool(request.protected & set(g)) and len(g) == 1 for g in groups]
        similarity = means @ centres.T
        similarity[:, torch.tensor(fixed, device=means.device)] = -torch.inf
        new: Groups = [list(g) if alone else [] for g, alone in zip(groups, fixed, strict=True)]
        settled = {e for g in new for e in g}
        for e in sorted(set(leaders) | set(members)):
            if e not in settled:
                new[int(similarity[e].argmax())].append(e)
        if new == groups or not all(new):
            break
        groups = new
    return groups


register_operator(SubMoE())
