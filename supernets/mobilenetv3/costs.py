"""Exact costs of architectures, by table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces import SearchSpace
from supernets.elastic import squeezed_channels
from supernets.mobilenetv3.plan import BlockPlan, Genes

Cost = NDArray[np.int64]
"""Parameters, buffer elements in the network's dtype, int64 counters, multiply-accumulates: ``[4]``."""


def _conv(in_per_group: int, out: int, kernel: int, pixels: int) -> Cost:
    weights = in_per_group * out * kernel * kernel
    return np.array([weights + 2 * out, 2 * out, 1, weights * pixels], dtype=np.int64)  # with its batch norm


def _linear(n_in: int, n_out: int) -> Cost:
    return np.array([n_in * n_out + n_out, 0, 0, n_in * n_out], dtype=np.int64)


def _block(plan: BlockPlan, size: int) -> Cost:
    after = -(-size // plan.stride)
    cost = _conv(1, plan.hidden_channels, plan.kernel_size, after**2)
    cost += _conv(plan.hidden_channels, plan.out_channels, 1, after**2)
    if plan.hidden_channels != plan.in_channels:
        cost += _conv(plan.in_channels, plan.hidden_channels, 1, size**2)
    if plan.use_se:
        squeezed = squeezed_channels(plan.hidden_channels)
        cost += _linear(plan.hidden_channels, squeezed) + _linear(squeezed, plan.hidden_channels)
    return cost


class CostTable:
    """Costs of every block for every value of its genes, summed along rows by look-up.

    Args:
        space: The space of the rows.
        genes: Its meaning.
        in_channels: Channels of the input images.
        num_classes: Number of outputs.
    """

    def __init__(self, space: SearchSpace, genes: Genes, *, in_channels: int, num_classes: int) -> None:
        self._space = space
        self._genes = genes
        self._fixed = np.array(
            [[self._fixed_cost(w, r, in_channels, num_classes) for r in genes.resolutions] for w in genes.widths]
        )
        self._slots = [self._slot_costs(i) for i in range(genes.n_stages * genes.slots)]

    def _fixed_cost(self, width: float, resolution: int, in_channels: int, num_classes: int) -> Cost:
        layout, size = self._genes.scaled(width), -(-resolution // 2)
        end = self._genes.size_after(resolution)
        cost = _conv(in_channels, layout.stem, 3, size**2) + _block(self._genes.first_block(width), size)
        cost += _conv(layout.stages[-1].channels, layout.last, 1, end**2)
        return cost + _linear(layout.last, layout.head) + _linear(layout.head, num_classes)

    def _slot_costs(self, slot: int) -> Cost:
        """Return ``[kernel sizes, expand ratios, widths, resolutions, 4]``."""
        genes = self._genes
        return np.array(
            [
                [
                    [
                        [_block(genes.block(slot, k, e, w), genes.size_before(slot, r)) for r in genes.resolutions]
                        for w in genes.widths
                    ]
                    for e in genes.expand_ratios[slot]
                ]
                for k in genes.kernel_sizes[slot]
            ]
        )

    def _columns(self, G: NDArray[Any]) -> dict[str, NDArray[np.int64]]:
        columns = np.ascontiguousarray(self._space.canonical(G).T)
        return {g.name: column for g, column in zip(self._space.genes, columns, strict=True)}

    def __call__(self, G: NDArray[Any]) -> Cost:
        """Return the summed costs of each row, int64 ``[n, 4]``."""
        column = self._columns(G)
        none = np.zeros(len(G), dtype=np.int64)
        width, resolution = column.get("width", none), column.get("resolution", none)
        total = self._fixed[width, resolution]
        for slot, costs in enumerate(self._slots):
            stage, position = divmod(slot, self._genes.slots)
            runs = np.array(self._genes.depths[stage])[column[f"d.{stage}"]] > position
            total += costs[column[f"ks.{slot}"], column[f"e.{slot}"], width, resolution] * runs[:, None]
        return total
