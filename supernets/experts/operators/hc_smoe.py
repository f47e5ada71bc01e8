"""HC-SMoE: hierarchical clustering of the experts' mean outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from supernets.experts.blocks import Block
from supernets.experts.operators.merging import Groups, in_one_order, shares_of, tied_plan, weighted_sum
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.plan import Plan
from supernets.experts.probing import probe_outputs
from supernets.experts.statistics import LayerStatistics


@dataclass(frozen=True)
class HCSMoE(Operator):
    """HC-SMoE of Chen et al., "Retraining-Free Merging of Sparse MoE via Hierarchical Clustering", ICML 2025.

    Agglomerative clustering with average linkage of the experts' mean outputs over the probes (all experts answer all
    of them), by Euclidean distance; the frequency-weighted mean of each cluster. All rows of the router stay. The
    criterion decides the number of clusters only through what is kept; super experts are clusters of their own.
    """

    name: ClassVar[str] = "hc-smoe"
    all_rows: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        groups = self._groups(block, statistics, request)
        common, frequencies = block.common, statistics.frequencies()
        shares = [shares_of(m, frequencies) for m in groups]
        merged = [weighted_sum(in_one_order(common, statistics, m, s), s) for m, s in zip(groups, shares, strict=True)]
        return tied_plan(block, groups, merged)

    @staticmethod
    def _groups(block: Block, statistics: LayerStatistics, request: Request) -> Groups:
        from scipy.cluster.hierarchy import cut_tree, linkage

        alone = sorted(request.protected)
        rest = [e for e in range(block.n_experts) if e not in alone]
        n = len(request.kept) - len(alone)
        if n == len(rest):
            return [[e] for e in range(block.n_experts)]
        means = probe_outputs(block, statistics).mean(1)[torch.tensor(rest)].double().cpu().numpy()
        labels = cut_tree(linkage(means, method="average"), n_clusters=n).ravel().tolist()
        clusters: dict[int, list[int]] = {}
        for e, label in zip(rest, labels, strict=True):
            clusters.setdefault(label, []).append(e)
        return [[e] for e in alone] + list(clusters.values())


register_operator(HCSMoE())
