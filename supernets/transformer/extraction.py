"""The active subnet as an ordinary model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from supernets.transformer.slices import SlicedModule
from supernets.transformer.wiring import WiredStack, stack_config

_LEFT_BEHIND = object()  # what the copy of a layer has for a moment instead of its mixture


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
                for tensor, value in module.taken():
                    memo[id(tensor)] = _copied(tensor, value, meta)
                source = module.__dict__.get("_source")
                if source is not None:
                    memo[id(source)] = _LEFT_BEHIND
    if meta:
        for whole in (*model.parameters(), *model.buffers()):
            memo.setdefault(id(whole), _copied(whole, whole, meta))
    for stack, indices in zip(stacks, kept, strict=True):
        layers = [deepcopy(stack.layers[i], memo) for i in indices]
        memo[id(stack.container)] = _plain(stack, layers)
    twin = deepcopy(model, memo)
    for inner in list(twin.modules()):
        if isinstance(inner, SlicedModule):
            inner.become_stock()
    if hasattr(twin, "config"):
        _write_sizes(twin, stacks)
    return twin


def _copied(original: Tensor, tensor: Tensor, meta: bool) -> Tensor:
    if meta:
        data = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
    else:
        data = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(data, original.requires_grad) if isinstance(original, nn.Parameter) else data


def _plain(stack: WiredStack, layers: list[nn.Module]) -> nn.Module:
    plain: nn.Module = (
        nn.Sequential(*layers) if issubclass(stack.container.stock_class, nn.Sequential) else nn.ModuleList(layers)
    )
    return plain.train(stack.container.training)


def _write_sizes(model: Any, stacks: Sequence[WiredStack]) -> None:
    """Write the active sizes into a transformers model's configuration, as far as it can hold them.

    The number of layers always; a width or a number of heads where all that the key rules agree on it, and heads only
    where the configuration still is valid (some want the hidden size to be a multiple of their number).
    """
    configs: dict[int, Any] = {}
    offers: dict[tuple[int, str], list[Any]] = {}
    for stack in stacks:
        for config, key, value in _offers(model, stack, stack.active_indices()):
            configs[id(config)] = config
            offers.setdefault((id(config), key), []).append(value)
    for number, config in configs.items():
        agreed = {key: vs[0] for (c, key), vs in offers.items() if c == number and all(v == vs[0] for v in vs)}
        heads = {key: agreed.pop(key) for s in stacks for key in s.table.head_keys if key in agreed}
        _update(config, agreed)
        if hasattr(config, "stage_names"):  # of backbones: one stage per layer
            config.stage_names = ["stem", *(f"stage{i}" for i in range(1, config.num_hidden_layers + 1))]
            kept = [name for name in config._out_features or [] if name in config.stage_names]
            config.set_output_features_output_indices(out_features=kept or None, out_indices=None)
        before = dict(config.__dict__)
        _update(config, heads)
        try:
            type(config).from_dict(config.to_dict())
        except Exception:  # validation raises what it likes
            config.__dict__.clear()
            config.__dict__.update(before)


def _update(config: Any, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        setattr(config, key, value)


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
