"""Backends by name. Free of torch, so that settings are checked before anything heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import import_module
from typing import TYPE_CHECKING, TypeVar

from predictors.errors import PredictorsError, UnknownBackend
from search_spaces.errors import did_you_mean

if TYPE_CHECKING:
    from predictors.backends.base import Backend

    B = TypeVar("B", bound=type[Backend])

ALL_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class BackendEntry:
    """A registered backend: how to get its class, and which settings it takes.

    Attributes:
        name: The name users give after the device, e.g. ``"onnxruntime"``.
        load: Returns the class; imports what it needs only then.
        devices: Kinds of device it runs on, of ``"cpu"`` and ``"cuda"``.
        dtypes: Names of the floating-point types it runs.
        summary: One line for listings.
    """

    name: str
    load: Callable[[], type[Backend]]
    devices: tuple[str, ...]
    dtypes: tuple[str, ...]
    summary: str


def _built_in(name: str, cls: str, devices: tuple[str, ...], dtypes: tuple[str, ...], summary: str) -> BackendEntry:
    def load() -> type[Backend]:
        found: type[Backend] = getattr(import_module(f"predictors.backends.{name}"), cls)
        return found

    return BackendEntry(name, load, devices, dtypes, summary)


_REGISTRY: dict[str, BackendEntry] = {
    entry.name: entry
    for entry in (
        _built_in("eager", "EagerBackend", ("cpu", "cuda"), ALL_DTYPES, "PyTorch as it is"),
        _built_in("cudagraph", "CudaGraphBackend", ("cuda",), ALL_DTYPES, "one CUDA graph, captured and replayed"),
        _built_in("compile", "CompileBackend", ("cpu", "cuda"), ALL_DTYPES, "torch.compile with inductor"),
        _built_in("onnxruntime", "OnnxRuntimeBackend", ("cpu",), ("float32", "float16"), "ONNX Runtime on the CPU"),
    )
}


def register_backend(
    name: str, *, devices: tuple[str, ...], dtypes: tuple[str, ...] = ALL_DTYPES, summary: str = ""
) -> Callable[[B], B]:
    """Register a `Backend` class under ``name``.

    Args:
        name: The name users give after the device, e.g. ``"openvino"``.
        devices: Kinds of device it runs on, of ``"cpu"`` and ``"cuda"``.
        dtypes: Names of the floating-point types it runs.
        summary: One line for listings. Default: the first line of the class's docstring.

    Raises:
        PredictorsError: The name is taken, or no letter-digit word.
    """

    def register(cls: B) -> B:
        if not name.replace("_", "").isalnum():
            raise PredictorsError(f"backend name {name!r} must be letters, digits and underscores")
        if name in _REGISTRY:
            raise PredictorsError(f"a backend named {name!r} is registered already; choose another name")
        first_line = "".join((cls.__doc__ or "").strip().splitlines()[:1])
        _REGISTRY[name] = BackendEntry(name, lambda: cls, devices, dtypes, summary or first_line)
        return cls

    return register


def backend_entry(name: str) -> BackendEntry:
    """Return what is registered under ``name``, without importing the backend.

    Raises:
        UnknownBackend: There is none; the message suggests the nearest name.
    """
    if name not in _REGISTRY:
        raise UnknownBackend(
            f"unknown backend {name!r}{did_you_mean(name, _REGISTRY)}; available: {', '.join(list_backends())}"
        )
    return _REGISTRY[name]


def make_backend(name: str) -> Backend:
    """Make the backend registered under ``name``.

    Raises:
        UnknownBackend: There is none; the message suggests the nearest name.
    """
    return backend_entry(name).load()()


def list_backends(pattern: str = "*") -> list[str]:
    """Return the registered names that match a shell-style pattern, sorted."""
    return sorted(n for n in _REGISTRY if fnmatch(n, pattern))
