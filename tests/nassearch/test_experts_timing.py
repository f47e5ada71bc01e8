"""Prefill and decoding steps, and implementations of experts, as they are timed."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from test_experts_operators import configured
from tiny_moe import batches, make_moe

from nassearch.evaluation import EvaluationSettings, SupernetEvaluator, timing_options
from predictors import LatencySetting
from predictors.errors import InvalidSetting
from supernets import SupernetError, build, convert
from supernets.experts.timing import DecodeStep


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "deepseek_v3", "granitemoe"])
def test_a_step_answers_as_a_pass_over_all_tokens(name: str) -> None:
    """Again and again, also beyond a sliding window, and for other inputs after the first."""
    model = make_moe(name)
    step = DecodeStep(model).eval()
    for batch in batches(2, length=12):
        inputs = {"input_ids": batch["input_ids"], "attention_mask": torch.ones_like(batch["input_ids"])}
        with torch.no_grad():
            whole = model(**inputs).logits[:, -1:]
            for _ in range(3):
                torch.testing.assert_close(step(**inputs), whole, rtol=1e-4, atol=1e-5)


def test_settings_name_phase_and_implementation() -> None:
    setting = LatencySetting.parse("d=cpu:eager,phase=decode,experts=batched_mm,sequence=8")
    assert LatencySetting.parse(str(setting)) == setting == LatencySetting.from_json(setting.to_json())
    assert timing_options(setting) == {
        "phase": "decode", "experts": "batched_mm", "backend": "eager", "sequence": "8",
    }  # fmt: skip
    assert timing_options(LatencySetting.parse("cpu:eager,sequence=8")) == {}
    net = convert(make_moe("olmoe"), calibration=batches(), keep=[4, 8], k=[3])
    module = net.timed_as(configured(net, keep=4, op="drop"), timing_options(setting))
    assert isinstance(module, DecodeStep)
    assert module.model.config._experts_implementation == "batched_mm"
    assert net.model.config._experts_implementation != "batched_mm"
    assert not isinstance(net.timed_as(net.active, {"phase": "prefill"}), DecodeStep)


def test_what_cannot_be_timed_is_told() -> None:
    net = convert(make_moe("olmoe"), calibration=batches())
    faults = {
        "phase=decod": "allowed: prefill, decode",
        "experts=fast": "allowed: eager, ",
        "phase=decode,sequence=1": "two tokens at least; they have 1",
    }
    for text, message in faults.items():
        fault = net.timing_fault(timing_options(LatencySetting.parse(f"cpu:eager,{text}")))
        assert message in str(fault)
    compiled = timing_options(LatencySetting.parse("cpu:compile,phase=decode"))
    assert "by backend eager, not compile" in str(net.timing_fault(compiled))
    other = build("mobilenetv3-tiny")
    with pytest.raises(SupernetError, match="timed in one way only; leave phase out"):
        other.timed_as(other.active, {"phase": "decode", "backend": "eager"})
    with pytest.raises(InvalidSetting, match="phase=2 must be a letter"):
        LatencySetting.parse("cpu:eager,phase=2")


def test_phases_are_measured_as_metrics_of_their_own() -> None:
    class Nothing:
        comparisons: ClassVar[dict[str, str]] = {}
        metrics: ClassVar[dict[str, str]] = {}

        def calibration_inputs(self, *_: int) -> list[dict[str, torch.Tensor]]:
            return []

    net = convert(make_moe("olmoe"), calibration=batches(), keep=[4, 8], k=[3], sequence=16)
    texts = ("prefill=cpu:eager,budget_ms=20", "decode=cpu:eager,phase=decode,budget_ms=20")
    settings = {s.metric: s for s in map(LatencySetting.parse, texts)}
    evaluator = SupernetEvaluator(net, Nothing(), EvaluationSettings(tuple(settings), settings, device="cpu"))  # type: ignore[arg-type]
    values = evaluator.cost(configured(net, keep=4)).values
    assert set(values) == {"latency_ms@prefill", "latency_ms@decode"}
    assert all(v > 0 for v in values.values())
