"""A folder of timm: architecture, arguments and weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import ExportError
from nassearch.exports.base import ExportFormat, Subject, register_export
from nassearch.exports.inputs import comments, variables
from nassearch.exports.outside import run_outside

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
        import torch

        module: Any = subject.module
        architecture = (getattr(module, "pretrained_cfg", None) or {}).get("architecture")
        if not type(module).__module__.startswith("timm.") or not architecture:
            raise ExportError(f"a {type(module).__name__} is no model of timm; {_OTHERS}, or transformers")
        options = _options(module)
        try:
            with torch.device("meta"):
                again = timm.create_model(architecture, pretrained=False, **options)
        except Exception as error:  # constructors raise anything
            raise ExportError(f"timm cannot make this subnet ({error}); {_OTHERS}") from error
        its = {n: tuple(t.shape) for n, t in again.state_dict().items()}
        mine = {n: tuple(t.shape) for n, t in module.state_dict().items()}
        odd = sorted(n for n in its.keys() | mine.keys() if its.get(n) != mine.get(n))
        if odd:
            raise ExportError(
                f"no arguments of timm's {architecture} make layers of the subnet's shapes ({len(odd)} tensors differ, "
                f"{odd[0]} the first); {_OTHERS}, or search with --uniform"
            )
        self.form, self.reason = "stock", f"the arguments of {architecture} make the subnet's shape"
        timm.models.save_for_hf(module, str(folder), model_args=options, safe_serialization=True)

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


def _options(module: Any) -> dict[str, Any]:
    """Return the arguments of a model with the depth and width that it has now."""
    given = {**(getattr(module, "_model_args", None) or {})}
    given |= {"num_classes": module.num_classes, "in_chans": int(module.patch_embed.proj.weight.shape[1])}
    width = int(module.blocks[0].mlp.fc2.weight.shape[1])
    return given | {"depth": len(module.blocks), "mlp_ratio": width / int(module.embed_dim)}
