"""What a reader may want to see of expert configurations: which experts answer, and how often each is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from supernets.base import Architecture, Inputs, call, inputs_to

if TYPE_CHECKING:
    from supernets.experts.blocks import Block
    from supernets.experts.supernet import ExpertSupernet

STATES = ("gone", "constant", "merged", "kept", "shared")
"""What becomes of an expert: nothing answers for it; a constant does; one that answers for others, too; itself; itself,
for every token."""


def states(block: Block) -> list[int]:
    """Return the number in `STATES` of each expert of the block under its active plan."""
    plan, found = block.setting.plan, [0] * block.n_experts
    rows = list(range(block.n_experts)) if plan.rows is None else plan.rows.tolist()
    targets = list(range(len(rows))) if plan.target is None else plan.target.tolist()
    places = [-1] * len(rows) if plan.places is None else plan.places.tolist()
    shared = Counter(t for t, place in zip(targets, places, strict=True) if place < 0)
    for row, target, place in zip(rows, targets, places, strict=True):
        found[row] = 1 if place >= 0 else 2 if shared[target] > 1 else 3
    for expert in [] if plan.promoted is None else plan.promoted.tolist():
        found[expert] = 4
    return found


def usage(net: ExpertSupernet, domains: Mapping[str, Iterable[Inputs]]) -> dict[str, list[list[float]]]:
    """Return the share of each expert in the routings of each block of the full model, by domain.

    Args:
        net: The supernet.
        domains: Name -> batches; ``attention_mask`` tells padding.

    Returns:
        Domain -> ``[blocks][experts]``; the shares of a block add up to 1.
    """
    device, training = next(net.parameters()).device, net.training
    found = {}
    (largest,) = net.space.decode(net.space.largest[None])
    with net.activated(largest), torch.no_grad():
        for name, batches in domains.items():
            counts = [torch.zeros(b.n_experts, dtype=torch.float64) for b in net.blocks]
            mask: list[Tensor | None] = [None]
            hooks = [b.router.register_forward_hook(_counter(c, mask)) for b, c in zip(net.blocks, counts, strict=True)]
            try:
                net.eval()
                for batch in batches:
                    inputs = inputs_to(batch, device)
                    given = None if isinstance(inputs, tuple) else inputs.get("attention_mask")
                    mask[0] = None if given is None or given.ndim != 2 else given.bool().flatten()
                    call(net, inputs)
            finally:
                for hook in hooks:
                    hook.remove()
                net.train(training)
            found[name] = [(c / c.sum().clamp(min=1)).tolist() for c in counts]
    return found


def _counter(counts: Tensor, mask: Sequence[Tensor | None]) -> Any:
    def count(_: nn.Module, __: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        index = output[2] if mask[0] is None else output[2][mask[0]]
        counts.add_(index.flatten().bincount(minlength=len(counts)).to(counts))

    return count


def explain(
    net: ExpertSupernet, archs: Sequence[Architecture], domains: Mapping[str, Iterable[Inputs]]
) -> dict[str, Any]:
    """Return, as JSON data, what a report shows of the experts; see `Supernet.explain`."""
    shares = {"calibration": [s.frequencies().tolist() for s in net.statistics]} if net.calibrated else {}  # type: ignore[operator]
    made = []
    for arch in archs:
        with net.activated(arch):
            made.append([states(b) for b in net.blocks])
    return {
        "kind": "experts",
        "layers": [b.layer for b in net.blocks],
        "n_experts": net.blocks[0].n_experts,
        "states": list(STATES),
        "usage": {**shares, **usage(net, domains)},
        "subnets": made,
    }
