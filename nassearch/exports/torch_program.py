"""A torch.export program: one file, loads with PyTorch alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.exports.base import ExportFormat, Subject, register_export

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.base import Inputs

FILE = "model.pt2"


@register_export("torch", "torch.export program (model.pt2), dynamic batch; loads with PyTorch alone")
class TorchProgram(ExportFormat):
    """Tensors in, tuple of tensors out, with a dynamic batch dimension."""

    def write(self, subject: Subject, folder: Path) -> None:
        """Export and save the program."""
        import torch

        from predictors.backends.onnx_export import TupleOutput

        batch = torch.export.Dim("batch", min=1, max=65_536)
        example = subject.example
        keywords = list(example) if isinstance(example, Mapping) else None
        tensors = tuple(example.values()) if isinstance(example, Mapping) else example
        with torch.no_grad():
            program = torch.export.export(
                TupleOutput(subject.module, keywords).eval(),
                tensors,
                dynamic_shapes=(tuple(_open(t, batch) for t in tensors),),
            )
        torch.export.save(program, folder / FILE)

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load the program, written a moment ago by `write`, and run it."""
        import torch

        module: Any = torch.export.load(folder / FILE).module()
        with torch.no_grad():
            return [tuple(module(*(b.values() if isinstance(b, Mapping) else b))) for b in batches]

    def usage(self) -> str:
        """Return how to load it."""
        return f"""import torch

model = torch.export.load("{FILE}").module()
(logits,) = model(images)  # float32 [batch, channels, height, width]"""


def _open(tensor: Tensor, batch: Any) -> dict[int, Any]:
    """Return the open dimensions of an input: the batch, and the length of texts."""
    import torch

    text = tensor.dim() == 2 and not tensor.is_floating_point()
    return {0: batch, 1: torch.export.Dim.AUTO} if text else {0: batch}
