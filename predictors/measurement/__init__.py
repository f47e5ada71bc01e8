"""Measured and counted costs of a module. Imports torch only when something is measured."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from predictors.device import DeviceIdentity, describe_device
from predictors.measurement.setting import LatencySetting

if TYPE_CHECKING:
    from predictors.measurement.counters import Counts, count
    from predictors.measurement.latency import Latency, measure_latency, measure_undisturbed
    from predictors.measurement.memory import measure_peak_memory

_LATE = {
    "Counts": "predictors.measurement.counters",
    "Latency": "predictors.measurement.latency",
    "count": "predictors.measurement.counters",
    "measure_latency": "predictors.measurement.latency",
    "measure_peak_memory": "predictors.measurement.memory",
    "measure_undisturbed": "predictors.measurement.latency",
}

__all__ = [
    "Counts",
    "DeviceIdentity",
    "Latency",
    "LatencySetting",
    "count",
    "describe_device",
    "measure_latency",
    "measure_peak_memory",
    "measure_undisturbed",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
