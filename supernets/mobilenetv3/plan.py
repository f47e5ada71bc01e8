"""The shape of one architecture, derived from layout and genes; what costs, extraction and switching share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from search_spaces import SearchSpace
from supernets.elastic import expanded_channels
from supernets.errors import SupernetError
from supernets.mobilenetv3.layout import MobileNetV3Layout


@dataclass(frozen=True)
class BlockPlan:
    """Static shape of an inverted-residual block."""

    in_channels: int
    hidden_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    activation: str
    use_se: bool


class Genes:
    """How the genes of a MobileNetV3 space map to slots, stages, width and resolution.

    Args:
        space: A space as `search_spaces.mobilenetv3_space` builds it.
        layout: The layout; its number of stages must be that of the space.

    Raises:
        SupernetError: Space and layout do not fit, or the network cannot be a torchvision MobileNetV3.
    """

    def __init__(self, space: SearchSpace, layout: MobileNetV3Layout) -> None:
        self.layout = layout
        if not {"ks", "e", "d"} <= set(space.groups) or len(space.groups["d"]) != len(layout.stages):
            raise SupernetError(
                f"search space {space.name!r} is not a MobileNetV3 space with {len(layout.stages)} stages: genes "
                "ks.0 …, e.0 …, d.0 … are needed (search_spaces.mobilenetv3_space builds them)"
            )
        values: dict[str, list[Any]] = {g.name: list(g.choices) for g in space.genes}
        self.n_stages = len(layout.stages)
        self.slots = len(space.groups["ks"]) // self.n_stages
        self.kernel_sizes = [values[f"ks.{i}"] for i in range(self.n_stages * self.slots)]
        self.expand_ratios = [values[f"e.{i}"] for i in range(self.n_stages * self.slots)]
        self.depths = [values[f"d.{s}"] for s in range(self.n_stages)]
        self.widths: list[float] = values.get("width", [1.0])
        self.resolutions: list[int] = values.get("resolution", [layout.resolution])
        self._scaled = {w: layout.scaled(w) for w in self.widths}
        self._plans: dict[tuple[int, int, int, float], BlockPlan] = {}
        self._check(space)

    def _check(self, space: SearchSpace) -> None:
        largest = self.scaled(max(self.widths))
        for width in self.widths:
            if self._shortcuts(self.scaled(width)) != self._shortcuts(largest):
                raise SupernetError(
                    f"at width {width} of search space {space.name!r} rounding to multiples of 8 changes which "
                    "blocks have a shortcut; choose channels further apart or other widths"
                )
        if min(min(e) for e in self.expand_ratios) < 2:
            raise SupernetError(f"search space {space.name!r}: expansion ratios below 2 are not supported")

    @staticmethod
    def _shortcuts(layout: MobileNetV3Layout) -> list[bool]:
        ends = [layout.stem, layout.first, *(s.channels for s in layout.stages)]
        return [a == b for a, b in pairwise(ends)]

    def scaled(self, width: float) -> MobileNetV3Layout:
        """Return the layout at one of the widths."""
        return self._scaled[width]

    def width(self, arch: Mapping[str, Any]) -> float:
        """Return the width multiplier of an architecture."""
        return float(arch.get("width", 1.0))

    def resolution(self, arch: Mapping[str, Any]) -> int:
        """Return the input size in pixels of an architecture."""
        return int(arch.get("resolution", self.layout.resolution))

    def first_block(self, width: float) -> BlockPlan:
        """Return the static block after the stem."""
        layout = self.scaled(width)
        return BlockPlan(layout.stem, layout.stem, layout.first, 3, 1, "relu", use_se=False)

    def block(self, slot: int, kernel_size: int, expand_ratio: int, width: float) -> BlockPlan:
        """Return the shape of the block in ``slot`` for these gene values."""
        key = (slot, kernel_size, expand_ratio, width)
        if key not in self._plans:  # few, and switching asks for all slots each time
            self._plans[key] = self._block(*key)
        return self._plans[key]

    def _block(self, slot: int, kernel_size: int, expand_ratio: int, width: float) -> BlockPlan:
        layout = self.scaled(width)
        stage, position = divmod(slot, self.slots)
        of = layout.stages[stage]
        before = layout.first if stage == 0 else layout.stages[stage - 1].channels
        in_channels, stride = (before, of.stride) if position == 0 else (of.channels, 1)
        hidden = expanded_channels(in_channels, expand_ratio)
        return BlockPlan(in_channels, hidden, of.channels, kernel_size, stride, of.activation, of.use_se)

    def size_before(self, slot: int, resolution: int) -> int:
        """Return the spatial size of a slot's input; depth does not change it, as only first blocks stride."""
        stage, position = divmod(slot, self.slots)
        return self._size(stage + (position > 0), resolution)

    def size_after(self, resolution: int) -> int:
        """Return the spatial size of the last stage's output."""
        return self._size(self.n_stages, resolution)

    def _size(self, stages: int, resolution: int) -> int:
        size = -(-resolution // 2)
        for layout in self.layout.stages[:stages]:
            size = -(-size // layout.stride)
        return size

    def blocks(self, arch: Mapping[str, Any], *, inactive: bool = False) -> list[BlockPlan]:
        """Return the elastic blocks of an architecture in order; with ``inactive``, all slots."""
        width = self.width(arch)
        slots = range(self.n_stages * self.slots)
        return [
            self.block(i, arch[f"ks.{i}"], arch[f"e.{i}"], width)
            for i in slots
            if inactive or i % self.slots < arch[f"d.{i // self.slots}"]
        ]
