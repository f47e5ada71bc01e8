"""One layer whose weight is a mixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.elastic.mixable import MixableModule
from supernets.elastic.module import ElasticModule
from supernets.mixture.mixing import Mixed, mix
from supernets.mixture.router import Router
from supernets.mixture.routing import KEPT, Routing, Stamp, make_room
from supernets.mixture.switch import Switch
from supernets.mixture.window import Window


class RoutedLayer(ElasticModule):
    """The further experts of a layer, and the mixture that the layer computes with.

    A mixture is computed once for an architecture and the state of all tensors that enter it, which their storage,
    their version counters and the count of optimiser steps tell: after a step, a loaded state dict or a move it is
    computed anew. In eval mode each activation drops it, too. (Other writes through ``tensor.data`` bump no counter:
    `forget` after them.)

    Args:
        owner: The layer; its parameters are the first expert.
        experts: Number of experts.
        routing: Whose coefficients the layer uses; its own, or one that it shares with others.
        owned: Whether it is the layer's own.
        switch: The active architecture.

    Attributes:
        experts: The other experts' ``weight`` and ``bias``, of the full shape.
        mixes: How many mixtures have been computed, for tests and benchmarks.
    """

    def __init__(self, owner: MixableModule, experts: int, routing: Routing, *, owned: bool, switch: Switch) -> None:
        super().__init__()
        # Not a submodule here: the supernet registers the owner, and the mixture a shared router.
        self.__dict__["owner"], self.routing = owner, routing
        self.router = routing.router if owned else None
        self.switch = switch
        self.experts = nn.ModuleList(
            nn.ParameterDict({n: nn.Parameter(p.detach().clone()) for n, p in owner.mixed_parameters().items()})
            for _ in range(experts - 1)
        )
        self.mixes = 0
        self._cache: dict[str, dict[Any, tuple[Stamp, Tensor]]] = {}
        owner.mix_from(self)

    owner: MixableModule
    router: Router | None

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which remembers nothing: what is remembered is as large as the layer."""
        return {**self.__dict__, "_cache": {}}

    def tensors(self, name: str) -> list[nn.Parameter]:
        """Return a parameter of every expert, the layer's own first."""
        own = cast("nn.Parameter", self.owner._parameters[name])
        return [own, *(cast("nn.ParameterDict", e)[name] for e in self.experts)]

    def rows(self) -> tuple[Tensor, Tensor] | None:
        """Return the router's last layer by output neuron, ``[n_out, m, H]`` and ``[n_out, m]``; None if layer-wise."""
        return None if self.router is None else self.router.by_row()

    # -- the mixture ---------------------------------------------------------------------------------

    def active(self, name: str) -> Tensor:
        """Return the mixture that stands for the active part of a parameter, with gradients where they are wanted."""
        value = self.value(name)
        if not torch.is_grad_enabled():
            return value
        experts: list[Any] = self.tensors(name)
        window = Window.of(self.owner.cut(name, experts[0]), experts[0])
        if window is None or not all(e.is_contiguous() for e in experts):
            window, experts = None, [self.owner.cut(name, e) for e in experts]
        coefficients = self.routing.tracked(self.training)
        return cast("Tensor", Mixed.apply(value, self._dim(name), window, coefficients, *experts))

    def value(self, name: str) -> Tensor:
        """Return the mixture without gradients, from memory where nothing has changed since."""
        generation = 0 if self.training else self.switch.generation
        key = (self.switch.key, self.owner.active_shape(), generation)
        tensors = self.tensors(name)
        stamp = (generation, *self.routing.stamp(), *((t.data_ptr(), t._version, t.dtype) for t in tensors))
        cache = self._cache.setdefault(name, {})
        found = cache.get(key)
        if found is not None and found[0] == stamp:
            return found[1]
        make_room(cache, stamp, KEPT if self.training else 1)
        # Also within inference mode: the value may be used in training later.
        with torch.inference_mode(False), torch.no_grad():
            experts = [self.owner.cut(name, t) for t in tensors]
            mixture = mix(experts, self.routing.coefficients(self.training), self._dim(name))
        self.mixes += 1
        cache[key] = (stamp, mixture)
        return mixture

    def coefficients(self) -> Tensor:
        """Return the coefficients of the active architecture, ``[1 or active outputs, m]``."""
        return self.routing.coefficients(self.training)

    def forget(self) -> None:
        """Drop what is remembered."""
        self._cache.clear()
        self.routing.forget()

    def _dim(self, name: str) -> int:
        return self.owner.output_dim if name == "weight" else 0

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Forget before a move (`to`, `half`, …): storage may come to lie where older storage lay."""
        self.forget()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    # -- what an elastic layer tells -----------------------------------------------------------------

    def active_state(self) -> dict[str, Tensor]:
        """Return the mixtures by name of the parameter."""
        return {name: self.value(name) for name in self.owner.mixed_parameters()}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return views of the active slices of the further experts and, of an own router, the active rows."""
        found: dict[str, Tensor] = {}
        for j, expert in enumerate(self.experts):
            for name, tensor in cast("nn.ParameterDict", expert).items():
                found[f"experts.{j}.{name}"] = self.owner.cut_view(name, tensor)
        if self.router is not None:
            weight, bias = self.router.by_row()
            found["router.hidden_weight"] = self.router.hidden_weight
            found["router.hidden_bias"] = self.router.hidden_bias
            found["router.out_weight"] = self.owner.cut_rows_view(weight)
            found["router.out_bias"] = self.owner.cut_rows_view(bias)
        return found

    def forward(self, *_: Any) -> Any:
        """Never called: the layer itself computes.

        Raises:
            RuntimeError: Always.
        """
        raise RuntimeError("a routed layer only holds weights; run the layer that owns it")
