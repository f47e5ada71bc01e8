"""ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from predictors.backends.base import Backend, Inputs, Runnable, map_inputs, place, tensors_of
from predictors.errors import BackendUnavailable

if TYPE_CHECKING:
    from predictors.measurement.setting import LatencySetting

NEEDED = ("onnx", "onnxruntime", "onnxscript")


class OnnxRuntimeBackend(Backend):
    """Converts each module to ONNX and runs it with all graph optimisations; outputs are a tuple of tensors."""

    def available(self, device: str = "cpu") -> str | None:
        """Return which packages are missing."""
        if torch.device(device).type != "cpu":
            return f"the backend 'onnxruntime' runs on the CPU, not on {device!r}; use 'cpu:onnxruntime'"
        return onnx_missing()

    def prepare(self, module: nn.Module, inputs: Inputs, setting: LatencySetting) -> Runnable:
        """Convert the module for exactly these input shapes, and return a function that runs it once.

        Raises:
            BackendUnavailable: A package is missing.
            MeasurementError: The module cannot be converted.
        """
        if missing := self.available(setting.device):
            raise BackendUnavailable(missing)
        import onnxruntime

        from predictors.backends.onnx_export import export_onnx

        twin, placed = place(module, inputs, setting)
        model = export_onnx(twin, placed)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        names = list(placed) if isinstance(placed, Mapping) else [i.name for i in model.graph.input]
        known = {i.name for i in session.get_inputs()}
        arrays = tensors_of(map_inputs(placed, torch.Tensor.cpu))
        # An input that the module never uses does not exist in the graph.
        feeds = {name: t.numpy() for name, t in zip(names, arrays, strict=True) if name in known}

        def run() -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(a) for a in session.run(None, feeds))

        return run


def onnx_missing() -> str | None:
    """Return which packages ONNX needs and how to get them; ``None`` where all are there."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if not missing:
        return None
    return f"ONNX needs {', '.join(missing)}, not installed here; run `pip install nassearch[onnx]`"
