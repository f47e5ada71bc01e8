"""The Mixture-of-Experts blocks of a stock model, made switchable."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from supernets.errors import UnsupportedModel
from supernets.experts import factored, weights
from supernets.experts.families import ExpertFamily
from supernets.experts.plan import EVERYTHING, Plan
from supernets.experts.routing import keep_top_p, nothing_routed, to_experts, with_always

ROUTER_TENSORS = ("weight", "bias", "e_score_correction_bias")


class Setting:
    """What one block computes with now; its router and its experts share it.

    Args:
        k: Experts per token.
        width: Neurons per expert.
        sigmoid: Whether routing scores are sigmoids.
    """

    def __init__(self, k: int, width: int, *, sigmoid: bool) -> None:
        self.plan: Plan = EVERYTHING
        self.k = k
        self.width = width
        self.full_width = width
        self.top_p = 1.0
        self.sigmoid = sigmoid
        self.observer: Any = None
        self.watcher: Any = None


class SwitchedRouter(nn.Module):
    """A stock router that has only some of its rows. Made by `_switch`; tensors keep their names and full shape."""

    setting: Setting
    stock_class: type[nn.Module]

    def forward(self, hidden_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits of all rows (minus infinity where one is out), weights, and places among the others."""
        setting = self.setting
        if not setting.plan.routed:
            return nothing_routed(hidden_states, len(_tensor(self, "weight")))
        logits, chosen, index = super().forward(hidden_states)
        if setting.top_p < 1.0:
            chosen = keep_top_p(logits, chosen, index, setting.top_p, sigmoid=setting.sigmoid)
        if setting.observer is not None:
            setting.observer.see_logits(logits)
        if setting.plan.rows is not None:
            n_rows = _tensor(self, "weight").shape[0]
            every = logits.new_full((len(logits), n_rows), -torch.inf)
            logits = every.index_copy(1, setting.plan.rows, logits)
        return logits, chosen, index


class SwitchedExperts(nn.Module):
    """Stock experts that compute with a plan. Made by `_switch`; parameters keep their names and full shape."""

    setting: Setting
    stock_class: type[nn.Module]

    def forward(self, hidden_states: Tensor, index: Tensor, chosen: Tensor) -> Tensor:
        """Return the weighted sum of the experts' outputs, ``[T, H]``."""
        plan = self.setting.plan
        if self.setting.observer is not None:
            return self.setting.observer.observe(self, hidden_states, index, chosen)  # type: ignore[no-any-return]
        if plan.scale is not None:
            chosen = chosen * plan.scale.to(chosen.dtype)
        index, chosen, added = to_experts(index, chosen, plan.target, plan.constants, plan.places)
        if self.setting.watcher is not None:
            self.setting.watcher(index, chosen)
        index, chosen = with_always(index, chosen, plan.always, plan.always_weights)
        if not index.shape[1]:
            return torch.zeros_like(hidden_states)
        output: Tensor = (
            super().forward(hidden_states, index, chosen)
            if plan.factors is None
            else factored.forward(self, plan.factors, hidden_states, index, chosen)
        )
        return output if added is None else output + added.to(output.dtype)


def _tensor(module: Any, name: str) -> Any:
    """Return a parameter or buffer whole, past the property that reads part of it."""
    return module._parameters[name] if name in module._parameters else module._buffers[name]


def _read_rows(name: str) -> property:
    def read(self: Any) -> Any:
        tensor = _tensor(self, name)
        rows = self.setting.plan.rows
        return tensor if rows is None or tensor is None else tensor.index_select(0, rows)

    return property(read)


def _read_experts(name: str) -> property:
    def read(self: Any) -> Any:
        setting = self.setting
        tensor = self._parameters[name] if setting.plan.bank is None else setting.plan.bank[name]
        if setting.width == setting.full_width:
            return tensor
        return weights.narrowed(self, name, tensor, setting.width)

    return property(read)


def _n_rows(router: Any) -> int:
    rows = router.setting.plan.rows
    return len(router._parameters["weight"]) if rows is None else len(rows)


def _n_experts(experts: Any) -> int:
    bank = experts.setting.plan.bank
    return len((bank or experts._parameters)["down_proj"])


@cache
def _switched_class(cls: Any, mixin: Any, tensors: tuple[str, ...]) -> Any:
    members: dict[str, Any] = {"stock_class": cls, "__module__": __name__}
    if mixin is SwitchedRouter:
        members |= {n: _read_rows(n) for n in tensors}
        members |= {"num_experts": property(_n_rows), "top_k": property(lambda self: self.setting.k)}
    else:
        members |= {n: _read_experts(n) for n in tensors}
        members |= {"num_experts": property(_n_experts)}
        members |= {n: property(lambda self: self.setting.width) for n in ("intermediate_dim", "intermediate_size")}
    return type(f"Switched{cls.__name__}", (mixin, cls), members)


