"""Weights as safetensors, with a few lines of Python that rebuild the ordinary class they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nassearch.errors import ExportError
from nassearch.exports.base import ExportFormat, Subject, register_export
from nassearch.exports.inputs import comments, variables
from nassearch.exports.outside import run_outside
from nassearch.exports.stock import any_shape

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.base import Inputs

WEIGHTS, SOURCE = "model.safetensors", "model.py"

_LOADER = '''

def load_model():
    """Return the model with its weights, in eval mode."""
    from pathlib import Path

    from safetensors.torch import load_file

    model = build_model()
    model.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
    return model.eval()
'''


@register_export("state-dict", "weights (model.safetensors) and model.py, which rebuilds the library's own class")
class StateDict(ExportFormat):
    """An ordinary module of its library, e.g. ``torchvision.models.MobileNetV3``, to go on working with."""

    def write(self, subject: Subject, folder: Path) -> None:
        """Save weights and source.

        Raises:
            ExportError: The family does not say how its subnets are rebuilt.
        """
        from safetensors.torch import save_model

        if subject.source is None:
            raise ExportError(
                "this supernet family does not say how its subnets are rebuilt; use --format torch or onnx"
            )
        save_model(subject.module, str(folder / WEIGHTS))
        (folder / SOURCE).write_text(subject.source.rstrip("\n") + "\n" + _LOADER, encoding="utf-8")
        self.form, self.reason = "weights with source", any_shape(subject.module)

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load source and weights in another process and run them there."""
        loader = "sys.path.insert(0, folder)\nfrom model import load_model\nmodel = load_model()"
        return run_outside(loader, folder, batches, f"the exported {SOURCE}")

    def usage(self, example: Inputs) -> str:
        """Return how to load and call it."""
        names = variables(example)
        # Models that take their inputs by name are those of transformers: the first of their outputs counts.
        by_name = isinstance(example, Mapping)
        call = f"model({', '.join(f'{n}={n}' for n in names)})[0]" if by_name else f"model({', '.join(names)})"
        return f"""from model import load_model  # model.py and model.safetensors of this folder

model = load_model()
{comments(example)}
logits = {call}"""
