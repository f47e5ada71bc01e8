"""torch.compile with inductor."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from predictors.backends.base import Backend, Inputs, Runnable, call, cuda_missing, place, synchronous, torch_device
from predictors.errors import BackendUnavailable

if TYPE_CHECKING:
    from predictors.measurement.setting import LatencySetting


class CompileBackend(Backend):
    """Compiles each module anew; expect seconds to a minute before the first inference."""

    def available(self, device: str = "cpu") -> str | None:
        """Return what inductor lacks here: a C++ compiler for the CPU, Triton for a GPU."""
        if missing := cuda_missing(device):
            return missing
        if torch.device(device).type == "cuda" and find_spec("triton") is None:
            return "torch.compile needs Triton on a GPU; run `pip install triton`, or use the backend 'eager'"
        candidates = [c for c in (os.environ.get("CXX"), "g++", "clang++", "c++", "cl") if c]
        if not any(shutil.which(c) for c in candidates):
            return (
                f"torch.compile needs a C++ compiler and none of {', '.join(candidates)} is on PATH; install one "
                "(e.g. `apt-get install g++`), set CXX to yours, or use the backend 'eager'"
            )
        return None

    def prepare(self, module: nn.Module, inputs: Inputs, setting: LatencySetting) -> Runnable:
        """Compile the module for exactly these input shapes, and return a function that runs it once.

        Forgets what was compiled before in this process: after a few subnets of one class torch would
        otherwise reach its limit of recompilations and run the rest eagerly without a word.

        Raises:
            BackendUnavailable: A compiler is missing.
        """
        if missing := self.available(setting.device):
            raise BackendUnavailable(missing)
        twin, placed = place(module, inputs, setting)
        torch.compiler.reset()
        compiled = torch.compile(twin, backend="inductor", dynamic=False)

        def run() -> Any:
            with torch.inference_mode():
                return call(compiled, placed)

        run()
        return synchronous(run, torch_device(setting.device))
