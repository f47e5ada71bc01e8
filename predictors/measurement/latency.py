"""How long one inference takes."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from torch import nn

from predictors.backends.base import Inputs, Runnable, pinned_threads
from predictors.backends.registry import make_backend
from predictors.device import DeviceIdentity, describe_device
from predictors.errors import BackendUnavailable, MeasurementError, PredictorsError
from predictors.measurement.clock import Clock, clock_of, timed_ms
from predictors.measurement.inputs import check_inputs
from predictors.measurement.reference import Reference
from predictors.measurement.setting import LatencySetting

BUDGET_S = 0.15
TARGET_RELATIVE_IQR = 0.02
MIN_REPEATS = 10
MAX_REPEATS = 2000

_WARM_UP_SHARE = 0.25
_STEADY = 0.05
_WINDOW_S = 0.004
_ROUNDS = 6
_REFERENCE_RUNS = 5
_DISTURBED = 0.3
_MEASUREMENTS_AT_MOST = 3


@dataclass(frozen=True)
class Latency:
    """The time of one inference, over all samples taken: none is cut as an outlier.

    Attributes:
        median_ms: The figure, in ms.
        iqr_ms: Distance of the quartiles in ms.
        mean_ms: Mean in ms; above the median where the machine was disturbed.
        min_ms: Fastest sample in ms.
        n: Number of samples.
        reference_ms: Median time of a workload that never changes, timed in between, in ms.
        drift: Time of that workload after the measurement over the time before; 1 on a machine in the same state.
        setting: What was asked.
        device: Where it was measured.
        warm: Whether successive windows agreed before the first sample; else the warm-up budget ended first.
        elapsed_s: What the measurement took in all, in seconds.
    """

    median_ms: float
    iqr_ms: float
    mean_ms: float
    min_ms: float
    n: int
    reference_ms: float
    drift: float
    setting: LatencySetting
    device: DeviceIdentity
    warm: bool
    elapsed_s: float

    @property
    def relative_iqr(self) -> float:
        """Distance of the quartiles over the median."""
        return self.iqr_ms / self.median_ms

    @property
    def disturbance(self) -> float:
        """How much other work was felt: spread of the samples plus drift of the reference; 0 on a quiet machine."""
        return self.relative_iqr + abs(math.log(self.drift))

    @property
    def disturbed(self) -> bool:
        """Whether the figure is better measured again: the samples scatter, or the machine changed its speed."""
        return self.disturbance > _DISTURBED

    def to_json(self) -> dict[str, Any]:
        """Return all fields as JSON values."""
        plain = {k: v for k, v in vars(self).items() if k not in ("setting", "device")}
        return {**plain, "setting": self.setting.to_json(), "device": self.device.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Latency:
        """Rebuild a figure from `to_json`."""
        setting = LatencySetting.from_json(data["setting"])
        return cls(**{**data, "setting": setting, "device": DeviceIdentity.from_json(data["device"])})


def measure_latency(
    module: nn.Module,
    example_inputs: Inputs,
    setting: LatencySetting | None = None,
    *,
    budget_s: float | None = None,
    target_relative_iqr: float = TARGET_RELATIVE_IQR,
    min_repeats: int = MIN_REPEATS,
    max_repeats: int = MAX_REPEATS,
) -> Latency:
    """Measure the time of one inference of a module.

    In eval and inference mode, with the number of threads pinned and garbage collection off; the module, its
    mode, the number of threads and the random numbers are left as they were. The module runs until successive
    windows agree (or a quarter of the budget is spent), then in rounds with a fixed reference workload in
    between. Rounds end when the relative IQR has reached its target over at least half of the rounds, when the
    budget is spent, or at ``max_repeats``; a module too slow for the budget is still run ``min_repeats`` times.
    Inputs are on the device before the clock starts; on a GPU each sample ends when the GPU has finished. With
    ``clock=cpu`` samples are processor time; budgets are time on the wall all the same.

    Args:
        module: Any module, on any device and in any dtype.
        example_inputs: A tuple (positional) or mapping (by keyword) of tensors, with the setting's batch.
        setting: Device, backend, dtype and threads. Default: CPU, eager, batch 1, one thread, float32.
        budget_s: Time for warm-up and samples in seconds, after preparation (compilation, conversion).
            Default: the setting's ``budget_ms``, else 0.15.
        target_relative_iqr: Distance of the quartiles over the median that is good enough.
        min_repeats: Samples at least.
        max_repeats: Samples at most.

    Raises:
        MeasurementError: The module raises, or the inputs do not belong to the setting.
        BackendUnavailable: The backend cannot run here.
    """
    began = perf_counter()
    setting = setting or LatencySetting()
    if budget_s is None:
        budget_s = setting.budget_ms / 1000 if setting.budget_ms else BUDGET_S
    if budget_s <= 0 or not 1 <= min_repeats <= max_repeats:
        raise MeasurementError(
            f"budget_s={budget_s}, min_repeats={min_repeats}, max_repeats={max_repeats} cannot be: the budget must be "
            "positive and 1 <= min_repeats <= max_repeats"
        )
    check_inputs(example_inputs, setting)
    backend = make_backend(setting.backend)
    if missing := backend.available(setting.device):
        raise BackendUnavailable(missing)
    device, clock = describe_device(setting), clock_of(setting)
    with pinned_threads(setting.threads):
        with _failures_named(module, setting):
            run = backend.prepare(module, example_inputs, setting)
            run()
        reference = Reference(setting)
        with _failures_named(module, setting), _no_collection():
            start = perf_counter()
            warm = _warm_up(run, clock, budget_s * _WARM_UP_SHARE)
            before = reference.sample(_REFERENCE_RUNS)
            samples = _sample(
                run,
                clock,
                reference,
                start + budget_s,
                target_relative_iqr,
                min_repeats=min_repeats,
                max_repeats=max_repeats,
            )
            after = reference.sample(_REFERENCE_RUNS)
    low, median, high = np.percentile(samples, [25, 50, 75])
    return Latency(
        median_ms=float(median),
        iqr_ms=float(high - low),
        mean_ms=statistics.fmean(samples),
        min_ms=min(samples),
        n=len(samples),
        reference_ms=statistics.median(reference.samples_ms),
        drift=after / before,
        setting=setting,
        device=device,
        warm=warm,
        elapsed_s=perf_counter() - began,
    )


def measure_undisturbed(module: nn.Module, example_inputs: Inputs, setting: LatencySetting) -> tuple[Latency, int]:
    """Measure as `measure_latency`, and again, twice at most, while other work disturbs it.

    Returns:
        The least disturbed measurement, and how many were made. Not the lowest one: that would favour what is measured
        often.

    Raises:
        MeasurementError: As `measure_latency`.
        BackendUnavailable: The backend cannot run here.
    """
    found = [measure_latency(module, example_inputs, setting)]
    while found[-1].disturbed and len(found) < _MEASUREMENTS_AT_MOST:
        found.append(measure_latency(module, example_inputs, setting))
    return min(found, key=lambda one: one.disturbance), len(found)


def _warm_up(run: Runnable, clock: Clock, budget_s: float) -> bool:
    """Run until the medians of two successive windows agree; return whether they did within the budget."""
    end = perf_counter() + budget_s
    size = max(1, min(10, int(_WINDOW_S * 1000 / max(timed_ms(run, clock), 1e-3))))
    last = statistics.median(timed_ms(run, clock) for _ in range(size))
    while True:
        window = statistics.median(timed_ms(run, clock) for _ in range(size))
        if abs(window - last) <= _STEADY * last:
            return True
        if perf_counter() >= end:
            return False
        last = window


def _sample(
    run: Runnable,
    clock: Clock,
    reference: Reference,
    deadline: float,
    target: float,
    *,
    min_repeats: int,
    max_repeats: int,
) -> list[float]:
    """Take samples in rounds that are spread over the budget; the reference runs once between rounds.

    Spread rounds matter more than many samples: disturbances last for several inferences, so that a burst of
    samples looks steady and is biased as a whole.
    """
    samples: list[float] = []
    round_s = max(deadline - perf_counter(), 0.0) / _ROUNDS
    rounds = 0
    while True:
        round_end = min(perf_counter() + round_s, deadline)
        while len(samples) < max_repeats:
            samples.append(timed_ms(run, clock))
            if perf_counter() >= round_end:
                break
        rounds += 1
        if len(samples) >= max_repeats:
            return samples
        if len(samples) >= min_repeats:
            low, median, high = np.percentile(samples, [25, 50, 75])
            if perf_counter() >= deadline or (2 * rounds >= _ROUNDS and high - low <= target * median):
                return samples
        reference.sample(1)


@contextmanager
def _failures_named(module: nn.Module, setting: LatencySetting) -> Iterator[None]:
    """Say which module failed under which setting, whatever it raised."""
    try:
        yield
    except PredictorsError:
        raise
    except Exception as e:
        raise MeasurementError(f"{type(module).__name__} failed under {str(setting)!r}: {type(e).__name__}: {e}") from e


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the garbage collector from running in the middle of a sample."""
    before: Callable[[], None] = gc.enable if gc.isenabled() else gc.disable
    gc.disable()
    try:
        yield
    finally:
        before()
