"""Lengths of inputs and costs of Transformer supernets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import ENCODER, make_model

from nassearch.evaluation import measured_inputs
from predictors import LatencySetting
from supernets import SupernetError, convert
from supernets.transformer import TransformerSupernet, costs
from supernets.transformer.importance import layer_order


def made(name: str, **choices: Any) -> TransformerSupernet:
    net = convert(make_model(name), **choices)
    assert isinstance(net, TransformerSupernet)
    return net


def test_sequence() -> None:
    net = made("bert", sequence=9)
    assert net.example_inputs()["input_ids"].shape == (1, 9)  # type: ignore[call-overload]
    assert net.example_inputs(sequence=5)["input_ids"].shape == (1, 5)  # type: ignore[call-overload]
    longer = made("bert", sequence=18)
    row = net.space.largest[None]
    assert longer.analytic(row)["macs_m"][0] > 2 * net.analytic(row)["macs_m"][0]
    assert made("bert").shapes.sequence == ENCODER["max_position_embeddings"]


def test_latency_settings_choose_the_sequence() -> None:
    net = made("bert")
    inputs: Any = measured_inputs(net, net.active, LatencySetting.parse("cpu:eager,sequence=5,batch=2"))
    assert inputs["input_ids"].shape == (2, 5)
    vit = made("vit")
    with pytest.raises(SupernetError, match="takes no text"):
        measured_inputs(vit, vit.active, LatencySetting.parse("cpu:eager,sequence=5"))


def test_the_size_follows_the_dtype() -> None:
    net = made("bert")
    row = net.space.largest[None]
    before = net.analytic(row)["size_mb"][0]
    net.half()
    twin = net.extract(net.active)
    size = sum(t.numel() * t.element_size() for t in (*twin.parameters(), *twin.buffers())) / 1e6
    assert net.analytic(row)["size_mb"][0] == pytest.approx(size)
    assert size < 0.6 * before


def test_layers_keep_their_type_while_one_is_left_out() -> None:
    types = ["full_attention", "sliding_attention", "full_attention"]
    config = hf.Qwen2Config(
        **{**ENCODER, "num_key_value_heads": 4}, layer_types=types, use_sliding_window=True, sliding_window=2
    )
    torch.manual_seed(0)
    net: Any = convert(hf.Qwen2ForCausalLM(config).eval(), sequence=8, depth=[2, 3])
    seen = []

    def loss(output: Any, inputs: Any) -> Any:
        places = [p.active for i, p in enumerate(net.stacks[0].positions) if i in net.stacks[0].active_indices()]
        seen.append((net.model.config.layer_types[:2], places))
        return output.logits.square().mean()

    layer_order(net, net.stacks[0], [net.example_inputs()], loss)
    assert seen == [([t for i, t in enumerate(types) if i != left_out], [0, 1]) for left_out in range(3)]
    assert net.model.config.layer_types == types
    assert net.stacks[0].active_indices() == [0, 1, 2]


def test_a_model_that_cannot_be_counted_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise NotImplementedError("aten::something")

    monkeypatch.setattr(costs, "count_macs", refuse)
    net = made("bert")
    with pytest.raises(SupernetError, match=r"cannot be counted.*aten::something"):
        net.analytic(net.space.largest[None])
