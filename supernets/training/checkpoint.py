"""Training checkpoints: tensors in a safetensors file, scalars in a JSON file that names it.

The JSON file is replaced atomically after the tensors are safely on disk, so a process killed at any moment
leaves a complete checkpoint: the new one or the one before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from supernets.training.errors import ResumeError

FORMAT = "nassearch-training-1"
_INDEX = "training.json"
_TENSORS = "step-*.safetensors"


def save_checkpoint(folder: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Replace the checkpoint in a folder.

    Args:
        folder: Made if it does not exist.
        tensors: Anything that a `state_dict` holds; shared memory is written twice.
        record: JSON data with an integer ``"step"``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step-{record['step']:08d}.safetensors"
    copies = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    partial = target.with_suffix(".partial")
    save_file(copies, partial)
    _replace(partial, target)
    index = {**record, "format": FORMAT, "tensors": target.name, "bytes": target.stat().st_size}
    partial = folder / f"{_INDEX}.partial"
    partial.write_text(json.dumps(index, indent=1), encoding="utf-8")
    _replace(partial, folder / _INDEX)
    for old in folder.glob(_TENSORS):
        if old != target:
            old.unlink()


def has_checkpoint(folder: Path) -> bool:
    """Return whether a folder holds a training checkpoint."""
    return (folder / _INDEX).is_file()


def load_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the JSON record of the checkpoint in a folder.

    Raises:
        ResumeError: It is damaged or not ours.
    """
    index = folder / _INDEX
    try:
        record = json.loads(index.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResumeError(f"cannot read the checkpoint {index}: {error}") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise ResumeError(f"{index} is not a training checkpoint of this version (format {FORMAT!r})")
    name = str(record.get("tensors"))
    path = folder / name
    if Path(name).name != name or not path.is_file() or path.stat().st_size != record.get("bytes"):
        raise ResumeError(
            f"the checkpoint {index} names {name!r}, which is missing or truncated; delete the folder to start anew"
        )
    try:
        return load_file(path), record
    except (OSError, SafetensorError) as error:
        raise ResumeError(f"cannot read {path}: {error}; delete the folder to start anew") from None


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return one line for each entry in which two JSON records differ, nested ones included."""
    lines: list[str] = []
    for key in sorted({*stored, *wanted}):
        a, b = stored.get(key), wanted.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a!r} in the checkpoint, now {b!r}")
    return lines


def _replace(partial: Path, target: Path) -> None:
    """Put a finished file in the place of another one, safely on disk."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(target)
    if os.name != "posix":
        return  # folders cannot be synchronised there
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
