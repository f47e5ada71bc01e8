"""Whether the class that a subnet's layers come from can hold its shape: what decides on stock checkpoints."""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


def transformers_fault(module: Any) -> str | None:
    """Return why the configuration of a model of transformers cannot hold what it computes, or None."""
    import torch

    from supernets.transformer.handout import own_behaviour
    from supernets.transformer.skeleton import differences

    name = type(module).__name__
    with torch.device("meta"):
        try:
            again = type(module)(deepcopy(module.config))
        except Exception as error:  # constructors raise anything
            return f"the configuration of {name} is refused by its constructor ({error})"
    if odd := _differences(module, again):
        return f"no configuration of {name} makes layers of the subnet's shapes ({odd})"
    if (own := next(own_behaviour(module), None)) is not None:
        return f"no {name} computes what the subnet does in {own[0]}"
    found = differences(again, module)
    if found is None:
        return f"{name} has no such modules as the subnet"
    # What no tensor shows, such as how many experts a token has; containers may tell stale numbers of layers.
    telling = {
        p: v for p, v in found[1].items() if any(True for _ in module.get_submodule(p).parameters(recurse=False))
    }
    if telling:
        where, values = next(iter(telling.items()))
        listed = ", ".join(f"{n} = {v}" for n, v in values.items())
        return f"no configuration of {name} says that {where} has {listed}"
    return None


def timm_fault(module: Any, architecture: str) -> str | None:
    """Return why the arguments of one of timm's architectures cannot make a model's shape, or None."""
    import timm
    import torch

    try:
        with torch.device("meta"):
            again = timm.create_model(architecture, pretrained=False, **timm_options(module))
    except Exception as error:  # constructors raise anything
        return f"timm cannot make this subnet ({error})"
    if odd := _differences(module, again):
        return f"no arguments of timm's {architecture} make layers of the subnet's shapes ({odd})"
    return None


def timm_architecture(module: nn.Module) -> str | None:
    """Return timm's name of a model's architecture; None for a model that is not timm's."""
    if not type(module).__module__.startswith("timm."):
        return None
    return (getattr(module, "pretrained_cfg", None) or {}).get("architecture")


def timm_options(module: Any) -> dict[str, Any]:
    """Return the arguments of a model of timm with the depth and width that it has now."""
    given = {**(getattr(module, "_model_args", None) or {})}
    given |= {"num_classes": module.num_classes, "in_chans": int(module.patch_embed.proj.weight.shape[1])}
    width = int(module.blocks[0].mlp.fc2.weight.shape[1])
    return given | {"depth": len(module.blocks), "mlp_ratio": width / int(module.embed_dim)}


def any_shape(module: nn.Module) -> str:
    """Return why a form that holds every subnet was possible, and whether a stock checkpoint was, for the card."""
    library, fault = "", None
    if "transformers" in sys.modules:  # else it is none of its models, and need not be imported
        import transformers

        if isinstance(module, transformers.PreTrainedModel):
            library, fault = "transformers", transformers_fault(module)
    if not library and (architecture := timm_architecture(module)) is not None:
        library, fault = "timm", timm_fault(module, architecture)
    if not library:
        return "it holds layers of any shape"
    stock = f"not possible: {fault}" if fault else f"possible, too (--format {library})"
    return f"it holds layers of any shape; a stock checkpoint was {stock}"


def _differences(module: nn.Module, again: nn.Module) -> str | None:
    """Return in words which tensors of a model have other shapes in another one; None where none has."""
    its = {n: tuple(t.shape) for n, t in again.state_dict().items()}
    mine = {n: tuple(t.shape) for n, t in module.state_dict().items()}
    odd = sorted(n for n in its.keys() | mine.keys() if its.get(n) != mine.get(n))
    return f"{len(odd)} tensors differ, {odd[0]} the first" if odd else None
