"""Low-rank adapters on plain networks: nothing at first, of low rank when merged, and gone then."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tiny_moe import batches, make_moe

from supernets import SupernetError, convert
from supernets.fixed import FixedSupernet


def single(name: str = "olmoe") -> FixedSupernet:
    net = convert(make_moe(name), calibration=batches(), keep=[4, 8], k=[2, 3], width=[16])
    return FixedSupernet(net, net.space.decode(net.space.smallest[None])[0])


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "deepseek_v3"])
def test_adapters_begin_as_nothing_and_are_merged(name: str) -> None:
    net = single(name)
    inputs: Any = batches(1)[0]
    before = net(**inputs).logits.detach()
    names, learned = list(net.state_dict()), {n for n, p in net.named_parameters() if p.requires_grad}
    net.add_adapters(rank=2, alpha=4.0, targets=["*"], train=["*norm*"], seed=3)
    assert torch.equal(net(**inputs).logits, before)
    with pytest.raises(SupernetError, match="already"):
        net.add_adapters(rank=2, alpha=4.0, targets=["*"], train=[], seed=3)
    learning = {n for n, p in net.named_parameters() if p.requires_grad}
    assert all(n.endswith((".left", ".right")) or "norm" in n for n in learning)
    net(**inputs).logits.square().mean().backward()
    assert all(p.grad is None for n, p in net.named_parameters() if n not in learning)
    with torch.no_grad():
        for n, p in net.named_parameters():
            if n.endswith(".left"):
                p.normal_(generator=torch.Generator().manual_seed(1))
    changed = net(**inputs).logits.detach()
    assert not torch.allclose(changed, before)
    net.merge_adapters()
    assert set(net.state_dict()) == set(names)
    assert {n for n, p in net.named_parameters() if p.requires_grad} == learned
    torch.testing.assert_close(net(**inputs).logits, changed, rtol=1e-5, atol=1e-5)


def test_shared_weights_and_positions_have_none() -> None:
    net = convert(make_moe("olmoe", tie_word_embeddings=True), calibration=batches(), keep=[4, 8], k=[2, 3], width=[16])
    targets = FixedSupernet(net, net.active).adapter_targets(["*"])
    assert not any("lm_head" in t or "embed" in t for t in targets)
    assert "model.layers.0.mlp.experts.gate_up_proj" in targets
    assert "model.layers.0.self_attn.q_proj" in targets
    assert FixedSupernet(net, net.active).adapter_targets(["*.q_proj"]) == [t for t in targets if "q_proj" in t]
