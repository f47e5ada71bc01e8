"""What calibration knows of a block: sums over tokens, of bounded size whatever the number of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn


class LayerStatistics(nn.Module):
    """Sums over the calibration tokens of one block. They are saved with the supernet and keep their dtype.

    For an expert e, sums go over the tokens that were routed to it; f is its output, w its weight for the token.

    Attributes:
        tokens: Number of tokens, float64 ``[]``.
        counts: Tokens routed to e, float64 ``[E]``.
        mass: Sum of w, float64 ``[E]``.
        norms: Sum of the L2 norms of f, float64 ``[E]``.
        squares: Sum of their squares, float64 ``[E]``.
        gated_norms: Sum of w times the norm of f, float64 ``[E]``.
        shared_norms: Sum of w over the sum of the token's weights, times the norm of f, float64 ``[E]``.
        token_change: Sum of w times the norm of f times ``max(1 - cos(h, h'), 0)``, where h and h' are the residual
            stream before and after the routed experts, float64 ``[E]``.
        mixed_change: Sum over the domains of calibration of ``token_change`` of the domain's tokens, divided by its sum
            over the experts, float64 ``[E]``.
        peaks: Greatest absolute value in any f, float64 ``[E]``.
        together: Tokens routed to both of two experts, float64 ``[E, E]``.
        logit_products: Sum over all tokens of products of router logits, float64 ``[E, E]``.
        outputs: Sum of f, float32 ``[E, H]``.
        neurons: Sum of the absolute values of the neurons, float32 ``[E, I]``.
        order: Which neuron of the model lies at each place of an expert, int64 ``[E, I]``.
        probes: Inputs of the block, a random sample of the tokens seen, float32 ``[P, H]``; the first ``filled``
            are used.
        filled: Number of probes, float64 ``[]``.

    Args:
        experts: E.
        hidden: H.
        width: I.
        probes: P.
    """

    tokens: Tensor
    counts: Tensor
    mass: Tensor
    norms: Tensor
    squares: Tensor
    gated_norms: Tensor
    shared_norms: Tensor
    token_change: Tensor
    mixed_change: Tensor
    peaks: Tensor
    together: Tensor
    logit_products: Tensor
    outputs: Tensor
    neurons: Tensor
    order: Tensor
    probes: Tensor
    filled: Tensor

    def __init__(self, experts: int, hidden: int, width: int, probes: int) -> None:
        super().__init__()
        shapes: dict[str, tuple[int, ...]] = {"tokens": (), "filled": ()}
        per_expert = ("counts", "mass", "norms", "squares", "gated_norms", "shared_norms", "peaks")
        for name in (*per_expert, "token_change", "mixed_change"):
            shapes[name] = (experts,)
        shapes |= {"together": (experts, experts), "logit_products": (experts, experts)}
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("outputs", torch.zeros(experts, hidden))
        self.register_buffer("neurons", torch.zeros(experts, width))
        self.register_buffer("order", torch.arange(width).repeat(experts, 1))
        self.register_buffer("probes", torch.zeros(probes, hidden))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Sums go where the model goes, but half precision cannot count.
        for name, buffer in self.named_buffers(recurse=False):
            self._buffers[name] = buffer.to(fn(buffer[:0] if buffer.ndim else buffer.reshape(1)).device)
        return self

    def used_probes(self) -> Tensor:
        """Return the probes that were filled, ``[n, H]``."""
        return self.probes[: int(self.filled)]

    def mean(self, name: str) -> Tensor:
        """Return a sum per routed token, float64 ``[E]``, or ``[E, n]``; 0 for an expert without tokens."""
        total: Any = getattr(self, name)
        counts = self.counts.clamp(min=1)
        mean: Tensor = total.double() / (counts if total.ndim == 1 else counts[:, None])
        return mean

    def frequencies(self) -> Tensor:
        """Return the share of each expert in all routings, float64 ``[E]``."""
        return self.counts / self.counts.sum().clamp(min=1)

    def logit_similarity(self) -> Tensor:
        """Return (cos + 1) / 2 of the experts' router logits over all tokens, float64 ``[E, E]``."""
        norms = self.logit_products.diagonal().clamp(min=0).sqrt().clamp(min=1e-30)
        return (self.logit_products / norms[:, None] / norms[None, :] + 1) / 2
