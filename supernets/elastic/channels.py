"""Channel counts as the mobile networks round them."""

from __future__ import annotations


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Return the multiple of ``divisor`` nearest to ``channels``, at least ``divisor``.

    One step up where rounding down would lose more than a tenth of the channels, the rule of the MobileNets
    (Sandler et al., CVPR 2018, arXiv:1801.04381).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def expanded_channels(channels: int, ratio: float) -> int:
    """Return the hidden channels of an inverted residual with this expansion ratio."""
    return make_divisible(round(channels * ratio))


def squeezed_channels(channels: int) -> int:
    """Return the bottleneck channels of a squeeze-and-excite module: a quarter."""
    return make_divisible(channels // 4)
