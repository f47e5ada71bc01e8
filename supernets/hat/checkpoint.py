"""Weights from the files that HAT published (fairseq's format)."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from supernets.errors import CheckpointError

if TYPE_CHECKING:
    from supernets.hat.supernet import HatSupernet

_SHOWN = 6
_IGNORED = re.compile(r"(version|embed_positions\..*|_float_tensor)$")
_PLAIN = {"fc1": "fc1", "fc2": "fc2", "final_layer_norm": "norm", "self_attn_layer_norm": "attention_norm"}


def load_hat_checkpoint(net: HatSupernet, path: str | PathLike[str]) -> None:
    """Load a HAT SuperTransformer checkpoint into a supernet of the same sizes.

    Args:
        net: The supernet; its weights are overwritten.
        path: A ``.pt`` file: a state dict, or a dict that holds one as ``"model"``.

    Raises:
        CheckpointError: The file is missing, not a state dict, or its names or shapes are not the supernet's.
    """
    load_hat_state(net, _read(Path(path)), source=str(path))


def load_hat_state(net: HatSupernet, state: Mapping[str, Tensor], *, source: str = "the state dict") -> None:
    """Load a HAT state dict into a supernet; nothing is changed unless all of it fits.

    Raises:
        CheckpointError: Tensors are missing or unexpected, or shapes are wrong; all are listed.
    """
    given = {name.removeprefix("module."): t for name, t in state.items()}
    given = {name: t for name, t in given.items() if not _IGNORED.search(name)}
    if net.model.source_tokens is None:
        given = _without_copies(given, source)
    wanted = dict(_names(net, separate=any(name.endswith("q_proj_weight") for name in given)))
    faults = []
    if missing := sorted(wanted.keys() - given.keys()):
        faults.append(_listed("missing", missing))
    if unexpected := sorted(given.keys() - wanted.keys()):
        faults.append(_listed("unexpected", unexpected))
    wrong = []
    for name in sorted(wanted.keys() & given.keys()):
        rows = sum(t.shape[0] for t in wanted[name])
        shape = [rows, *wanted[name][0].shape[1:]]
        if list(given[name].shape) != shape:
            wrong.append(f"{name} {list(given[name].shape)}, expected {shape}")
    if wrong:
        faults.append(_listed("of another shape", wrong))
    if faults:
        raise CheckpointError(
            f"{source} does not fit this supernet (check the space and vocab_size={net.vocab_size}): "
            f"{'; '.join(faults)}"
        )
    with torch.no_grad():
        for name, targets in wanted.items():
            parts = torch.split(given[name], [t.shape[0] for t in targets])
            for target, part in zip(targets, parts, strict=True):
                target.copy_(part)


def _without_copies(given: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return a state dict with one table of embeddings: fairseq writes a shared one twice."""
    encoder, decoder = "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"
    if encoder in given and decoder in given:
        if given[encoder].shape != given[decoder].shape or not torch.equal(given[encoder], given[decoder]):
            raise CheckpointError(
                f"{source} has a vocabulary of its own for the source ({len(given[encoder])} tokens beside "
                f"{len(given[decoder])}); build the supernet with source_vocab_size={len(given[encoder])}, "
                f"vocab_size={len(given[decoder])}"
            )
        return {name: t for name, t in given.items() if name != encoder}
    return given


def _names(net: HatSupernet, *, separate: bool) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield fairseq's name and our tensors, which lie below one another in it.

    Args:
        net: The supernet.
        separate: Whether the projections of the attention to the encoder are tensors of their own, as fairseq writes
            them where encoder and decoder have other widths.
    """
    model: Any = net.model
    yield "decoder.embed_tokens.weight", [model.tokens.weight]
    if model.source_tokens is not None:
        yield "encoder.embed_tokens.weight", [model.source_tokens.weight]
    for side, layers in (("encoder", model.encoder_layers), ("decoder", model.decoder_layers)):
        for i, layer in enumerate(layers):
            place = f"{side}.layers.{i}"
            yield from _attention(f"{place}.self_attn", layer.attention, separate=False)
            names = dict(_PLAIN)
            if side == "decoder":
                yield from _attention(f"{place}.encoder_attn", layer.cross, separate=separate)
                names["encoder_attn_layer_norm"] = "cross_norm"
            for theirs, ours in names.items():
                for part in ("weight", "bias"):
                    yield f"{place}.{theirs}.{part}", [getattr(getattr(layer, ours), part)]


def _attention(place: str, layer: Any, *, separate: bool) -> Iterator[tuple[str, list[Tensor]]]:
    inputs = [layer.q, layer.k, layer.v]
    if separate:
        for name, projection in zip("qkv", inputs, strict=True):
            yield f"{place}.{name}_proj_weight", [projection.weight]
    else:
        yield f"{place}.in_proj_weight", [p.weight for p in inputs]
    yield f"{place}.in_proj_bias", [p.bias for p in inputs]
    for part in ("weight", "bias"):
        yield f"{place}.out_proj.{part}", [getattr(layer.out, part)]


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file {str(path)!r}")
    try:
        # fairseq stores its arguments beside the weights: a namespace is plain data, and making one runs nothing.
        with torch.serialization.safe_globals([argparse.Namespace]):
            data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged or foreign files
        reason = "".join(str(error).strip().splitlines()[:1])
        raise CheckpointError(
            f"{str(path)!r} is not a torch checkpoint that can be read without running code in it: {reason}. Where "
            "a file of fairseq holds more, save its 'model' alone with torch.save in the environment it is from"
        ) from error
    if isinstance(data, Mapping) and isinstance(data.get("model"), Mapping):
        data = data["model"]
    if not isinstance(data, Mapping) or not data or not all(isinstance(t, Tensor) for t in data.values()):
        raise CheckpointError(f"{str(path)!r} holds no state dict: a mapping of names to tensors is needed")
    return data


def _listed(what: str, names: list[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > _SHOWN else ""
    return f"{what}: {', '.join(names[:_SHOWN])}{more}"
