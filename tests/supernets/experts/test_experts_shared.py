"""Experts that answer every token, and blocks without a router: formulas, brute force, the space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_experts_operators import configured, logits
from tiny_moe import CONFIGS, batches, make_moe

from supernets import SupernetError, convert
from supernets.experts import weights
from supernets.experts.explain import STATES, states
from supernets.experts.operators.whole_layer import best_constant_expert
from supernets.experts.probing import mix, probe_inputs, probe_outputs

GROUPED = ("deepseek_v2_groups", "deepseek_v3")


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - set(GROUPED)))
def test_promotion_is_exact_where_weights_are_constant(name: str) -> None:
    """Of one token again and again each expert has one weight: asking all for one of its experts changes nothing."""
    same = {"input_ids": torch.full((40, 1), 7)}
    net: Any = convert(make_moe(name), calibration=[same], keep=[8], k=[2, 3], width=[16], shared=[0, 1])
    full = logits(net, same)
    net.activate(configured(net, shared=1, k=2))
    assert all(len(b.setting.plan.rows) == 7 for b in net.blocks)
    torch.testing.assert_close(logits(net, same), full, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mixtral", "olmoe", "gpt_oss"])
def test_promotion_is_the_formula(name: str) -> None:
    """Any block: the constant share of the promoted expert, and the scaled rest of a router without it."""
    net: Any = convert(make_moe(name), calibration=batches(), keep=[8], k=[2, 3], width=[16], shared=[0, 1])
    net.activate(configured(net, shared=1, k=2))
    x = torch.randn(20, 16, generator=torch.Generator().manual_seed(3))
    for block, known in zip(net.blocks, net.statistics, strict=True):
        plan = block.setting.plan
        (e,) = set(range(8)) - set(plan.rows.tolist())
        supers = net.super_experts[net.blocks.index(block)]
        assert e == max((i for i in range(8) if i not in supers), key=lambda i: float(known.mass[i]))
        gate = float(known.mass[e] / known.tokens)
        with torch.no_grad():
            _, w, rows = block.router(x)
            out = block.experts(x, rows, w)
            expected = gate * weights.evaluate(block.experts, block.tensors, e, x)[1]
            for t in range(20):
                for slot in range(2):
                    f = weights.evaluate(block.experts, block.tensors, int(plan.rows[rows[t, slot]]), x[t : t + 1])[1]
                    expected[t] += (1 - gate) * w[t, slot] * f[0]
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operator", ["drop", "ream", "m-smoe", "mc-smoe"])
def test_promoted_experts_are_told_as_shared(operator: str) -> None:
    """Also beside a bank of merged experts or factors, which have numbers of their own; in a dense block the one."""
    chosen: dict[str, Any] = {"shared": [0, 1], "blocks": ["experts", "dense"], "width": [16], "protect": False}
    net: Any = convert(
        make_moe("olmoe"), calibration=batches(), keep=[4, 8], k=[2, 3], operators=["dern", operator], **chosen
    )
    net.activate({**configured(net, keep=4, shared=1, k=2, op=operator), "block.2": "dense"})
    for block, known in zip(net.blocks[:2], net.statistics, strict=False):
        found, kept = [STATES[s] for s in states(block)], net._planner.kept(net.blocks.index(block), 4, "reap")
        best = max(kept, key=lambda e: float(known.mass[e]))
        assert found[best] == "shared"
        assert found.count("shared") == 1
        others = {"drop": ("kept", "gone"), "ream": ("kept", "gone")}.get(operator, ("kept", "merged"))
        assert set(found) - {"shared"} <= set(others)
    assert sorted(STATES[s] for s in states(net.blocks[2])) == ["gone"] * 7 + ["shared"]


def test_a_dense_block_is_the_best_constant_expert() -> None:
    """No other expert at no other weight is nearer to the block on the probes, and skipping is no better."""
    net: Any = convert(
        make_moe("qwen3_moe"), calibration=batches(), keep=[8], k=[3], blocks=["experts", "dense", "skip"]
    )
    free = [s for s, found in enumerate(net.super_experts) if not found]
    arch = {**configured(net), **{f"block.{s}": "dense" for s in free}}
    net.activate(arch)
    for slot in free:
        block, known = net.blocks[slot], net.statistics[slot]
        outputs, x = probe_outputs(block, known), probe_inputs(block, known)
        y = mix(block, outputs, x)
        best, weight = best_constant_expert(outputs, y)
        errors = {
            (e, g): float((y - g * outputs[e]).square().sum())
            for e in range(8)
            for g in np.linspace(-1, 1, 41).tolist()
        }
        mine = float((y - float(weight) * outputs[best]).square().sum())
        assert mine <= min(errors.values()) + 1e-6
        assert mine < float(y.square().sum())
        with torch.no_grad():
            _, w, rows = block.router(x)
            torch.testing.assert_close(block.experts(x, rows, w), float(weight) * outputs[best], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v2"])
def test_a_skipped_block_is_its_shared_experts(name: str) -> None:
    """Nothing routed is added; shared experts of the model stay."""
    net: Any = convert(make_moe(name), keep=[8], k=[3], width=[16], blocks=["experts", "skip"])
    slots = range(len(net.blocks))
    net.activate({**configured(net), **{f"block.{s}": "skip" for s in slots}})
    x = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in net.blocks:
            module = net.model.get_submodule(block.name)
            shared = module.shared_experts(x) if hasattr(module, "shared_experts") else torch.zeros_like(x)
            torch.testing.assert_close(module(x), shared)
        assert net(**batches(1)[0], output_router_logits=name == "olmoe").logits.isfinite().all()
    costs = net.analytic(net.space.encode([net.active]))
    assert costs["active_experts"][0] == 0


def test_super_experts_are_kept_by_the_space() -> None:
    """A block with super experts keeps as many at least, and is neither dense nor skipped; the space remembers it."""
    model = make_moe("olmoe")
    with torch.no_grad():
        for e in (2, 5):
            model.model.layers[0].mlp.experts.down_proj[e] *= -50
            model.model.layers[0].mlp.experts.down_proj[e, 0] = 1.0
    options: dict[str, Any] = {"keep": [1, 2, 4, 8], "k": [1, 3], "blocks": ["experts", "skip"], "operators": ["drop"]}
    net: Any = convert(model, calibration=batches(4), **options)
    n = len(net.super_experts[0])
    assert net.super_experts[0]
    assert net.least[0] == n
    genes = {g.name: g.choices for g in net.space.genes}
    assert "block.0" not in genes
    assert min(genes["keep.0"]) >= n
    for slot in (1, 2):
        assert not net.super_experts[slot]
        assert genes[f"block.{slot}"] == ("experts", "skip")
        assert min(genes[f"keep.{slot}"]) == 1
    free: Any = convert(model, calibration=batches(4), protect=False, **options)
    assert len([g for g in free.space.genes if g.role == "block"]) == 3
    assert free.space != net.space


def test_the_space_repairs_shared_experts_and_groups() -> None:
    """What is left of the router is enough for k, in each group alike; nothing else is forbidden."""
    net: Any = convert(make_moe("deepseek_v3"), calibration=batches(), keep=[4, 6, 8], k=[1, 2, 3], shared=[0, 2, 4])
    rows = np.random.default_rng(0).integers(0, net.space.n_choices, size=(300, len(net.space.genes)))
    repaired = net.space.repair(rows, np.random.default_rng(1))
    for arch in net.space.decode(repaired):
        for i in range(len(net.blocks)):
            left = arch[f"keep.{i}"] - arch[f"shared.{i}"]
            assert left >= 4
            assert arch[f"k.{i}"] <= left // 2
    (batch,) = batches(1)
    arch = configured(net, keep=8, shared=4, k=2)
    net.activate(arch)
    torch.testing.assert_close(logits(net.extract(arch), batch), logits(net, batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("olmoe", {"shared": [1]}, "lacks 0"),
        ("olmoe", {"shared": [0, -1]}, "not possible"),
        ("olmoe", {"shared": [0, 7], "k": [2, 3]}, "the 2 left that a token needs"),
        ("deepseek_v3", {"shared": [0, 1]}, "multiples of 2"),
        ("olmoe", {"shared": [0, 1], "uniform": True}, "uniform"),
        ("olmoe", {"blocks": ["skip"]}, "lacks 'experts'"),
        ("olmoe", {"blocks": ["experts", "dens"]}, "did you mean 'dense'"),
    ],
)
def test_faults_are_told(name: str, options: dict[str, Any], message: str) -> None:
    """Choices that the model does not allow are named."""
    with pytest.raises(SupernetError, match=message):
        convert(make_moe(name), calibration=batches(), **options)


def test_what_needs_calibration_is_not_offered_without() -> None:
    """Skipping needs none; promotion and dense blocks do."""
    assert convert(make_moe("olmoe")).choices.shared == (0,)  # type: ignore[attr-defined]
    for options in ({"shared": [0, 1]}, {"blocks": ["experts", "dense"]}):
        with pytest.raises(SupernetError, match="needs calibration"):
            convert(make_moe("olmoe"), **options)
