"""How much memory one inference takes."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from predictors.backends.base import Inputs, call, cuda_missing, pinned_threads, place, tensors_of
from predictors.errors import BackendUnavailable, MeasurementError
from predictors.measurement.inputs import check_inputs
from predictors.measurement.setting import LatencySetting


class LiveTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of tensors alive within a ``with`` block, at each operation.

    Each storage counts once, however many views it has, from the operation that makes it until it is freed.

    Attributes:
        live_bytes: Bytes alive now.
        peak_bytes: Most bytes alive after an operation.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live_bytes = 0
        self.peak_bytes = 0
        self._known: dict[int, weakref.finalize[..., Any]] = {}

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Count the storages of tensors that are not counted yet."""
        for t in tensors:
            storage = t.untyped_storage()
            if id(storage) not in self._known and storage.nbytes() > 0:
                self.live_bytes += storage.nbytes()
                self._known[id(storage)] = weakref.finalize(storage, self._free, id(storage), storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, self.live_bytes)

    def _free(self, key: int, nbytes: int) -> None:
        del self._known[key]
        self.live_bytes -= nbytes

    def close(self) -> None:
        """Stop watching; storages that live on no longer refer to this count."""
        for watch in self._known.values():
            watch.detach()
        self._known.clear()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        outputs = func(*args, **(kwargs or {}))
        self.add(t for t in tree_iter(outputs) if isinstance(t, Tensor))
        return outputs


def measure_peak_memory(module: nn.Module, inputs: Inputs, setting: LatencySetting | None = None) -> float:
    """Return the most memory that weights, inputs and activations of one inference take together.

    On the CPU a deterministic count: the peak of the bytes of all tensors alive during an eager forward. Scratch
    space inside a kernel is not seen, and a backend that fuses operations may take less. On a GPU the peak of
    torch's allocator during an eager forward after a first one, scratch space of kernels included; workspaces
    that libraries keep for good are not. Both in eval mode, in the setting's dtype.

    Args:
        module: Any module, on any device and in any dtype.
        inputs: A tuple (positional) or mapping (by keyword) of tensors, with the setting's batch.
        setting: Device and dtype. Default: CPU, batch 1, float32.

    Returns:
        Peak memory in MB of 1e6 bytes.

    Raises:
        MeasurementError: The module raises, or the inputs do not belong to the setting.
    """
    setting = setting or LatencySetting()
    check_inputs(inputs, setting)
    if missing := cuda_missing(setting.device):
        raise BackendUnavailable(missing)
    twin, placed = place(module, inputs, setting)
    measure = _cuda_peak if setting.device_type == "cuda" else _cpu_peak
    try:
        with pinned_threads(setting.threads):
            return measure(twin, placed) / 1e6
    except Exception as e:
        raise MeasurementError(f"{type(module).__name__} failed under {str(setting)!r}: {type(e).__name__}: {e}") from e


def _resident(module: nn.Module, inputs: Inputs) -> list[Tensor]:
    return [*module.parameters(), *module.buffers(), *tensors_of(inputs)]


def _cpu_peak(module: nn.Module, inputs: Inputs) -> int:
    tracker = LiveTensors()
    tracker.add(_resident(module, inputs))
    # Not inference mode: there, composite operations would hide the tensors they make on the way.
    with torch.no_grad(), tracker:
        call(module, inputs)
    tracker.close()
    return tracker.peak_bytes


def _cuda_peak(module: nn.Module, inputs: Inputs) -> int:
    resident = LiveTensors()
    resident.add(_resident(module, inputs))
    resident.close()
    device = tensors_of(inputs)[0].device
    with torch.inference_mode(), torch.cuda.device(device):
        call(module, inputs)
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call(module, inputs)
        torch.cuda.synchronize()
        return resident.peak_bytes + torch.cuda.max_memory_allocated() - before
