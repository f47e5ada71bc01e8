"""An ONNX model: runs in ONNX Runtime and whatever else reads ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nassearch.exports.base import ExportFormat, Subject, register_export

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.base import Inputs

FILE = "model.onnx"


@register_export("onnx", "ONNX model (model.onnx), dynamic batch; needs nassearch[onnx] to write")
class OnnxModel(ExportFormat):
    """Tensors in, tensors out, with a dynamic batch dimension."""

    # Another runtime with other kernels: sums are taken in another order.
    tolerance = 1e-4

    def write(self, subject: Subject, folder: Path) -> None:
        """Convert and save the model."""
        from predictors.backends.onnx_export import export_onnx

        export_onnx(subject.module, subject.example, folder / FILE, dynamic_batch=True, dynamic_sequence=True)

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Run the model in ONNX Runtime."""
        import onnxruntime
        import torch

        session = onnxruntime.InferenceSession(str(folder / FILE), providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        results = []
        for batch in batches:
            tensors = batch.values() if isinstance(batch, Mapping) else batch
            feed = {n: t.numpy() for n, t in zip(names, tensors, strict=True)}
            results.append(tuple(torch.from_numpy(o) for o in session.run(None, feed)))
        return results

    def usage(self) -> str:
        """Return how to load it."""
        return f"""import onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
(logits,) = session.run(None, {{session.get_inputs()[0].name: images}})  # float32 [batch, channels, height, width]"""