def _switch(module: Any, mixin: Any, tensors: tuple[str, ...], setting: Setting) -> None:
    cls: Any = type(module)
    module.__class__ = _switched_class(cls, mixin, tensors)
    module.__dict__["setting"] = setting


def unswitch(module: Any) -> None:
    """Make a switched router or experts module stock again, in place."""
    del module.__dict__["setting"]
    module.__class__ = module.stock_class


class Block:
    """One block of a model.

    Args:
        name: Path in the model.
        layer: Number of its decoder layer.
        module: The stock block.
        norm: The norm before it, whose input is the residual stream; None where there is none of the usual name.
        scale: What the block's output is multiplied by before it is added to the residual stream.
        family: The model's family.
    """

    def __init__(
        self, name: str, layer: int, module: Any, norm: nn.Module | None, scale: float, family: ExpertFamily
    ) -> None:
        self.name = name
        self.layer = layer
        self.experts: Any = module.experts
        self.router: Any = getattr(module, family.router)
        self.norm = norm
        self.scale = scale
        self.n_experts = int(self.router.num_experts)
        self.k = int(self.router.top_k)
        self.hidden = int(self.router.weight.shape[1])
        common = weights.split(self.experts, weights.stored(self.experts))
        self.width = int(common["gate"].shape[1])
        # What the weights of a token add up to over all experts; None where that depends on the token.
        normed = not family.sigmoid or bool(getattr(self.router, "norm_topk_prob", False))
        self.total = float(getattr(self.router, "routed_scaling_factor", 1.0) or 1.0) if normed else None
        grouped = getattr(self.router, "topk_method", "grouped") != "greedy"
        self.groups = int(getattr(self.router, "num_group", 1) or 1) if grouped else 1
        self.open_groups = int(getattr(self.router, "topk_group", 1) or 1) if self.groups > 1 else 1
        # DeepSeek-V3's routing sums the two best scores of a group.
        self.least_per_group = 2 if "e_score_correction_bias" in self.router._buffers else 1
        self.setting = Setting(self.k, self.width, sigmoid=family.sigmoid)

    def switch(self) -> None:
        """Make the block switchable, in place."""
        present = {**self.router._parameters, **self.router._buffers}
        names = tuple(n for n in ROUTER_TENSORS if present.get(n) is not None)
        _switch(self.router, SwitchedRouter, names, self.setting)
        _switch(self.experts, SwitchedExperts, tuple(weights.stored(self.experts)), self.setting)

    def release(self) -> None:
        """Undo `switch`."""
        unswitch(self.router)
        unswitch(self.experts)

    @property
    def tensors(self) -> weights.Tensors:
        """The experts' parameters in the stock layout, not copied."""
        return weights.stored(self.experts)

    @property
    def common(self) -> weights.Tensors:
        """The experts' weights in the common form, views without gradient."""
        return {n: t.detach() for n, t in weights.split(self.experts, self.tensors).items()}

    @property
    def router_weight(self) -> Tensor:
        """Rows of the router, ``[E, H]``, without gradient."""
        weight: Tensor = self.router._parameters["weight"].detach()
        return weight

    def version(self) -> tuple[int, ...]:
        """Return what changes when the block's weights do."""
        tensors = (*self.tensors.values(), self.router._parameters["weight"])
        return tuple(v for t in tensors for v in (t._version, t.data_ptr()))

    def largest_k(self, keep: int) -> int:
        """Return how many of ``keep`` experts a token can have."""
        return min(self.k, keep // self.groups * self.open_groups if self.groups > 1 else keep)

    def allows(self, keep: int) -> bool:
        """Return whether the router can work with ``keep`` experts, the same number in each group."""
        return keep % self.groups == 0 and keep // self.groups >= self.least_per_group


def find_blocks(model: nn.Module, family: ExpertFamily) -> list[Block]:
    """Return the blocks of a model in its order; nothing is changed.

    Raises:
        UnsupportedModel: There is none, or one is not built as this version knows it.
    """
    found: list[Block] = []
    for name, module in model.named_modules():
        experts = getattr(module, "experts", None)
        if not isinstance(experts, nn.Module):
            continue
        router = getattr(module, family.router, None)
        if not hasattr(experts, "is_transposed") or not getattr(experts, "has_gate", False) or router is None:
            raise UnsupportedModel(
                f"{name!r} of a {type(model).__name__} has experts of a layout that is not supported "
                f"({type(experts).__name__}); known are gated experts in 3-D parameters, as of transformers 5"
            )
        parent = model.get_submodule(name.rpartition(".")[0])
        numbers = [int(part) for part in name.split(".") if part.isdecimal()]
        norm = getattr(parent, "post_attention_layernorm", None)
        scale = float(getattr(parent, "residual_multiplier", 1.0))
        found.append(Block(name, numbers[0] if numbers else len(found), module, norm, scale, family))
    if not found:
        raise UnsupportedModel(f"a {type(model).__name__} of this configuration has no layer with experts")
    return found
