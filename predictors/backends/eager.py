"""PyTorch as it is, on the CPU or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from predictors.backends.base import Backend, Inputs, Runnable, call, cuda_missing, place, synchronous, torch_device

if TYPE_CHECKING:
    from predictors.measurement.setting import LatencySetting


class EagerBackend(Backend):
    """Runs each operation as it comes. On a GPU at batch 1 the time is mostly that of launching kernels."""

    def available(self, device: str = "cpu") -> str | None:
        """Return why a CUDA device cannot be used; the CPU always can."""
        return cuda_missing(device)

    def prepare(self, module: nn.Module, inputs: Inputs, setting: LatencySetting) -> Runnable:
        """Return a function that runs the module once."""
        twin, placed = place(module, inputs, setting)

        def run() -> Any:
            with torch.inference_mode():
                return call(twin, placed)

        return synchronous(run, torch_device(setting.device))
