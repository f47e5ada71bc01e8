"""What time is: that on the wall, or that of the processor."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns, process_time_ns

from predictors.backends.base import Runnable
from predictors.measurement.setting import LatencySetting

Clock = Callable[[], int]
"""Nanoseconds since some moment."""


def clock_of(setting: LatencySetting) -> Clock:
    """Return the clock of a setting.

    Processor time is that of the whole process: a backend may compute its one thread's work in a thread of its own.
    """
    return process_time_ns if setting.clock == "cpu" else perf_counter_ns


def timed_ms(run: Runnable, clock: Clock) -> float:
    """Return how long one run takes, in ms."""
    start = clock()
    run()
    return (clock() - start) / 1e6
