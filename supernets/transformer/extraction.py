"""The active subnet as an ordinary model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from supernets.transformer.slices import SlicedModule
from supernets.transformer.wiring import WiredStack, stack_config


def extract_active(model: nn.Module, stacks: Sequence[WiredStack], *, meta: bool = False) -> nn.Module:
    """Return a copy of the active subnet of a wired model: stock classes, tensors of the active shape.

    Args:
        model: The elastic model.
        stacks: Its stacks.
        meta: Whether to give shapes only, on the meta device.
    """
    # deepcopy asks `memo` first: what stands there replaces the original, wherever it is referred to.
    memo: dict[int, Any] = {}
    kept = [stack.active_indices() for stack in stacks]
    for stack, indices in zip(stacks, kept, strict=True):
        for index in indices:
            for module in stack.sliced_modules(index):
                for tensor, piece in module.sliced().values():
                    memo[id(tensor)] = _copied(tensor, piece.take(tensor), meta)
    if meta:
        for whole in (*model.parameters(), *model.buffers()):
            memo.setdefault(id(whole), _copied(whole, whole, meta))
    for stack, indices in zip(stacks, kept, strict=True):
        layers = [deepcopy(stack.layers[i], memo) for i in indices]
        memo[id(stack.container)] = _plain(stack, layers)
    twin = deepcopy(model, memo)
    for module in list(twin.modules()):
        if isinstance(module, SlicedModule):
            module.become_stock()
    for config, key, value in config_sizes(twin, stacks):
        setattr(config, key, value)
    return twin


def _copied(original: Tensor, tensor: Tensor, meta: bool) -> Tensor:
    if meta:
        data = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    else:
        data = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(data, original.requires_grad) if isinstance(original, nn.Parameter) else data


def _plain(stack: WiredStack, layers: list[nn.Module]) -> nn.Module:
    plain: nn.Module = nn.Sequential(*layers) if isinstance(stack.container, nn.Sequential) else nn.ModuleList(layers)
    return plain.train(stack.container.training)


def config_sizes(model: Any, stacks: Sequence[WiredStack]) -> list[tuple[Any, str, Any]]:
    """Return configuration, key and value of the active sizes that a transformers model's configuration can hold.

    The number of layers always; a width or a number of heads where all that the key rules agree on it.

    Args:
        model: The model whose configurations to write to.
        stacks: The stacks, with the active sizes.
    """
    if not hasattr(model, "config"):
        return []
    configs: dict[int, Any] = {}
    offers: dict[tuple[int, str], list[Any]] = {}
    for stack in stacks:
        indices = stack.active_indices()
        for config, key, value in _offers(model, stack, indices):
            configs[id(config)] = config
            offers.setdefault((id(config), key), []).append(value)
    return [(configs[c], key, vs[0]) for (c, key), vs in offers.items() if all(v == vs[0] for v in vs)]


def _offers(model: Any, stack: WiredStack, indices: list[int]) -> Iterator[tuple[Any, str, Any]]:
    table = stack.table
    for config, own in _configs(model, stack):
        if stack.layer_types:
            yield config, "layer_types", [stack.layer_types[i] for i in indices]
        yield config, table.depth_key, len(indices)
        if own and table.own_depth_key:
            yield config, table.own_depth_key, len(indices)
        for dim, extents in stack.extents.items():
            for units in dict.fromkeys(extents[i].active for i in indices):
                if dim == "ffn":
                    yield config, table.ffn_key, units
                elif table.head_dim_key:
                    yield config, table.n_heads, units * stack.per_unit[dim]
                    yield config, table.head_dim_key, stack.head_dim
                    if table.n_groups:
                        yield config, table.n_groups, units


def _configs(model: Any, stack: WiredStack) -> Iterator[tuple[Any, bool]]:
    """Yield the configurations that size a stack, and whether one is the stack's own copy."""
    whole = stack_config(model, stack.table)
    yield whole, False
    own = getattr(model.base_model.get_submodule(stack.table.layers.rpartition(".")[0]), "config", whole)
    if own is not whole:
        yield own, True
