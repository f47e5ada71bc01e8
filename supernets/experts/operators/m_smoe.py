"""M-SMoE: experts join the most similar dominant one, and each group becomes their frequency-weighted mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from search_spaces.errors import did_you_mean
from supernets.experts import weights
from supernets.experts.blocks import Block
from supernets.experts.operators.merging import (
    Groups,
    best_order,
    closest,
    in_one_order,
    neuron_similarity,
    one,
    shares_of,
    tied_plan,
    weighted_sum,
)
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.operators.similarity import SIMILARITIES
from supernets.experts.plan import Plan
from supernets.experts.statistics import LayerStatistics
from supernets.experts.weights import Tensors

_REFERENCES = ("dominant", "first", "none")


@dataclass(frozen=True)
class MSMoE(Operator):
    """M-SMoE of Li et al., "Merge, Then Compress" (MC-SMoE), ICLR 2024, arXiv:2310.01334.

    Dominant experts are those that the criterion keeps (the paper's is ``frequency``). Every other one joins the
    dominant that is most similar (the paper's default: ``(cos + 1) / 2`` of the router logits over the calibration
    tokens). After alignment of the neurons ``W = sum_e f_e W_e / sum_e f_e`` in each group, f being frequencies. All
    rows of the router stay.

    Attributes:
        reference: What neurons are aligned to: ``dominant``, that of the group; ``first``, expert 0, as published for
            T5 and GPT; ``none``, no alignment, as published for Mixtral.
        output: Whether the output matrix counts in the alignment, too (the paper's ``include_wo``).
        similarity: What groups go by, see `supernets.experts.operators.similarity`.
        capacity: Experts in a group, at most, the dominant one counted (more where the groups could not hold all); 0
            for any number.
    """

    name: ClassVar[str] = "m-smoe"
    all_rows: ClassVar[bool] = True
    merges: ClassVar[bool] = True
    reference: str = "dominant"
    output: bool = True
    similarity: str = "router-logits"
    capacity: int = 0

    def faults(self) -> str | None:
        """Return what is wrong with the options."""
        for option, value, allowed in (
            ("reference", self.reference, _REFERENCES),
            ("similarity", self.similarity, tuple(SIMILARITIES)),
        ):
            if value not in allowed:
                return f"{option} {value!r} is unknown{did_you_mean(value, allowed)}; allowed: {', '.join(allowed)}"
        return f"capacity must be 0 or more, got {self.capacity}" if self.capacity < 0 else None

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        return tied_plan(block, *self.merged(block, statistics, request))

    def merged(self, block: Block, statistics: LayerStatistics, request: Request) -> tuple[Groups, list[Tensors]]:
        """Return the groups, each with its dominant expert first, and the expert that each becomes."""
        similarity = SIMILARITIES[self.similarity](block, statistics)
        groups = closest(similarity, request.by_rank, request.others, request.protected, self.capacity)
        common, frequencies = block.common, statistics.frequencies()
        merged = []
        for members in groups:
            shares = shares_of(members, frequencies)
            if self.reference == "none":
                merged.append(weighted_sum(in_one_order(common, statistics, members, shares), shares))
            else:
                merged.append(weighted_sum(self._aligned(common, members), shares))
        return groups, merged

    def _aligned(self, common: Tensors, members: list[int]) -> list[Tensors]:
        if len(members) == 1:
            return [one(common, e) for e in members]
        leader = members[0] if self.reference == "dominant" else 0
        aligned = []
        for e in members:
            if e == leader:
                aligned.append(one(common, e))
                continue
            order = best_order(neuron_similarity(common, leader, e, output=self.output))
            aligned.append(weights.permuted(common, e, order))
        return aligned


def groups_per_layer(frequencies: Sequence[Tensor], average: float) -> list[int]:
    """Return how many groups the paper gives each layer: those of its experts above a threshold common to all.

    Args:
        frequencies: Of each layer, ``[E]``. The most frequent expert of each counts as 1, so that it stays.
        average: Groups per layer.

    Returns:
        At least 1 each; the sum is ``round(average * layers)`` where no frequencies are equal.
    """
    raised = [torch.where(torch.arange(len(f)) == f.cpu().argmax(), 1.0, f.cpu().double()) for f in frequencies]
    every = torch.cat(raised).sort(descending=True).values
    budget = min(len(every), max(len(raised), round(average * len(raised))))
    threshold = float(every[budget]) if budget < len(every) else -1.0
    return [max(1, int((f > threshold).sum())) for f in raised]


register_operator(MSMoE())

__all__ = ["Groups", "MSMoE", "groups_per_layer"]
