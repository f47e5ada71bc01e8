"""Elastic table of token embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.elastic.module import ElasticModule


class ElasticEmbedding(ElasticModule):
    """A table of embeddings of which the first columns are used.

    Args:
        num_embeddings: Number of tokens.
        embedding_dim: Largest width.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_embeddings, embedding_dim))
        nn.init.normal_(self.weight, 0.0, embedding_dim**-0.5)
        self.set_active(embedding_dim)

    def set_active(self, dim: int) -> None:
        """Use the first ``dim`` columns."""
        self.active_dim = dim

    def active_state(self) -> dict[str, Tensor]:
        """Return ``weight`` ``[tokens, dim]``, a view."""
        return {"weight": self.weight[:, : self.active_dim]}

    def active_parameters(self) -> dict[str, Tensor]:
        """Return the active columns of ``weight``."""
        return self.active_state()

    def forward(self, ids: Tensor) -> Tensor:
        """Map int64 ``[…]`` to ``[…, dim]``."""
        return functional.embedding(ids, self.weight[:, : self.active_dim])

    def extra_repr(self) -> str:
        """Return the largest and active shapes for printing."""
        tokens, dim = self.weight.shape
        return f"tokens={tokens}, dim={self.active_dim}/{dim}"
