"""Hardware-aware neural architecture search: the Pareto front of a model's sub-networks for your hardware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nassearch.config import RunConfig
    from nassearch.constraints import Constraint
    from nassearch.engine import resume, run
    from nassearch.errors import NassearchError
    from nassearch.exports import export
    from nassearch.objectives import Objective
    from nassearch.runs import Record, Run
    from nassearch.strategies import Strategy, list_strategies, make_strategy
    from nassearch.tasks import Task, list_tasks, make_task

__all__ = [
    "Constraint",
    "NassearchError",
    "Objective",
    "Record",
    "Run",
    "RunConfig",
    "Strategy",
    "Task",
    "__version__",
    "export",
    "list_strategies",
    "list_tasks",
    "make_strategy",
    "make_task",
    "resume",
    "run",
]

# Where each public name lives; imported on first use, so that `import nassearch` stays quick.
_HOMES = {
    "Constraint": "constraints",
    "NassearchError": "errors",
    "Objective": "objectives",
    "Record": "runs",
    "Run": "runs",
    "RunConfig": "config",
    "Strategy": "strategies",
    "Task": "tasks",
    "export": "exports",
    "list_strategies": "strategies",
    "list_tasks": "tasks",
    "make_strategy": "strategies",
    "make_task": "tasks",
    "resume": "engine",
    "run": "engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nassearch' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"nassearch.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
