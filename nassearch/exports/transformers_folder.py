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

MODELLING, CLASS, CONFIG_CLASS = "modeling_subnet.py", "SubnetModel", "SubnetConfig"
_NOT_COPIED = ("config.json", "generation_config.json", "README.md", "card.json")
_NOT_NEEDED = ("RECIPE", "build_skeleton", "build_model")  # the stock class is made by its constructor
_COPIED = (".json", ".txt", ".model", ".jinja", ".bpe")

_SOURCE = '''"""{stock} of transformers, with layers of the shapes of this checkpoint; needs torch and transformers."""

from __future__ import annotations

{imports}
from transformers import {stock}, {config}


{body}


class {config_name}({config}):
    """The stock configuration under another name: no reader may take this checkpoint for one of the stock class."""

    @classmethod
    def get_config_dict(cls, *arguments: Any, **options: Any) -> Any:
        found, rest = super().get_config_dict(*arguments, **options)
        return {{**found, "model_type": cls.model_type}}, rest

    def to_dict(self) -> Any:
        return {{**super().to_dict(), "model_type": {kind!r}}}


class {name}({stock}):
    """The stock class, shaped as this checkpoint is."""

    config_class = {config_name}

    def __init__(self, config: Any, *arguments: Any, **options: Any) -> None:
        super().__init__(config, *arguments, **options)
        fit(self)

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:  # transformers looks into the file where a class stands
        return {stock}._can_set_experts_implementation()
'''


@register_export("transformers", "folder for from_pretrained: stock class where it can hold the shape, else with code")
class TransformersFolder(ExportFormat):
    """``from_pretrained`` loads it; with ``trust_remote_code=True`` where the layers have shapes of their own."""

    # The same bits in the same class; kernels round otherwise where tensors lie otherwise in memory.
    tolerance = 1e-6

    def __init__(self) -> None:
        self._auto, self._attention = "AutoModel", "sdpa"
        self._experts: str | None = None

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
        self._experts = getattr(module.config, "_experts_implementation", None)
        fault = transformers_fault(module)
        source = None
        if fault is None:
            self.form, self.reason = "stock", f"the configuration of {type(module).__name__} holds the subnet's shape"
        else:
            source = _modelling(module, subject.source)
            self.form = "own modelling file"
            self.reason = f"{fault}; readers need trust_remote_code=True, which runs {MODELLING} of this folder"
        # Other readers want the published layout, an expert apart; it has no form for a block without any.
        module.save_pretrained(folder, save_original_format=source is None)
        if source is not None:
            (folder / MODELLING).write_text(source, encoding="utf-8")
            _name_classes(folder / "config.json", self._auto)
        # First, so that it stays: that of the run may be of the hub, or another one than the model's.
        tokenizer = subject.tokenizer() if subject.tokenizer is not None else None
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        if subject.origin is not None:
            _copy_processors(subject.origin, folder)

    def outputs(self, folder: Path, batches: Sequence[Inputs]) -> list[tuple[Tensor, ...]]:
        """Load the folder in another process and run it there."""
        trust = self.form != "stock"
        experts = f", experts_implementation={self._experts!r}" if self._experts else ""
        loader = (
            f"from transformers import {self._auto}\n"
            f"model = {self._auto}.from_pretrained(folder, local_files_only=True, trust_remote_code={trust}, "
            f"attn_implementation={self._attention!r}{experts})"
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


def _name_classes(path: Path, auto: str) -> None:
    """Let a configuration name the classes of the modelling file, and a model that readers do not know otherwise.

    Under the stock name transformers would load the stock class where a reader does not allow the file to run: an
    error at best, and another function where all tensors have the stock shapes.
    """
    config = json.loads(path.read_text(encoding="utf-8"))
    file = MODELLING.removesuffix(".py")
    config |= {
        "auto_map": {"AutoConfig": f"{file}.{CONFIG_CLASS}", auto: f"{file}.{CLASS}"},
        "architectures": [CLASS],
        "model_type": _kind(config["model_type"]),
    }
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _kind(model_type: str) -> str:
    return f"{model_type}_subnet"


def _modelling(module: Any, source: str | None) -> str:
    """Return the modelling file, from the parts of the source that rebuilds the subnet."""
    if source is None:
        raise ExportError(
            f"no source can be written that makes this {type(module).__name__}; use --format torch or onnx"
        )
    nodes = ast.parse(source).body
    imports = [n for n in nodes if isinstance(n, ast.Import | ast.ImportFrom)]
    parts = [n for n in nodes if n not in imports and not isinstance(n, ast.Expr) and _defined(n) not in _NOT_NEEDED]
    return _SOURCE.format(
        stock=type(module).__name__,
        config=type(module.config).__name__,
        config_name=CONFIG_CLASS,
        kind=_kind(module.config.model_type),
        imports="\n".join(source.splitlines()[imports[1].lineno - 1 : imports[-1].end_lineno]),  # after __future__
        body="\n\n\n".join(str(ast.get_source_segment(source, n)) for n in parts),
        name=CLASS,
    )


def _defined(node: Any) -> str:
    if isinstance(node, ast.Assign | ast.AnnAssign):
        return str(getattr(node.targets[0] if isinstance(node, ast.Assign) else node.target, "id", ""))
    return str(node.name)


def _copy_processors(origin: Path, folder: Path) -> None:
    """Copy the files of tokenizer and processor, small ones that are neither weights nor code."""
    for path in sorted(origin.iterdir()):
        kind = path.is_file() and path.suffix in _COPIED and not path.name.endswith(".index.json")
        if kind and path.name not in _NOT_COPIED and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
