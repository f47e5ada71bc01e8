"""Elastic fully connected layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.module import ElasticModule


class ElasticLinear(ElasticModule):
    """A fully connected layer that uses the first input and output features of its weight.

    Args:
        in_features: Largest number of input features.
        out_features: Largest number of output features.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.zeros(out_features))
        nn.init.normal_(self.weight, 0.0, 0.01)
        self.set_active(in_features, out_features)

    def set_active(self, in_features: int, out_features: int) -> None:
        """Use the first ``in_features`` and ``out_features``."""
        self.active_in = in_features
        self.active_out = out_features

    def active_state(self) -> dict[str, Tensor]:
        """Return ``weight`` ``[out, in]`` and ``bias`` ``[out]``, views."""
        return {"weight": self.weight[: self.active_out, : self.active_in], "bias": self.bias[: self.active_out]}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the active slice of ``weight`` and ``bias``."""
        return self.active_state()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[…, in]`` to ``[…, out]``."""
        return functional.linear(x, self.weight[: self.active_out, : self.active_in], self.bias[: self.active_out])

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        out_features, in_features = self.weight.shape
        return f"in={self.active_in}/{in_features}, out={self.active_out}/{out_features}"
