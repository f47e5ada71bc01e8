"""Metrics that compare a subnet with the largest one, on the split it is scored on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers as hf

from nassearch.comparing import References
from nassearch.evaluation import EvaluationSettings, SupernetEvaluator
from nassearch.tasks.language import LanguageModelling
from supernets import convert

SIZES = {"vocab_size": 30, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "pad_token_id": None}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 8, "num_experts_per_tok": 3}


@pytest.fixture(scope="module")
def task() -> LanguageModelling:
    rng = np.random.default_rng(0)
    sizes = {"train": 2, "calibration": 4, "search": 5, "report": 3}
    blocks = {split: rng.integers(0, 30, size=(n, 8), dtype=np.int32) for split, n in sizes.items()}
    bytes_per_token = dict.fromkeys(sizes, 1.0)
    return LanguageModelling(
        name="causal-lm", spec="toy", blocks=blocks, bytes_per_token=bytes_per_token, vocabulary=30, seed=0
    )


@pytest.fixture(scope="module")
def net(task):
    torch.manual_seed(0)
    model = hf.OlmoeForCausalLM(hf.OlmoeConfig(**SIZES, **HEADS, initializer_range=0.3))
    return convert(model, calibration=task.calibration_inputs(4), keep=[4, 8], k=[2, 3])


def evaluator(net, task, *metrics: str, batch_size: int = 2) -> SupernetEvaluator:
    return SupernetEvaluator(net, task, EvaluationSettings(metrics, {}, batch_size=batch_size, device="cpu"))


def by_hand(net, task, arch, split):
    """Return sum min(p, q) in percent and sum p log(p / q) in nats, means over all tokens of a split."""
    overlap, divergence = [], []
    for block in task.blocks[split]:
        ids = torch.from_numpy(block.astype(np.int64))[None]
        with torch.no_grad():
            with net.activated(net.space.decode(net.space.largest[None])[0]):
                p = net(input_ids=ids).logits.double().softmax(-1)
            with net.activated(arch):
                q = net(input_ids=ids).logits.double().softmax(-1)
        overlap += torch.minimum(p, q).sum(-1).flatten().tolist()
        divergence += (p * (p / q).log()).sum(-1).flatten().tolist()
    return 100 * float(np.mean(overlap)), float(np.mean(divergence))


def test_esap_and_kl_are_those_of_the_formulas_on_each_split(net, task):
    scores = evaluator(net, task, "nll", "esap", "kl")
    for arch in net.space.decode(net.space.sample(2, np.random.default_rng(1))):
        for split in ("search", "report"):
            part = scores.quality(arch, split)
            esap, kl = by_hand(net, task, arch, split)
            assert part.values["esap"] == pytest.approx(esap, rel=1e-5)
            assert part.values["kl"] == pytest.approx(kl, rel=1e-4, abs=1e-7)
            assert part.measured["esap"] == f"{split}-split"
            assert part.values["esap"] < 99


def test_the_largest_network_is_its_own_reference(net, task):
    largest = net.space.decode(net.space.largest[None])[0]
    values = evaluator(net, task, "esap").quality(largest).values
    assert values["esap"] == pytest.approx(100, abs=1e-4)
    assert values["esap"] <= 100
    assert values["kl"] == 0


def test_references_that_are_too_large_run_again(net, task):
    arch = net.space.decode(net.space.sample(1, np.random.default_rng(2)))[0]
    kept, again = evaluator(net, task, "esap"), evaluator(net, task, "esap")
    again._references = References(task, kept_bytes=3 * 8 * 30 * 4)
    assert again.quality(arch).values == kept.quality(arch).values
    assert not again._references._outputs["search"].fit
    assert again._references._outputs["search"].get(0) is None
    assert net.active == net.space.decode(net.space.largest[None])[0]


def test_they_cost_nothing_where_no_goal_names_them(net, task, monkeypatch):
    arch = net.space.decode(net.space.sample(1, np.random.default_rng(2)))[0]
    runs = []
    monkeypatch.setattr(type(net), "forward", lambda self, **k: runs.append(1) or self.model(**k))
    plain = evaluator(net, task, "nll")
    assert not {"esap", "kl"} & set(plain.quality(arch).values)
    assert len(runs) == 3  # batches of two of five blocks
    compared = evaluator(net, task, "nll", "kl")
    first = compared.quality(arch).values
    assert len(runs) == 3 + 6
    assert compared.quality(arch).values == first  # the largest network is not run again
    assert len(runs) == 3 + 9
