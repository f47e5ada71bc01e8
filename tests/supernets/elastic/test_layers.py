"""Each elastic layer equals the plain layer of the active shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops.misc import SqueezeExcitation

from supernets.elastic import (
    ElasticBatchNorm2d,
    ElasticConv2d,
    ElasticDepthwiseConv2d,
    ElasticInvertedResidual,
    ElasticLinear,
    ElasticPointwiseConv2d,
    ElasticSqueezeExcite,
    ElasticStage,
    make_divisible,
)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("channels", "expected"), [(19.2, 24), (28.8, 32), (134.4, 136), (3, 8), (12, 16), (24.0, 24), (11, 16)]
)
def test_make_divisible(channels: float, expected: int) -> None:
    assert make_divisible(channels) == expected


@pytest.mark.parametrize(("n_in", "n_out"), [(8, 16), (5, 3), (1, 1)])
def test_pointwise(n_in: int, n_out: int) -> None:
    layer = ElasticPointwiseConv2d(8, 16)
    layer.set_active(n_in, n_out)
    twin = nn.Conv2d(n_in, n_out, 1, bias=False)
    twin.load_state_dict(layer.active_state())
    x = torch.randn(2, n_in, 5, 5)
    close(layer(x), twin(x))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_full_convolution(kernel: int, stride: int) -> None:
    layer = ElasticConv2d(4, 6, (3, 5), stride)
    layer.set_active(3, 5, kernel)
    twin = nn.Conv2d(3, 5, kernel, stride, kernel // 2, bias=False)
    twin.load_state_dict(layer.active_state())
    x = torch.randn(2, 3, 7, 7)
    close(layer(x), twin(x))


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise(kernel: int, stride: int) -> None:
    layer = ElasticDepthwiseConv2d(6, (7, 3, 5), stride)
    with torch.no_grad():
        for matrix in layer.transforms.values():
            matrix.add_(torch.randn_like(matrix))
    layer.set_active(4, kernel)
    twin = nn.Conv2d(4, 4, kernel, stride, kernel // 2, groups=4, bias=False)
    twin.load_state_dict(layer.active_state())
    x = torch.randn(2, 4, 9, 9)
    close(layer(x), twin(x))


def test_kernel_transforms_chain_by_hand() -> None:
    layer = ElasticDepthwiseConv2d(2, (3, 5, 7))
    assert {n: tuple(m.shape) for n, m in layer.transforms.items()} == {"5to3": (9, 9), "7to5": (25, 25)}
    layer.set_active(2, 3)
    assert torch.equal(layer.active_state()["weight"], layer.weight[:, :, 2:5, 2:5])  # identities at first
    with torch.no_grad():
        for matrix in layer.transforms.values():
            matrix.copy_(torch.randn_like(matrix))
    five = layer.transforms["7to5"] @ layer.weight[1, 0, 1:6, 1:6].reshape(25)
    three = layer.transforms["5to3"] @ five.reshape(5, 5)[1:4, 1:4].reshape(9)
    close(layer.active_state()["weight"][1, 0], three.reshape(3, 3))


def test_linear() -> None:
    layer = ElasticLinear(8, 6)
    layer.set_active(5, 4)
    x = torch.randn(3, 5)
    close(layer(x), x @ layer.weight[:4, :5].T + layer.bias[:4])


@pytest.mark.parametrize("channels", [64, 40, 8])
def test_squeeze_excite(channels: int) -> None:
    layer = ElasticSqueezeExcite(64)
    nn.init.normal_(layer.reduce_bias)
    nn.init.normal_(layer.expand_bias)
    layer.set_active(channels)
    twin = SqueezeExcitation(channels, make_divisible(channels // 4), scale_activation=nn.Hardsigmoid)
    twin.load_state_dict(layer.active_state())
    x = torch.randn(2, channels, 5, 5)
    close(layer(x), twin(x))


class TestBatchNorm:
    def make(self) -> ElasticBatchNorm2d:
        layer = ElasticBatchNorm2d(6, momentum=0.3)
        for tensor in (layer.weight, layer.bias, layer.running_mean):
            nn.init.normal_(tensor)
        nn.init.uniform_(layer.running_var, 0.5, 2.0)
        return layer

    @pytest.mark.parametrize("training", [True, False])
    def test_equals_the_plain_layer(self, training: bool) -> None:
        layer = self.make().train(training)
        layer.set_active(4)
        twin = nn.BatchNorm2d(4, momentum=0.3).train(training)
        twin.load_state_dict(layer.active_state())
        rest = layer.running_mean[4:].clone(), layer.running_var[4:].clone()
        x = torch.randn(3, 4, 5, 5)
        close(layer(x), twin(x))
        close(layer.running_mean[:4], twin.running_mean)  # type: ignore[arg-type]
        close(layer.running_var[:4], twin.running_var)  # type: ignore[arg-type]
        assert torch.equal(layer.running_mean[4:], rest[0])
        assert torch.equal(layer.running_var[4:], rest[1])
        assert int(layer.num_batches_tracked) == int(training)

    def test_recalibration_weighs_batches_by_size(self) -> None:
        layer = self.make().eval()
        layer.set_active(4)
        batches = [torch.randn(6, 4, 5, 5) * 2 + 1, torch.randn(2, 4, 5, 5)]
        layer.start_gathering()
        for x in batches:
            own = (x - x.mean((0, 2, 3), keepdim=True)) / (x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
            close(layer(x), own * layer.weight[:4, None, None] + layer.bias[:4, None, None])
        layer.stop_gathering()
        assert layer.calibrated is not None
        mean = sum(len(x) * x.mean((0, 2, 3)) for x in batches) / 8
        var = sum(len(x) * x.var((0, 2, 3), correction=0) for x in batches) / 8
        close(layer.calibrated.mean, mean)  # type: ignore[arg-type]
        close(layer.calibrated.var, var)  # type: ignore[arg-type]
        state = layer.active_state()
        close(state["running_mean"], mean)  # type: ignore[arg-type]
        layer.double()
        assert layer.calibrated.mean.dtype == torch.float64
        layer.set_active(4)
        assert layer.calibrated is None

    def test_without_batches_nothing_is_calibrated(self) -> None:
        layer = self.make().eval()
        layer.start_gathering()
        layer.stop_gathering()
        assert layer.calibrated is None
        layer.start_gathering()
        layer(torch.randn(2, 6, 3, 3))
        layer.stop_gathering(keep=False)
        assert layer.calibrated is None


def block(n_in: int, hidden: int, n_out: int, stride: int = 1) -> ElasticInvertedResidual:
    return ElasticInvertedResidual(
        n_in, hidden, n_out, kernel_sizes=(3, 5), stride=stride, activation="hardswish", use_se=True
    ).eval()


def test_shortcut_only_where_the_shape_is_kept() -> None:
    assert block(16, 32, 16).residual
    assert not block(16, 32, 24).residual
    assert not block(16, 32, 16, stride=2).residual
    layer = block(16, 32, 16)
    nn.init.zeros_(layer.project_bn.weight)
    x = torch.randn(2, 16, 6, 6)
    assert torch.equal(layer(x), x)
    assert block(16, 16, 24).expand_conv is None


def test_inactive_blocks_do_not_run() -> None:
    stage = ElasticStage([block(16, 32, 16) for _ in range(3)])
    x = torch.randn(2, 16, 6, 6)
    stage.set_active(2)
    first, second, _ = stage.all_blocks()
    assert torch.equal(stage(x), second(first(x)))
    assert len(list(stage.active_blocks())) == 2


def test_layers_print_their_shapes() -> None:
    layer = block(16, 32, 16)
    layer.set_active(8, 16, 16, 3)
    assert "in=8/16, out=16/32" in repr(layer)
    assert "kernel=3 of (3, 5)" in repr(layer)
