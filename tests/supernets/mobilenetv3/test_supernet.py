"""What is particular to the MobileNetV3 family; the rest is in the conformance suite."""

from __future__ import annotations

import json
import time
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.mobilenetv3 import InvertedResidualConfig, MobileNetV3

from search_spaces import get_space, mobilenetv3_space
from supernets import SupernetError, build
from supernets.conformance import count_macs, randomise
from supernets.mobilenetv3 import MobileNetV3Layout, MobileNetV3Supernet, StageLayout


@pytest.fixture
def tiny() -> MobileNetV3Supernet:
    torch.manual_seed(0)
    net = build("mobilenetv3-tiny").eval()
    randomise(net)
    assert isinstance(net, MobileNetV3Supernet)
    return net


def some(net: MobileNetV3Supernet, n: int, seed: int = 0) -> list[dict[str, object]]:
    return net.space.decode(net.space.sample(n, np.random.default_rng(seed)))


def test_every_gene_changes_what_it_should(tiny: MobileNetV3Supernet) -> None:
    """Kernel, expansion, depth, width and resolution each change the multiply-accumulates of every network."""
    space = tiny.space
    largest = space.largest
    reference = tiny.analytic(largest[None])
    for column, gene in enumerate(space.genes):
        for other in range(len(gene.choices)):
            if other == largest[column]:
                continue
            row = largest.copy()
            row[column] = other
            costs = tiny.analytic(row[None])
            assert costs["macs_m"][0] < reference["macs_m"][0], gene.name
            assert (costs["params_m"][0] < reference["params_m"][0]) == (gene.role != "resolution"), gene.name


def test_widths_scale_every_channel(tiny: MobileNetV3Supernet) -> None:
    (arch,) = tiny.space.decode(tiny.space.largest[None])
    for width, stem, last in ((0.5, 16, 48), (0.75, 24, 72), (1.0, 32, 96)):
        config = tiny.static_config({**arch, "width": width})
        blocks = config["inverted_residual_setting"]
        assert (blocks[0]["input_channels"], blocks[-1]["out_channels"]) == (stem, last)
        assert blocks[-1]["expanded_channels"] == 4 * last


def test_static_config_rebuilds_without_us(tiny: MobileNetV3Supernet) -> None:
    """The recipe in the documentation of `build_static`, with torchvision alone."""
    for arch in some(tiny, 3):
        twin = tiny.extract(arch)
        config = json.loads(json.dumps(tiny.static_config(arch)))
        model = MobileNetV3(
            [InvertedResidualConfig(**b) for b in config["inverted_residual_setting"]],
            last_channel=config["last_channel"],
            num_classes=config["num_classes"],
            dropout=config["dropout"],
            norm_layer=partial(nn.BatchNorm2d, **config["batch_norm"]),
        )
        stem = model.features[0][0]
        model.features[0][0] = nn.Conv2d(config["in_channels"], stem.out_channels, 3, 2, 1, bias=False)
        model.load_state_dict(twin.state_dict())
        (x,) = tiny.example_inputs(arch)
        assert x.shape[-1] == config["resolution"]
        with torch.no_grad():
            assert torch.equal(model.eval()(x), twin(x))


