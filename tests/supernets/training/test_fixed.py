"""One subnet alone: trained as the plain network would be, evaluated as the supernet evaluates it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest
import torch
from test_mapping_inputs import TextData
from test_mapping_inputs import loss as text_loss
from tiny_models import make_model
from torch import nn
from torch.nn import functional
from training_toy import ToyData, ToySupernet, same, settings, weights_of
from training_toy import loss as toy_loss

from search_spaces import InvalidArchitecture
from supernets import SupernetError, build, convert
from supernets.base import Inputs, Supernet
from supernets.conformance import randomise
from supernets.fixed import FixedSupernet
from supernets.training import Batch, Phase, logits_of, train
from supernets.training.loop import seed_step
from supernets.training.optimisation import learning_rate, make_optimizer, set_learning_rate

CPU = torch.device("cpu")


class ImageData:
    """Noise in ten classes, whose mean tells them apart."""

    steps_per_epoch = 4

    def __init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        self.targets = torch.arange(40) % 10
        self.images = torch.randn(40, 1, 16, 16, generator=g) + self.targets[:, None, None, None] / 3

    def batches(self, epoch: int) -> Iterator[Batch]:
        order = torch.randperm(40, generator=torch.Generator().manual_seed(epoch))
        return (Batch((self.images[i],), self.targets[i]) for i in order.split(10))

    def calibration(self) -> Iterable[Inputs]:
        return [(self.images[:25],), (self.images[25:],)]

    def evaluation(self) -> Iterable[Batch]:
        return [Batch((self.images,), self.targets)]


def tiny(dropout: float = 0.0) -> Supernet:
    torch.manual_seed(0)
    net = build("mobilenetv3-tiny", dropout=dropout)
    randomise(net)
    return net.eval()


def architectures(net: Supernet, n: int) -> list[dict]:
    return net.space.decode(net.space.sample(n, np.random.default_rng(0)))


def plainly_trained(module: nn.Module, net: Supernet, arch: dict, data, loss, s) -> nn.Module:
    """Train a plain network by a loop of its own."""
    module.train()
    total = s.total_steps(data.steps_per_epoch)
    optimizer = make_optimizer(module, s)
    phase, batches = Phase("all", 0, total), [b for epoch in range(20) for b in data.batches(epoch)]
    for step in range(total):
        set_learning_rate(optimizer, learning_rate(step, phase, s))
        seed_step(s.seed, step, CPU)
        inputs = net.fit_inputs(batches[step].inputs, arch)
        outputs = module(**inputs) if isinstance(inputs, dict) else module(*inputs)
        optimizer.zero_grad()
        loss(outputs, batches[step].targets).backward()
        optimizer.step()
    return module.eval()


@pytest.mark.parametrize("number", [0, 1])
def test_trained_alone_it_is_the_plain_network_trained(number):
    net = tiny(dropout=0.2)
    arch = architectures(net, 2)[number]
    s = settings(steps=8, evaluate_every=0)
    with torch.random.fork_rng(devices=[]):
        expected = plainly_trained(net.extract(arch), net, arch, ImageData(), functional.cross_entropy, s)
    alone = FixedSupernet(net, arch)
    train(alone, ImageData(), functional.cross_entropy, method="single-path", settings=s, score=None, device="cpu")
    found, wanted = dict(alone.module.named_parameters()), dict(expected.named_parameters())
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_texts_train_alone_too():
    net = convert(make_model("bert"))
    arch = architectures(net, 1)[0]
    s = settings(steps=6, evaluate_every=0, optimizer="adamw", lr=1e-3)
    with torch.random.fork_rng(devices=[]):
        expected = plainly_trained(net.extract(arch), net, arch, TextData(), text_loss, s)
    alone = FixedSupernet(net, arch)
    train(alone, TextData(), text_loss, method="single-path", settings=s, score=None, device="cpu")
    assert same(weights_of(alone.module), weights_of(expected))
    alone.recalibrate([])  # a no-op: nothing is normalised over batches


def test_the_supernet_itself_stays_as_it_was():
    net = tiny()
    before = weights_of(net)
    alone = FixedSupernet(net, architectures(net, 1)[0])
    s = settings(steps=2, evaluate_every=0)
    train(alone, ImageData(), functional.cross_entropy, method="single-path", settings=s, score=None, device="cpu")
    assert same(weights_of(net), before)
    assert {id(p) for p in net.parameters()}.isdisjoint(id(p) for p in alone.parameters())


def test_recalibrated_it_says_what_the_supernet_says():
    net, data = tiny(), ImageData()
    for arch in architectures(net, 4):
        alone = FixedSupernet(net, arch)
        with net.activated(arch), torch.no_grad():
            net.recalibrate(data.calibration())
            expected = net(*net.fit_inputs((data.images,)))
        own = weights_of(alone)
        with alone.activated(arch), torch.no_grad():
            alone.recalibrate(data.calibration())
            once = alone(*alone.fit_inputs((data.images,)))
            torch.testing.assert_close(once, expected, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(alone.extract(arch)(*alone.fit_inputs((data.images,))), once)
            with alone.activated(arch):
                assert same(weights_of(alone), own)
            assert torch.equal(alone(*alone.fit_inputs((data.images,))), once)
        assert same(weights_of(alone), own)
        assert not alone.training


def test_it_can_keep_the_statistics_that_the_supernet_gave_it_and_training_moves():
    net, data = tiny(), ImageData()
    arch = architectures(net, 1)[0]
    with net.activated(arch), torch.no_grad():
        net.recalibrate(data.calibration())
        expected = net(*net.fit_inputs((data.images,)))
        alone = FixedSupernet(net, arch, keep_statistics=True)
    first = weights_of(alone)
    with alone.activated(arch), torch.no_grad():
        alone.recalibrate(data.calibration())
        torch.testing.assert_close(alone(*alone.fit_inputs((data.images,))), expected, rtol=1e-5, atol=1e-5)
        assert same(weights_of(alone), first)
    s = settings(steps=2, evaluate_every=0)
    train(alone, data, functional.cross_entropy, method="single-path", settings=s, score=None, device="cpu")
    moved = weights_of(alone)
    alone.recalibrate(data.calibration())
    assert same(weights_of(alone), moved)
    names = [n for n in first if n.endswith("running_mean")]
    assert names
    assert not any(torch.equal(first[n], moved[n]) for n in names)


def test_space_inputs_and_costs_are_those_of_the_one_architecture():
    net = tiny()
    arch = architectures(net, 1)[0]
    alone = FixedSupernet(net, arch)
    assert alone.space.n_distinct == 1
    assert alone.active == net.space.decode(net.space.encode([arch]))[0] == alone.config()["architecture"]
    costs, expected = alone.analytic(np.zeros((2, len(alone.space.genes)), int)), net.analytic(net.space.encode([arch]))
    assert all(v.tolist() == [expected[k][0]] * 2 for k, v in costs.items())
    assert costs["params_m"][0] == sum(p.numel() for p in alone.parameters()) / 1e6
    assert logits_of(alone(*alone.example_inputs(batch_size=3))).shape == (3, 10)
    with pytest.raises(InvalidArchitecture):
        alone.activate(net.space.decode(net.space.largest[None])[0])
    with pytest.raises(SupernetError, match="at least one batch"):
        alone.recalibrate([])


def test_a_supernet_of_the_users_own_can_be_fixed():
    net = ToySupernet(norm=False)
    arch = architectures(net, 1)[0]
    report = train(
        FixedSupernet(net, arch), ToyData(), toy_loss, method="sandwich", settings=settings(steps=60), device="cpu"
    )
    assert report.top1_largest == report.top1_smallest > 60
