"""Training and evaluating supernets whose inputs go by name: padded texts and their masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
import torch
from tiny_models import ENCODER, make_model
from torch import Tensor
from torch.nn import functional
from training_toy import same, settings, weights_of

from supernets import convert
from supernets.base import Inputs
from supernets.training import Batch, evaluate_subnet, logits_of, method_settings, top1_score, train

CPU = torch.device("cpu")
LENGTH = ENCODER["max_position_embeddings"]


class TextData:
    """Texts of three classes, whose tokens differ; each batch is as long as its longest text."""

    steps_per_epoch = 6

    def __init__(self, batch_size: int = 8) -> None:
        g = torch.Generator().manual_seed(0)
        self.targets = torch.arange(48) % 3
        self.lengths = torch.randint(3, LENGTH, (48,), generator=g)
        self.texts = torch.randint(0, 14, (48, LENGTH), generator=g) + 10 * self.targets[:, None]
        self.texts[:, 0] = 1
        self.batch_size = batch_size

    def batch(self, rows: Tensor) -> Batch:
        lengths = self.lengths[rows]
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = self.texts[rows][:, : mask.shape[1]] * mask
        return Batch({"input_ids": ids, "attention_mask": mask.long()}, self.targets[rows])

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = torch.randperm(48, generator=torch.Generator().manual_seed(epoch))
        return (self.batch(rows) for rows in order.split(8))

    def calibration(self) -> Iterable[Inputs]:
        return [b.inputs for b in self.evaluation()]

    def evaluation(self) -> Iterable[Batch]:
        return [self.batch(rows) for rows in torch.arange(48).split(self.batch_size)]


def loss(outputs, targets):
    return functional.cross_entropy(logits_of(outputs), targets)


@pytest.mark.parametrize("method", ["sandwich", "single-path", "progressive-shrinking", "instatune"])
def test_text_supernets_learn_with_every_method(method):
    s = settings(**method_settings("instatune") | {"lr": 5e-3, "steps": 90, "evaluate_every": 0})
    report = train(convert(make_model("bert")), TextData(), loss, method=method, settings=s, device="cpu")
    assert report.top1_largest is not None
    assert report.top1_largest > 60


def test_padding_does_not_change_scores():
    net = convert(make_model("bert"))
    (smallest,) = net.space.decode(net.space.smallest[None])
    outputs = []

    def score(out, targets):
        outputs.append(logits_of(out))
        return top1_score(out, targets)

    for size in (48, 1):
        evaluate_subnet(net, smallest, TextData(size), score, device=CPU, batches=48, calibration_batches=1)
    together, alone = outputs[0], torch.cat(outputs[1:])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_resumed_text_training_ends_alike(tmp_path):
    values = method_settings("instatune") | {"lr": 1e-3, "steps": 6, "checkpoint_every": 2, "accumulate": 2}
    s = settings(**values, options={"smallest": True})

    def fit(folder, stop=None):
        def progress(state):
            if state.step == stop:
                raise KeyboardInterrupt

        net = convert(make_model("bert"))
        train(
            net, TextData(), loss, method="instatune", settings=s, checkpoint_dir=folder, resume=True,
            progress=progress, device="cpu",
        )  # fmt: skip
        return weights_of(net)

    whole = fit(tmp_path / "whole")
    for stop in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "parts", stop)
    assert same(fit(tmp_path / "parts"), whole)
