"""Promote to shared: an expert that many tokens ask answers all of them, and leaves the router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from supernets.experts.blocks import Block
from supernets.experts.plan import Plan, indices
from supernets.experts.statistics import LayerStatistics


def to_promote(
    block: Block, statistics: LayerStatistics, kept: Sequence[int], protected: frozenset[int], n: int
) -> list[int]:
    """Return the experts of the greatest gate mass among the kept ones, equally many of each routing group.

    Super experts come last: what makes them such is that few tokens ask them.
    """
    size = block.n_experts // block.groups
    chosen: list[int] = []
    for group in range(block.groups):
        mine = [e for e in kept if e // size == group]
        mine.sort(key=lambda e: (e in protected, -float(statistics.mass[e]), e))
        chosen += mine[: n // block.groups]
    return sorted(chosen)


def promote(plan: Plan, block: Block, statistics: LayerStatistics, experts: Sequence[int]) -> Plan:
    """Return a plan in which some experts answer every token.

    After the shared experts of DeepSeekMoE (Dai et al., arXiv:2401.06066). With the mean gate over all N calibration
    tokens ``g_e = sum_t w_e(x_t) / N`` (0 for a token that did not ask e) the block gives

        ``y = sum_{e promoted} g_e f_e(x) + (1 - sum_e g_e / W) sum_{e chosen} w_e(x) f_e(x)``

    where the router has no rows of the promoted experts any more and W is what the weights of a token add up to over
    all experts (1, or the model's scaling factor): the others then have their former share on average. The factor is 1
    where W depends on the token (sigmoid scores that are not normalised). Exact where the promoted experts have the
    same weight for every token; elsewhere an approximation, to be measured.

    Args:
        plan: In which each of ``experts`` is an expert of its own.
        block: The block.
        statistics: What is known of it.
        experts: Rows of the router.
    """
    like = block.router_weight
    rows = list(range(block.n_experts)) if plan.rows is None else plan.rows.tolist()
    target = list(range(len(rows))) if plan.target is None else plan.target.tolist()
    left = [i for i, row in enumerate(rows) if row not in experts]
    gates = statistics.mass[indices(experts, statistics.mass)] / statistics.tokens.clamp(min=1)
    factor = torch.ones(1, dtype=torch.float64, device=gates.device)
    if block.total is not None:
        factor = (1 - gates.sum() / block.total).clamp(min=0).reshape(1)
    return replace(
        plan,
        rows=indices([rows[i] for i in left], like),
        target=indices([target[i] for i in left], like),
        places=None if plan.places is None else plan.places[indices(left, like)],
        always=indices([target[rows.index(e)] for e in experts], like),
        always_weights=gates.to(block.common["down"]),
        promoted=indices(experts, like),
        scale=factor.to(block.common["down"]),
    )
