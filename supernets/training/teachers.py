"""Teachers from folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from supernets.base import Architecture, Supernet, call
from supernets.errors import SupernetError
from supernets.serialization import CONFIG_FILE, load
from supernets.training.distillation import logits_of
from supernets.training.errors import InvalidSettings

_STOCK_CONFIG = "config.json"


def load_teacher(folder: str) -> nn.Module:
    """Return the network in a folder: frozen, in eval mode, on the CPU.

    Args:
        folder: What `supernets.save` wrote (the largest subnet is active), or transformers' `save_pretrained` with
            safetensors.

    Raises:
        InvalidSettings: The folder holds neither, or not all of it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise _refused(f"teacher {folder} is no folder; give one that holds a supernet or a transformers model")
    with torch.random.fork_rng(devices=[]):  # loading draws weights first
        if (path / CONFIG_FILE).is_file():
            try:
                module: nn.Module = load(path)
            except SupernetError as error:
                raise _refused(f"teacher {folder} cannot be loaded: {error}") from None
        elif (path / _STOCK_CONFIG).is_file():
            module = _load_stock(path)
        else:
            files = f"a supernet ({CONFIG_FILE}) nor a transformers model ({_STOCK_CONFIG})"
            raise _refused(f"teacher {folder} holds neither {files}; give a folder that does")
    return module.eval().requires_grad_(False)


def _load_stock(path: Path) -> nn.Module:
    """Load a model that `save_pretrained` wrote; no code of the folder runs."""
    import transformers

    try:
        config = json.loads((path / _STOCK_CONFIG).read_text(encoding="utf-8"))
        if "architecture" in config and "architectures" not in config:  # as timm's save_for_hf writes it
            raise _refused(
                f"teacher {path} is a model of timm ({config['architecture']}); only supernets and models of "
                "transformers teach: save it with supernets.save(supernets.convert(model), DIR) and give that folder"
            )
        (name,) = config["architectures"]
        kind: Any = getattr(transformers, name)
        if not issubclass(kind, transformers.PreTrainedModel):
            raise TypeError(f"{name} is no model")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(
            f"teacher {path}: 'architectures' in its {_STOCK_CONFIG} must name a model class of transformers ({error})"
        ) from None
    try:
        model, found = kind.from_pretrained(
            path,
            dtype=torch.float32,  # whatever it was saved in: half precision would not run beside the supernet
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _refused(f"teacher {path} cannot be loaded: {error}") from None
    missing = sorted(found["missing_keys"])
    if missing:
        listed = ", ".join(missing[:4]) + (" …" if len(missing) > 4 else "")
        raise _refused(f"teacher {path} lacks weights of its {name}: {listed}; give one that is fine-tuned")
    return model  # type: ignore[no-any-return]


def _refused(message: str) -> InvalidSettings:
    return InvalidSettings([message])


def check_teacher(teacher: nn.Module, net: Supernet, largest: Architecture) -> str | None:
    """Return why a network cannot teach a supernet, judging by its logits on example inputs; None if it can.

    Args:
        teacher: Moved to the supernet's device.
        net: The supernet; it stays as it is.
        largest: Its largest architecture.
    """
    modes = [(m, m.training) for m in net.modules()]
    try:
        with net.activated(largest), torch.no_grad():
            net.eval()
            inputs = net.example_inputs(largest, batch_size=2)
            wanted = logits_of(call(net, inputs)).shape
            device = next(net.parameters()).device
            try:
                got = logits_of(call(teacher.to(device), inputs)).shape
            except Exception as error:  # other libraries' models raise anything
                given = f"inputs {', '.join(inputs)}" if isinstance(inputs, Mapping) else "positional inputs"
                return f"it does not run on the supernet's {given}: {error}"
    finally:
        for module, training in modes:
            module.training = training
    if got != wanted:
        return f"its logits are {list(got)}, the supernet's {list(wanted)}; give a teacher of the same classes"
    its, ours = _class_names(teacher), _class_names(net)
    if its is not None and ours is not None and its != ours:
        return f"its classes are {_listed(its)}, the supernet's {_listed(ours)}; give a teacher with the same order"
    return None


def _class_names(module: nn.Module) -> list[str] | None:
    """Return the names of a model's classes in order and in lower case; None where it has none of its own."""
    inner = getattr(module, "model", module)  # of a supernet the stock model inside
    names = getattr(getattr(inner, "config", None), "id2label", None)
    if not isinstance(names, Mapping):
        return None
    found = [str(names[i]).lower() for i in sorted(names)]
    return None if all(n == f"label_{i}" for i, n in enumerate(found)) else found


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (" …" if len(names) > 4 else "")


def digest_of(module: nn.Module) -> bytes:
    """Return the SHA-256 of a module's weights and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()
