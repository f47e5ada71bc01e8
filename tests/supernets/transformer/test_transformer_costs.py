"""Lengths of inputs and costs of Transformer supernets."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_models import ENCODER, make_model

from nassearch.evaluation import measured_inputs
from predictors import LatencySetting
from supernets import SupernetError, convert
from supernets.transformer import TransformerSupernet


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
