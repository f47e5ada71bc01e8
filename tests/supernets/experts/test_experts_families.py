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


def configurations(net: Any) -> list[dict[str, Any]]:
    """Return architectures that use each operator, also beside shared experts, and blocks of each kind."""
    n, groups = len(net.blocks), net.blocks[0].groups
    found = [configured(net, keep=4, k=2, op=op, width=12) for op in net.choices.operators]
    if groups == 1:
        found += [{**arch, **{f"shared.{i}": 1 for i in range(n)}} for arch in found]
        found.append(configured(net, shared=1, k=2))  # all experts kept
    kinds = [g.name for g in net.space.genes if g.role == "block"]
    found += [{**configured(net, keep=4, k=2, width=12), **dict.fromkeys(kinds, kind)} for kind in ("dense", "skip")]
    return found


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_operator_on_every_family(name: str) -> None:
    """Each configuration equals its extracted twin, costs what that costs, and leaves no trace in the supernet."""
    model = make_moe(name, "eager")
    shared = [0, 1] if not name.endswith(("groups", "v3")) else [0]
    net: Any = convert(
        model,
        calibration=batches(),
        keep=[4, 8],
        k=[2, 3],
        width=[12, 16],
        shared=shared,
        blocks=["experts", "dense", "skip"],
        operators=[*list_operators(), *OPTIONS],
        criteria=["frequency"],
        sequence=7,
        protect=False,
    )
    (batch,), (first,) = batches(1, seed=4), batches(1, seed=5)
    inputs = net.example_inputs()
    full, state = logits(net, batch), {n: t.clone() for n, t in net.state_dict().items()}
    torch.testing.assert_close(full, logits(model, batch), rtol=1e-5, atol=1e-5)
    archs = configurations(net)
    costs = net.analytic(net.space.encode(archs))
    seen = []
    for i, arch in enumerate(archs):
        net.activate(arch)
        output, twin = logits(net, batch), net.extract(arch)
        torch.testing.assert_close(logits(twin, batch), output, rtol=1e-5, atol=1e-5)
        seen.append(output)
        counted = count(twin, inputs)
        for metric, value in (("params_m", counted.params_m), ("size_mb", counted.size_mb), ("macs_m", counted.macs_m)):
            assert round(costs[metric][i] * 1e6) == round(value * 1e6), (arch, metric)
        logits(net, first)
    assert all(not torch.equal(a, full) for a in seen)
    net.activate(configured(net))
    assert torch.equal(logits(net, batch), full)
    assert [n for n, t in net.state_dict().items() if not torch.equal(t, state[n])] == []
