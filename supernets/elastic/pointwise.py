"""Elastic 1x1 convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.mixable import MixableModule


class ElasticPointwiseConv2d(MixableModule):
    """A 1x1 convolution without bias that uses the first input and output channels of its weight.

    Args:
        in_channels: Largest number of input channels.
        out_channels: Largest number of output channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 1, 1))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.set_active(in_channels, out_channels)

    def set_active(self, in_channels: int, out_channels: int) -> None:
        """Use the first ``in_channels`` and ``out_channels``."""
        self.active_in = in_channels
        self.active_out = out_channels

    def cut(self, name: str, tensor: Tensor) -> Tensor:
        """Return the first active channels of a tensor shaped like ``weight``, a view."""
        return tensor[: self.active_out, : self.active_in]

    def cut_rows(self, tensor: Tensor) -> Tensor:
        """Return the first active output channels of ``[outputs, …]``, a view."""
        return tensor[: self.active_out]

    def active_shape(self) -> tuple[int, ...]:
        """Return the active output and input channels."""
        return self.active_out, self.active_in

    def active_state(self) -> dict[str, Tensor]:
        """Return ``weight``, ``[out, in, 1, 1]``: a view, or a mixture."""
        return {"weight": self.active("weight")}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the active slice of ``weight``."""
        return {"weight": self.cut("weight", self.weight)}

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, in, h, w]`` to ``[n, out, h, w]``."""
        return functional.conv2d(x, self.active("weight"))

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        out_channels, in_channels = self.weight.shape[:2]
        return f"in={self.active_in}/{in_channels}, out={self.active_out}/{out_channels}"
