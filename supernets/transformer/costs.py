"""Exact costs of all architectures from a few counts.

Parameters, buffers and multiply-accumulates are affine in each of a layer's dimensions, and the layers of a stack add
up. Counting some subnets gives all coefficients: on the meta device, where nothing is computed, or else on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from supernets.base import Inputs, call
from supernets.errors import SupernetError
from supernets.transformer.extraction import extract_active
from supernets.transformer.slices import Slice
from supernets.transformer.wiring import WiredStack

if TYPE_CHECKING:
    from supernets.transformer.supernet import TransformerSupernet

Cost = NDArray[np.int64]
"""Parameters, bytes of parameters and buffers, multiply-accumulates: ``[3]``."""


def count_macs(module: Any, inputs: Inputs) -> int:
    """Return the multiply-accumulates of one forward pass: matrix products, convolutions, attention.

    Args:
        module: On any device, the meta device too. It is changed: attention runs step by step, so that it is counted.
        inputs: On the same device; masks may be left out.
    """
    if hasattr(module, "config"):
        module.set_attn_implementation("eager")
        module.config.pad_token_id = None  # else some models look for padding, which the meta device cannot answer
    for inner in module.modules():
        if hasattr(inner, "fused_attn"):
            inner.fused_attn = False
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        call(module.eval(), inputs)
    return int(counter.get_total_flops()) // 2


class _StackCosts:
    """Costs of a stack's layers: ``fixed[layer]`` plus, for each dimension, ``unit[dim][layer]`` times its units."""

    def __init__(self, stack: WiredStack) -> None:
        n = len(stack.layers)
        self.fixed = np.zeros((n, 3), dtype=np.int64)
        self.unit = {dim: np.zeros((n, 3), dtype=np.int64) for dim in stack.extents}
        for index in range(n):
            self._count_tensors(stack, index)

    def _count_tensors(self, stack: WiredStack, index: int) -> None:
        """Add the layer's parameters and buffers: those in slices per unit, the others to the fixed costs."""
        dims = {id(extents[index]): dim for dim, extents in stack.extents.items()}
        sliced: dict[int, Slice] = {id(t): s for m in stack.sliced_modules(index) for t, s in m.sliced().values()}
        layer = stack.layers[index]
        for tensor in (*layer.parameters(), *layer.buffers()):
            weights = tensor.numel() if isinstance(tensor, nn.Parameter) else 0
            cost = np.array([weights, tensor.numel() * tensor.element_size(), 0], dtype=np.int64)
            piece = sliced.get(id(tensor))
            if piece is None:
                self.fixed[index] += cost
            else:
                self.unit[dims[id(piece.extent)]][index] += cost // piece.extent.full


