"""Exact costs of all expert configurations from a few counts."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from supernets.experts.blocks import ROUTER_TENSORS, Block
from supernets.experts.choices import gene_name
from supernets.experts.operators import get_operator
from supernets.transformer.costs import count_macs

if TYPE_CHECKING:
    from supernets.experts.supernet import ExpertSupernet

Numbers = NDArray[np.int64]


class CostModel:
    """Costs of the rows of a space: what is not experts, plus each block's rows, experts and constants.

    Args:
        net: The supernet.
    """

    def __init__(self, net: ExpertSupernet) -> None:
        self._net = net
        block = net.blocks[0]
        self._bytes = block.tensors["down_proj"].element_size()
        common = block.common
        self._per_neuron = sum(int(t[0].numel()) // block.width for n, t in common.items() if n != "down_bias")
        self._per_expert = int(common["down_bias"][0].numel()) if "down_bias" in common else 0
        self._row = _row_costs(block)
        inputs = cast("Mapping[str, Tensor]", net.example_inputs(batch_size=1))
        self._tokens = int(inputs["input_ids"].numel())
        self._rest = self._count_rest(inputs)

    def _count_rest(self, inputs: Mapping[str, Tensor]) -> Numbers:
        """Return parameters, bytes and multiply-accumulates of all but routers and experts."""
        blocks = self._net.blocks
        tensors = [*self._net.model.parameters(), *self._net.model.buffers()]
        inside = {
            id(t)
            for b in blocks
            for m in (b.router, b.experts)
            for t in (*m._parameters.values(), *m._buffers.values())
        }
        rest = [t for t in tensors if id(t) not in inside]
        parameters = sum(t.numel() for t in rest if isinstance(t, nn.Parameter))
        size = sum(t.numel() * t.element_size() for t in rest)
        macs = _macs_without_experts(self._net.model, blocks, inputs)
        routers = sum(self._tokens * b.n_experts * b.hidden for b in blocks)
        return np.array([parameters, size, macs - routers], dtype=np.int64)

    def __call__(self, G: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
        """Return the costs of each row; each float64 ``[n]``."""
        net = self._net
        rows = net.space.canonical(G)
        column = {g.name: np.array(g.choices)[rows[:, i]] for i, g in enumerate(net.space.genes)}
        n = len(rows)
        total = np.tile(self._rest, (n, 1))
        active_parameters = np.full(n, self._rest[0])
        active = np.zeros(n, dtype=np.int64)
        for slot, block in enumerate(net.blocks):
            values = {d: self._values(column, d, slot, n) for d in ("keep", "op", "k", "width")}
            cost, used = self._block_costs(block, values)
            total += cost
            active_parameters += used
            active += values["k"].astype(np.int64)
        parameters, size, macs = total.T
        return {
            "params_m": parameters / 1e6,
            "macs_m": macs / 1e6,
            "size_mb": size / 1e6,
            "active_params_m": active_parameters / 1e6,
            "active_size_mb": (self._rest[1] + (active_parameters - self._rest[0]) * self._bytes) / 1e6,
            "active_experts": active / len(net.blocks),
        }

    def _values(self, column: dict[str, NDArray[Any]], dim: str, slot: int, n: int) -> NDArray[Any]:
        choices, block = self._net.choices, self._net.blocks[slot]
        single: Any = {"keep": block.n_experts, "op": choices.operators[0], "k": block.k, "width": block.width}[dim]
        return column.get(gene_name(dim, slot, choices), np.full(n, single))

    def _block_costs(self, block: Block, values: dict[str, NDArray[Any]]) -> tuple[Numbers, Numbers]:
        """Return the costs ``[n, 3]`` and the parameters that one token uses ``[n]``."""
        keep, k, width = (values[d].astype(np.int64) for d in ("keep", "k", "width"))
        reduced = keep < block.n_experts
        traits = {name: get_operator(name) for name in self._net.choices.operators}
        all_rows = np.array([traits[str(o)].all_rows for o in values["op"]], dtype=bool) & reduced
        constant = np.array([traits[str(o)].constants for o in values["op"]], dtype=bool) & reduced
        rows = np.where(all_rows, block.n_experts, keep)
        expert = self._per_neuron * width + self._per_expert
        constants = np.where(constant, (block.n_experts - keep) * block.hidden, 0)
        maps = np.where(all_rows, 8 * block.n_experts, 0) + np.where(constant, 8 * block.n_experts, 0)
        row_parameters, row_bytes = self._row
        parameters = rows * row_parameters + keep * expert + constants
        size = rows * row_bytes + (keep * expert + constants) * self._bytes + maps
        macs = self._tokens * (rows * block.hidden + k * 3 * block.hidden * width)
        return np.stack([parameters, size, macs], 1), rows * row_parameters + k * expert


def _row_costs(block: Block) -> tuple[int, int]:
    """Return parameters and bytes of one row of the router."""
    router = block.router
    parameters: list[Tensor] = [t for n, t in router._parameters.items() if n in ROUTER_TENSORS and t is not None]
    buffers: list[Tensor] = [t for n, t in router._buffers.items() if n in ROUTER_TENSORS and t is not None]
    size = sum(t[0].numel() * t.element_size() for t in (*parameters, *buffers))
    return sum(int(t[0].numel()) for t in parameters), size


def _macs_without_experts(model: nn.Module, blocks: list[Block], inputs: Mapping[str, Tensor]) -> int:
    """Count on shapes alone, on the meta device, with experts that compute nothing."""
    memo: dict[int, Any] = {id(b.setting): b.setting for b in blocks}
    for tensor in (*model.parameters(), *model.buffers()):
        data = torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
        memo[id(tensor)] = nn.Parameter(data, requires_grad=False) if isinstance(tensor, nn.Parameter) else data
    twin: Any = deepcopy(model, memo)
    twin.config.use_cache = True  # without a cache transformers looks into position ids, which have no values here
    for block in blocks:
        experts: Any = twin.get_submodule(block.name).experts
        experts.forward = lambda x, *_: torch.zeros_like(x)
    shapes = {n: t.to("meta") for n, t in inputs.items() if not n.endswith("mask")}
    return count_macs(twin, shapes)
