"""MC-SMoE: factors against the formula, and against the merged experts they come from."""

from __future__ import annotations

from math import ceil
from typing import Any

import pytest
import torch
from test_experts_operators import configured, logits
from tiny_moe import batches, make_moe

from search_spaces import InvalidArchitecture
from supernets import SupernetError, convert
from supernets.experts import factored, get_operator, weights
from supernets.low_rank import PlainAdapters


def merged(name: str, *operators: str, **options: Any) -> Any:
    """Return a supernet with these operators, and all layers reduced by the first."""
    chosen: dict[str, Any] = {"keep": [4, 8], "criteria": ["frequency"], "width": [16], **options}
    net = convert(make_moe(name), calibration=batches(), operators=list(operators), **chosen)
    net.activate(configured(net, keep=4))
    return net


def test_factors_are_the_formula() -> None:
    """The product is the truncated decomposition, and of the rest the largest rows stay, as they are."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(24, 10, generator=generator, dtype=torch.float64)
    left, right, rest, rows = factored.factorise(matrix, 0.3, 0.25)
    rank = ceil(0.3 * 24 * 10 / 34)
    assert (left.shape, right.shape, rest.shape) == ((24, rank), (rank, 10), (6, 10))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    product = u[:, :rank] @ s[:rank].diag() @ v[:rank]
    torch.testing.assert_close(left @ right, product)
    torch.testing.assert_close(left.T @ left, s[:rank].diag())  # both factors have the same share of the values
    sparse = matrix - product
    assert set(rows.tolist()) == set(sparse.norm(dim=1).topk(6).indices.tolist())
    torch.testing.assert_close(rest, sparse[rows])


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "granitemoe"])
def test_a_block_computes_what_its_factors_say(name: str) -> None:
    """The outputs are those of tied stock experts with the matrices L R + S written out."""
    net = merged(name, "mc-smoe:ratio=0.4,rest=0.2", protect=False)
    tied = make_moe(name)
    for block in net.blocks:
        plan = block.setting.plan
        whole = [factored.dense(plan.factors, e) for e in range(4)]
        stacked = {n: torch.stack([w[n] for w in whole]) for n in whole[0]}
        experts = tied.get_submodule(block.name).experts
        for n, tensor in weights.join(block.experts, stacked).items():
            getattr(experts, n).data = tensor[plan.target]
    (batch,) = batches(1)
    torch.testing.assert_close(logits(net, batch), logits(tied, batch), rtol=1e-5, atol=1e-5)


def test_with_all_rows_it_is_m_smoe() -> None:
    """Where every row of the rest stays nothing is lost; with fewer the error is that of the rows that go."""
    net = merged("olmoe", "m-smoe", "mc-smoe:ratio=0.2,rest=1.0", "mc-smoe:ratio=0.2,rest=0.5")
    (batch,) = batches(1)
    whole = logits(net, batch)
    net.activate(configured(net, keep=4, op="mc-smoe:ratio=0.2,rest=1.0"))
    torch.testing.assert_close(logits(net, batch), whole, rtol=1e-5, atol=1e-5)
    net.activate(configured(net, keep=4, op="mc-smoe:ratio=0.2,rest=0.5"))
    assert not torch.allclose(logits(net, batch), whole, rtol=1e-3, atol=1e-3)


def test_super_experts_stay_whole() -> None:
    """A super expert is stored and computed as it is, the others as factors; sizes say so."""
    model = make_moe("olmoe")
    with torch.no_grad():
        model.model.layers[0].mlp.experts.down_proj[5] *= -50
    net: Any = convert(model, calibration=batches(), keep=[4, 8], operators=["mc-smoe"], width=[16], k=[3])
    assert net.super_experts[0] == [5]
    arch = configured(net, keep=4)
    net.activate(arch)
    plan = net.blocks[0].setting.plan
    assert int(plan.target[5]) == 0
    assert int((plan.target == 0).sum()) == 1
    assert torch.equal(plan.bank["down_proj"][0], model.model.layers[0].mlp.experts.down_proj[5])
    assert [len(b.setting.plan.bank["down_proj"]) for b in net.blocks] == [len(e) for e in net.super_experts]
    twin = net.extract(arch)
    costs = net.analytic(net.space.encode([arch]))
    assert round(costs["params_m"][0] * 1e6) == sum(p.numel() for p in twin.parameters())
    assert round(costs["size_mb"][0] * 1e6) == sum(
        t.numel() * t.element_size() for t in (*twin.parameters(), *twin.buffers())
    )


def test_factors_and_whole_experts_beside_them_learn_by_adapters() -> None:
    """Adapters change nothing at first; what they learn is in the outputs, and in the weights once they are merged."""
    model = make_moe("olmoe")
    with torch.no_grad():
        for e in (2, 5):
            model.model.layers[0].mlp.experts.down_proj[e] *= -50
            model.model.layers[0].mlp.experts.down_proj[e, 0] = 1.0
    net: Any = convert(
        model, calibration=batches(4), keep=[4, 8], operators=["mc-smoe"], width=[16], k=[3], shared=[0, 1]
    )
    arch = configured(net, keep=4, shared=1)
    net.activate(arch)
    assert max(len(b.setting.plan.bank["down_proj"]) for b in net.blocks) > 1  # a stack that has adapters
    twin, names = net.extract(arch), set(net.extract(arch).state_dict())
    (batch,) = batches(1)
    before = logits(twin, batch)
    adapters = PlainAdapters(twin, rank=2, alpha=2.0, targets=["*.experts.*"], train=[], seed=0)
    torch.testing.assert_close(logits(twin, batch), before)
    learning = {n: p for n, p in twin.named_parameters() if p.requires_grad}
    assert any("factored_gate_left" in n for n in learning)
    assert any("down_proj" in n for n in learning)
    for _ in range(2):  # right learns once left is not zero
        twin(**batch, labels=batch["input_ids"]).loss.backward()
        with torch.no_grad():
            for parameter in learning.values():
                parameter -= parameter.grad
                parameter.grad = None
    learned = logits(twin, batch)
    assert not torch.allclose(learned, before, atol=1e-3)
    adapters.merge()
    assert set(twin.state_dict()) == names
    torch.testing.assert_close(logits(twin, batch), learned, rtol=1e-5, atol=1e-5)


def test_faults_of_its_options_are_told() -> None:
    """Shares outside their range are refused, with what was given."""
    for text, message in (
        ("mc-smoe:ratio=0", "above 0"),
        ("mc-smoe:rest=2", "between 0 and 1"),
        ("m-smoe:similarity=wieght", "weight"),
        ("m-smoe:reference=one", "dominant, first, none"),
        ("m-smoe:capacity=-1", "0 or more"),
        ("dern:columns=max", "mean or sum"),
    ):
        with pytest.raises(SupernetError, match=message):
            get_operator(text)


@pytest.mark.parametrize("choice", [{"keep": 1, "k": 1}, {"keep": 2, "shared": 1, "k": 1}])
def test_blocks_that_keep_protected_experts_alone_have_no_factors(choice: dict[str, int]) -> None:
    """Nobody can be merged into protected experts: factors come to the same as dropping, the one row of both."""
    net: Any = convert(
        make_moe("olmoe"), calibration=batches(), keep=[1, 2, 8], k=[1, 2, 3], width=[16], shared=[0, 1],
        operators=["drop", "mc-smoe"],
    )  # fmt: skip
    arch = configured(net, op="mc-smoe", **choice)
    with pytest.raises(InvalidArchitecture, match="forbids the combination") as told:
        net.activate(arch)
    sealed = str(told.value).partition("'keep.")[2][0]
    dropped = {**arch, f"op.{sealed}": "drop"}
    net.activate(dropped)
    assert net.blocks[int(sealed)].setting.plan.factors is None
    torch.testing.assert_close(net.extract(dropped)(**batches()[0]).logits, logits(net, batches()[0]))
