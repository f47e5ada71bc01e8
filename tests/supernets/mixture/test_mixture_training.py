"""Every method trains supernets with mixtures, and a resumed training ends with the same weights, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import torch
from mixture_nets import make_net
from torch import Tensor
from torch.nn import functional
from training_toy import same, settings, weights_of

from supernets import Inputs, load, save
from supernets.training import Batch, TrainProgress, train

SIZES = {"mobilenetv3-tiny": (1, 16), "timm_vit": (3, 8)}


class Images:
    """Random images whose class shifts their brightness."""

    steps_per_epoch = 3

    def __init__(self, name: str) -> None:
        channels, size = SIZES[name]
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.arange(24) % 5
        self.images = torch.randn(24, channels, size, size, generator=generator) + self.targets.view(-1, 1, 1, 1)

    def batches(self, epoch: int) -> Iterator[Batch]:
        for part in torch.randperm(24, generator=torch.Generator().manual_seed(epoch)).split(8):
            yield Batch((self.images[part],), self.targets[part])

    def calibration(self) -> Iterable[Inputs]:
        return [(self.images[:12],)]

    def evaluation(self) -> Iterable[Batch]:
        return [Batch((self.images,), self.targets)]


class Stopped(Exception):
    pass


def _stop(state: TrainProgress) -> None:
    if state.step == 4:
        raise Stopped


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets)


def _fit(name: str, kind: str, method: str, folder: Path | None = None, progress=None, accumulate: int = 1):
    net = make_net(name, kind, random=False)
    chosen = settings(steps=7, lr=0.01, optimizer="adamw", checkpoint_every=3, accumulate=accumulate)
    report = train(
        net, Images(name), _loss, method=method, settings=chosen, checkpoint_dir=folder, resume=True,
        progress=progress, device="cpu",
    )  # fmt: skip
    return net, report


@pytest.mark.parametrize(
    ("name", "kind", "method", "accumulate"),
    [
        ("timm_vit", "neuron", "sandwich", 2),
        ("timm_vit", "layer", "sandwich", 1),
        ("timm_vit", "neuron", "single-path", 1),
        ("timm_vit", "neuron", "instatune", 1),
        ("mobilenetv3-tiny", "neuron", "sandwich", 1),
        ("mobilenetv3-tiny", "layer", "progressive-shrinking", 1),
    ],
)
def test_resumed_training_is_uninterrupted(name, kind, method, accumulate, tmp_path):
    before = weights_of(make_net(name, kind, random=False))
    wanted, whole = _fit(name, kind, method, accumulate=accumulate)
    with pytest.raises(Stopped):
        _fit(name, kind, method, tmp_path, _stop, accumulate)
    net, report = _fit(name, kind, method, tmp_path, accumulate=accumulate)
    assert report.resumed_from == 3
    assert same(weights_of(net), weights_of(wanted))
    assert report.loss == whole.loss
    moved = {key for key, value in weights_of(net).items() if not torch.equal(value, before[key])}
    assert any(".experts." in key for key in moved)
    assert any("out_weight" in key for key in moved)


def test_a_trained_mixture_is_saved_and_loaded(tmp_path):
    net, _ = _fit("timm_vit", "neuron", "sandwich")
    save(net, tmp_path)
    loaded = load(tmp_path)
    assert loaded.mixture.spec == net.mixture.spec
    assert same(weights_of(loaded), weights_of(net))


def test_supernets_saved_before_mixtures_load(tmp_path):
    """The configuration of a plain supernet is what it was, so older folders and checkpoints fit."""
    net = make_net("timm_vit", None)
    assert "mixture" not in net.config()
    save(net, tmp_path)
    assert load(tmp_path).mixture is None
