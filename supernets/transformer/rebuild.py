"""How a stock model is made again from JSON, without its weights."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.errors import SupernetError
from supernets.transformer.family import Family
from supernets.transformer.handout import write_source
from supernets.transformer.skeleton import build_skeleton, differences
from supernets.transformer.wiring import WiredStack


@dataclass(frozen=True)
class Blueprint:
    """What a model is made from.

    Attributes:
        family: Its family.
        recipe: The JSON that `build_skeleton` takes; None where the model cannot be made again.
        fault: Why it cannot.
    """

    family: Family
    recipe: dict[str, Any] | None
    fault: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON for `build`.

        Raises:
            SupernetError: The model cannot be made again.
        """
        if self.recipe is None:
            raise SupernetError(f"this supernet cannot be saved or sent to workers: {self.fault}")
        return {"family": self.family.name, **self.recipe}


def blueprint(model: nn.Module, family: Family) -> Blueprint:
    """Return how to make a model again, after having tried it on the meta device."""
    try:
        recipe = _timm_recipe(model) if family.library == "timm" else _transformers_recipe(model)
        with torch.device("meta"):
            again = build_skeleton(recipe)
    except SupernetError as error:
        return Blueprint(family, None, str(error))
    except Exception as error:  # constructors of other libraries raise anything
        return Blueprint(family, None, f"its constructor raises {type(error).__name__}: {error}")
    mine = {n: tuple(t.shape) for n, t in model.state_dict().items()}
    its = {n: tuple(t.shape) for n, t in again.state_dict().items()}
    if mine != its:
        odd = sorted(n for n in mine.keys() | its.keys() if mine.get(n) != its.get(n))
        reason = (
            f"its configuration makes a model with other weights ({', '.join(odd[:4])}{' …' if len(odd) > 4 else ''})"
        )
        return Blueprint(family, None, f"{reason}; change the configuration, not the modules")
    return Blueprint(family, recipe)


def _transformers_recipe(model: Any) -> dict[str, Any]:
    import transformers

    name = type(model).__name__
    if getattr(transformers, name, None) is not type(model):
        raise SupernetError(f"{type(model).__module__}.{name} is no class of transformers itself")
    recipe = {
        "library": "transformers",
        "class": name,
        "config": json.loads(model.config.to_json_string(use_diff=False)),
        "attention": model.config._attn_implementation,
        "options": _constructor_options(model),
        "generation": None,
    }
    if model.can_generate() and model.generation_config is not None:
        recipe["generation"] = json.loads(model.generation_config.to_json_string(use_diff=False))
    return recipe


def _constructor_options(model: Any) -> dict[str, Any]:
    """Return the options beside the configuration that show in which modules there are."""
    known = inspect.signature(type(model).__init__).parameters
    options: dict[str, Any] = {}
    if "add_pooling_layer" in known:
        options["add_pooling_layer"] = model.pooler is not None
    if "use_mask_token" in known:
        options["use_mask_token"] = model.embeddings.mask_token is not None
    return options


def _timm_recipe(model: Any) -> dict[str, Any]:
    arguments = getattr(model, "_model_args", None)
    architecture = getattr(model, "pretrained_cfg", {}).get("architecture")
    if arguments is None or not architecture:
        raise SupernetError("it was not made by timm.create_model (of a version that records its arguments)")
    arguments = {**arguments, "num_classes": model.num_classes, "in_chans": model.patch_embed.proj.weight.shape[1]}
    try:
        plain = json.loads(json.dumps(arguments))
    except TypeError as error:
        raise SupernetError(f"its arguments are no JSON: {error}") from None
    return {"library": "timm", "class": architecture, "options": plain}


def build(description: Mapping[str, Any]) -> tuple[nn.Module, Family]:
    """Make a model, with random weights, from `Blueprint.to_json`.

    Raises:
        SupernetError: Unknown family, or no description of one of its models.
    """
    from supernets.transformer.catalogue import transformer_families

    families = transformer_families()
    name = description.get("family")
    if name not in families:
        raise SupernetError(f"unknown Transformer family {name!r}; known: {', '.join(families)}")
    recipe = {key: value for key, value in description.items() if key != "family"}
    try:
        model = build_skeleton(recipe)
    except Exception as error:  # constructors of other libraries raise anything
        raise SupernetError(f"the model cannot be made again: {type(error).__name__}: {error}") from error
    family = families[cast("str", name)]
    if not family.supports(model):
        raise SupernetError(f"a {type(model).__name__} is no model of family {family.name!r}")
    return model, family


def buffer_dtypes(model: nn.Module) -> dict[str, str]:
    """Return the dtypes of floating buffers that no state dict has, such as rotary frequencies."""
    stored = model.state_dict()
    missing = {n: b for n, b in model.named_buffers() if n not in stored and b.is_floating_point()}
    return {name: str(b.dtype).removeprefix("torch.") for name, b in missing.items()}


def set_buffer_dtypes(model: nn.Module, dtypes: Mapping[str, str]) -> None:
    """Give buffers the dtypes that `buffer_dtypes` returned."""
    for name, buffer in model.named_buffers():
        if name in dtypes:
            buffer.data = buffer.data.to(getattr(torch, dtypes[name]))


# -- source of subnets -------------------------------------------------------------------------------


def source(plan: Blueprint, stacks: Sequence[WiredStack], twin: nn.Module) -> str | None:
    """Return Python source of ``build_model()`` for a subnet; None where the stock constructor cannot make it.

    Args:
        plan: Of the whole model.
        stacks: With the subnet active.
        twin: The extracted subnet, on the meta device.
    """
    if plan.recipe is None:
        return None
    recipe = _subnet_recipe(plan.recipe, stacks, twin)
    with torch.device("meta"):
        skeleton = build_skeleton(recipe)
    found = differences(skeleton, twin)
    return None if found is None else write_source(plan.family.library, recipe, *found)


def _subnet_recipe(recipe: Mapping[str, Any], stacks: Sequence[WiredStack], twin: Any) -> dict[str, Any]:
    if recipe["library"] == "transformers":
        # The extracted configuration has what it can hold; the layers are cut after construction.
        return {**recipe, "config": json.loads(twin.config.to_json_string(use_diff=False))}
    depth = len(stacks[0].active_indices())
    return {**recipe, "options": {**recipe["options"], "depth": depth}}


# -- tied weights ------------------------------------------------------------------------------------


def share_tied_tensors(net: nn.Module) -> None:
    """Let a supernet's state dict hold each shared tensor once: files and messages then do not have it twice."""
    net.register_state_dict_post_hook(_drop_aliases)  # type: ignore[no-untyped-call]
    net.register_load_state_dict_pre_hook(_restore_aliases)  # type: ignore[no-untyped-call]


def _aliases(net: nn.Module) -> dict[str, str]:
    """Return later name -> first name of parameters that several modules share."""
    first: dict[int, str] = {}
    named = net.named_parameters(remove_duplicate=False)
    return {name: seen for name, p in named if (seen := first.setdefault(id(p), name)) != name}


def _drop_aliases(net: nn.Module, state: dict[str, Tensor], prefix: str, _: Any) -> None:
    for name in _aliases(net):
        state.pop(prefix + name, None)


def _restore_aliases(net: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    for name, first in _aliases(net).items():
        if prefix + first in state:
            state.setdefault(prefix + name, state[prefix + first])
