"""A workload that never changes, timed between measurements so that a change of the machine shows."""

from __future__ import annotations

import statistics

import torch
from torch.nn import functional

from predictors.backends.base import synchronous, torch_device
from predictors.measurement.clock import clock_of, timed_ms
from predictors.measurement.setting import LatencySetting


class Reference:
    """One fixed convolution and one fixed matrix product, 0.1 to 0.5 ms on a CPU thread.

    Args:
        setting: Device to run on. Threads are those that the caller has pinned.
    """

    def __init__(self, setting: LatencySetting) -> None:
        device = torch_device(setting.device)
        side, width = (1024, 56) if device.type == "cuda" else (128, 28)
        # Fixed values, not random ones: measuring must not touch the caller's random numbers.
        a = torch.linspace(-1, 1, side * side, device=device).reshape(side, side)
        x = torch.linspace(-1, 1, 16 * width * width, device=device).reshape(1, 16, width, width)
        w = torch.linspace(-1, 1, 16 * 16 * 9, device=device).reshape(16, 16, 3, 3)

        def work() -> None:
            with torch.inference_mode():
                torch.mm(a, a)
                functional.conv2d(x, w, padding=1)

        self._run, self._clock = synchronous(work, device), clock_of(setting)
        self.samples_ms: list[float] = []
        self._run()
        self._run()

    def sample(self, n: int) -> float:
        """Run ``n`` times and return the median in ms; all samples are kept in `samples_ms`."""
        taken = [timed_ms(self._run, self._clock) for _ in range(n)]
        self.samples_ms += taken
        return statistics.median(taken)
