"""Low-rank adapters: exact at the start, sliced like their weights, merged at the end, resumed exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_recompute import batch_of, task_loss, tiny
from training_toy import ToyData, ToySupernet, same, settings, weights_of

from supernets import SupernetError, load, save
from supernets.base import call
from supernets.training import InvalidSettings, logits_of, prepare, train

NAMES = ["bert", "vit", "timm_vit", "gpt2", "llama", "t5"]
LORA = {"rank": 2, "alpha": 4.0, "targets": ("*",), "train": (), "seed": 3}


class Data(ToyData):
    """One batch in each epoch."""

    def __init__(self, batch):
        self.batch, self.targets, self.batch_size = batch, batch.targets, len(batch.targets)

    def batches(self, epoch):
        yield self.batch

    def calibration(self):
        return []

    def evaluation(self):
        return [self.batch]


def archs(net):
    return net.space.decode(net.space.sample(4, np.random.default_rng(0))) + net.space.decode(net.space.smallest[None])


def outputs(net, arch):
    with torch.no_grad(), net.activated(arch):
        return logits_of(call(net, inputs_of(net)))


def inputs_of(net):
    """Example inputs in the type of the weights."""
    dtype = next(net.parameters()).dtype

    def typed(x):
        return x.to(dtype) if x.is_floating_point() else x

    inputs = net.example_inputs(batch_size=2)
    return tuple(map(typed, inputs)) if isinstance(inputs, tuple) else {n: typed(x) for n, x in inputs.items()}


def drawn(net, scale=0.1):
    """Give the factors, those that are zero too, random values."""
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if "lora_" in name:
                p.copy_(scale * torch.randn(p.shape, generator=g))


@pytest.mark.parametrize("name", NAMES)
def test_the_start_is_the_original_bit_for_bit_and_a_merge_changes_nothing(name):
    net = tiny(name).eval()
    before, weights = [outputs(net, a) for a in archs(net)], weights_of(net)
    net.add_adapters(**LORA)
    assert any("lora_left" in n for n, _ in net.named_parameters())
    for arch, wanted in zip(archs(net), before, strict=True):
        assert torch.equal(outputs(net, arch), wanted)
    net.merge_adapters()
    assert same(weights_of(net), weights)
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_merged_equals_unmerged_in_every_subnet_and_its_extraction(name):
    net = tiny(name).eval()
    plain = [outputs(net, a) for a in archs(net)]
    net.add_adapters(**LORA)
    drawn(net)
    unmerged = [outputs(net, a) for a in archs(net)]
    twins = [net.extract(a) for a in archs(net)]
    net.merge_adapters()
    assert not any("lora_" in n for n in net.state_dict())
    inputs = net.example_inputs(batch_size=2)
    for arch, before, wanted, twin in zip(archs(net), plain, unmerged, twins, strict=True):
        assert (before - wanted).abs().max() > 5e-5
        torch.testing.assert_close(outputs(net, arch), wanted, atol=1e-5, rtol=1e-5)
        assert not any("lora_" in n for n in twin.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(logits_of(call(twin, inputs)), wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_merge_changes_is_rounding(name):
    """With large factors T5, whose attention is not scaled, differs by up to 1e-3 in float32, in float64 not at all."""
    net = tiny(name).eval().double()
    net.add_adapters(**LORA)
    drawn(net, 3.0)
    unmerged = [outputs(net, a) for a in archs(net)]
    twins = [net.extract(a) for a in archs(net)]
    net.merge_adapters()
    for arch, wanted, twin in zip(archs(net), unmerged, twins, strict=True):
        torch.testing.assert_close(outputs(net, arch), wanted, atol=1e-12, rtol=1e-12)
        with torch.no_grad():
            torch.testing.assert_close(logits_of(call(twin, inputs_of(net))), wanted, atol=1e-12, rtol=1e-12)


def test_only_factors_head_and_named_weights_learn():
    net = tiny("bert")
    before = weights_of(net)
    s = settings(
        steps=3, lr=0.1, lora_rank=2, lora_targets=["*.query", "*.value"], lora_train=["*LayerNorm.bias"],
        evaluate_every=0,
    )  # fmt: skip
    train(net, Data(batch_of(net)), task_loss, method="instatune", settings=s, score=None, device="cpu")
    changed = {n for n, t in weights_of(net).items() if not torch.equal(t, before[n])}
    expected = ("query.weight", "value.weight", "LayerNorm.bias", "classifier.weight", "classifier.bias")
    assert changed
    assert all(n.endswith(expected) for n in changed)
    assert all(any(n.endswith(e) for n in changed) for e in expected)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_gradients_of_a_slice_are_zero_outside_it(name):
    net = tiny(name).eval()
    net.add_adapters(**LORA)
    drawn(net)
    (smallest,) = net.space.decode(net.space.smallest[None])
    net.activate(smallest)
    batch = batch_of(net)
    task_loss(call(net, batch.inputs), batch.targets).backward()
    seen = 0
    for module in net.active_layers()[0].modules():
        for factor, (tensor, piece) in getattr(module, "sliced", dict)().items():
            if factor.startswith("lora_"):
                inside = torch.zeros_like(tensor)
                piece.view(inside).fill_(1)
                assert tensor.grad[inside == 1].any()
                assert not tensor.grad[inside == 0].any()
                seen += int((inside == 0).any())
    assert seen


class Stopped(Exception):
    pass


def fit(folder, stop=None, **changes):
    def progress(state):
        if state.step == stop:
            raise Stopped

    net = tiny("bert")
    data = Data(batch_of(net))
    values = {"steps": 8, "lr": 0.05, "lora_rank": 2, "lora_alpha": 4.0, "checkpoint_every": 3, "evaluate_every": 0}
    train(
        net, data, task_loss, method="instatune", settings=settings(**(values | changes)), score=None,
        checkpoint_dir=folder, resume=True, progress=progress, device="cpu",
    )  # fmt: skip
    return net


def test_interrupted_and_resumed_ends_with_the_same_bits_and_saves_a_plain_supernet(tmp_path):
    wanted = fit(None)
    for step in (4, 7):
        with pytest.raises(Stopped):
            fit(tmp_path / "kept", step)
    net = fit(tmp_path / "kept")
    assert same(weights_of(net), weights_of(wanted))
    save(net, tmp_path / "net")
    again = load(tmp_path / "net").eval()
    assert same(weights_of(again), weights_of(wanted))


def test_checkpointing_and_adapters_together():
    one, other = fit(None), fit(None, gradient_checkpointing=True)
    for n, t in weights_of(one).items():
        torch.testing.assert_close(weights_of(other)[n], t, atol=1e-6, rtol=1e-5)


def test_an_order_by_importance_keeps_the_function():
    net = tiny("bert").eval()
    net.add_adapters(**LORA)
    drawn(net)
    (largest,) = net.space.decode(net.space.largest[None])
    wanted = outputs(net, largest)
    net.sort_by_importance()
    torch.testing.assert_close(outputs(net, largest), wanted, atol=1e-5, rtol=1e-5)


def test_bad_settings_are_refused_before_any_work():
    net = tiny("bert")
    with pytest.raises(InvalidSettings, match=r"lora_rank: no elastic linear layer.*\['\*\.nothing'\]; there are"):
        prepare("instatune", settings(lora_rank=2, lora_targets=["*.nothing"]), net, ToyData())
    with pytest.raises(InvalidSettings, match="family 'toy' has none"):
        prepare("sandwich", settings(lora_rank=2), ToySupernet(), ToyData())
    with pytest.raises(InvalidSettings, match="no effect without lora_rank"):
        prepare("instatune", settings(lora_alpha=2.0), net, ToyData())
    with pytest.raises(InvalidSettings, match=r"(?s)lora_targets must be a list.*lora_train must be"):
        prepare("instatune", settings(lora_rank=1, lora_targets="q", lora_train=[1]), net, ToyData())
    net.add_adapters(**LORA)
    with pytest.raises(SupernetError, match="merge them first"):
        net.add_adapters(**LORA)


def test_tied_embeddings_are_no_head():
    net = tiny("gpt2")
    net.add_adapters(**LORA)
    assert all("lora_" in n for n, p in net.named_parameters() if p.requires_grad)
