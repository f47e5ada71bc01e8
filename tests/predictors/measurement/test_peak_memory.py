import gc

import pytest
import torch
from torch import nn

from predictors.errors import MeasurementError
from predictors.measurement import LatencySetting, measure_peak_memory


def test_a_chain_of_layers_holds_two_activations_at_once():
    net = nn.Sequential(nn.Linear(100, 100, bias=False), nn.ReLU(), nn.ReLU())
    # Weights, the input that the caller holds, and the inputs and outputs of one ReLU.
    expected = 4 * (100 * 100 + 100 + 2 * 100)
    assert measure_peak_memory(net, (torch.zeros(1, 100),)) * 1e6 == pytest.approx(expected)


def test_kept_activations_add_up_and_freed_ones_do_not():
    class Kept(nn.Module):
        def forward(self, x):
            return [x + i for i in range(10)]

    class Freed(nn.Module):
        def forward(self, x):
            for i in range(10):
                y = x + i
                del y
            return x.view(-1)

    x = torch.zeros(1, 1000)
    assert measure_peak_memory(Kept(), (x,)) * 1e6 == pytest.approx(4000 * 11)
    assert measure_peak_memory(Freed(), (x,)) * 1e6 == pytest.approx(4000 * 2)


def test_it_is_deterministic_and_follows_the_dtype():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)).train()
    x = torch.randn(1, 3, 16, 16)
    first = measure_peak_memory(net, (x,))
    assert all(measure_peak_memory(net, (x,)) == first for _ in range(3))
    half = measure_peak_memory(net, (x,), LatencySetting(dtype="bfloat16"))
    assert half == pytest.approx(first / 2, rel=0.01)
    assert net.training
    assert net[0].weight.dtype == torch.float32


def test_larger_batches_take_more():
    net = nn.Conv2d(3, 8, 3)
    one, eight = (measure_peak_memory(net, (torch.randn(n, 3, 16, 16),), LatencySetting(batch=n)) for n in (1, 8))
    assert eight > 4 * one


def test_nothing_watches_the_weights_afterwards():
    from predictors.measurement.memory import LiveTensors

    net = nn.Linear(4, 4)
    measure_peak_memory(net, (torch.zeros(1, 4),))
    gc.collect()
    assert not [o for o in gc.get_objects() if type(o) is LiveTensors and o._known]


def test_failures_are_named():
    with pytest.raises(MeasurementError, match="Linear failed under"):
        measure_peak_memory(nn.Linear(3, 3), (torch.zeros(1, 4),))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda():
    net = nn.Linear(1024, 1024, bias=False)
    got = measure_peak_memory(net, (torch.zeros(1, 1024),), LatencySetting(device="cuda"))
    assert 4.19 < got < 6
