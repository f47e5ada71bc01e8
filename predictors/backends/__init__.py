"""Ways to run a module, by name; owns the conversion to ONNX. Imports torch only when one is made."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from predictors.backends.registry import (
    BackendEntry,
    backend_entry,
    list_backends,
    make_backend,
    register_backend,
)

if TYPE_CHECKING:
    from predictors.backends.base import Backend, Inputs, Runnable
    from predictors.backends.onnx_export import export_onnx

_LATE = {
    "Backend": "predictors.backends.base",
    "Inputs": "predictors.backends.base",
    "Runnable": "predictors.backends.base",
    "export_onnx": "predictors.backends.onnx_export",
}

__all__ = [
    "Backend",
    "BackendEntry",
    "Inputs",
    "Runnable",
    "backend_entry",
    "export_onnx",
    "list_backends",
    "make_backend",
    "register_backend",
]


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(_LATE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
