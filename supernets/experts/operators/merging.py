"""What merging operators share: groups, weighted means, alignment of neurons."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

import torch
from torch import Tensor

from supernets.experts import weights
from supernets.experts.blocks import Block
from supernets.experts.plan import Plan, indices
from supernets.experts.statistics import LayerStatistics
from supernets.experts.weights import NEURON_DIMS, Tensors

Groups = list[list[int]]
"""Experts of each group; the first one leads it."""


def closest(
    similarity: Tensor, leaders: Sequence[int], others: Sequence[int], alone: frozenset[int], capacity: int = 0
) -> Groups:
    """Give each of the others to the most similar leader.

    Args:
        similarity: ``[E, E]``.
        leaders: Lead one group each, in this order.
        others: The rest, in the order in which they choose.
        alone: Leaders that take nobody in; not all of them.
        capacity: Experts in a group, at most; more where the groups could not hold all. 0 for any number.
    """
    open_ones = [e for e in leaders if e not in alone]
    groups = {e: [e] for e in leaders}
    most = max(capacity, 1 + ceil(len(others) / len(open_ones))) if capacity else len(leaders) + len(others)
    for e in others:
        free = [leader for leader in open_ones if len(groups[leader]) < most]
        best = int(similarity[e, indices(free, similarity)].argmax())
        groups[free[best]].append(e)
    return list(groups.values())


def neuron_similarity(common: Tensors, a: int, b: int, *, output: bool = True) -> Tensor:
    """Return inner products of the weights of a's neurons and b's, float64 ``[I, I]``; larger is more alike."""
    names = [n for n in NEURON_DIMS if n in common and (output or n != "down")]
    total: Any = 0.0
    for n in names:
        x, y = common[n][a].double(), common[n][b].double()
        if n == "down":
            x, y = x.T, y.T
        total = total + (x @ y.T if x.ndim == 2 else x[:, None] * y[None, :])
    return torch.as_tensor(total)


def best_order(similarity: Tensor) -> Tensor:
    """Return which of b's neurons comes to each place of a's so that the sum of similarities is greatest: ``[I]``."""
    from scipy.optimize import linear_sum_assignment

    _, columns = linear_sum_assignment(similarity.cpu().numpy(), maximize=True)
    return torch.as_tensor(columns, dtype=torch.int64, device=similarity.device)


def weighted_sum(experts: Sequence[Tensors], shares: Tensor) -> Tensors:
    """Return the sum of experts times their shares, float64 inside."""
    return {
        n: torch.stack([e[n].double() * s for e, s in zip(experts, shares, strict=True)]).sum(0) for n in experts[0]
    }


def shares_of(members: Sequence[int], importance: Tensor) -> Tensor:
    """Return the members' importance divided by its sum, float64; equal shares where all are 0."""
    chosen = importance[indices(members, importance)].double()
    total = chosen.sum()
    return chosen / total if total > 0 else torch.full_like(chosen, 1 / len(members))


def bank_of(block: Block, merged: Sequence[Tensors]) -> Tensors:
    """Return merged experts as a bank in the stock layout and the model's dtype."""
    like = block.common
    stacked = {n: torch.stack([m[n] for m in merged]).to(t) for n, t in like.items()}
    return weights.join(block.experts, stacked)


def tied_plan(block: Block, groups: Groups, merged: Sequence[Tensors]) -> Plan:
    """Return the plan in which all rows of the router stay and each group's expert answers for its members."""
    target = [0] * block.n_experts
    for place, members in enumerate(groups):
        for e in members:
            target[e] = place
    return Plan(target=indices(target, block.router_weight), bank=bank_of(block, merged))


def one(common: Tensors, expert: int) -> Tensors:
    """Return one expert, not copied."""
    return {n: t[expert] for n, t in common.items()}


def in_one_order(common: Tensors, statistics: LayerStatistics, members: Sequence[int], shares: Tensor) -> list[Tensors]:
    """Return experts whose neurons are paired as in the model, all in the order of the one with the largest share.

    Experts of elastic width are sorted each by itself, so that neuron i of one is no longer neuron i of another; in the
    order of one of them a narrower merged expert still keeps what matters most.
    """
    leading = statistics.order[members[int(shares.argmax())]]
    return [weights.permuted(common, e, statistics.order[e].argsort()[leading]) for e in members]
