"""A folder of timm: architecture, arguments and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import ExportError
from nassearch.exports.base import ExportFormat, Subject, register_export
from nassearch.exports.inputs import comments, variables
from nassearch.exports.outside import run_outside
from nassearch.exports.stock import timm_architecture, timm_fault, timm_options

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.base import Inputs

_OTHERS = "use --format torch, onnx or state-dict"


@register_export("timm", "folder for timm.create_model('local-dir:…'), where timm's class can hold the shape")
class TimmFolder(ExportFormat):
    """Depth and one feed-forward width for all layers: what timm's arguments can say."""

    # The same bits in the same class; kernels round otherwise where tensors lie otherwise in memory.
    tolerance = 1e-6

    def write(self, subject: Subject, folder: Path) -> None:
        """Save configuration and weights.

        Raises:
            ExportError: It is no model of timm, or its arguments cannot make the subnet's shape.
        """
        import timm

        module: Any = subject.module
        architecture = timm_architecture(module)
        if architecture is None:
            raise ExportError(f"a {type(module).__name__} is no model of timm; {_OTHERS}, or transformers")
        if fault := timm_fault(module, architecture):
            raise ExportError(f"{fault}; {_OTHERS}, or search with --uniform")
        self.form, self.reason = "stock", f"the arguments of {architecture} make the subnet's shape"
        timm.models.save_for_hf(module, str(folder), model_args=timm_options(module), safe_serialization=True)

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load the folder in another process and run it there."""
        loader = 'import timm\nmodel = timm.create_model(f"local-dir:{folder}", pretrained=True)'
        return run_outside(loader, folder, batches, "the exported folder")

    def usage(self, example: Inputs) -> str:
        """Return how to load it."""
        return f"""import timm

model = timm.create_model("local-dir:.", pretrained=True).eval()  # this folder
{comments(example)}
logits = model({", ".join(variables(example))})"""
