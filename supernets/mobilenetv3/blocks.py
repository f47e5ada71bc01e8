"""The blocks of a MobileNetV3, each as a module of torchvision's own classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from search_spaces import SearchSpace, Value
from supernets.base import Inputs
from supernets.blocks import Block, BlockSlot
from supernets.mobilenetv3 import static
from supernets.mobilenetv3.plan import BlockPlan, Genes

Build = Callable[[], nn.Module]


def block_slots(
    genes: Genes, space: SearchSpace, *, in_channels: int, num_classes: int, bn: Mapping[str, float]
) -> list[BlockSlot]:
    """Return stem, first block, slots of inverted residuals and head.

    Args:
        genes: The meaning of the space's genes.
        space: The search space.
        in_channels: Channels of the images.
        num_classes: Number of outputs.
        bn: Options of batch normalisation.
    """
    makers = _Blocks(genes, in_channels, num_classes, bn)
    whole = tuple(gene.name for gene in space.genes if gene.name in ("width", "resolution"))
    slots = [BlockSlot("stem", whole, makers.stem), BlockSlot("first block", whole, makers.first)]
    for i in range(genes.n_stages * genes.slots):
        stage, position = divmod(i, genes.slots)
        own = (f"ks.{i}", f"e.{i}", *whole)
        if position >= min(genes.depths[stage]):
            own = (f"d.{stage}", *own)
        slots.append(BlockSlot(f"block {i}", own, partial(makers.elastic, i)))
    return [*slots, BlockSlot("head", whole, makers.head)]


class _Blocks:
    """Makes the block of each slot for values of its genes."""

    def __init__(self, genes: Genes, in_channels: int, num_classes: int, bn: Mapping[str, float]) -> None:
        self._genes, self._in_channels, self._num_classes, self._bn = genes, in_channels, num_classes, bn

    def stem(self, values: Mapping[str, Value]) -> Block:
        """Return the first convolution."""
        size, out = self._genes.resolution(values), self._genes.scaled(self._genes.width(values)).stem
        plan = self._genes.first_block(self._genes.width(values))
        key = f"stem:{self._in_channels}x{size}x{size}-{out}"
        return Block(key, _maker(lambda: self._part(plan, plan.in_channels, 0), self._in_channels, size))

    def first(self, values: Mapping[str, Value]) -> Block:
        """Return the static block after the stem."""
        size = -(-self._genes.resolution(values) // 2)
        return self._inverted_residual(self._genes.first_block(self._genes.width(values)), size)

    def elastic(self, slot: int, values: Mapping[str, Value]) -> Block | None:
        """Return the inverted residual of a slot; None where the stage is not that deep."""
        stage, position = divmod(slot, self._genes.slots)
        depth = values.get(f"d.{stage}")
        if depth is not None and position >= int(depth):
            return None
        plan = self._genes.block(slot, int(values[f"ks.{slot}"]), int(values[f"e.{slot}"]), self._genes.width(values))
        return self._inverted_residual(plan, self._genes.size_before(slot, self._genes.resolution(values)))

    def head(self, values: Mapping[str, Value]) -> Block:
        """Return the last convolution, pooling and both fully connected layers."""
        layout = self._genes.scaled(self._genes.width(values))
        size, channels = self._genes.size_after(self._genes.resolution(values)), layout.stages[-1].channels
        key = f"head:{channels}x{size}x{size}-{layout.last}-{layout.head}-{self._num_classes}"

        def build() -> nn.Module:
            plan = BlockPlan(channels, channels, channels, 3, 1, "relu", use_se=False)
            model: Any = static.build_static(self._config(plan, layout.head))
            return nn.Sequential(model.features[-1], model.avgpool, nn.Flatten(1), model.classifier)

        return Block(key, _maker(build, channels, size))

    def _inverted_residual(self, plan: BlockPlan, size: int) -> Block:
        after = -(-size // plan.stride)
        key = (
            f"inverted-residual:{plan.in_channels}x{size}x{size}-{plan.out_channels}x{after}x{after}"
            f"-hidden{plan.hidden_channels}-kernel{plan.kernel_size}-{plan.activation}{'-se' if plan.use_se else ''}"
        )
        return Block(key, _maker(lambda: self._part(plan, 8, 1), plan.in_channels, size))

    def _part(self, plan: BlockPlan, head: int, index: int) -> nn.Module:
        """Return one of the features of a network with a single block."""
        model: Any = static.build_static(self._config(plan, head))
        part: nn.Module = model.features[index]
        return part

    def _config(self, plan: BlockPlan, head: int) -> dict[str, Any]:
        return static.network_config(
            [plan],
            resolution=self._genes.layout.resolution,
            head=head,
            in_channels=self._in_channels,
            num_classes=self._num_classes,
            dropout=0.0,
            bn=self._bn,
        )


def _maker(build: Build, channels: int, size: int) -> Callable[[int], tuple[nn.Module, Inputs]]:
    def make(batch_size: int) -> tuple[nn.Module, Inputs]:
        with torch.random.fork_rng(devices=[]):  # initial weights must not touch the caller's random numbers
            torch.manual_seed(0)
            return build().eval(), (torch.randn(batch_size, channels, size, size),)

    return make
