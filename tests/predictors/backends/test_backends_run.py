import pytest
import torch
from torch import nn

from predictors.backends import make_backend
from predictors.backends.base import eval_copy
from predictors.errors import BackendUnavailable, MeasurementError
from predictors.measurement import LatencySetting, measure_latency


def network():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Hardswish(), nn.Conv2d(8, 8, 3, groups=8), nn.Flatten(1)
    )
    with torch.no_grad():
        net[1].running_mean.normal_()
        net[1].running_var.uniform_(0.5, 2)
    return net.train()


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def expected():
    with torch.no_grad():
        return network().eval()(X)


@pytest.mark.parametrize("name", ["eager", "onnxruntime", pytest.param("compile", marks=pytest.mark.slow)])
def test_outputs_are_those_of_eval_mode(name):
    backend = make_backend(name)
    if reason := backend.available("cpu"):
        pytest.skip(reason)
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    run = backend.prepare(net, (X,), LatencySetting(backend=name, batch=2))
    for _ in range(2):
        got = run()
        got = got[0] if isinstance(got, tuple) else got
        torch.testing.assert_close(got, expected(), rtol=1e-5, atol=1e-5)
    assert all(m.training for m in net.modules())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.slow
def test_compile_measures_many_modules_of_one_class_without_falling_back():
    if reason := make_backend("compile").available("cpu"):
        pytest.skip(reason)
    counters = pytest.importorskip("torch._dynamo.utils").counters
    setting = LatencySetting(backend="compile", batch=2)
    for width in range(4, 4 + torch._dynamo.config.recompile_limit + 3):
        counters.clear()
        measure_latency(nn.Sequential(nn.Linear(8, width), nn.ReLU()), (torch.zeros(2, 8),), setting, budget_s=0.02)
        assert counters["stats"]["unique_graphs"] == 1


def test_compile_names_a_missing_compiler(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(BackendUnavailable, match=r"C\+\+ compiler .*apt-get install g\+\+"):
        measure_latency(nn.Identity(), (torch.zeros(1),), LatencySetting(backend="compile"))


def test_onnxruntime_names_the_extra_to_install(monkeypatch):
    monkeypatch.setattr("predictors.backends.onnxruntime.NEEDED", ("onnx", "no_such_package"))
    with pytest.raises(BackendUnavailable, match=r"no_such_package.*pip install nassearch\[onnx\]"):
        measure_latency(nn.Identity(), (torch.zeros(1),), LatencySetting(backend="onnxruntime"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("backend", ["eager", "cudagraph", "compile"])
def test_a_missing_gpu_is_named(backend):
    with pytest.raises(BackendUnavailable, match="no CUDA device is visible to torch"):
        measure_latency(nn.Identity(), (torch.zeros(1),), LatencySetting(device="cuda", backend=backend))


def test_backends_say_which_devices_they_cannot_use():
    assert "need a CUDA device" in (make_backend("cudagraph").available("cpu") or "")
    assert "runs on the CPU" in (make_backend("onnxruntime").available("cuda") or "")
    assert make_backend("eager").available("cpu") is None


def test_onnxruntime_half_precision_and_integer_inputs():
    pytest.importorskip("onnxruntime")
    net = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2))
    ids = torch.tensor([[1, 2, 3]])
    run = make_backend("onnxruntime").prepare(net, (ids,), LatencySetting(backend="onnxruntime", dtype="float16"))
    (got,) = run()
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), net(ids).detach(), rtol=1e-2, atol=1e-2)


def test_copies_share_weights_unless_they_are_converted():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    twin = eval_copy(net)
    assert twin[0].weight is net[0].weight
    assert twin[1].running_mean is net[1].running_mean
    assert net.training
    assert not twin.training
    half = eval_copy(net, dtype=torch.bfloat16)
    assert half[0].weight.dtype == torch.bfloat16
    assert net[0].weight.dtype == torch.float32
    assert half[1].num_batches_tracked.dtype == torch.long


def test_a_module_that_cannot_be_copied_is_named():
    net = nn.Linear(2, 2)
    net.note = torch.ones(2, requires_grad=True) * 2
    with pytest.raises(MeasurementError, match="Linear cannot be copied"):
        eval_copy(net)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", ["eager", "cudagraph", pytest.param("compile", marks=pytest.mark.slow)])
def test_cuda_outputs(name):
    run = make_backend(name).prepare(network(), (X,), LatencySetting(device="cuda", backend=name, batch=2))
    for _ in range(2):
        torch.testing.assert_close(run().cpu(), expected(), rtol=1e-3, atol=1e-3)
