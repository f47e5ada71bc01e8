"""Elastic fully connected layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.mixable import MixableModule


class ElasticLinear(MixableModule):
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

    def cut(self, name: str, tensor: Tensor) -> Tensor:
        """Return the first active features of a tensor shaped like ``weight`` or ``bias``, a view."""
        return tensor[: self.active_out, : self.active_in] if name == "weight" else tensor[: self.active_out]

    def cut_rows(self, tensor: Tensor) -> Tensor:
        """Return the first active outputs of ``[outputs, …]``, a view."""
        return tensor[: self.active_out]

    def active_shape(self) -> tuple[int, ...]:
        """Return the active output and input features."""
        return self.active_out, self.active_in

    def active_state(self) -> dict[str, Tensor]:
        """Return ``weight`` ``[out, in]`` and ``bias`` ``[out]``: views, or mixtures."""
        return {"weight": self.active("weight"), "bias": self.active("bias")}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the active slice of ``weight`` and ``bias``."""
        return {"weight": self.cut("weight", self.weight), "bias": self.cut("bias", self.bias)}

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[…, in]`` to ``[…, out]``."""
        return functional.linear(x, self.active("weight"), self.active("bias"))

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        out_features, in_features = self.weight.shape
        return f"in={self.active_in}/{in_features}, out={self.active_out}/{out_features}"
