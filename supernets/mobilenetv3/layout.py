"""The static part of a MobileNetV3 supernet: what no gene changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from supernets.elastic import make_divisible
from supernets.errors import SupernetError

ACTIVATIONS = ("relu", "hardswish")


@dataclass(frozen=True)
class StageLayout:
    """One elastic stage.

    Attributes:
        channels: Output channels at width 1.
        stride: Stride of the first block; the others have 1.
        activation: ``"relu"`` or ``"hardswish"``.
        use_se: Whether the blocks have squeeze-and-excite.
    """

    channels: int
    stride: int
    activation: str
    use_se: bool


@dataclass(frozen=True)
class MobileNetV3Layout:
    """Channels, strides and activations at width 1; all channels are multiples of 8.

    The stem is a 3x3 convolution of stride 2 with hard-swish, the first block has kernel 3, stride 1, no
    expansion and ReLU, and the last convolution has six times the channels of the last stage, as in OFA and
    torchvision.

    Attributes:
        stem: Output channels of the stem.
        first: Output channels of the first block.
        stages: The elastic stages.
        head: Channels between the two fully connected layers.
        resolution: Input size in pixels where resolution is not a gene.
    """

    stem: int
    first: int
    stages: tuple[StageLayout, ...]
    head: int
    resolution: int

    def __post_init__(self) -> None:
        channels = [self.stem, self.first, self.head, *(s.channels for s in self.stages)]
        if any(c <= 0 or c % 8 for c in channels):
            raise SupernetError(f"channels of a MobileNetV3 layout must be positive multiples of 8, got {channels}")
        for stage in self.stages:
            if stage.activation not in ACTIVATIONS or stage.stride not in (1, 2):
                raise SupernetError(
                    f"a MobileNetV3 stage needs stride 1 or 2 and an activation of {', '.join(ACTIVATIONS)}; "
                    f"got {stage}"
                )

    @property
    def last(self) -> int:
        """Output channels of the last convolution."""
        return 6 * self.stages[-1].channels

    def scaled(self, width: float) -> MobileNetV3Layout:
        """Return the layout with all channels multiplied by ``width`` and rounded to multiples of 8."""
        return MobileNetV3Layout(
            make_divisible(self.stem * width),
            make_divisible(self.first * width),
            tuple(
                StageLayout(make_divisible(s.channels * width), s.stride, s.activation, s.use_se) for s in self.stages
            ),
            make_divisible(self.head * width),
            self.resolution,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the layout as JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> MobileNetV3Layout:
        """Rebuild a layout from `to_json`.

        Raises:
            SupernetError: The data is not a layout.
        """
        try:
            return cls(**{**data, "stages": tuple(StageLayout(**s) for s in data["stages"])})
        except (TypeError, KeyError) as error:
            raise SupernetError(f"not a MobileNetV3 layout ({error}); expected what `to_json` returns") from None


def ofa_layout(width: float) -> MobileNetV3Layout:
    """Return the layout of Once-for-All's MobileNetV3 at a static width multiplier."""
    return MobileNetV3Layout(
        stem=16,
        first=16,
        stages=(
            StageLayout(24, 2, "relu", use_se=False),
            StageLayout(40, 2, "relu", use_se=True),
            StageLayout(80, 2, "hardswish", use_se=False),
            StageLayout(112, 1, "hardswish", use_se=True),
            StageLayout(160, 2, "hardswish", use_se=True),
        ),
        head=1280,
        resolution=224,
    ).scaled(width)


def tiny_layout() -> MobileNetV3Layout:
    """Return the layout for small images; multiples of 32, so widths 0.5 and 0.75 give exact multiples of 8."""
    return MobileNetV3Layout(
        stem=32,
        first=32,
        stages=(
            StageLayout(32, 1, "relu", use_se=False),
            StageLayout(64, 2, "hardswish", use_se=True),
            StageLayout(96, 2, "hardswish", use_se=True),
        ),
        head=128,
        resolution=16,
    )
