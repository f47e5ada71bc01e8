"""Elastic squeeze-and-excite."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.channels import squeezed_channels
from supernets.elastic.module import ElasticModule


class ElasticSqueezeExcite(ElasticModule):
    """Squeeze-and-excite of the first channels, with hard-sigmoid gates as in MobileNetV3.

    The bottleneck follows the active channels (`squeezed_channels`). Howard et al., ICCV 2019,
    arXiv:1905.02244.

    Args:
        channels: Largest number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = squeezed_channels(channels)
        self.reduce_weight = nn.Parameter(torch.empty(squeezed, channels, 1, 1))
        self.reduce_bias = nn.Parameter(torch.zeros(squeezed))
        self.expand_weight = nn.Parameter(torch.empty(channels, squeezed, 1, 1))
        self.expand_bias = nn.Parameter(torch.zeros(channels))
        nn.init.kaiming_normal_(self.reduce_weight, mode="fan_out")
        nn.init.kaiming_normal_(self.expand_weight, mode="fan_out")
        self.set_active(channels)

    def set_active(self, channels: int) -> None:
        """Use the first ``channels``."""
        self.active_channels = channels
        self.active_squeezed = squeezed_channels(channels)

    def active_state(self) -> dict[str, Tensor]:
        """Return weights and biases of ``fc1`` (squeeze) and ``fc2`` (excite), views."""
        names = ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
        return dict(zip(names, self.active_parameters().values(), strict=True))

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the active slices of both layers' weights and biases."""
        c, s = self.active_channels, self.active_squeezed
        return {
            "reduce_weight": self.reduce_weight[:s, :c],
            "reduce_bias": self.reduce_bias[:s],
            "expand_weight": self.expand_weight[:c, :s],
            "expand_bias": self.expand_bias[:c],
        }

    def forward(self, x: Tensor) -> Tensor:
        """Scale each channel of ``[n, channels, h, w]`` by its gate."""
        c, s = self.active_channels, self.active_squeezed
        gate = functional.adaptive_avg_pool2d(x, 1)
        gate = functional.conv2d(gate, self.reduce_weight[:s, :c], self.reduce_bias[:s])
        gate = functional.conv2d(functional.relu(gate), self.expand_weight[:c, :s], self.expand_bias[:c])
        gate = functional.hardsigmoid(gate)
        return x * gate  # in this order the product keeps the memory format of x

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        return f"channels={self.active_channels}/{self.expand_bias.shape[0]}, squeezed={self.active_squeezed}"
