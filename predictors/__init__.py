"""What a point of a search space costs: predictors of metrics, and measurements of modules.

Names load their modules when they are first used: ``import predictors`` brings neither torch nor scikit-learn
nor XGBoost.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from predictors.backends import list_backends
    from predictors.base import Predictor
    from predictors.device import DeviceIdentity, describe_device
    from predictors.holdout import HeldOut, held_out
    from predictors.latency_table import LatencyTable
    from predictors.measurement import Latency, LatencySetting, count, measure_latency, measure_peak_memory
    from predictors.quality import Quality
    from predictors.registry import list_predictors, load_predictor, make_predictor, register_predictor
    from predictors.tuning import tune_predictor

_HOME = {
    "DeviceIdentity": "predictors.device",
    "HeldOut": "predictors.holdout",
    "Latency": "predictors.measurement",
    "LatencySetting": "predictors.measurement",
    "LatencyTable": "predictors.latency_table",
    "Predictor": "predictors.base",
    "Quality": "predictors.quality",
    "count": "predictors.measurement",
    "describe_device": "predictors.device",
    "held_out": "predictors.holdout",
    "list_backends": "predictors.backends",
    "list_predictors": "predictors.registry",
    "load_predictor": "predictors.registry",
    "make_predictor": "predictors.registry",
    "measure_latency": "predictors.measurement",
    "measure_peak_memory": "predictors.measurement",
    "register_predictor": "predictors.registry",
    "tune_predictor": "predictors.tuning",
}

__all__ = [
    "DeviceIdentity",
    "HeldOut",
    "Latency",
    "LatencySetting",
    "LatencyTable",
    "Predictor",
    "Quality",
    "count",
    "describe_device",
    "held_out",
    "list_backends",
    "list_predictors",
    "load_predictor",
    "make_predictor",
    "measure_latency",
    "measure_peak_memory",
    "register_predictor",
    "tune_predictor",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
