"""What a run was made with: versions, hardware, seeds, identities, command."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from nassearch.problem import Problem

_PACKAGES = (
    "nassearch", "torch", "torchvision", "timm", "transformers", "numpy", "scikit-learn", "xgboost", "pymoo",
    "optuna", "ray", "onnxruntime",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result may depend on."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def make_manifest(problem: Problem, command: str) -> dict[str, Any]:
    """Return the manifest of a run as JSON data."""
    from predictors import LatencySetting, describe_device

    config = problem.config
    return {
        "command": command,
        "working_directory": str(Path.cwd()),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "versions": versions(),
        "hardware": describe_device(LatencySetting.parse("cpu:eager")).to_json(),
        "seed": config.seed,
        "space": problem.space.name,
        "space_identity": problem.space.identity,
        "task": problem.task.describe(),
        "data_fingerprint": problem.task.fingerprint,
        "training": problem.training.to_json() if problem.training else None,
        "training_method": config.train_method,
        "importance_order": problem.orders_units,
        "model": config.model,
        "model_notes": list(problem.source.notes),
        "latency": {metric: str(setting) for metric, setting in problem.latency.items()},
    }


def command_line() -> str:
    """Return the command that started this process, as a user would type it."""
    import shlex

    program = Path(sys.argv[0]).name
    started = ["python", "-m", "nassearch"] if program == "__main__.py" else [program or "python"]
    return shlex.join([*started, *sys.argv[1:]])


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that is either whole or not there, also after a crash."""
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def replace_folder(new: Path, target: Path) -> None:
    """Move a finished folder to its place, which does not exist or is an empty folder."""
    if not target.exists():
        new.rename(target)
        return
    # Somebody may stand in the empty folder: fill it, do not replace it.
    for path in sorted(new.iterdir(), key=lambda p: p.name == "config.yaml"):
        path.rename(target / path.name)
    new.rmdir()


def write_json(path: Path, data: Any) -> None:
    """Write JSON data as `write_atomically` does."""
    write_atomically(path, json.dumps(data, indent=2, default=str) + "\n")
