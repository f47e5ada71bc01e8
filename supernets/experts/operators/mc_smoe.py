"""MC-SMoE: experts merged as M-SMoE does, then compressed to a low-rank product and a few whole rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from supernets.experts import factored, weights
from supernets.experts.blocks import Block
from supernets.experts.operators.m_smoe import MSMoE
from supernets.experts.operators.merging import bank_of
from supernets.experts.operators.registry import Request, register_operator
from supernets.experts.plan import Plan, indices
from supernets.experts.statistics import LayerStatistics
from supernets.experts.weights import NEURON_DIMS, Tensors


@dataclass(frozen=True)
class MCSMoE(MSMoE):
    """MC-SMoE of Li et al., "Merge, Then Compress", ICLR 2024, arXiv:2310.01334; its second step after LoSparse.

    Groups and merged experts are those of `MSMoE`. Then each matrix ``W [n, m]`` becomes ``L R + S``: the singular
    value decomposition cut at rank ``r = ceil(ratio n m / (n + m))``, ``L = U sqrt(D_r)``, ``R = sqrt(D_r) V``, and of
    the rest ``S = W - L R`` the ``ceil(rest n)`` rows of the greatest L2 norm. It is computed as stored: R and then L,
    and the rows beside. Super experts, and those that answer every token, stay whole.

    Different from the paper: it trains L, R and S, and removes rows of S step by step (a cubic schedule) by an average
    of ``|w dw|``; here the rows are chosen once, without gradients. Train a chosen subnet on for the rest.

    Attributes:
        ratio: Numbers of L and R over those of W (the paper's 0.15).
        rest: Share of the rows of S that stay (the paper ends at 0.10 to 0.25).
    """

    name: ClassVar[str] = "mc-smoe"
    factored: ClassVar[bool] = True
    ratio: float = 0.15
    rest: float = 0.1

    def faults(self) -> str | None:
        """Return what is wrong with the options."""
        if not 0 < self.ratio <= 1 or not 0 <= self.rest <= 1:
            return f"ratio must be above 0, up to 1, and rest between 0 and 1; got {self.ratio} and {self.rest}"
        return super().faults()

    def factors(self, hidden: int, width: int) -> tuple[int, int]:
        """Return how many weights (biases not counted) and places of rows a factored expert has."""
        return factored.numbers(hidden, width, self.ratio, self.rest)

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with, at the width of the request."""
        groups, merged = self.merged(block, statistics, request)
        whole = [i for i, members in enumerate(groups) if members[0] in request.protected]
        others = [i for i in range(len(groups)) if i not in whole]
        place = {g: i for i, g in enumerate([*whole, *others])}
        target = [0] * block.n_experts
        for i, members in enumerate(groups):
            for e in members:
                target[e] = place[i]
        narrow = [_narrowed(merged[i], request.width) for i in others]
        return Plan(
            target=indices(target, block.router_weight),
            bank=bank_of(block, [merged[i] for i in whole]) if whole else _none(block),
            factors=factored.stack(narrow, self.ratio, self.rest, block.common["down"]) if narrow else None,
        )


def _narrowed(expert: Tensors, width: int) -> Tensors:
    """Return an expert with its first neurons."""
    return {n: t.narrow(NEURON_DIMS[n] - 1, 0, width) if n in NEURON_DIMS else t for n, t in expert.items()}


def _none(block: Block) -> Tensors:
    """Return a bank without experts."""
    return {n: torch.empty_like(t[:0]) for n, t in weights.stored(block.experts).items()}


register_operator(MCSMoE())
