"""Elastic depthwise convolution with learned kernel transforms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.module import ElasticModule


def _centre(weight: Tensor, size: int) -> Tensor:
    start = (weight.shape[-1] - size) // 2
    return weight[:, :, start : start + size, start : start + size]


class ElasticDepthwiseConv2d(ElasticModule):
    """A depthwise convolution with elastic channels and kernel size.

    A smaller kernel is the centre of the next larger one, multiplied by a learned matrix shared by all
    channels, down the chain of sizes (Cai et al., Once-for-All, ICLR 2020, arXiv:1908.09791, section 3.3).
    The matrices start as identities, so an untrained small kernel is the plain centre.

    Args:
        channels: Largest number of channels.
        kernel_sizes: Odd kernel sizes; the weight has the largest. "Same" padding for each.
        stride: Stride.

    Attributes:
        transforms: ``"5to3"`` -> ``[9, 9]``, ``"7to5"`` -> ``[25, 25]``, …
    """

    def __init__(self, channels: int, kernel_sizes: Sequence[int], stride: int = 1) -> None:
        super().__init__()
        self.kernel_sizes = tuple(sorted(kernel_sizes))
        self.stride = stride
        largest = self.kernel_sizes[-1]
        self.weight = nn.Parameter(torch.empty(channels, 1, largest, largest))
        nn.init.kaiming_normal_(self.weight, mode="fan_out")
        self.transforms = nn.ParameterDict(
            {f"{large}to{small}": torch.eye(small * small) for small, large in pairwise(self.kernel_sizes)}
        )
        # From the largest down; a tuple because looking it up must cost nothing in forward.
        self._chain = tuple(reversed(list(pairwise(self.kernel_sizes))))
        self.set_active(channels, largest)

    def set_active(self, channels: int, kernel_size: int) -> None:
        """Use the first ``channels`` and a kernel of ``kernel_size``."""
        self.active_channels = channels
        self.active_kernel = kernel_size

    def _active_weight(self) -> Tensor:
        weight = self.weight[: self.active_channels]
        for small, large in self._chain:
            if large <= self.active_kernel:
                break
            centre = _centre(weight, small)
            flat = functional.linear(centre.reshape(-1, small * small), self.transforms[f"{large}to{small}"])
            weight = flat.view(-1, 1, small, small)
        return weight

    def active_state(self) -> dict[str, Tensor]:
        """Return ``weight``, ``[channels, 1, k, k]``, transformed where the kernel is not the largest."""
        return {"weight": self._active_weight()}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the slice of ``weight`` that enters the chain of transforms, and the transforms used."""
        used = [(small, large) for small, large in self._chain if large > self.active_kernel]
        size = used[0][0] if used else self.kernel_sizes[-1]
        matrices = {f"transforms.{large}to{small}": self.transforms[f"{large}to{small}"] for small, large in used}
        return {"weight": _centre(self.weight[: self.active_channels], size), **matrices}

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[n, channels, h, w]`` to ``[n, channels, ceil(h / stride), ceil(w / stride)]``."""
        weight = self._active_weight()
        return functional.conv2d(
            x, weight, stride=self.stride, padding=self.active_kernel // 2, groups=self.active_channels
        )

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        return (
            f"channels={self.active_channels}/{self.weight.shape[0]}, "
            f"kernel={self.active_kernel} of {self.kernel_sizes}, stride={self.stride}"
        )
