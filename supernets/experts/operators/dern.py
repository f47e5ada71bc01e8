"""DERN-style recombination: the neurons of dropped experts join similar neurons of kept ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from supernets.experts.blocks import Block
from supernets.experts.operators.merging import bank_of
from supernets.experts.operators.registry import Operator, Request, register_operator
from supernets.experts.plan import Plan, indices
from supernets.experts.statistics import LayerStatistics
from supernets.experts.weights import NEURON_DIMS, Tensors


@dataclass(frozen=True)
class DERN(Operator):
    """After DERN, "Dropping Experts, Recombining Neurons" (2025); its authors' code is not public, details are ours.

    A neuron's vector is its gate row, up row and down column, each of length 1, one after the other. Each neuron of a
    dropped expert joins the most similar neuron (cosine) of all kept experts that are no super experts, where that
    cosine reaches ``threshold``. A kept neuron becomes the mean of itself and those that joined it, weighted by the
    gate masses of their experts. Rows of dropped experts leave the router: a stock class holds the result.

    Weighted means suit tokens that are routed elsewhere once an expert is gone. Where both experts used to answer the
    same token, a sum is closer: with ``columns=sum`` the down columns are added up, each that joined weighted by its
    mass over that of the kept expert.

    Attributes:
        threshold: Cosine below which a neuron is lost; above 1 this is dropping.
        columns: What becomes of the down columns, ``mean`` or ``sum``.
    """

    name: ClassVar[str] = "dern"
    merges: ClassVar[bool] = True
    threshold: float = -1.0
    columns: str = "mean"

    def faults(self) -> str | None:
        """Return what is wrong with the options."""
        return None if self.columns in ("mean", "sum") else f"columns must be mean or sum, got {self.columns!r}"

    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with."""
        common, kept = block.common, list(request.kept)
        open_ones = sorted(request.open)
        mass = statistics.mass if bool(statistics.mass.any()) else torch.ones_like(statistics.mass)
        total = {n: common[n].double() * _shaped(mass, n, common) for n in NEURON_DIMS if n in common}
        weight = mass[:, None].repeat(1, block.width)
        targets = _vectors(common, open_ones).flatten(0, 1)
        for e in request.others:
            cosine, place = (_vectors(common, [e])[0] @ targets.T).max(1)
            joins = cosine >= self.threshold
            place = place[joins]
            expert, neuron = indices(open_ones, place)[place // block.width], place % block.width
            for n, t in total.items():
                own = common[n][e].double() * mass[e]
                if n == "down":
                    t.transpose(1, 2).index_put_((expert, neuron), own.T[joins], accumulate=True)
                else:
                    t.index_put_((expert, neuron), own[joins], accumulate=True)
            weight.index_put_((expert, neuron), mass[e].expand(len(place)), accumulate=True)
        merged = []
        for e in kept:
            divisor = weight[e]
            one = {n: t[e].double() for n, t in common.items()}
            for n, t in total.items():
                adds_up = n == "down" and self.columns == "sum" and bool(mass[e] > 0)
                by = mass[e].expand_as(divisor) if adds_up else divisor
                mean = t[e] / (by[:, None] if n in ("gate", "up") else by).clamp(min=1e-30)
                changed = divisor != mass[e]  # a neuron that nothing joined stays bit for bit
                one[n] = torch.where(changed[:, None] if n in ("gate", "up") else changed, mean, one[n])
            merged.append(one)
        return Plan(rows=indices(kept, block.router_weight), bank=bank_of(block, merged))


def _shaped(mass: Tensor, name: str, common: Tensors) -> Tensor:
    return mass.view(-1, *[1] * (common[name].ndim - 1))


def _vectors(common: Tensors, experts: list[int]) -> Tensor:
    """Return the vectors of the neurons of some experts, of length 1, float64 ``[n, I, 3H]``."""
    parts = [common["gate"][experts], common["up"][experts], common["down"][experts].transpose(1, 2)]
    joined = torch.cat([functional.normalize(p.double(), dim=-1) for p in parts], -1)
    return functional.normalize(joined, dim=-1)


register_operator(DERN())
