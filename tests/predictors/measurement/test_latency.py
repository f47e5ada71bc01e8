import gc
import json
import time

import pytest
import torch
from torch import nn

from predictors.backends import make_backend
from predictors.errors import MeasurementError, UnknownBackend
from predictors.measurement import Latency, LatencySetting, measure_latency


class Probe(nn.Module):
    """Notes the state of the process in each forward."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.seen = []

    def __deepcopy__(self, memo):
        twin = Probe()
        twin.seen = self.seen
        return twin

    def forward(self, x):
        self.seen.append((self.training, torch.is_inference_mode_enabled(), torch.get_num_threads(), gc.isenabled()))
        return self.norm(x)


class Sleeper(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def forward(self, x):
        time.sleep(self.seconds)
        return x


class Raises(nn.Module):
    def __init__(self, after=0):
        super().__init__()
        self.after = after

    def forward(self, x):
        self.after -= 1
        if self.after < 0:
            raise RuntimeError("no good")
        return x


def test_a_sleeping_module_takes_no_processor_time():
    got = measure_latency(Sleeper(0.01), (torch.zeros(1, 2),), LatencySetting.parse("cpu:eager,clock=cpu"))
    assert 0 < got.median_ms < 5
    assert got.n >= 10
    assert got.elapsed_s > 0.1  # budgets are time on the wall


def test_a_sleeping_module_takes_as_long_as_it_sleeps():
    got = measure_latency(Sleeper(0.01), (torch.zeros(1, 2),))
    assert 10 <= got.median_ms < 100
    assert got.min_ms <= got.median_ms
    assert got.iqr_ms >= 0
    assert got.n >= 10


def test_a_far_bigger_net_is_slower():
    small = nn.Linear(64, 64)
    big = nn.Sequential(*[nn.Linear(512, 512) for _ in range(20)])
    budget = {"budget_s": 0.05}
    fast = measure_latency(small, (torch.randn(1, 64),), **budget)
    slow = measure_latency(big, (torch.randn(1, 512),), **budget)
    assert slow.median_ms > 3 * fast.median_ms


def test_slow_modules_are_still_run_often_enough():
    got = measure_latency(Sleeper(0.02), (torch.zeros(1),), budget_s=0.01, min_repeats=7)
    assert got.n == 7


def test_fast_modules_keep_to_the_budget():
    start = time.perf_counter()
    got = measure_latency(nn.Identity(), (torch.zeros(1),), budget_s=0.1, target_relative_iqr=0.0, max_repeats=10**9)
    assert 0.09 < time.perf_counter() - start < 10
    assert got.n > 100
    assert measure_latency(nn.Identity(), (torch.zeros(1),), max_repeats=25, target_relative_iqr=0.0).n == 25


def test_budget_of_the_setting_is_used():
    setting = LatencySetting.parse("cpu:eager,budget_ms=40")
    got = measure_latency(Sleeper(0.001), (torch.zeros(1),), setting, min_repeats=1, target_relative_iqr=0.0)
    assert got.n <= 40


def test_modules_run_in_eval_and_inference_mode_on_pinned_threads_and_nothing_stays_changed():
    module, threads, state = Probe().train(), torch.get_num_threads(), torch.get_rng_state()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    measure_latency(module, (torch.randn(1, 4, generator=torch.Generator().manual_seed(0)),), LatencySetting(threads=3))
    assert {s[:3] for s in module.seen} == {(False, True, 3)}
    assert module.seen[-1][3] is False
    assert module.training
    assert module.norm.training
    assert torch.get_num_threads() == threads
    assert gc.isenabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())


def test_threads_and_collector_are_restored_after_a_failure():
    threads = torch.get_num_threads()
    with pytest.raises(MeasurementError, match=r"Raises failed under 'cpu:eager.*RuntimeError: no good"):
        measure_latency(Raises(after=12), (torch.zeros(1),), LatencySetting(threads=threads + 1))
    assert torch.get_num_threads() == threads
    assert gc.isenabled()


def test_inputs_may_be_a_mapping():
    class ByName(nn.Module):
        def forward(self, *, left, right):
            return left - right

    got = measure_latency(ByName(), {"right": torch.zeros(1, 2), "left": torch.ones(1, 2)}, budget_s=0.02)
    assert got.median_ms > 0


def test_other_dtypes_leave_the_module_as_it_was():
    module = nn.Linear(8, 8)
    measure_latency(module, (torch.zeros(1, 8),), LatencySetting(dtype="bfloat16"), budget_s=0.02)
    assert module.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("inputs", "setting", "part"),
    [
        ((torch.zeros(2, 3, 8, 8),), "cpu", r"the batch is 2, the setting says batch=1"),
        ((torch.zeros(1, 3, 8, 8),), "cpu:eager,resolution=16", r"no image is 16 x 16"),
        ((torch.zeros(1, 8, dtype=torch.long),), "cpu:eager,sequence=4", r"no sequence has 4 tokens"),
        (torch.zeros(1, 8), "cpu", r"give a tuple of tensors"),
        ((1.0,), "cpu", r"not tensors: 0 \(float\)"),
        ((), "cpu", r"nothing given"),
    ],
)
def test_inputs_must_belong_to_the_setting(inputs, setting, part):
    with pytest.raises(MeasurementError, match=part):
        measure_latency(nn.Identity(), inputs, LatencySetting.parse(setting))


def test_impossible_arguments():
    for wrong in ({"budget_s": 0}, {"min_repeats": 0}, {"min_repeats": 5, "max_repeats": 4}):
        with pytest.raises(MeasurementError, match="cannot be"):
            measure_latency(nn.Identity(), (torch.zeros(1),), **wrong)
    with pytest.raises(UnknownBackend, match="did you mean 'eager'"):
        make_backend("egaer")


def test_figures_survive_json():
    got = measure_latency(nn.Identity(), (torch.zeros(1),), LatencySetting.parse("a=cpu"), budget_s=0.02)
    again = Latency.from_json(json.loads(json.dumps(got.to_json())))
    assert again == got
    assert again.device.fingerprint == got.device.fingerprint
    assert got.reference_ms > 0
    assert got.drift > 0
    assert got.elapsed_s > 0


def test_drift_shows_a_machine_that_slows_down(monkeypatch):
    from predictors.measurement.reference import Reference

    calls = []
    real = Reference.sample

    def slowing(self, n):
        real(self, n)
        calls.append(n)
        return 1.0 if len(calls) == 1 else 3.0

    monkeypatch.setattr(Reference, "sample", slowing)
    assert measure_latency(nn.Identity(), (torch.zeros(1),), budget_s=0.02).drift == 3.0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("backend", ["eager", "cudagraph"])
def test_cuda(backend):
    module = nn.Sequential(*[nn.Linear(256, 256) for _ in range(8)])
    got = measure_latency(module, (torch.randn(1, 256),), LatencySetting(device="cuda", backend=backend))
    assert got.median_ms > 0
    assert got.device.gpu
    assert next(module.parameters()).device.type == "cpu"


def test_disturbance_sees_scatter_and_drift():
    quiet = measure_latency(nn.Linear(8, 8), (torch.zeros(1, 8),))
    known = {**vars(quiet), "median_ms": 1.0, "iqr_ms": 0.02, "drift": 1.0}
    assert not type(quiet)(**known).disturbed
    assert type(quiet)(**{**known, "iqr_ms": 0.6}).disturbed
    assert type(quiet)(**{**known, "drift": 1.5}).disturbed
    assert type(quiet)(**{**known, "drift": 1 / 1.5}).disturbed
