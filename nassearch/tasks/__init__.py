"""Tasks: data in four splits, a loss and metrics, by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nassearch.tasks.base import Batch, Inputs, Split, Task
    from nassearch.tasks.classification import ImageClassification
    from nassearch.tasks.options import Option, TaskRequest
    from nassearch.tasks.registry import TaskEntry, from_payload, list_tasks, make_task, register_task

# Names are resolved when they are first used: listing tasks must not import torch.
_MODULES = {
    "Batch": "base",
    "ImageClassification": "classification",
    "Inputs": "base",
    "Option": "options",
    "Split": "base",
    "Task": "base",
    "TaskEntry": "registry",
    "TaskRequest": "options",
    "from_payload": "registry",
    "list_tasks": "registry",
    "make_task": "registry",
    "register_task": "registry",
}

__all__ = [
    "Batch",
    "ImageClassification",
    "Inputs",
    "Option",
    "Split",
    "Task",
    "TaskEntry",
    "TaskRequest",
    "from_payload",
    "list_tasks",
    "make_task",
    "register_task",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
