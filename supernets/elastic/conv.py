"""Elastic full convolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.module import ElasticModule


class ElasticConv2d(ElasticModule):
    """A dense convolution with elastic input channels, output channels and (centre-cropped) kernel.

    Args:
        in_channels: Largest number of input channels.
        out_channels: Largest number of output channels.
        kernel_sizes: Odd kernel sizes; the weight has the largest. "Same" padding for each.
        stride: Stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_sizes: Sequence[int], stride: int = 1) -> None:
        super().__init__()
        self.kernel_sizes = tuple(sorted(kernel_sizes))
        self.stride = stride
        largest = self.kernel_sizes[-1]
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, largest, largest))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.set_active(in_channels, out_channels, largest)

    def set_active(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        """Use the first ``in_channels`` and ``out_channels`` and the centre of the kernel."""
        self.active_in = in_channels
        self.active_out = out_channels
        self.active_kernel = kernel_size

    def _active_weight(self) -> Tensor:
        start = (self.kernel_sizes[-1] - self.active_kernel) // 2
        centre = slice(start, start + self.active_kernel)
        return self.weight[: self.active_out, : self.active_in, centre, centre]

    def active_state(self) -> dict[str, Tensor]:
        """Return ``weight``, ``[out, in, k, k]``, a view."""
        return {"weight": self._active_weight()}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the active slice of ``weight``."""
        return self.active_state()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, in, h, w]`` to ``[n, out, ceil(h / stride), ceil(w / stride)]``."""
        return functional.conv2d(x, self._active_weight(), stride=self.stride, padding=self.active_kernel // 2)

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        out_channels, in_channels = self.weight.shape[:2]
        return (
            f"in={self.active_in}/{in_channels}, out={self.active_out}/{out_channels}, "
            f"kernel={self.active_kernel} of {self.kernel_sizes}, stride={self.stride}"
        )
