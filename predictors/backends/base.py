"""The contract of a backend: run a module on a device, one inference per call."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from predictors.errors import MeasurementError

if TYPE_CHECKING:
    from predictors.measurement.setting import LatencySetting

Inputs: TypeAlias = tuple[Tensor, ...] | Mapping[str, Tensor]
Runnable: TypeAlias = Callable[[], Any]


class Backend(ABC):
    """Runs modules one way, e.g. eagerly or through ONNX Runtime."""

    @abstractmethod
    def available(self, device: str = "cpu") -> str | None:
        """Return why the backend cannot run on ``device``, and what to do about it; ``None`` where it can."""

    @abstractmethod
    def prepare(self, module: nn.Module, inputs: Inputs, setting: LatencySetting) -> Runnable:
        """Return a function that runs one inference and comes back when it is done.

        In eval and inference mode, whatever mode the module is in; the module given is left as it was.
        Called, like the function it returns, with the number of threads pinned already.

        Args:
            module: Any module, on any device and in any dtype.
            inputs: A tuple (positional) or mapping (by keyword) of tensors.
            setting: Device, dtype and threads to run with.

        Returns:
            A function without arguments that returns the outputs.
        """


def call(module: Callable[..., Any], inputs: Inputs) -> Any:
    """Run a module on a batch of inputs: a tuple is positional, a mapping is by keyword."""
    return module(**inputs) if isinstance(inputs, Mapping) else module(*inputs)


def map_inputs(inputs: Inputs, function: Callable[[Tensor], Tensor]) -> Inputs:
    """Apply a function to each tensor; a tuple stays a tuple and a mapping becomes a dict.

    Raises:
        MeasurementError: The inputs are neither, or hold something that is no tensor.
    """
    if not isinstance(inputs, (tuple, Mapping)):
        raise MeasurementError(
            f"inputs are a {type(inputs).__name__}; give a tuple of tensors, or a mapping of argument names to tensors"
        )
    items = list(inputs.items()) if isinstance(inputs, Mapping) else list(enumerate(inputs))
    wrong = [f"{key!r} ({type(value).__name__})" for key, value in items if not isinstance(value, Tensor)]
    if wrong or not items:
        raise MeasurementError(
            f"inputs must be tensors, at least one; not tensors: {', '.join(wrong) or 'nothing given'}"
        )
    if isinstance(inputs, Mapping):
        return {key: function(value) for key, value in inputs.items()}
    return tuple(function(value) for value in inputs)


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """Return the tensors of inputs in their order."""
    return list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs)


def eval_copy(module: nn.Module, device: torch.device | None = None, dtype: torch.dtype | None = None) -> nn.Module:
    """Return a copy of a module in eval mode, on a device and in a dtype (default: its own).

    The original is not touched. Weights are shared with it where they need no conversion, so that a large module
    is not held twice.

    Raises:
        MeasurementError: The module cannot be copied.
    """
    weights = [*module.parameters(), *module.buffers()]
    fits = all(device in (None, t.device) and (dtype in (None, t.dtype) or not t.is_floating_point()) for t in weights)
    # Converting works in place on the copy's weights, so they may be shared only where nothing is converted.
    shared = {id(t): t for t in weights} if fits else {}
    try:
        twin = copy.deepcopy(module, shared)
    except Exception as e:
        raise MeasurementError(
            f"{type(module).__name__} cannot be copied ({e}); detach tensors that are plain attributes of the module"
        ) from e
    twin.eval()
    return twin if fits else twin.to(device=device, dtype=dtype)


def place(module: nn.Module, inputs: Inputs, setting: LatencySetting) -> tuple[nn.Module, Inputs]:
    """Return an eval copy of a module, and its inputs, on the device and in the dtype of a setting."""
    device, dtype = torch_device(setting.device), torch_dtype(setting.dtype)

    def convert(t: Tensor) -> Tensor:
        return t.detach().to(device=device, dtype=dtype if t.is_floating_point() else t.dtype).contiguous()

    return eval_copy(module, device, dtype), map_inputs(inputs, convert)


def torch_device(name: str) -> torch.device:
    """Return the device of a name, with its index filled in for CUDA."""
    device = torch.device(name)
    return (
        torch.device("cuda", torch.cuda.current_device()) if device.type == "cuda" and device.index is None else device
    )


def torch_dtype(name: str) -> torch.dtype:
    """Return the torch dtype of a name, e.g. ``"float32"``."""
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def cuda_missing(device: str) -> str | None:
    """Return why a device cannot be used where it is a CUDA device; ``None`` where it can."""
    wanted = torch.device(device)
    if wanted.type != "cuda":
        return None
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        return (
            f"no CUDA device is visible to torch {torch.__version__} ({built}); check `nvidia-smi`, or measure on 'cpu'"
        )
    if wanted.index is not None and wanted.index >= torch.cuda.device_count():
        return f"there is no {device}: {torch.cuda.device_count()} CUDA device(s) are visible, counted from cuda:0"
    return None


def synchronous(run: Runnable, device: torch.device) -> Runnable:
    """Return a function that runs and waits until the device has finished; on the CPU the function itself."""
    if device.type != "cuda":
        return run
    done = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def run_and_wait() -> Any:
        with torch.cuda.device(device):
            outputs = run()
            # An event waits for this work alone; a device-wide synchronisation would wait for others' too.
            done.record()
            done.synchronize()
        return outputs

    return run_and_wait


@contextmanager
def pinned_threads(threads: int) -> Iterator[None]:
    """Use this many intra-op threads within a ``with`` block, and the number before again after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
