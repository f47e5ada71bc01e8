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
        self._whole: dict[tuple[int, int, int], int] = {}

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
            values = {d: self._values(column, d, slot, n) for d in ("block", "keep", "op", "k", "width", "shared")}
            cost, used, experts = self._block_costs(slot, block, values)
            total += cost
            active_parameters += used
            active += experts
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
        single: Any = {
            "block": "experts",
            "keep": block.n_experts,
            "op": choices.operators[0],
            "k": block.k,
            "width": block.width,
            "shared": 0,
        }[dim]
        return column.get(gene_name(dim, slot, choices), np.full(n, single))

    def _block_costs(
        self, slot: int, block: Block, values: dict[str, NDArray[Any]]
    ) -> tuple[Numbers, Numbers, NDArray[np.int64]]:
        """Return the costs ``[n, 3]``, and the parameters and the experts that one token uses ``[n]``."""
        kind = values["block"].astype(str)
        keep, k, width, shared = (values[d].astype(np.int64) for d in ("keep", "k", "width", "shared"))
        routed = kind == "experts"
        reduced = (keep < block.n_experts) & routed
        operators = {name: get_operator(name) for name in self._net.choices.operators}
        none = np.zeros(len(keep), dtype=bool)
        untouched = self._n_whole(slot, keep, shared) if any(o.merges for o in operators.values()) else 0 * keep
        sealed = untouched == keep  # nobody to merge into: the others are dropped
        of = {n: (values["op"] == n) & reduced & ~(sealed if o.merges else none) for n, o in operators.items()}
        all_rows = sum((of[n] for n, o in operators.items() if o.all_rows), none)
        constant = sum((of[n] for n, o in operators.items() if o.constants), none)
        # A block that is dense has one expert, which answers every token; one that is skipped has none.
        keep = np.where(routed, keep, kind == "dense")
        shared = np.where(routed, shared, kind == "dense")
        k = np.where(routed, k, 0)
        rows = np.where(routed, np.where(all_rows, block.n_experts, keep) - shared, 0)
        whole = 3 * block.hidden * width
        biases = self._per_expert + (self._per_neuron - 3 * block.hidden) * width
        numbers, macs, places, n_whole = whole.copy(), whole.copy(), np.zeros_like(keep), keep.copy()
        for name, operator in operators.items():
            if operator.factored:
                for w in self._net.choices.width:
                    at = of[name] & (width == w)
                    numbers[at], places[at] = operator.factors(block.hidden, w)
                    macs[at] = numbers[at]
                n_whole[of[name]] = untouched[of[name]]
        few = keep - n_whole
        experts = n_whole * whole + few * numbers + keep * biases
        constants = np.where(constant, (block.n_experts - keep) * block.hidden, 0)
        gates = np.where(shared > 0, shared + routed, 0)  # constant weights, and the factor of the others
        buffers = 8 * (rows * (all_rows | (routed & (shared > 0))) + shared) + 4 * few * places
        buffers += 8 * np.where(constant, rows, 0)
        row_parameters, row_bytes = self._row
        parameters = rows * row_parameters + experts + constants
        size = rows * row_bytes + (experts + constants + gates) * self._bytes + buffers
        # Those that answer every token stay whole; the others of a token can be factored.
        products = rows * block.hidden + shared * whole + k * macs
        used = rows * row_parameters + shared * (whole + biases) + k * (numbers + biases)
        return np.stack([parameters, size, self._tokens * products], 1), used, k + shared

    def _n_whole(self, slot: int, keep: NDArray[np.int64], shared: NDArray[np.int64]) -> NDArray[np.int64]:
        pairs = {(int(a), int(b)) for a, b in zip(keep, shared, strict=True)}
        self._whole |= {(slot, *p): self._net.n_whole(slot, *p) for p in pairs if (slot, *p) not in self._whole}
        found = [self._whole[slot, int(a), int(b)] for a, b in zip(keep, shared, strict=True)]
        return np.array(found, dtype=np.int64)


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
