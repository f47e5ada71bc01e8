"""Every operator on every family: extraction and costs are exact, and the supernet stays the original bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_experts_operators import configured, logits
from tiny_moe import CONFIGS, batches, make_moe

from predictors.measurement.counters import count
from supernets import convert
from supernets.experts import list_operators

OPTIONS = ("m-smoe:similarity=weight,capacity=3", "sub-moe:rank=0.5", "dern:columns=sum", "mc-smoe:ratio=0.5,rest=0.3")
COUNTED = ("olmoe", "qwen2_moe", "deepseek_v3", "gpt_oss")  # counting takes most of the time


def configurations(net: Any) -> list[dict[str, Any]]:
    """Return architectures that use each operator, with shared experts and without, and blocks of each kind."""
    n, found = len(net.blocks), []
    operators = list(net.choices.operators)
    shared = net.choices.shared
    for i in range(0, len(operators), n):
        for s in shared:
            arch = configured(net, keep=4, k=2, width=12)
            for slot in range(n):
                arch |= {f"op.{slot}": operators[(i + slot) % len(operators)], f"shared.{slot}": s}
            found.append(arch if len(shared) > 1 else {g: v for g, v in arch.items() if not g.startswith("shared")})
    found.append({**configured(net, k=2), **dict.fromkeys([f"shared.{i}" for i in range(n)], shared[-1])})
    if len(shared) == 1:
        found.pop()
    return [*found, {**found[0], "block.0": "dense"}, {**found[-1], "block.0": "skip", f"block.{n - 1}": "dense"}]


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_operator_on_every_family(name: str) -> None:
    """Each configuration equals its extracted twin, costs what that costs, and leaves no trace in the supernet."""
    model = make_moe(name, "eager")
    net: Any = convert(
        model,
        calibration=batches(),
        keep=[4, 8],
        k=[2, 3],
        width=[12, 16],
        shared=[0] if name in ("deepseek_v2_groups", "deepseek_v3") else [0, 1],
        blocks=["experts", "dense", "skip"],
        operators=[*list_operators(), *OPTIONS],
        criteria=["frequency"],
        sequence=7,
        protect=False,
    )
    (batch,) = batches(1, seed=4)
    full, state = logits(net, batch), {n: t.clone() for n, t in net.state_dict().items()}
    torch.testing.assert_close(full, logits(model, batch), rtol=1e-5, atol=1e-5)
    archs = configurations(net)
    costs = net.analytic(net.space.encode(archs))
    for i, arch in enumerate(archs):
        net.activate(arch)
        output, twin = logits(net, batch), net.extract(arch)
        torch.testing.assert_close(logits(twin, batch), output, rtol=1e-5, atol=1e-5)
        assert not torch.equal(output, full)
        parameters = list(twin.parameters())
        size = sum(t.numel() * t.element_size() for t in (*parameters, *twin.buffers()))
        assert round(costs["params_m"][i] * 1e6) == sum(p.numel() for p in parameters), arch
        assert round(costs["size_mb"][i] * 1e6) == size, arch
        if name in COUNTED:
            assert round(costs["macs_m"][i] * 1e6) == round(count(twin, net.example_inputs()).macs_m * 1e6), arch
    net.activate(configured(net))
    assert torch.equal(logits(net, batch), full)
    assert [n for n, t in net.state_dict().items() if not torch.equal(t, state[n])] == []
