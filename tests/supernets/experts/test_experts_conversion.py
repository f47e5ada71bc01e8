"""Conversions that fail: what was wrong is told, and the model is what it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from test_experts_operators import logits
from tiny_moe import batches, make_moe

from supernets import SupernetError, convert


def interrupted() -> Iterator[dict[str, torch.Tensor]]:
    """Batches whose reading is stopped in the middle."""
    yield batches(1)[0]
    raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["olmoe", "gpt_oss", "deepseek_v3"])
@pytest.mark.parametrize(
    ("calibration", "error"),
    [(lambda: [{"input_ids": torch.ones(1, 4, dtype=torch.long)}], SupernetError), (interrupted, KeyboardInterrupt)],
)
def test_a_model_that_was_to_become_the_supernet_stays_as_it_was(name: str, calibration: Any, error: Any) -> None:
    """Without a copy, too: classes, weights, outputs; and the next conversion of it succeeds."""
    model, untouched = make_moe(name), make_moe(name)
    with pytest.raises(error):
        convert(model, calibration=calibration(), copy=False)
    assert [type(m) for m in model.modules()] == [type(m) for m in untouched.modules()]
    assert [sorted(m.__dict__) for m in model.modules()] == [sorted(m.__dict__) for m in untouched.modules()]
    (batch,) = batches(1)
    assert torch.equal(logits(model, batch), logits(untouched, batch))
    net = convert(model, calibration=batches(), copy=False)
    assert torch.equal(logits(net, batch), logits(convert(untouched, calibration=batches()), batch))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bank_mb": "64"}, "bank_mb must be a size in 1e6 bytes, 0 or more, got '64'"),
        ({"bank_mb": -1}, "got -1"),
        ({"bank_mb": float("nan")}, "got nan"),
        ({"bank_mb": None}, "got None"),
        ({"calibration": 5}, "calibration must be batches of inputs.*got 5"),
        ({"calibration": "text"}, "got 'text'"),
        ({"calibration": {"input_ids": torch.ones(2, 9)}}, "got a Tensor as the batches of a domain"),
        ({"calibration": [torch.ones(2, 9)]}, "a batch of calibration is a mapping of names to tensors.*got Tensor"),
        ({"calibration": ["text"]}, "a batch of calibration .*got str"),
        ({"calibration": [{"input_ids": [1, 2]}]}, "a batch of calibration .*got dict"),
    ],
)
def test_values_of_the_wrong_kind_are_told(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SupernetError, match=message):
        convert(make_moe("olmoe"), **{"calibration": batches(), **options})


def test_each_domain_needs_tokens_enough() -> None:
    """All domains that have too few are named; what was known before stays."""
    short = [{n: t[1:, :4] for n, t in batches(1)[0].items()}]
    net: Any = convert(make_moe("olmoe"), calibration={"a": batches(), "b": batches()})
    before = net.statistics[0].counts.clone()
    with pytest.raises(SupernetError, match=r"saw 8 tokens of domain 'b', no token of domain 'c'; at least 22 of each"):
        net.calibrate({"a": batches(), "b": short, "c": []})
    assert torch.equal(net.statistics[0].counts, before)
