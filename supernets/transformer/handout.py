"""The source that is handed out with subnets: it makes them, without weights, where nothing of ours is installed."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pprint import pformat
from typing import Any

from torch import nn

from supernets.transformer.definitions import definitions
from supernets.transformer.skeleton import build_skeleton, cut_to, is_literal

_IMPORTS = ("from collections.abc import Mapping", "from typing import Any", "import torch", "from torch import nn")


@dataclass(frozen=True)
class Parts:
    """What a subnet has beyond other shapes.

    Attributes:
        constants: Name -> Python expression.
        definitions: Functions and classes, each as source.
        imports: Import statements that they need.
        steps: Statements about ``model``, after it was cut to its shapes.
    """

    constants: Mapping[str, str]
    definitions: Sequence[str]
    imports: Sequence[str]
    steps: Sequence[str]


NO_PARTS = Parts({}, (), (), ())


def write_source(
    library: str, recipe: Mapping[str, Any], shapes: object, attributes: object, parts: Parts = NO_PARTS
) -> str:
    """Return Python source of ``build_model()``, and of ``fit(model)``, which shapes the stock model.

    Args:
        library: ``"transformers"`` or ``"timm"``.
        recipe: For `build_skeleton`.
        shapes: For `cut_to`.
        attributes: For `cut_to`.
        parts: What is more.
    """
    constants = {"SHAPES": shown(shapes), "ATTRIBUTES": shown(attributes), **parts.constants}
    written = "\n\n".join(f"{name} = {text}" for name, text in constants.items())
    functions = [inspect.getsource(build_skeleton).strip(), inspect.getsource(cut_to).strip(), *parts.definitions]
    steps = "".join(f"    {line}\n" for step in parts.steps for line in step.splitlines())
    definitions = "\n\n\n".join(functions)
    return f'''"""{recipe["class"]} of {library} with narrower layers; needs torch and {library}."""

from __future__ import annotations

{_imports({*_IMPORTS, *parts.imports})}

RECIPE = {shown(recipe)}

{definitions}


{written}


def fit(model: Any) -> Any:
    """Give the stock model the shape of this subnet; its weights are lost."""
    cut_to(model, SHAPES, ATTRIBUTES)
{steps}    return model


def build_model() -> Any:
    """Return the model without trained weights."""
    return fit(build_skeleton(RECIPE))
'''


def shown(value: object) -> str:
    """Return a literal as readable source."""
    return pformat(value, width=110, sort_dicts=False)


def _imports(statements: Iterable[str]) -> str:
    """Return import statements in order, those of the standard library first; names of one module on one line."""
    names: dict[str, set[str]] = {}
    for node in ast.parse("\n".join(statements)).body:
        if isinstance(node, ast.ImportFrom):
            names.setdefault(f"from {node.module}", set()).update(ast.unparse(n) for n in node.names)
        else:
            names.setdefault(ast.unparse(node), set())
    groups: list[list[str]] = [[], []]
    for start in sorted(names, key=lambda start: (start.split()[1], start.startswith("from"))):
        ours = start.split()[1].partition(".")[0] not in sys.stdlib_module_names
        groups[ours].append(f"{start} import {', '.join(sorted(names[start]))}" if names[start] else start)
    return "\n\n".join("\n".join(group) for group in groups if group)


# -- hooks -------------------------------------------------------------------------------------------

_KINDS = (("register_forward_pre_hook", "_forward_pre_hooks"), ("register_forward_hook", "_forward_hooks"))


def own_behaviour(model: nn.Module) -> Iterator[tuple[str, str, Any]]:
    """Yield what modules compute otherwise than their classes: path, how that is set, and the function or object."""
    for path, module in model.named_modules():
        for register, hooks in _KINDS:
            for hook in getattr(module, hooks).values():
                yield path, f".{register}({{}})", hook
        forward = module.__dict__.get("forward")
        if forward is not None:
            yield path, ".forward = MethodType({}, model.get_submodule({path}))", getattr(forward, "__func__", forward)


def hook_parts(model: nn.Module) -> Parts | None:
    """Return the hooks and forward methods of a model's modules as source; None where one cannot be written down.

    They are functions, static methods, or objects whose attributes are the arguments they were made with, in files of
    ours; what they refer to is handed out with them.
    """
    steps: list[str] = []
    wanted: dict[str, set[str]] = {}
    imports: set[str] = set()
    for path, how, hook in own_behaviour(model):
        expression = _expression(hook)
        module = hook.__module__ if inspect.isfunction(hook) else type(hook).__module__
        if expression is None or module.partition(".")[0] != __name__.partition(".")[0]:
            return None
        steps.append(f"model.get_submodule({path!r})" + how.replace("{}", expression).replace("{path}", repr(path)))
        if "MethodType" in how:
            imports.add("from types import MethodType")
        wanted.setdefault(module, set()).add(expression.partition("(")[0].partition(".")[0])
    sources: dict[str, str] = {}
    for module, names in wanted.items():
        try:
            found = definitions(sys.modules[module], sorted(names))
        except ValueError:
            return None
        if any(sources.setdefault(n, text) != text for n, text in found.sources.items()):
            return None
        imports |= found.imports
    return Parts({}, list(sources.values()), sorted(imports), steps)


def _expression(hook: Any) -> str | None:
    """Return the Python that makes a hook."""
    if inspect.isfunction(hook):
        return None if "<" in hook.__qualname__ else hook.__qualname__
    options = vars(hook) if hasattr(hook, "__dict__") else {"": None}
    if not all(is_literal(v) for v in options.values()):
        return None
    return f"{type(hook).__qualname__}({', '.join(f'{n}={v!r}' for n, v in options.items())})"
