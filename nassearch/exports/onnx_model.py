"""An ONNX model: runs in ONNX Runtime and whatever else reads ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nassearch.exports.base import ExportFormat, Subject, register_export
from nassearch.exports.inputs import comments, variables
from nassearch.exports.stock import any_shape

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
        self.form, self.reason = "ONNX graph", any_shape(subject.module)

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

    def usage(self, example: Inputs) -> str:
        """Return how to load and call it."""
        names = variables(example)
        if isinstance(example, Mapping):
            feed = "{" + ", ".join(f'"{name}": {name}' for name in names) + "}"
        else:
            feed = f"dict(zip((i.name for i in session.get_inputs()), [{', '.join(names)}]))"
        return f"""import onnxruntime

session = onnxruntime.InferenceSession("{FILE}")
# NumPy arrays
{comments(example)}
logits = session.run(None, {feed})[0]"""
