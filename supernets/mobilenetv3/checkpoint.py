"""Weights from the files that Once-for-All published."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from supernets.elastic import ElasticBatchNorm2d, ElasticInvertedResidual
from supernets.errors import CheckpointError

if TYPE_CHECKING:
    from supernets.mobilenetv3.supernet import MobileNetV3Supernet

_SHOWN = 6


def load_ofa_checkpoint(net: MobileNetV3Supernet, path: str | PathLike[str]) -> None:
    """Load an OFA MobileNetV3 checkpoint into a supernet of the same width and number of classes.

    Args:
        net: The supernet; its weights are overwritten.
        path: A ``.pth`` file: a state dict, or a dict that holds one as ``"state_dict"``.

    Raises:
        CheckpointError: The file is missing, not a state dict, or its keys or shapes are not the supernet's.
    """
    load_ofa_state(net, _read(Path(path)), source=str(path))


def load_ofa_state(net: MobileNetV3Supernet, state: Mapping[str, Tensor], *, source: str = "the state dict") -> None:
    """Load an OFA MobileNetV3 state dict, in the published or the older naming, into a supernet.

    Args:
        net: The supernet; its weights are overwritten.
        state: OFA's name -> tensor.
        source: What to call it in errors.

    Raises:
        CheckpointError: Keys are missing or unexpected, or shapes are wrong; all are listed.
    """
    given = {_plain(name): tensor for name, tensor in state.items()}
    wanted = dict(_names(net))
    counters = {name for name in wanted if name.endswith("num_batches_tracked")}  # older files lack them
    faults = [
        *_listed("missing", wanted.keys() - given.keys() - counters),
        *_listed("unexpected", given.keys() - wanted.keys()),
        *_listed(
            "of another shape",
            (
                f"{name} {list(given[name].shape)}, expected {list(wanted[name].shape)}"
                for name in wanted.keys() & given.keys()
                if given[name].shape != wanted[name].shape
            ),
        ),
    ]
    if faults:
        raise CheckpointError(
            f"{source} does not fit this supernet (check width and num_classes={net.num_classes}): {'; '.join(faults)}"
        )
    with torch.no_grad():
        for name in wanted.keys() & given.keys():
            wanted[name].copy_(given[name])
        net.head.bias.zero_()  # OFA's layer has none
    net.activate(net.active)  # statistics calibrated for the old weights mean nothing now


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint file {str(path)!r}")
    try:
        data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged or foreign files
        reason = str(error).strip().splitlines()[:1]
        raise CheckpointError(f"{str(path)!r} is not a readable torch checkpoint: {''.join(reason)}") from error
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data = data["state_dict"]
    if not isinstance(data, Mapping) or not data or not all(isinstance(t, Tensor) for t in data.values()):
        raise CheckpointError(f"{str(path)!r} holds no state dict: a mapping of names to tensors is needed")
    return data


def _plain(name: str) -> str:
    """Return a key without the wrappers that differ between OFA's versions and between its layers."""
    name = name.removeprefix("module.").replace(".mobile_inverted_conv.", ".conv.")
    for inner in ("bn", "conv", "linear"):
        name = re.sub(rf"\.{inner}\.{inner}\.", f".{inner}.", name)
    return name


def _listed(what: str, names: Iterable[str]) -> list[str]:
    found = sorted(names)
    if not found:
        return []
    more = f", … ({len(found)} in all)" if len(found) > _SHOWN else ""
    return [f"{what}: {', '.join(found[:_SHOWN])}{more}"]


def _names(net: MobileNetV3Supernet) -> Iterator[tuple[str, Tensor]]:
    """Yield OFA's name (as `_plain` gives it) and our tensor."""
    yield "first_conv.conv.weight", net.stem_conv.weight
    yield from _norm("first_conv.bn", net.stem_bn)
    for i, block in enumerate(net.blocks):
        yield from _block(f"blocks.{i}.conv", block)
    yield "final_expand_layer.conv.weight", net.last_conv.weight
    yield from _norm("final_expand_layer.bn", net.last_bn)
    yield "feature_mix_layer.conv.weight", net.head.weight.data[:, :, None, None]  # a view: 1x1 convolution
    yield "classifier.linear.weight", net.classifier.weight
    yield "classifier.linear.bias", net.classifier.bias


def _block(name: str, block: ElasticInvertedResidual) -> Iterator[tuple[str, Tensor]]:
    if block.expand_conv is not None and block.expand_bn is not None:
        yield f"{name}.inverted_bottleneck.conv.weight", block.expand_conv.weight
        yield from _norm(f"{name}.inverted_bottleneck.bn", block.expand_bn)
    yield f"{name}.depth_conv.conv.weight", block.depth_conv.weight
    for sizes, matrix in block.depth_conv.transforms.items():
        yield f"{name}.depth_conv.conv.{sizes}_matrix", matrix
    yield from _norm(f"{name}.depth_conv.bn", block.depth_bn)
    if block.se is not None:
        for layer in ("reduce", "expand"):
            for part in ("weight", "bias"):
                yield f"{name}.depth_conv.se.fc.{layer}.{part}", getattr(block.se, f"{layer}_{part}")
    yield f"{name}.point_linear.conv.weight", block.project_conv.weight
    yield from _norm(f"{name}.point_linear.bn", block.project_bn)


def _norm(name: str, norm: ElasticBatchNorm2d) -> Iterator[tuple[str, Tensor]]:
    for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
        yield f"{name}.{part}", getattr(norm, part)
