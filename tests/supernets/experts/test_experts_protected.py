"""Super experts and promoted ones: nothing is merged into them, also where a block keeps nobody else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_experts_operators import configured, logits
from tiny_moe import batches, make_moe

from supernets import convert
from supernets.experts import get_operator, list_operators

MERGING = [o for o in list_operators() if get_operator(o).merges]


def planted(**options: Any) -> Any:
    """Return a supernet of a model whose expert 5 of the first layer is a super expert."""
    model = make_moe("olmoe")
    with torch.no_grad():
        model.model.layers[0].mlp.experts.down_proj[5] *= -50
    chosen: dict[str, Any] = {"keep": [1, 2, 4, 8], "k": [1, 3], "width": [16], "shared": [0, 1], **options}
    net: Any = convert(model, calibration=batches(4), **chosen)
    assert net.super_experts[0] == [5]
    return net


def stored(module: torch.nn.Module) -> tuple[int, int]:
    """Return parameters and bytes of an extracted model."""
    tensors = [*module.parameters(), *module.buffers()]
    size = sum(t.numel() * t.element_size() for t in tensors)
    return sum(p.numel() for p in module.parameters()), size


@pytest.mark.parametrize("operator", MERGING)
@pytest.mark.parametrize(("keep", "shared"), [(1, 0), (2, 1)])
def test_merging_drops_where_all_that_is_kept_is_protected(operator: str, keep: int, shared: int) -> None:
    """With nobody to merge into the others are out of the router, and the protected ones are bit for bit themselves."""
    net = planted(operators=["drop", operator])
    (batch,) = batches(1)
    others = {f"{n}.{s}": v for s in (1, 2) for n, v in (("keep", 8), ("shared", 0))}
    plain = {**configured(net, keep=keep, shared=shared, k=1), **others}
    wanted = net._wanted({**plain, "op.0": operator}, 0)
    plan = net._planner(0, wanted)
    dropped = net._planner(0, net._wanted({**plain, "op.0": "drop"}, 0))
    assert plan.bank is None
    assert plan.factors is None
    assert torch.equal(plan.rows, dropped.rows)
    net.activate(plain)
    expected = logits(net, batch)
    net.blocks[0].setting.plan = plan
    assert torch.equal(logits(net, batch), expected)


@pytest.mark.parametrize("operator", MERGING)
def test_costs_know_where_nothing_is_merged(operator: str) -> None:
    """Parameters and bytes are those of the extracted model: no rows and no factors of what is dropped."""
    net = planted(operators=[operator])
    for keep, shared in ((1, 0), (2, 1), (2, 0)):
        arch = configured(net, keep=keep, shared=shared, k=1)
        costs = net.analytic(net.space.encode([arch]))
        assert (round(costs["params_m"][0] * 1e6), round(costs["size_mb"][0] * 1e6)) == stored(net.extract(arch))
