"""Saving and loading supernets: safetensors and JSON, in files and as payloads for other processes."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from search_spaces import SearchSpaceError
from supernets.base import Supernet
from supernets.errors import CheckpointError, SupernetError
from supernets.registry import build_family

CONFIG_FILE = "supernet.json"
FORMAT = "nassearch-supernet"
VERSION = 1


def _describe(net: Supernet) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "family": net.family,
        "config": net.config(),
        "space": net.space.to_json(),
        "space_identity": net.space.identity,
        "dtype": str(next(net.parameters()).dtype).removeprefix("torch."),
    }


# -- folders -----------------------------------------------------------------------------------------


def save(net: Supernet, folder: str | PathLike[str]) -> None:
    """Write a supernet to a folder: ``supernet.json`` and the ``weights-….safetensors`` that it names.

    The JSON is replaced last, in one step, so that an interrupted save leaves the folder as it was. Which
    subnet is active, and its recalibrated statistics, are not saved.

    Args:
        net: The supernet.
        folder: Made if missing. A supernet of the same space in it is replaced.

    Raises:
        CheckpointError: The folder holds a supernet of another space.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _refuse_other(net, folder)
    state = {name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}
    data = save_tensors(state)
    digest = hashlib.sha256(data).hexdigest()
    description = {**_describe(net), "weights": f"weights-{digest[:16]}.safetensors", "sha256": digest}
    _write(folder / description["weights"], data)
    _write(folder / CONFIG_FILE, (json.dumps(description, indent=2) + "\n").encode())
    for old in folder.glob("weights-*.safetensors"):
        if old.name != description["weights"]:
            old.unlink()


def is_saved(folder: str | PathLike[str]) -> bool:
    """Return whether a folder holds a supernet that `save` wrote to its end."""
    return (Path(folder) / CONFIG_FILE).is_file()


def _refuse_other(net: Supernet, folder: Path) -> None:
    if not (folder / CONFIG_FILE).exists():
        return
    there = _read_description(folder)
    if (there["family"], there["space_identity"]) != (net.family, net.space.identity):
        raise CheckpointError(
            f"{str(folder)!r} holds a supernet of family {there['family']!r} and another search space "
            f"({there['space_identity']}, this one is {net.space.identity}); save to another folder"
        )


def _write(path: Path, data: bytes) -> None:
    """Write a file so that its name never stands for half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)  # mkstemp makes it private
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(folder: str | PathLike[str]) -> Supernet:
    """Read a supernet that `save` wrote; in eval mode, on the CPU, with its largest architecture active.

    Args:
        folder: The folder.

    Raises:
        CheckpointError: The folder is missing, incomplete, damaged, or not a supernet of ours.
        UnknownFamily: Its family is not registered.
    """
    folder = Path(folder)
    description = _read_description(folder)
    weights = folder / description["weights"]
    if weights.name != description["weights"] or not weights.is_file():  # a path must not leave the folder
        raise CheckpointError(f"{str(folder)!r} lacks the weights file {description['weights']!r} of its {CONFIG_FILE}")
    data = weights.read_bytes()
    if hashlib.sha256(data).hexdigest() != description["sha256"]:
        raise CheckpointError(
            f"{str(weights)!r} is truncated or damaged ({len(data)} bytes, its checksum is not that of "
            f"{CONFIG_FILE}); restore it from a copy or train again"
        )
    try:
        state = load_tensors(data)
    except SafetensorError as error:
        raise CheckpointError(f"{str(weights)!r} is not a safetensors file: {error}") from error
    return _rebuild(description, state, str(folder))


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise CheckpointError(f"{str(folder)!r} holds no supernet: {CONFIG_FILE} is missing")
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is truncated or damaged: {error}") from error
    needed = {"version": int, "family": str, "config": dict, "space_identity": str, "weights": str, "sha256": str}
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise CheckpointError(f"{str(path)!r} is not a saved supernet (its format is not {FORMAT!r})")
    wrong = sorted(name for name, kind in needed.items() if not isinstance(description.get(name), kind))
    if wrong:
        raise CheckpointError(f"{str(path)!r} is damaged: {', '.join(wrong)} missing or of the wrong type")
    if description["version"] > VERSION:
        raise CheckpointError(
            f"{str(path)!r} has format version {description['version']}, this program reads up to {VERSION}; upgrade it"
        )
    return description


def _rebuild(description: Mapping[str, Any], state: Mapping[str, Tensor], source: str) -> Supernet:
    # Building draws random weights; the caller's random numbers must not depend on that.
    with torch.random.fork_rng(devices=[]):
        try:
            net = build_family(description["family"], description["config"])
        except (SearchSpaceError, SupernetError) as error:
            raise CheckpointError(f"{source}: the supernet cannot be rebuilt: {error}") from error
    if net.space.identity != description["space_identity"]:
        raise CheckpointError(f"{source}: the search space is not the one it was saved with")
    _match_dtypes(net, state)
    try:
        net.load_state_dict(dict(state))
    except RuntimeError as error:
        raise CheckpointError(f"{source}: the weights are not those of the supernet: {error}") from error
    return net.eval()


def _match_dtypes(net: Supernet, state: Mapping[str, Tensor]) -> None:
    """Give what is in the state its dtype there; buffers that are not (rotary frequencies, …) keep their own."""
    for name, tensor in (*net.named_parameters(), *net.named_buffers()):
        stored = state.get(name)
        if stored is not None and stored.dtype != tensor.dtype:
            tensor.data = tensor.data.to(stored.dtype)


# -- payloads ----------------------------------------------------------------------------------------


def to_payload(net: Supernet) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return a supernet as JSON and arrays, to be sent to other processes.

    The arrays share memory with a supernet on the CPU: an object store copies them once, and nothing else
    does. bfloat16, which NumPy does not have, travels as its bits (uint16).

    Returns:
        The description and name -> array, for `from_payload`.
    """
    arrays: dict[str, NDArray[Any]] = {}
    bits = []
    for name, tensor in net.state_dict().items():
        plain = tensor.detach().cpu()
        if plain.dtype == torch.bfloat16:
            bits.append(name)
            plain = plain.view(torch.uint16)
        arrays[name] = plain.numpy()
    return {**_describe(net), "bfloat16": bits}, arrays


def from_payload(description: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Supernet:
    """Rebuild a supernet from `to_payload`, in eval mode; the arrays are copied, read-only ones too.

    Raises:
        CheckpointError: Description and arrays do not belong together.
    """
    bits = set(description["bfloat16"])
    state = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.array(array))  # a copy: arrays from an object store are not writable
        state[name] = tensor.view(torch.bfloat16) if name in bits else tensor
    return _rebuild(description, state, "the payload")
