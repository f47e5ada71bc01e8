"""Stock models without weights.

The source of `build_skeleton`, `cut_to` and `add_tensors` is handed out with subnets.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

Shapes = dict[str, list[int]]
Attributes = dict[str, dict[str, Any]]


def build_skeleton(recipe: Mapping[str, Any]) -> nn.Module:
    """Build a stock model of transformers or timm, with random weights, in eval mode."""
    if recipe["library"] == "timm":
        import timm

        model = timm.create_model(recipe["class"], pretrained=False, **recipe["options"])
    else:
        import transformers

        cls: Any = getattr(transformers, recipe["class"])
        if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
            raise TypeError(f"{recipe['class']} is no model of transformers")
        config_class: Any = cls.config_class
        config = config_class.from_dict(recipe["config"])
        config._attn_implementation = recipe["attention"]
        model = cls(config, **recipe["options"])
        if recipe["generation"] is not None:
            model.generation_config = transformers.GenerationConfig.from_dict(recipe["generation"])
    return model.eval()


def cut_to(model: nn.Module, shapes: Mapping[str, Any], attributes: Mapping[str, Any]) -> nn.Module:
    """Give parameters and buffers other shapes, and modules the attributes that say so; weights are lost."""
    for name, shape in shapes.items():
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        old = getattr(module, own)
        new = torch.zeros(shape, dtype=old.dtype, device=old.device)
        setattr(module, own, nn.Parameter(new) if isinstance(old, nn.Parameter) else new)
    for path, values in attributes.items():
        for name, value in values.items():
            setattr(model.get_submodule(path), name, value)
    return model


def add_tensors(model: nn.Module, added: Mapping[str, Any]) -> nn.Module:
    """Give modules parameters and buffers that their classes do not have; all zero."""
    for name, facts in added.items():
        path, _, own = name.rpartition(".")
        module = model.get_submodule(path)
        device = next(model.parameters()).device
        tensor = torch.zeros(facts["shape"], dtype=getattr(torch, facts["dtype"]), device=device)
        if facts["learns"]:
            module.register_parameter(own, nn.Parameter(tensor))
        else:
            module.register_buffer(own, tensor)
    return model


def differences(skeleton: nn.Module, twin: nn.Module) -> tuple[Shapes, Attributes] | None:
    """Return what `cut_to` must be told to make one model's shape from another; None if that is not enough.

    Args:
        skeleton: The model to cut.
        twin: The model to equal.
    """
    mine, its = dict(skeleton.named_modules()), dict(twin.named_modules())
    if {n: type(m) for n, m in mine.items()} != {n: type(m) for n, m in its.items()}:
        return None
    tensors = {**dict(skeleton.named_parameters()), **dict(skeleton.named_buffers())}
    wanted = {**dict(twin.named_parameters()), **dict(twin.named_buffers())}
    if tensors.keys() != wanted.keys():
        return None
    shapes = {n: list(t.shape) for n, t in wanted.items() if t.shape != tensors[n].shape}
    attributes: Attributes = {}
    for path, module in its.items():
        values = {n: v for n, v in module.__dict__.items() if is_literal(v) and not n.startswith("_")}
        other = {n: v for n, v in values.items() if n != "training" and mine[path].__dict__.get(n) != v}
        if other:
            attributes[path] = other
    return shapes, attributes


def is_literal(value: object) -> bool:
    """Return whether a value can be written down in source."""
    if isinstance(value, tuple):
        return all(is_literal(v) for v in value)
    return isinstance(value, bool | int | float | str)
