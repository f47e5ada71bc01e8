"""Elastic layer normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.module import ElasticModule


class ElasticLayerNorm(ElasticModule):
    """Layer normalisation of vectors of any smaller width, by a prefix of the affine parameters.

    Args:
        features: Largest width.
        eps: Added to the variance.
    """

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.set_active(features)

    def set_active(self, features: int) -> None:
        """Normalise vectors of this width."""
        self.active_features = features

    def active_state(self) -> dict[str, Tensor]:
        """Return ``weight`` and ``bias`` ``[features]``, views."""
        return {"weight": self.weight[: self.active_features], "bias": self.bias[: self.active_features]}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the active prefixes."""
        return self.active_state()

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``[…, features]``."""
        n = self.active_features
        return functional.layer_norm(x, (n,), self.weight[:n], self.bias[:n], self.eps)

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        return f"features={self.active_features}/{self.weight.shape[0]}, eps={self.eps}"
