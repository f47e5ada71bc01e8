"""Every method trains supernets with mixtures, and a resumed training ends with the same weights, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mixture_data import data_for, loss
from mixture_nets import make_net
from training_toy import same, settings, weights_of

from supernets import load, save
from supernets.training import TrainProgress, train


class Stopped(Exception):
    pass


def _stop(state: TrainProgress) -> None:
    if state.step == 4:
        raise Stopped


def _fit(name: str, kind: str, method: str, folder: Path | None = None, progress=None, **more):
    net = make_net(name, kind, random=False)
    chosen = settings(steps=7, lr=0.01, optimizer="adamw", checkpoint_every=3, **more)
    report = train(
        net, data_for(name), loss, method=method, settings=chosen, checkpoint_dir=folder, resume=True,
        progress=progress, score=None, device="cpu",
    )  # fmt: skip
    return net, report


@pytest.mark.parametrize(
    ("name", "kind", "method", "more"),
    [
        ("timm_vit", "neuron", "sandwich", {"accumulate": 2}),
        ("timm_vit", "layer", "sandwich", {}),
        ("timm_vit", "neuron", "single-path", {}),
        ("timm_vit", "neuron", "instatune", {"amp": "bf16", "gradient_checkpointing": True}),
        ("mobilenetv3-tiny", "neuron", "sandwich", {}),
        ("mobilenetv3-tiny", "layer", "progressive-shrinking", {}),
        ("hat", "neuron", "sandwich", {"accumulate": 2}),
        ("hat", "layer", "single-path", {"amp": "bf16"}),
    ],
)
def test_resumed_training_is_uninterrupted(name, kind, method, more, tmp_path):
    before = weights_of(make_net(name, kind, random=False))
    wanted, whole = _fit(name, kind, method, **more)
    with pytest.raises(Stopped):
        _fit(name, kind, method, tmp_path, _stop, **more)
    net, report = _fit(name, kind, method, tmp_path, **more)
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