def test_extracting_draws_no_random_numbers(tiny: MobileNetV3Supernet) -> None:
    before = torch.get_rng_state()
    tiny.extract(some(tiny, 1)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_inputs_follow_the_resolution(tiny: MobileNetV3Supernet) -> None:
    arch = {**some(tiny, 1)[0], "resolution": 12}
    images, labels = torch.rand(2, 1, 16, 16), torch.tensor([1, 2])
    fitted = tiny.fit_inputs((images, labels), arch)
    assert isinstance(fitted, tuple)
    assert fitted[0].shape == (2, 1, 12, 12)
    assert fitted[1] is labels
    close = {"x": images}
    assert tiny.fit_inputs(close)["x"] is images  # type: ignore[call-overload]
    assert tiny.fit_inputs(close, arch)["x"].shape[-1] == 12  # type: ignore[call-overload]
    assert tiny.example_inputs(arch, batch_size=3)[0].shape == (3, 1, 12, 12)  # type: ignore[index]
    ofa = MobileNetV3Supernet(layout=two_stages(), space=small_space(), num_classes=3)
    assert ofa.fit_inputs((images,))[0] is images  # type: ignore[index]


def two_stages(channels: int = 24) -> MobileNetV3Layout:
    stages = (StageLayout(channels, 2, "relu", use_se=True), StageLayout(32, 1, "hardswish", use_se=False))
    return MobileNetV3Layout(16, 16, stages, head=32, resolution=32)


def small_space(**options: object) -> object:
    given = {"stages": 2, "kernel_sizes": (3, 5), "expand_ratios": (2, 3), "depths": (1, 2), **options}
    return mobilenetv3_space("small", **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layout": two_stages(), "space": small_space(stages=3)}, "2 stages"),
        ({"layout": two_stages(), "space": small_space(expand_ratios=(1, 2))}, "expansion ratios below 2"),
        ({"layout": two_stages(), "space": small_space(widths=(0.75, 1.0))}, "shortcut"),
        ({"layout": {"stem": 16}, "space": small_space()}, "not a MobileNetV3 layout"),
        ({"layout": two_stages(), "space": small_space(), "num_classes": 0}, "num_classes"),
        ({"layout": two_stages(), "space": small_space(), "dropout": 1.5}, "dropout"),
    ],
)
def test_wrong_descriptions(options: dict[str, object], reason: str) -> None:
    with pytest.raises(SupernetError, match=reason):
        MobileNetV3Supernet(**options)  # type: ignore[arg-type]


def test_layouts_are_checked() -> None:
    with pytest.raises(SupernetError, match="multiples of 8"):
        two_stages(channels=20)
    with pytest.raises(SupernetError, match="stride 1 or 2"):
        MobileNetV3Layout(16, 16, (StageLayout(24, 3, "relu", use_se=True),), head=32, resolution=32)
    layout = two_stages()
    assert MobileNetV3Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_recalibration_needs_batches(tiny: MobileNetV3Supernet) -> None:
    with pytest.raises(SupernetError, match="at least one batch"):
        tiny.recalibrate([])
    with pytest.raises(RuntimeError):
        tiny.recalibrate([(torch.zeros(2, 9, 16, 16),)])
    assert all(not n._gathering and n.calibrated is None for n in tiny._norms)


def test_sorting_puts_important_channels_first(tiny: MobileNetV3Supernet) -> None:
    tiny.sort_by_importance()
    for block in tiny.blocks[1:]:
        norms = block.project_conv.weight.abs().sum((0, 2, 3))
        torch.testing.assert_close(norms, norms.sort(descending=True).values)
    readers = [b.expand_conv.weight for b in tiny.blocks[1:5] if b.expand_conv is not None]
    stream = sum(w.abs().sum((0, 2, 3)) for w in readers) + tiny.blocks[0].project_conv.weight.abs().sum((0, 2, 3))
    assert isinstance(stream, torch.Tensor)
    torch.testing.assert_close(stream, stream.sort(descending=True).values)  # stem, first block, stage 1


def test_analytic_of_a_large_population_is_quick() -> None:
    net = build("ofa-mobilenetv3-w1.0")
    G = net.space.sample(100_000, np.random.default_rng(0))
    net.analytic(G[:10])
    start = time.process_time()
    costs = net.analytic(G)
    assert time.process_time() - start < 1.0
    row = 54_321
    twin = net.extract(net.space.decode(G[row : row + 1])[0])
    assert round(costs["params_m"][row] * 1e6) == sum(p.numel() for p in twin.parameters())
    assert round(costs["macs_m"][row] * 1e6) == count_macs(twin, (torch.zeros(1, 3, 224, 224),))


def test_switching_is_quick() -> None:
    """Under 2 % of a training step of the smallest subnet; see benchmarks for figures."""
    net = build("ofa-mobilenetv3-w1.0")
    archs = some(net, 50)  # type: ignore[arg-type]
    net.activate(archs[0])
    start = time.process_time()
    for arch in archs:
        net.activate(arch)
    assert (time.process_time() - start) / len(archs) < 3e-3


def test_sizes_have_their_space() -> None:
    for name in ("ofa-mobilenetv3-w1.0", "ofa-mobilenetv3-w1.2", "mobilenetv3-tiny"):
        assert build(name).space == get_space(name)


def test_half_precision_halves_the_size(tiny: MobileNetV3Supernet) -> None:
    G = tiny.space.largest[None]
    full = tiny.analytic(G)["size_mb"][0]
    tiny.half()
    counters = 31 * 8 / 1e6
    assert tiny.analytic(G)["size_mb"][0] == pytest.approx((full - counters) / 2 + counters)
