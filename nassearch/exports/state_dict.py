"""Weights as safetensors, with a few lines of Python that rebuild the ordinary class they belong to."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nassearch.errors import ExportError
from nassearch.exports.base import ExportFormat, Subject, register_export

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

# Runs in a process of its own: what it imports must not be ours, and the file is code.
_CHECK = """
import sys, torch
from safetensors.torch import load_file, save_file
sys.path.insert(0, sys.argv[1])
from model import load_model
model, given = load_model(), load_file(sys.argv[2])
results = {}
with torch.no_grad():
    for b in range(int(sys.argv[4])):
        inputs = {k.split(".", 2)[2]: v for k, v in given.items() if k.startswith(f"{b}.")}
        keywords = any(k.startswith(f"{b}.k.") for k in given)
        out = model(**inputs) if keywords else model(*(inputs[str(i)] for i in range(len(inputs))))
        results[str(b)] = out.contiguous()
bad = [m for m in sys.modules if m.split(".")[0] in ("nassearch", "supernets", "predictors", "search_spaces")]
assert not bad, bad
save_file(results, sys.argv[3])
"""


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

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load source and weights in another process and run them there."""
        from safetensors.torch import load_file, save_file

        given: dict[str, Tensor] = {}
        for b, batch in enumerate(batches):
            by_name = isinstance(batch, Mapping)
            items = batch.items() if isinstance(batch, Mapping) else enumerate(batch)
            given |= {f"{b}.{'k' if by_name else 'p'}.{name}": t.contiguous() for name, t in items}
        with tempfile.TemporaryDirectory() as scratch:
            inputs, results = Path(scratch) / "inputs.safetensors", Path(scratch) / "results.safetensors"
            save_file(given, inputs)
            arguments = [str(folder.resolve()), str(inputs), str(results), str(len(batches))]
            # -I and another folder: only what is installed can be imported, and nothing of the project's folder.
            # -B: no __pycache__ is left in the export.
            done = subprocess.run(
                [sys.executable, "-I", "-B", "-c", _CHECK, *arguments],
                cwd=scratch,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise ExportError(f"the exported {SOURCE} does not load: {last}")
            loaded = load_file(results)
        return [(loaded[str(b)],) for b in range(len(batches))]

    def usage(self) -> str:
        """Return how to load it."""
        return """from model import load_model  # model.py and model.safetensors of this folder

model = load_model()
logits = model(images)  # float32 [batch, channels, height, width]"""
