"""Checkpoints of transformers: whether all shards are there and whole, and models whose layers stay on disk."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError

INDEX_FILE = "model.safetensors.index.json"
_LENGTH = 8  # bytes before a safetensors header, which say how long it is


def check_shards(folder: Path, name: str) -> None:
    """Check that the files that a checkpoint's index names exist and are as long as they say.

    Args:
        folder: The checkpoint; one without an index is a single file, which its reader checks.
        name: What the user calls it.

    Raises:
        ConfigError: Naming every shard that is missing or cut short.
    """
    index = folder / INDEX_FILE
    if not index.is_file():
        return
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted({str(v) for v in listed.values()})
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(f"--model {name}: {index} is damaged ({error}); copy the model again") from None
    faults = []
    for shard in shards:
        path = folder / shard
        lost = sum(v == shard for v in listed.values())
        if path.name != shard or not path.is_file():
            faults.append(f"{shard} is missing ({lost} of {len(listed)} tensors)")
        elif (fault := _length_fault(path)) is not None:
            faults.append(f"{shard} {fault}")
    if faults:
        raise ConfigError(
            f"--model {name} is not whole: {'; '.join(faults)}. {INDEX_FILE} names {len(shards)} shards, all of which "
            "must be in the folder; copy or download those again"
        )


def _length_fault(path: Path) -> str | None:
    """Return what is wrong with the length of a safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(_LENGTH)
        length = struct.unpack("<Q", start)[0] if len(start) == _LENGTH else size
        if _LENGTH + length > size:
            return f"is cut short: it has {size} bytes, fewer than its header"
        try:
            header: Mapping[str, Any] = json.loads(file.read(length))
            ends = [int(t["data_offsets"][1]) for n, t in header.items() if n != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return "is no safetensors file"
    whole = _LENGTH + length + max(ends, default=0)
    return None if size == whole else f"is cut short or damaged: it has {size} bytes, {whole} are needed"


def load_on_disk(auto: Any, source: str, config: Any, offload: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Load a model whose layers stay in files, from which the operating system reads what is needed, when it is needed.

    The layers' tensors are views of files: those of the checkpoint where they can be used as they are, else files in
    ``offload``, written one tensor after the other (transformers keeps the experts of a layer in one tensor, most
    checkpoints each of them apart). What was read can be given up again at any time, so memory holds the rest of the
    model and what the system leaves to it; the files must stay while the model is in use. Tensors that are changed in
    place are copied into memory. They have the dtype of the checkpoint.

    Args:
        auto: The Auto class.
        source: Folder or name on the hub.
        config: The model's configuration.
        offload: Folder for tensors that are written anew.
        **options: For ``from_pretrained``.

    Returns:
        The model, and what ``from_pretrained`` says of the loading.

    Raises:
        ConfigError: The model has no layers to leave on disk, or accelerate is not installed.
    """
    import torch

    try:
        from accelerate.hooks import remove_hook_from_module
    except ImportError:
        raise ConfigError("--offload needs the package accelerate: pip install accelerate") from None
    with torch.device("meta"):
        empty = auto.from_config(config, trust_remote_code=options.get("trust_remote_code", False))
    places = _places(empty)
    if "disk" not in places.values():
        raise ConfigError(f"a {type(empty).__name__} has no list of layers, so nothing of it can stay on disk")
    offload.mkdir(parents=True, exist_ok=True)
    model, found = auto.from_pretrained(
        source,
        config=config,
        dtype="auto",
        device_map=places,
        offload_folder=str(offload),
        output_loading_info=True,
        **options,
    )
    views = {
        (id(module), name): hook.weights_map[name]
        for module in model.modules()
        if (hook := getattr(module, "_hf_hook", None)) is not None and getattr(hook, "weights_map", None) is not None
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.is_meta
    }
    hooked = [m for m in model.modules() if hasattr(m, "_hf_hook")]
    remove_hook_from_module(model, recurse=True)
    for module in hooked:
        module.__dict__.pop("forward", None)  # what accelerate puts back hides that of the module's class
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if (view := views.get((id(module), name))) is not None:
                module._parameters[name] = torch.nn.Parameter(view, requires_grad=parameter.requires_grad)
    for name in ("hf_device_map", "to", "cuda"):  # with which accelerate marks and guards what it has dispatched
        model.__dict__.pop(name, None)
    return model, found


def _places(empty: Any) -> dict[str, str]:
    """Return what stays on disk, lists of layers, and what is kept in memory, by path; none contains another."""
    from torch import nn

    places: dict[str, str] = {}

    def descend(module: nn.Module, path: str) -> None:
        for name, child in module.named_children():
            below = f"{path}.{name}" if path else name
            if isinstance(child, nn.ModuleList):
                places[below] = "disk"
            elif any(isinstance(m, nn.ModuleList) for m in child.modules()):
                descend(child, below)
            else:
                places[below] = "cpu"
        for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            places[f"{path}.{name}" if path else name] = "cpu"

    descend(empty, "")
    return places
