"""Which experts a configuration keeps, and the plans that follow."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from supernets.experts.blocks import Block
from supernets.experts.criteria import get_criterion, super_experts
from supernets.experts.operators import Request, get_operator
from supernets.experts.operators.promote import promote, to_promote
from supernets.experts.operators.whole_layer import dense, skipped
from supernets.experts.plan import EVERYTHING, Plan
from supernets.experts.statistics import LayerStatistics

_PLANS = 4096


@dataclass(frozen=True)
class Wanted:
    """What a configuration says of a block's experts.

    Attributes:
        keep: Experts kept.
        operator: What becomes of the others.
        criterion: Which ones are kept.
        width: Neurons of an expert.
        shared: Experts that answer every token, among those kept.
        kind: One of `supernets.experts.operators.whole_layer.KINDS`.
    """

    keep: int
    operator: str
    criterion: str
    width: int
    shared: int = 0
    kind: str = "experts"


class Planner:
    """Makes plans, and remembers them as long as the weights and statistics they were made from stay the same.

    Args:
        blocks: The blocks.
        statistics: What is known of each.
        n_layers: Decoder layers of the model.
        bank_mb: Memory for the banks of remembered plans, in 1e6 bytes.
        protect: Whether super experts come before all others.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        statistics: Sequence[LayerStatistics],
        n_layers: int,
        *,
        bank_mb: float,
        protect: bool,
    ) -> None:
        self._blocks = blocks
        self._statistics = statistics
        self._n_layers = n_layers
        self._limit = bank_mb * 1e6
        self._protect = protect
        self._plans: OrderedDict[tuple[Any, ...], Plan] = OrderedDict()
        self._rankings: dict[tuple[Any, ...], list[int]] = {}

    def clear(self) -> None:
        """Forget all plans."""
        self._plans.clear()
        self._rankings.clear()

    def protected(self) -> list[frozenset[int]]:
        """Return the super experts of each block; none where nothing was calibrated."""
        if not self._protect:
            return [frozenset() for _ in self._blocks]
        peaks = [s.peaks for s in self._statistics]
        found = super_experts(peaks, [b.layer for b in self._blocks], self._n_layers)
        return [frozenset(f) for f in found]

    def _version(self, slot: int) -> tuple[Any, ...]:
        known = self._statistics[slot].counts
        return (*self._blocks[slot].version(), known._version, known.data_ptr())

    def ranking(self, slot: int, criterion: str) -> list[int]:
        """Return the experts of a block, the most important first; super experts before all others."""
        key = (slot, criterion, self._version(slot))
        if key not in self._rankings:
            with torch.no_grad():
                scores = get_criterion(criterion).score(self._blocks[slot], self._statistics[slot])
            order = scores.argsort(descending=True, stable=True).tolist()
            protected = self.protected()[slot]
            self._rankings[key] = [e for e in order if e in protected] + [e for e in order if e not in protected]
            while len(self._rankings) > _PLANS:
                del self._rankings[next(iter(self._rankings))]
        return self._rankings[key]

    def kept(self, slot: int, keep: int, criterion: str) -> list[int]:
        """Return the experts that are kept, ascending: the best of each routing group, equally many."""
        block = self._blocks[slot]
        size = block.n_experts // block.groups
        groups: list[list[int]] = [[] for _ in range(block.groups)]
        for e in self.ranking(slot, criterion):
            if len(groups[e // size]) < keep // block.groups:
                groups[e // size].append(e)
        return sorted(e for g in groups for e in g)

    def least_kept(self, slot: int) -> int:
        """Return how many experts of a block must be kept so that all super experts are."""
        block = self._blocks[slot]
        size = block.n_experts // block.groups
        found = [e // size for e in self.protected()[slot]]
        return block.groups * max((found.count(g) for g in set(found)), default=0)

    def n_whole(self, slot: int, keep: int, shared: int) -> int:
        """Return how many kept experts of a block are protected, or answer every token: nothing changes these."""
        block = self._blocks[slot]
        size = block.n_experts // block.groups
        found = [e // size for e in self.protected()[slot]]
        room = keep // block.groups
        return sum(min(room, found.count(g) + shared // block.groups) for g in range(block.groups))

    def __call__(self, slot: int, wanted: Wanted) -> Plan:
        """Return what a block computes with."""
        block = self._blocks[slot]
        if wanted.kind == "skip":
            return skipped(block)
        reduced = wanted.keep < block.n_experts
        if wanted.kind == "experts" and not reduced and not wanted.shared:
            return EVERYTHING
        factored = wanted.kind == "experts" and reduced and get_operator(wanted.operator).factored
        key = (slot, wanted if factored else replace(wanted, width=0), self._version(slot))
        if key in self._plans:
            self._plans.move_to_end(key)
            return self._plans[key]
        with torch.no_grad():
            plan = self._made(slot, wanted)
        self._plans[key] = plan
        self._shrink()
        return plan

    def _made(self, slot: int, wanted: Wanted) -> Plan:
        block, statistics = self._blocks[slot], self._statistics[slot]
        if wanted.kind == "dense":
            return dense(block, statistics)
        every = list(range(block.n_experts))
        reduced = wanted.keep < block.n_experts
        kept = self.kept(slot, wanted.keep, wanted.criterion) if reduced else every
        protected = self.protected()[slot] & frozenset(kept)
        promoted = to_promote(block, statistics, kept, protected, wanted.shared) if wanted.shared else []
        plan = EVERYTHING
        if reduced:
            order, alone = self.ranking(slot, wanted.criterion), protected | frozenset(promoted)
            request = Request(order, kept, alone, wanted.width)
            operator = get_operator(wanted.operator)
            if operator.merges and not request.open:
                operator = get_operator("drop")
            plan = operator.plan(block, statistics, request)
        return promote(plan, block, statistics, promoted) if promoted else plan

    def _shrink(self) -> None:
        size = sum(p.n_bytes for p in self._plans.values())
        while self._plans and (size > self._limit or len(self._plans) > _PLANS):
            _, gone = self._plans.popitem(last=False)
            size -= gone.n_bytes
