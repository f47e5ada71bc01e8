"""A folder of transformers: stock where its class can hold the subnet, else with a small modelling file."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nassearch.errors import ExportError
from nassearch.exports.base import ExportFormat, Subject, register_export
from nassearch.exports.inputs import comments, variables
from nassearch.exports.outside import run_outside
from nassearch.exports.stock import transformers_fault

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.base import Inputs

MODELLING, CLASS = "modeling_subnet.py", "SubnetModel"
_NOT_COPIED = ("config.json", "generation_config.json", "README.md", "card.json")
_COPIED = (".json", ".txt", ".model", ".jinja", ".bpe")

_SOURCE = '''"""A {stock} of transformers with narrower layers; needs torch and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import {stock}

SHAPES = {shapes!r}

ATTRIBUTES = {attributes!r}


{cut}


class {name}({stock}):
    """The stock class, with layers of the shapes of this checkpoint."""

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        cut_to(self, SHAPES, ATTRIBUTES)
'''


@register_export("transformers", "folder for from_pretrained: stock class where it can hold the shape, else with code")
class TransformersFolder(ExportFormat):
    """``from_pretrained`` loads it; with ``trust_remote_code=True`` where the layers have shapes of their own."""

    # The same bits in the same class; kernels round otherwise where tensors lie otherwise in memory.
    tolerance = 1e-6

    def __init__(self) -> None:
        self._auto, self._attention = "AutoModel", "sdpa"

    def write(self, subject: Subject, folder: Path) -> None:
        """Save the model, and tokenizer or processor files of the model it came from.

        Raises:
            ExportError: The subnet is no model of transformers, or cannot be told to its class.
        """
        import transformers

        module: Any = subject.module
        if not isinstance(module, transformers.PreTrainedModel):
            raise ExportError(
                f"a {type(module).__name__} is no model of transformers; use --format torch, onnx, state-dict, or timm "
                "where it is timm's"
            )
        self._auto, self._attention = _auto_class(module), str(module.config._attn_implementation)
        fault = transformers_fault(module)
        source = None
        if fault is None:
            self.form, self.reason = "stock", f"the configuration of {type(module).__name__} holds the subnet's shape"
        else:
            source = _modelling(module, subject.source)
            self.form = "own modelling file"
            self.reason = f"{fault}; readers need trust_remote_code=True, which runs {MODELLING} of this folder"
        module.save_pretrained(folder)
        if source is not None:
            (folder / MODELLING).write_text(source, encoding="utf-8")
            path = folder / "config.json"
            config = json.loads(path.read_text(encoding="utf-8"))
            config |= {"auto_map": {self._auto: f"{MODELLING.removesuffix('.py')}.{CLASS}"}, "architectures": [CLASS]}
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        # First, so that it stays: that of the run may be of the hub, or another one than the model's.
        tokenizer = subject.tokenizer() if subject.tokenizer is not None else None
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if subject.origin is not None:
            _copy_processors(subject.origin, folder)

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load the folder in another process and run it there."""
        trust = self.form != "stock"
        loader = (
            f"from transformers import {self._auto}\n"
            f"model = {self._auto}.from_pretrained(folder, local_files_only=True, trust_remote_code={trust}, "
            f"attn_implementation={self._attention!r})"
        )
        return run_outside(loader, folder, batches, "the exported folder")

    def usage(self, example: Inputs) -> str:
        """Return how to load it."""
        trust = "" if self.form == "stock" else ", trust_remote_code=True"
        return f"""from transformers import {self._auto}

model = {self._auto}.from_pretrained("."{trust})  # this folder
{comments(example)}
logits = model({", ".join(f"{n}={n}" for n in variables(example))})[0]"""


def _auto_class(module: Any) -> str:
    """Return the name of the Auto class that loads a model's class."""
    from transformers.models.auto import modeling_auto

    names = [n for n in dir(modeling_auto) if n.startswith("AutoModel")]
    for name in sorted(names, key=lambda n: (n == "AutoModelForPreTraining", n)):
        mapping = getattr(getattr(modeling_auto, name), "_model_mapping", None)
        if mapping is not None and type(module.config) in mapping:
            found = mapping[type(module.config)]
            if type(module) in (found if isinstance(found, tuple) else (found,)):
                return name
    return "AutoModel"


def _modelling(module: Any, source: str | None) -> str:
    """Return the modelling file, from the parts of the source that rebuilds the subnet."""
    if source is None:
        raise ExportError(
            f"no source can be written that makes this {type(module).__name__}; use --format torch or onnx"
        )
    tree = ast.parse(source)
    values = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    (cut,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "cut_to")
    return _SOURCE.format(
        stock=type(module).__name__,
        shapes=values["SHAPES"],
        attributes=values["ATTRIBUTES"],
        cut=ast.get_source_segment(source, cut),
        name=CLASS,
    )


def _copy_processors(origin: Path, folder: Path) -> None:
    """Copy the files of tokenizer and processor, small ones that are neither weights nor code."""
    for path in sorted(origin.iterdir()):
        kind = path.is_file() and path.suffix in _COPIED and not path.name.endswith(".index.json")
        if kind and path.name not in _NOT_COPIED and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