class CostModel:
    """Costs of the rows of a space, summed over the active layers.

    Args:
        net: The supernet.
    """

    def __init__(self, net: TransformerSupernet) -> None:
        self._net = net
        self._stacks = [_StackCosts(s) for s in net.stacks]
        self._fixed = np.zeros(3, dtype=np.int64)
        self._count_macs()
        self._count_rest()

    def _count_rest(self) -> None:
        """Give what lies outside the stacks to the fixed costs."""
        inside = {
            id(t) for s in self._net.stacks for layer in s.layers for t in (*layer.parameters(), *layer.buffers())
        }
        for tensor in (*self._net.model.parameters(), *self._net.model.buffers()):
            if id(tensor) not in inside:
                weights = tensor.numel() if isinstance(tensor, nn.Parameter) else 0
                self._fixed[:2] += (weights, tensor.numel() * tensor.element_size())

    def _count_macs(self) -> None:
        """Count the smallest subnet, then it with one thing more of each kind: differences are the coefficients."""
        net = self._net
        inputs = _without_masks(net.example_inputs(batch_size=1), "meta")
        with net.activated(net.active):
            for stack in net.stacks:
                for extents in stack.extents.values():
                    for extent in extents:
                        extent.active = 1
                stack.set_active(max(1, stack.table.pinned))
            base = self._macs(inputs)
            rest = base
            for stack, costs in zip(net.stacks, self._stacks, strict=True):
                n_active = len(stack.active_indices())
                layer = self._per_layer(stack, base, inputs)
                for dim, extents in stack.extents.items():
                    unit = self._per_unit(extents, stack, base, inputs)
                    costs.unit[dim][:, 2] = unit
                    layer -= unit
                costs.fixed[:, 2] = layer
                rest -= n_active * (layer + sum(int(u[0, 2]) for u in costs.unit.values()))
            self._fixed[2] = rest

    def _macs(self, inputs: Inputs) -> int:
        """Count on shapes alone, or with numbers where a model looks at values, e.g. for the end of a text."""
        net = self._net
        try:
            return count_macs(extract_active(net.model, net.stacks, meta=True), inputs)
        except (NotImplementedError, RuntimeError) as error:
            without_values = error
        real = _without_masks(net.example_inputs(batch_size=1), "cpu")
        try:
            return count_macs(extract_active(net.model, net.stacks).to("cpu"), real)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            raise SupernetError(
                f"the multiply-accumulates of a {type(net.model).__name__} cannot be counted: neither shapes alone "
                f"({without_values}) nor example inputs ({type(error).__name__}: {error}) go through it"
            ) from error

    def _per_layer(self, stack: WiredStack, base: int, inputs: Inputs) -> int:
        """Return the multiply-accumulates of a layer with one unit of everything."""
        n = len(stack.active_indices())
        if n == len(stack.layers):
            return 0  # one layer, always there: it belongs to what is fixed
        stack.set_active(n + 1)
        more = self._macs(inputs)
        stack.set_active(n)
        return more - base

    def _per_unit(self, extents: list[Any], stack: WiredStack, base: int, inputs: Inputs) -> int:
        """Return the multiply-accumulates of one more unit in one layer."""
        extent = extents[stack.active_indices()[0]]
        if extent.full == 1:
            return 0
        extent.active = 2
        more = self._macs(inputs)
        extent.active = 1
        layers = len(stack.active_indices()) if len(set(map(id, extents))) == 1 else 1
        return (more - base) // layers

    def __call__(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return the costs of each row; each float64 ``[n]``."""
        space = self._net.space
        rows = space.canonical(G)
        column = {g.name: np.array(g.choices)[rows[:, i]] for i, g in enumerate(space.genes)}
        total = np.tile(self._fixed, (len(rows), 1))
        for stack, costs, genes in zip(self._net.stacks, self._stacks, self._net.gene_table, strict=True):
            total += self._stack_costs(stack, costs, genes, column, len(rows))
        parameters, size, macs = total.T
        return {"params_m": parameters / 1e6, "macs_m": macs / 1e6, "size_mb": size / 1e6}

    @staticmethod
    def _stack_costs(
        stack: WiredStack,
        costs: _StackCosts,
        genes: Mapping[str, list[str]],
        column: Mapping[str, NDArray[Any]],
        n_rows: int,
    ) -> Cost:
        total = np.zeros((n_rows, 3), dtype=np.int64)
        depth = column.get(f"{stack.table.prefix}depth", np.full(n_rows, len(stack.layers)))
        for slot, layer in enumerate(stack.order):
            cost = np.tile(costs.fixed[layer], (n_rows, 1))
            for dim, names in genes.items():
                full = stack.shape[dim]
                units = column.get(names[slot], np.full(n_rows, full)) // stack.per_unit[dim]
                cost += units[:, None] * costs.unit[dim][layer]
            total += cost * (depth > slot)[:, None]
        return total


def _without_masks(inputs: Inputs, device: str) -> Inputs:
    """Return inputs on a device, without the mask: masks of ones change nothing that is counted."""
    if isinstance(inputs, tuple):
        return tuple(t.to(device) for t in inputs)
    return {name: t.to(device) for name, t in inputs.items() if not name.endswith("mask")}
