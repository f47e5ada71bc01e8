"""A torch.export program: one file, loads with PyTorch alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.exports.base import ExportFormat, Subject, register_export
from nassearch.exports.inputs import comments, variables
from nassearch.exports.stock import any_shape
from predictors.backends.dimensions import first_dimensions, is_text

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

        example = subject.example
        keywords = list(example) if isinstance(example, Mapping) else None
        tensors = tuple(example.values()) if isinstance(example, Mapping) else example
        names = first_dimensions(tensors)
        first = {name: torch.export.Dim(name, min=1, max=65_536) for name in names}
        with torch.no_grad():
            program = torch.export.export(
                TupleOutput(subject.module, keywords).eval(),
                tensors,
                dynamic_shapes=(tuple(_open(t, first[name]) for t, name in zip(tensors, names, strict=True)),),
            )
        torch.export.save(program, folder / FILE)
        self.form, self.reason = "torch.export program", any_shape(subject.module)

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load the program, written a moment ago by `write`, and run it."""
        import torch

        module: Any = torch.export.load(folder / FILE).module()
        with torch.no_grad():
            return [tuple(module(*(b.values() if isinstance(b, Mapping) else b))) for b in batches]

    def usage(self, example: Inputs) -> str:
        """Return how to load and call it."""
        return f"""import torch

model = torch.export.load("{FILE}").module()
{comments(example)}
logits = model({", ".join(variables(example))})[0]"""


def _open(tensor: Tensor, batch: Any) -> dict[int, Any]:
    """Return the open dimensions of an input: the batch, and the length of texts."""
    import torch

    return {0: batch, 1: torch.export.Dim.AUTO} if is_text(tensor) else {0: batch}
