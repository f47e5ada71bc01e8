"""One CUDA graph per module: the whole inference is captured once and replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from predictors.backends.base import Backend, Inputs, Runnable, call, cuda_missing, place, synchronous, torch_device
from predictors.errors import MeasurementError

if TYPE_CHECKING:
    from predictors.measurement.setting import LatencySetting

_WARM_UP_RUNS = 3


class CudaGraphBackend(Backend):
    """Replays a captured graph, so that the time of launching kernels one by one is left out."""

    def available(self, device: str = "cuda") -> str | None:
        """Return why the device cannot be used; only CUDA devices can."""
        if torch.device(device).type != "cuda":
            return f"CUDA graphs need a CUDA device, not {device!r}; use the backend 'eager' there"
        return cuda_missing(device)

    def prepare(self, module: nn.Module, inputs: Inputs, setting: LatencySetting) -> Runnable:
        """Capture one inference, and return a function that replays it.

        Raises:
            MeasurementError: The module does what a graph cannot hold, e.g. it branches on values.
        """
        device = torch_device(setting.device)
        twin, placed = place(module, inputs, setting)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(device), torch.inference_mode():
            # Libraries allocate workspaces and choose kernels on the first calls, which must not be captured.
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP_RUNS):
                    call(twin, placed)
            torch.cuda.current_stream().wait_stream(side)
            try:
                with torch.cuda.graph(graph):
                    outputs = call(twin, placed)
            except RuntimeError as e:
                raise MeasurementError(
                    f"{type(module).__name__} cannot be captured as a CUDA graph ({e}); use the backend 'eager'"
                ) from e

        # The graph holds addresses, not references: the tensors behind them must live as long as the function.
        def replay(kept: tuple[nn.Module, Inputs] = (twin, placed)) -> Any:
            graph.replay()
            return outputs

        return synchronous(replay, device)
