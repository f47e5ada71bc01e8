"""The active configuration as a stock model.

Every block stays a stock block. What it stores depends on its plan (`supernets.experts.plan.Plan`), and nothing else:

- Rows of the router and experts of the stock modules, fewer of them. Without rows the router's forward method is
  `silent_router`; without any expert that of the experts is `silent_experts`.
- Where rows are not experts one to one: buffers ``expert_map``, ``expert_places``, ``expert_scale``,
  ``expert_always``, ``expert_always_weights`` and the parameter ``expert_constants``, read by `MapHooks`.
- Factored experts: parameters and buffers ``factored_…``, numbered after the stock ones, computed by
  `supernets.experts.factored.forward_of_extracted`, which is the module's forward method then.
- Top-p: `TopPHook` of the router.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from supernets.experts import factored, weights
from supernets.experts.blocks import ROUTER_TENSORS, Block, unswitch
from supernets.experts.families import ExpertFamily
from supernets.experts.plan import Plan
from supernets.experts.routing import MapHooks, TopPHook, silent_experts, silent_router


def extract_active(
    model: nn.Module, blocks: Sequence[Block], family: ExpertFamily, reason: str | None, *, meta: bool = False
) -> nn.Module:
    """Return a copy of a switchable model: stock classes, tensors of the active shape.

    Args:
        model: The model.
        blocks: Its blocks.
        family: Its family.
        reason: Why its configuration cannot hold the shape; None where it can.
        meta: Whether shapes are enough: the copy is then on the meta device, and needs no memory.
    """
    # deepcopy asks `memo` first: what stands there replaces the original, wherever it is referred to.
    memo: dict[int, Any] = {}
    if meta:
        memo |= {id(t): _like(t, t.to("meta")) for t in (*model.parameters(), *model.buffers())}
    for block in blocks:
        memo[id(block.setting)] = None
        for module, tensors in ((block.router, _router(block)), (block.experts, _experts(block)[0])):
            for name, tensor in tensors.items():
                original = module._parameters.get(name)
                original = module._buffers[name] if original is None else original
                memo[id(original)] = _like(original, tensor.to("meta") if meta else tensor)
    twin = deepcopy(model, memo)
    for block in blocks:
        _become_stock(twin.get_submodule(block.name), block, family)
    if reason is None:
        _write_sizes(twin, blocks[0], family)
    return twin


def _like(original: Tensor, tensor: Tensor) -> Tensor:
    data = tensor.detach().clone(memory_format=torch.contiguous_format)
    return nn.Parameter(data, original.requires_grad) if isinstance(original, nn.Parameter) else data


def _router(block: Block) -> dict[str, Tensor]:
    names = (n for n in ROUTER_TENSORS if n in block.router._parameters or n in block.router._buffers)
    tensors = {n: getattr(block.router, n) for n in names}
    return {n: t for n, t in tensors.items() if t is not None}


def _experts(block: Block) -> tuple[dict[str, Tensor], Tensor | None]:
    """Return the tensors of the experts that are left, and the map from rows of the router where it is not 1:1."""
    plan, width = block.setting.plan, block.setting.width
    tensors, target = plan.bank or block.tensors, plan.target
    if plan.bank is None and target is not None:
        left = _left(plan)
        tensors = {n: t.index_select(0, left) for n, t in tensors.items()}
        target = torch.searchsorted(left, target)
    if target is not None and torch.equal(target, torch.arange(len(tensors["down_proj"]), device=target.device)):
        target = None
    return {n: weights.narrowed(block.experts, n, t, width) for n, t in tensors.items()}, target


def _left(plan: Plan) -> Tensor:
    """Return the experts of the model that a plan without a bank uses, ascending."""
    used = [t for t in (plan.target, plan.always) if t is not None]
    left: Tensor = torch.unique(torch.cat(used))
    return left


def _become_stock(twin: Any, block: Block, family: ExpertFamily) -> None:
    setting, router, experts = block.setting, getattr(twin, family.router), twin.experts
    unswitch(router)
    unswitch(experts)
    router.num_experts, router.top_k = len(router.weight), setting.k
    experts.num_experts = len(experts.down_proj)
    for name in ("intermediate_dim", "intermediate_size"):
        if name in experts.__dict__:
            setattr(experts, name, setting.width)
    if "top_k" in twin.__dict__:
        twin.top_k = setting.k
    plan, target = setting.plan, _experts(block)[1]
    if setting.top_p < 1 and plan.routed:
        router.register_forward_hook(TopPHook(setting.top_p, sigmoid=setting.sigmoid))
    if not plan.routed:
        router.forward = MethodType(silent_router, router)
    always = plan.always
    if always is not None and plan.bank is None:
        always = torch.searchsorted(_left(plan), always)
    for name, tensor in {
        "expert_map": target if plan.routed else None,
        "expert_places": plan.places,
        "expert_always": always,
        "expert_always_weights": plan.always_weights,
        "expert_scale": plan.scale,
    }.items():
        if tensor is not None:
            experts.register_buffer(name, tensor.clone())
    if plan.constants is not None:
        experts.register_parameter("expert_constants", nn.Parameter(plan.constants.clone()))
    if any(n.startswith("expert_") for n in (*experts._parameters, *experts._buffers)):
        experts.register_forward_pre_hook(MapHooks.before)
        experts.register_forward_hook(MapHooks.after)
    if plan.factors is not None:
        _store_factors(experts, plan.factors)
    elif not plan.routed and always is None:
        experts.forward = MethodType(silent_experts, experts)


def _store_factors(experts: Any, factors: Mapping[str, Tensor]) -> None:
    for name, tensor in factors.items():
        if tensor.is_floating_point():
            experts.register_parameter(factored.PREFIX + name, nn.Parameter(tensor.clone()))
        else:
            experts.register_buffer(factored.PREFIX + name, tensor.clone())
    experts.num_experts = len(experts.down_proj) + len(factors["down_left"])
    experts.forward = MethodType(factored.forward_of_extracted, experts)


def _write_sizes(twin: Any, block: Block, family: ExpertFamily) -> None:
    """Write the sizes that all blocks share into the configuration, and where models keep copies of them."""
    config, setting = twin.config, block.setting
    count = block.n_experts if setting.plan.rows is None else len(setting.plan.rows)
    if family.shared and setting.width != block.width:
        shared = getattr(config, family.shared, None)
        if shared:
            setattr(config, family.shared, shared * block.width // setting.width)
    setattr(config, family.count, count)
    setattr(config, family.top_k, setting.k)
    setattr(config, family.width, setting.width)
    if family.count in ("num_experts", "num_local_experts"):
        # Readers differ in which of the two they look for: both are written.
        config.__dict__.update(num_experts=count, num_local_experts=count)
    for owner in (twin, twin.base_model):
        for name, value in (("num_experts", count), ("num_experts_per_tok", setting.k)):
            if name in owner.__dict__:
                setattr(owner, name, value)


def why_not_stock(model: Any, blocks: Sequence[Block], family: ExpertFamily) -> str | None:
    """Return why a stock class cannot load the active configuration from a folder; None where it can."""
    first = blocks[0].setting
    for block in blocks:
        plan, setting = block.setting.plan, block.setting
        if not plan.routed:
            return f"{block.name} has no router"
        if plan.always is not None:
            return f"in {block.name} an expert answers every token"
        if plan.factors is not None:
            return f"{block.name} has experts of low rank"
        if plan.constants is not None or (plan.target is not None and plan.rows is None):
            return f"in {block.name} one expert answers for several rows of the router"
        if setting.top_p < 1:
            return f"{block.name} chooses experts by top-p"
        counts = [None if p.rows is None else len(p.rows) for p in (plan, first.plan)]
        if counts[0] != counts[1] or (setting.k, setting.width) != (first.k, first.width):
            return "layers differ in the number, the width or the choice of experts"
    if first.width not in stock_widths(model, blocks[0], family):
        return f"the shared experts have a width that is no multiple of {first.width}, and one key sizes both"
    return None


def stock_widths(model: Any, block: Block, family: ExpertFamily) -> list[int]:
    """Return the widths of an expert that the configuration can hold."""
    shared = int(getattr(model.config, family.shared, 0) or 0) if family.shared else 0
    return [w for w in range(1, block.width + 1) if not shared or shared * block.width % w == 0]
