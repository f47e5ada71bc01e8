"""Evaluating supernets whose inputs go by name, and the training settings that a method brings."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
import transformers as hf

from nassearch.config import make_config
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator
from nassearch.problem import Problem, make_problem
from supernets import call, convert

TINY = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 24,
    "max_position_embeddings": 20,
}  # fmt: skip


class Texts:
    """What an evaluator needs of a task of texts."""

    comparisons: ClassVar[dict] = {}
    metrics: ClassVar[dict] = {"top1": "max"}

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        ids = torch.randint(5, 40, (12, 9), generator=g)
        mask = (torch.arange(9) < torch.randint(3, 10, (12, 1), generator=g)).long()
        self.inputs = [{"input_ids": i, "attention_mask": m} for i, m in zip(ids.split(5), mask.split(5), strict=True)]
        self.targets = (torch.arange(12) % 3).split(5)

    def calibration_inputs(self, batch_size, n_images=None):
        return self.inputs

    def loss(self, outputs, targets):
        return torch.nn.functional.cross_entropy(outputs, targets)

    def evaluate(self, forward, split, batch_size=256, adapt=None):
        with torch.inference_mode():
            right = [forward(adapt(x)).argmax(-1) == y for x, y in zip(self.inputs, self.targets, strict=True)]
        return {"top1": 100 * float(torch.cat(right).float().mean())}

    def evaluate_sequences(self, generate, split, batch_size=256, adapt=None):
        return {}


def test_subnets_of_a_text_model_are_scored_and_measured_like_their_extracted_models():
    torch.manual_seed(0)
    net = convert(hf.BertForSequenceClassification(hf.BertConfig(num_labels=3, **TINY))).eval()
    task = Texts()
    evaluator = SupernetEvaluator(net, task, EvaluationSettings(("top1",), {}, device="cpu"))
    before = net.active
    for arch in net.space.decode(net.space.sample(3, np.random.default_rng(0))):
        small = net.extract(arch).eval()
        part = evaluator.quality(arch)
        wanted = task.evaluate(lambda x, m=small: call(m, x).logits, "search", adapt=lambda x: x)
        assert part.values["top1"] == wanted["top1"]
        assert part.values["params_m"] == pytest.approx(sum(p.numel() for p in small.parameters()) / 1e6)
    assert net.active == before


def test_a_tasks_loss_reads_the_logits_of_named_outputs():
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    problem = SimpleNamespace(task=Texts())
    named = hf.modeling_outputs.SequenceClassifierOutput(logits=logits)
    assert torch.equal(Problem.loss(problem, named, targets), problem.task.loss(logits, targets))


@pytest.mark.parametrize(("given", "lr"), [({}, 5e-5), ({"lr": 1e-4}, 1e-4)])
def test_a_method_brings_its_training_settings(small_settings, given, lr):
    train = {"method": "instatune", "settings": {"epochs": 2} | given, "options": {"smallest": True}}
    settings = make_problem(make_config(small_settings | {"train": train})).training
    assert settings is not None
    assert (settings.optimizer, settings.decay, settings.lr, settings.epochs) == ("adamw", "linear", lr, 2)
    assert settings.options["smallest"] is True
    plain = make_problem(make_config(small_settings | {"train": {"method": "sandwich"}})).training
    assert (plain.optimizer, plain.decay) == ("sgd", "cosine")
