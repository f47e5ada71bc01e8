import pytest
import torch
from torch import nn

from predictors.errors import MeasurementError
from predictors.measurement import count


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.a = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.na = nn.BatchNorm2d(c_out)
        self.b = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.nb = nn.BatchNorm2d(c_out)
        self.skip = nn.Conv2d(c_in, c_out, 1, stride, bias=False)

    def forward(self, x):
        return torch.relu(self.nb(self.b(torch.relu(self.na(self.a(x))))) + self.skip(x))


def macs_by_hand(module, x):
    """Sum the textbook formula of each convolution and linear layer over its output shape."""
    total = 0

    def hook(layer, _, y):
        nonlocal total
        if isinstance(layer, nn.Conv2d):
            per_output = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels // layer.groups
        else:
            per_output = layer.in_features
        total += y.numel() * per_output

    handles = [m.register_forward_hook(hook) for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        module.eval()(x)
    for handle in handles:
        handle.remove()
    return total


def test_a_small_residual_network_by_formula():
    net = nn.Sequential(Block(3, 8, 1), Block(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    got = count(net, (torch.randn(1, 3, 8, 8),))
    macs = 64 * (27 * 8 + 72 * 8 + 3 * 8) + 16 * (72 * 16 + 144 * 16 + 8 * 16) + 160
    parameters = 27 * 8 + 72 * 8 + 3 * 8 + 4 * 8 + 72 * 16 + 144 * 16 + 8 * 16 + 4 * 16 + 170
    assert got.macs_m * 1e6 == pytest.approx(macs, abs=0.1)
    assert got.params_m * 1e6 == pytest.approx(parameters, abs=0.1)
    statistics_bytes = 4 * (4 * 8 + 4 * 16) + 4 * 8
    assert got.size_mb * 1e6 == pytest.approx(4 * parameters + statistics_bytes, abs=0.1)


def test_mobilenet_v3_small():
    models = pytest.importorskip("torchvision.models")
    net, x = models.mobilenet_v3_small(weights=None), torch.randn(1, 3, 96, 96)
    got = count(net, (x,))
    assert got.params_m * 1e6 == pytest.approx(2_542_856, abs=0.1)
    assert got.macs_m * 1e6 == pytest.approx(macs_by_hand(net, x), abs=0.1)


def test_macs_are_those_of_one_input_and_the_module_is_left_alone():
    net = Block(3, 8, 1).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    one, four = (count(net, (torch.randn(n, 3, 8, 8),)) for n in (1, 4))
    assert one == four
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_fused_layers_are_seen_through():
    t, d, h = 5, 16, 32
    got = count(nn.TransformerEncoderLayer(d, 2, h, batch_first=True), (torch.randn(1, t, d),))
    assert got.macs_m * 1e6 == pytest.approx(t * (4 * d * d + 2 * d * h) + 2 * t * t * d)
    assert torch.backends.mha.get_fastpath_enabled()
    got = count(nn.LSTM(8, 16, batch_first=True), (torch.randn(1, t, 8),))
    assert got.macs_m * 1e6 == pytest.approx(t * 4 * 16 * (8 + 16))
    assert torch.backends.mkldnn.enabled


def test_matrix_vector_products_count():
    class Products(nn.Module):
        def forward(self, a, x):
            return torch.dot(torch.mv(a, x), x)

    got = count(Products(), {"x": torch.ones(4), "a": torch.ones(4, 4)})
    assert got.macs_m * 1e6 * 4 == pytest.approx(16 + 4)


def test_shared_weights_count_once():
    a = nn.Linear(6, 6, bias=False)
    got = count(nn.Sequential(a, a), (torch.zeros(1, 6),))
    assert got.params_m * 1e6 == pytest.approx(36)
    assert got.macs_m * 1e6 == pytest.approx(72)


def test_failures_are_named():
    with pytest.raises(MeasurementError, match="Linear cannot be counted"):
        count(nn.Linear(3, 3), (torch.zeros(1, 4),))
