"""Router similarity: an expert that the router tells from another one is no loss."""

from __future__ import annotations

import torch
from torch import Tensor

from supernets.experts.blocks import Block
from supernets.experts.criteria.registry import register_criterion
from supernets.experts.statistics import LayerStatistics


@register_criterion("router-similarity")
def router_similarity(_: Block, statistics: LayerStatistics) -> Tensor:
    """How late an expert is removed when, again and again, of the two most similar the less frequent one goes.

    Similarity is (cos + 1) / 2 of the two experts' router logits over the calibration tokens. After the idea of UNCURL
    (Sarkar et al., "Revisiting SMoE Language Models by Evaluating Inefficiencies with Task Specific Expert Pruning",
    arXiv:2409.01483): redundant experts by the router's behaviour on the task's own data; the order is ours.

    Returns:
        0 for the first that goes, up to E - 1 for the last one.
    """
    similarity, frequency = statistics.logit_similarity().clone(), statistics.frequencies()
    n = len(frequency)
    similarity.fill_diagonal_(-1.0)
    scores = torch.full((n,), float(n - 1), dtype=torch.float64)
    for step in range(n - 1):
        a, b = divmod(int(similarity.argmax()), n)
        gone = a if (float(frequency[a]), -a) < (float(frequency[b]), -b) else b
        scores[gone] = step
        similarity[gone] = similarity[:, gone] = -2.0
    return scores.to(frequency.device)
