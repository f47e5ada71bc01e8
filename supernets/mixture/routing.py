"""The coefficients of the active architecture, computed once for all that is mixed by them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supernets.elastic.mixable import MixableModule
from supernets.mixture.router import Activations, Router, RouterWeights
from supernets.mixture.switch import Switch, optimiser_steps
from supernets.mixture.window import Window

KEPT = 8  # architectures that are remembered in train mode, each as large as an expert: those of a sandwich step
Stamp = tuple[Any, ...]


class Routing:
    """A router for one layer, or for all layers of a block.

    Args:
        router: The router.
        switch: The active architecture.
        owner: The layer whose outputs the rows are; None where one row serves all.
    """

    def __init__(self, router: Router, switch: Switch, owner: MixableModule | None) -> None:
        self.router, self._switch, self._owner = router, switch, owner
        self._cache: dict[Any, tuple[Stamp, Activations, list[Tensor]]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which remembers nothing: nodes of a graph cannot be copied."""
        return {**self.__dict__, "_cache": {}}

    def stamp(self) -> Stamp:
        """Return what tells one state of the router's weights from another."""
        return optimiser_steps(), *((t.data_ptr(), t._version, t.dtype) for t in self._parameters())

    def _parameters(self) -> Collection[Tensor]:
        """Return the router's parameters without a walk through modules, which takes longer than the router."""
        return cast("dict[str, Tensor]", self.router._parameters).values()

    def coefficients(self, training: bool) -> Tensor:
        """Return ``[1 or active outputs, m]`` without gradients."""
        return self._found(training)[0].coefficients

    def tracked(self, training: bool) -> Tensor:
        """Return the coefficients with gradients: one node of the graph for all layers and parameters."""
        activations, made = self._found(training)
        if not any(p.requires_grad for p in self._parameters()):
            return activations.coefficients
        if not made:
            with torch.inference_mode(False), torch.enable_grad():
                weights, windows = self._whole()
                made.append(Routed.apply(activations, self._phi(), self.router, windows, *weights))
        return made[0]

    def forget(self) -> None:
        """Drop what is remembered."""
        self._cache.clear()

    def _found(self, training: bool) -> tuple[Activations, list[Tensor]]:
        generation = 0 if training else self._switch.generation
        shape = () if self._owner is None else self._owner.active_shape()
        learning = tuple(p.requires_grad for p in self._parameters())
        key, stamp = (self._switch.key, shape, learning), (generation, *self.stamp())
        found = self._cache.get(key)
        if found is None or found[0] != stamp:
            make_room(self._cache, stamp, KEPT if training else 1)
            weights = self._cut()
            # Also within inference mode: the value may be used in training later.
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(weights[0].device.type, enabled=False):
                found = self._cache[key] = (stamp, self.router.activations(self._phi(), weights), [])
        return found[1:]

    def _phi(self) -> Tensor:
        return self._switch.phi(self.router.hidden_weight)

    def _cut(self) -> RouterWeights:
        """Return the active parts of the router's weights."""
        router = self.router
        weight, bias = router.by_row()
        if self._owner is not None:
            weight, bias = self._owner.cut_rows(weight), self._owner.cut_rows(bias)
        return RouterWeights(router.hidden_weight, router.hidden_bias, weight, bias)

    def _whole(self) -> tuple[RouterWeights, tuple[Window, Window] | None]:
        """Return the router's own tensors and where the active rows are, or the rows where those are no views."""
        router, cut = self.router, self._cut()
        whole = RouterWeights(router.hidden_weight, router.hidden_bias, router.out_weight, router.out_bias)
        weight, bias = Window.of(cut.out_weight, whole.out_weight), Window.of(cut.out_bias, whole.out_bias)
        return (cut, None) if weight is None or bias is None else (whole, (weight, bias))


def make_room(cache: dict[Any, Any], stamp: Stamp, limit: int) -> None:
    """Drop entries, which begin with their stamp, that are out of date, and the oldest where there are too many."""
    stale = [k for k, entry in cache.items() if entry[0] != stamp]
    fresh = [k for k in cache if k not in stale]
    for k in (*stale, *fresh[: max(0, len(fresh) + 1 - limit)]):
        del cache[k]


class Routed(torch.autograd.Function):
    """Coefficients that have been computed before, as a function of the router's weights.

    Nothing is saved by autograd: several backward passes may go through one node, for it is made once for an
    architecture and a state of the weights.
    """

    @staticmethod
    def forward(
        ctx: Any,
        activations: Activations,
        phi: Tensor,
        router: Router,
        windows: tuple[Window, Window] | None,
        *weights: Tensor,
    ) -> Tensor:
        """Return the coefficients.

        Args:
            ctx: Of autograd.
            activations: Of the router.
            phi: The encoded architecture.
            router: The router.
            windows: Of the active rows in the router's last two tensors; None: all of them.
            *weights: The four of `RouterWeights`; the last two may be whole.
        """
        ctx.activations, ctx.phi, ctx.router, ctx.windows, ctx.weights = activations, phi, router, windows, weights
        ctx.versions = [w._version for w in weights]
        return activations.coefficients.view_as(activations.coefficients)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the router's weights."""
        if [w._version for w in ctx.weights] != ctx.versions:
            raise RuntimeError("a router's weights were changed between a forward pass and its backward pass")
        out = ctx.weights[2] if ctx.windows is None else ctx.windows[0].view(ctx.weights[2])
        return (None, None, None, None, *ctx.router.gradients(ctx.phi, out, ctx.activations, upstream, ctx.windows))
