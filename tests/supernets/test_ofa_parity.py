"""Our MobileNetV3 computes what the authors' package computes, from its own checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics

from supernets import build
from supernets.conformance import count_macs, randomise

# Any resolution shows the same; a small one is quick.
PIXELS = 64


def peer(width: float) -> Any:
    torch.manual_seed(0)
    net = OFAMobileNetV3(
        n_classes=1000,
        bn_param=(0.1, 1e-5),
        dropout_rate=0.1,
        width_mult=width,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )
    randomise(net)
    return net.eval()


def compare(width: float, n_subnets: int, folder: Path) -> None:
    theirs = peer(width)
    torch.save({"state_dict": theirs.state_dict()}, folder / "ofa.pth")
    ours = build(f"ofa-mobilenetv3-w{width}", checkpoint=folder / "ofa.pth").eval()
    own_state = {name: t.clone() for name, t in theirs.state_dict().items()}
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(2, 3, PIXELS, PIXELS, generator=generator)
    batches = [torch.randn(n, 3, PIXELS, PIXELS, generator=generator) for n in (6, 3)]

    space = ours.space
    rows = space.sample(n_subnets - 2, np.random.default_rng(0))
    rows = np.concatenate([space.largest[None], space.smallest[None], rows])
    for number, row in enumerate(rows):
        (arch,) = space.decode(row[None])
        values = {group: [arch[f"{group}.{i}"] for i in range(n)] for group, n in (("ks", 20), ("e", 20), ("d", 5))}
        torch.nn.Module.load_state_dict(theirs, own_state)  # their recalibration overwrites the supernet's own
        theirs.set_active_subnet(**values)
        ours.activate(values)
        with torch.no_grad():
            assert_close(ours(images), theirs(images))
            set_running_statistics(theirs, [(batch, None) for batch in batches])
            ours.recalibrate([(batch,) for batch in batches])
            assert_close(ours(images), theirs(images))
            assert_close(ours.extract(arch)(images), theirs(images))
        if number < 4:
            same_costs(ours.analytic(row[None]), theirs.get_active_subnet())


def same_costs(costs: dict[str, NDArray[np.float64]], subnet: torch.nn.Module) -> None:
    """The analytic costs are those of their stand-alone subnet, but for the bias that their layer lacks."""
    bias = subnet.feature_mix_layer.conv.out_channels  # type: ignore[union-attr]
    assert round(costs["params_m"][0] * 1e6) == sum(p.numel() for p in subnet.parameters()) + bias
    assert round(costs["macs_m"][0] * 1e6) == count_macs(subnet, (torch.zeros(1, 3, 224, 224),))


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert theirs.std() > 1e-2  # logits that say something
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_ofa_w10_matches_the_peer(tmp_path: Path) -> None:
    compare(1.0, 6, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("width", [1.0, 1.2])
def test_fifty_subnets_match_the_peer(width: float, tmp_path: Path) -> None:
    compare(width, 50, tmp_path)
