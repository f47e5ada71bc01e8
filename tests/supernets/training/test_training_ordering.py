"""Units are ordered by a copy that has been fine-tuned a little."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import ENCODER
from torch.nn.functional import cross_entropy

from supernets import Supernet, call, convert
from supernets.training import Batch, Rehearsal, TrainSettings, rehearsal_steps, sort_units


class Words:
    """Sentences whose first word is their class."""

    steps_per_epoch = 3
    example_shape = (6,)

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(10, 39, (24, 6), generator=generator)
        classes = torch.arange(24) % 3
        ids[:, 0] = 10 + classes
        self.all = [
            Batch({"input_ids": i, "attention_mask": torch.ones_like(i)}, c)
            for i, c in zip(ids.split(8), classes.split(8), strict=True)
        ]

    def batches(self, epoch: int) -> list[Batch]:
        return self.all

    calibration = evaluation = batches


def bert() -> Supernet:
    torch.manual_seed(0)
    return convert(hf.BertForSequenceClassification(hf.BertConfig(**ENCODER, num_labels=3)).eval(), sequence=6)


def loss(outputs: Any, targets: torch.Tensor) -> torch.Tensor:
    return cross_entropy(outputs.logits, targets)


def order(steps: int, **options: Any) -> Supernet:
    data, net = Words(), bert()
    settings = TrainSettings(epochs=1, optimizer="adamw", lr=1e-2, checkpoint_every=0)
    rehearsal = Rehearsal(data, steps, settings) if steps else None
    sort_units(net, data.all, loss, rehearsal=rehearsal, device="cpu", **options)
    return net


def test_a_rehearsal_orders_and_leaves_no_trace() -> None:
    plain, net, again, own = bert(), order(4), order(4), order(0)
    inputs = Words().all[0].inputs
    torch.testing.assert_close(call(net, inputs).logits, call(plain, inputs).logits, rtol=1e-5, atol=1e-5)
    states = [dict(n.state_dict()) for n in (plain, net, again, own)]
    assert all(torch.equal(t, states[2][name]) for name, t in states[1].items())
    moved = [name for name, t in states[1].items() if not torch.equal(t, states[3][name])]
    assert any("intermediate" in name for name in moved)
    for name, t in states[1].items():  # permuted, no value of the copy's
        assert torch.equal(t.flatten().sort().values, states[0][name].flatten().sort().values)
    assert not net.training
    assert all(p.grad is None for p in net.parameters())


def test_layers_are_ordered_where_asked() -> None:
    orders = [order(4, layers=layers).config()["layer_order"] for layers in (False, True)]
    assert orders[0] == {"": [0, 1, 2]}
    assert sorted(orders[1][""]) == [0, 1, 2]
    assert orders[1][""] != [0, 1, 2]


@pytest.mark.parametrize(("total", "steps"), [(1, 1), (60, 10), (618, 103), (10**6, 200)])
def test_length_of_a_rehearsal(total: int, steps: int) -> None:
    assert rehearsal_steps(total) == steps
