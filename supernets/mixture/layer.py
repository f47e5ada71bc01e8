"""One layer whose weight is a mixture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from supernets.elastic.mixable import MixableModule
from supernets.elastic.module import ElasticModule
from supernets.mixture.mixing import Mixed, MixedValue, mix
from supernets.mixture.router import Router, RouterWeights
from supernets.mixture.switch import Switch, optimiser_steps

KEPT = 8  # architectures whose mixtures are remembered in train mode: those of a sandwich step
Stamp = tuple[Any, ...]


class RoutedLayer(ElasticModule):
    """The further experts of a layer, and the mixture that the layer computes with.

    A mixture is computed once for an architecture and the state of all tensors that enter it, which their storage,
    their version counters and the count of optimiser steps tell: after a step, a loaded state dict or a move it is
    computed anew. In eval mode each activation drops it, too. (Other writes through ``tensor.data`` bump no counter:
    `forget` after them.)

    Args:
        owner: The layer; its parameters are the first expert.
        experts: Number of experts.
        router: The router that the layer shares with others, or its own.
        owned: Whether the router is the layer's own.
        switch: The active architecture.

    Attributes:
        experts: The other experts' ``weight`` and ``bias``, of the full shape.
        mixes: How many mixtures have been computed, for tests and benchmarks.
    """

    def __init__(self, owner: MixableModule, experts: int, router: Router, *, owned: bool, switch: Switch) -> None:
        super().__init__()
        # Neither is a submodule here: the supernet registers the owner, and the mixture a shared router.
        self.__dict__["owner"], self.__dict__["_router"] = owner, router
        self.router = router if owned else None
        self.switch = switch
        self.experts = nn.ModuleList(
            nn.ParameterDict({n: nn.Parameter(p.detach().clone()) for n, p in owner.mixed_parameters().items()})
            for _ in range(experts - 1)
        )
        self.mixes = 0
        self._cache: dict[Any, tuple[Stamp, MixedValue]] = {}
        owner.mix_from(self)

    owner: MixableModule
    _router: Router

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
        mixture = self._mixture(name)
        if not torch.is_grad_enabled():
            return mixture.value
        experts, weights = self._cut(name)
        return cast("Tensor", Mixed.apply(mixture, self._phi(), self._router, self._dim(name), *weights, *experts))

    def value(self, name: str) -> Tensor:
        """Return the mixture without gradients."""
        return self._mixture(name).value

    def _mixture(self, name: str) -> MixedValue:
        """Return the mixture, from memory where nothing has changed since."""
        generation = 0 if self.training else self.switch.generation
        key = (name, self.switch.key, self.owner.active_shape(), generation)
        stamp = self._stamp(name)
        found = self._cache.get(key)
        if found is not None and found[0] == stamp:
            return found[1]
        self._make_room(key, stamp)
        # Also within inference mode: the value may be used in training later.
        with torch.inference_mode(False), torch.no_grad():
            experts, weights = self._cut(name)
            hidden, coefficients = self._activations(weights)
            mixture = MixedValue(mix(experts, coefficients, self._dim(name)), hidden, coefficients)
        self.mixes += 1
        self._cache[key] = (stamp, mixture)
        return mixture

    def coefficients(self) -> Tensor:
        """Return the coefficients of the active architecture, ``[1 or active outputs, m]``."""
        with torch.inference_mode(False), torch.no_grad():
            return self._activations(self._cut("weight")[1])[1]

    def forget(self) -> None:
        """Drop what is remembered."""
        self._cache.clear()

    def _activations(self, weights: RouterWeights) -> tuple[Tensor, Tensor]:
        with torch.autocast(weights.out_bias.device.type, enabled=False):
            return self._router.activations(self._phi(), weights)

    def _phi(self) -> Tensor:
        return self.switch.phi(self._router.hidden_weight)

    def _dim(self, name: str) -> int:
        return self.owner.output_dim if name == "weight" else 0

    def _cut(self, name: str) -> tuple[list[Tensor], RouterWeights]:
        """Return the active parts of the experts and of the router."""
        router = self._router
        weight, bias = router.by_row()
        if self.router is not None:
            weight, bias = self.owner.cut_rows(weight), self.owner.cut_rows(bias)
        experts = [self.owner.cut(name, t) for t in self.tensors(name)]
        return experts, RouterWeights(router.hidden_weight, router.hidden_bias, weight, bias)

    def _stamp(self, name: str) -> Stamp:
        tensors = (*self.tensors(name), *self._router.parameters())
        return optimiser_steps(), *((t.data_ptr(), t._version, t.dtype) for t in tensors)

    def _make_room(self, key: tuple[Any, ...], stamp: Stamp) -> None:
        """Drop what is out of date, and the oldest architectures where there are too many."""
        name, _, _, generation = key
        of_name = [k for k in self._cache if k[0] == name]
        stale = [k for k in of_name if k[3] != generation or self._cache[k][0] != stamp]
        limit = KEPT if self.training else 1
        fresh = [k for k in of_name if k not in stale]
        for k in (*stale, *fresh[: max(0, len(fresh) + 1 - limit)]):
            del self._cache[k]

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
