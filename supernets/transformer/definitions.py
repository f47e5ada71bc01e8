"""Functions and classes of ours as source that needs nothing of ours: what they refer to comes along."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from textwrap import indent
from types import ModuleType

_OURS = __name__.partition(".")[0]


@dataclass
class Definitions:
    """Source of a few names.

    Attributes:
        sources: Name -> definition, in an order in which they can run.
        imports: Statements that they need.
    """

    sources: dict[str, str] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)


def definitions(module: ModuleType, wanted: Iterable[str]) -> Definitions:
    """Return functions, classes and constants of a module with all they refer to there and in other modules of ours.

    A module of ours that is imported whole becomes a namespace of what is used of it.

    Args:
        module: Of ours.
        wanted: Names in it.

    Raises:
        ValueError: Two things of the same name would be needed.
    """
    text = inspect.getsource(module)
    nodes = ast.parse(text).body
    known = {name: n for n in nodes for name in _defined(n)}
    imported = {(a.asname or a.name): (n, a) for n in nodes if isinstance(n, ast.ImportFrom) for a in n.names}
    imported |= {(a.asname or a.name): (n, a) for n in nodes if isinstance(n, ast.Import) for a in n.names}  # type: ignore[misc]
    needed, spaces, found, waiting = set[str](), dict[str, set[str]](), Definitions(), list(wanted)
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in known:
            for used, attribute in _references(known[name]):
                if attribute and _module_of(imported.get(used)) is not None:
                    spaces.setdefault(used, set()).add(attribute)
                else:
                    waiting.append(used)
        elif name in imported and _module_of(imported[name]) is None:
            statement, alias = imported[name]
            if isinstance(statement, ast.ImportFrom) and str(statement.module).startswith(_OURS):
                _add(found, definitions(sys.modules[str(statement.module)], [alias.name]))
            else:
                lone = type(statement)(**{**vars(statement), "names": [alias]})
                found.imports.add(ast.unparse(lone))
    for name, attributes in sorted(spaces.items()):
        within = _module_of(imported[name])
        assert within is not None  # noqa: S101 - it was one above
        _add(found, _namespace(name, definitions(within, sorted(attributes)), sorted(attributes)))
    own = {n: str(ast.get_source_segment(text, known[n])) for n in known if n in needed}
    _add(found, Definitions(own))
    return found


def _add(found: Definitions, more: Definitions) -> None:
    for name, text in more.sources.items():
        if found.sources.setdefault(name, text) != text:
            raise ValueError(f"two definitions of {name!r}")
    found.imports |= more.imports


def _namespace(name: str, inner: Definitions, attributes: list[str]) -> Definitions:
    """Return a module as a function that makes its few names, and an object that holds them."""
    body = "\n\n".join(inner.sources.values())
    members = ", ".join(f"{a}={a}" for a in attributes)
    made = f"def _{name}() -> Any:\n{indent(body, '    ')}\n\n    return SimpleNamespace({members})"
    text = f"{made}\n\n\n{name} = _{name}()"
    return Definitions({name: text}, inner.imports | {"from types import SimpleNamespace", "from typing import Any"})


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (t.id for t in targets if isinstance(t, ast.Name))


def _module_of(imported: tuple[ast.stmt, ast.alias] | None) -> ModuleType | None:
    """Return the module of ours that a name stands for, if it does."""
    if imported is None or not isinstance(imported[0], ast.ImportFrom):
        return None
    return sys.modules.get(f"{imported[0].module}.{imported[1].name}") if _is_ours(imported[0]) else None


def _is_ours(node: ast.ImportFrom) -> bool:
    return str(node.module).partition(".")[0] == _OURS


def _references(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the names that a definition refers to, with the attribute that is taken of each or nothing.

    Those of annotations are not looked up when it runs, but their imports are wanted: a reader's tools look.
    """
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Name):
            yield child.value.id, child.attr
        elif isinstance(child, ast.Name):
            yield child.id, ""
