"""The network that says how much of each expert an architecture uses."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from supernets.mixture.window import Window


class Activations(NamedTuple):
    """What a router computes for an architecture: hidden units ``[H]`` and coefficients ``[rows, m]``."""

    hidden: Tensor
    coefficients: Tensor


class RouterWeights(NamedTuple):
    """The tensors that give the coefficients of some rows.

    ``hidden_weight [H, f]``, ``hidden_bias [H]``, ``out_weight [rows, m, H]``, ``out_bias [rows, m]``.
    """

    hidden_weight: Tensor
    hidden_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor


class Router(nn.Module):
    """A perceptron with one hidden layer: features of an architecture -> logits of each expert in each row.

    Args:
        features: Length of the encoding.
        hidden: Hidden units.
        rows: 1 for layer-wise routing, the number of output neurons for neuron-wise routing.
        experts: Number of experts.
        temperature: What logits are divided by.
        top_k: How many experts of a row are used; None for all.
    """

    def __init__(
        self, features: int, hidden: int, rows: int, experts: int, *, temperature: float = 1.0, top_k: int | None = None
    ) -> None:
        super().__init__()
        self.rows, self.experts = rows, experts
        self.temperature, self.top_k = temperature, top_k
        self.hidden_weight = nn.Parameter(torch.empty(hidden, features))
        self.hidden_bias = nn.Parameter(torch.empty(hidden))
        self.out_weight = nn.Parameter(torch.empty(rows * experts, hidden))
        self.out_bias = nn.Parameter(torch.zeros(rows * experts))
        bound = 1 / math.sqrt(features)
        nn.init.uniform_(self.hidden_weight, -bound, bound)
        nn.init.uniform_(self.hidden_bias, -bound, bound)
        nn.init.uniform_(self.out_weight, -1 / math.sqrt(hidden), 1 / math.sqrt(hidden))

    @torch.no_grad()
    def balance(self, phi: Tensor) -> None:
        """Let one architecture use all experts alike, by the last bias; others keep what tells them apart."""
        hidden = functional.relu(functional.linear(phi, self.hidden_weight, self.hidden_bias))
        self.out_bias.copy_(-functional.linear(hidden, self.out_weight))

    def by_row(self) -> tuple[Tensor, Tensor]:
        """Return views of the last layer: ``[rows, m, H]`` and ``[rows, m]``."""
        return self.out_weight.view(self.rows, self.experts, -1), self.out_bias.view(self.rows, self.experts)

    def coefficients(self, phi: Tensor, weights: RouterWeights) -> Tensor:
        """Return the coefficients of the rows that the weights are of, ``[rows, m]``; each row adds up to 1."""
        return self.activations(phi, weights).coefficients

    def activations(self, phi: Tensor, weights: RouterWeights) -> Activations:
        """Return the hidden units and the coefficients of the rows that the weights are of."""
        hidden = functional.relu(functional.linear(phi, weights.hidden_weight, weights.hidden_bias))
        logits = (weights.out_weight @ hidden + weights.out_bias) / self.temperature
        if self.top_k is not None and self.top_k < self.experts:
            kept = torch.zeros_like(logits, dtype=torch.bool).scatter_(
                -1, logits.topk(self.top_k, dim=-1).indices, True
            )
            logits = logits.masked_fill(~kept, -math.inf)
        return Activations(hidden, logits.softmax(-1))

    def gradients(
        self,
        phi: Tensor,
        out_weight: Tensor,
        activations: Activations,
        upstream: Tensor,
        windows: tuple[Window, Window] | None = None,
    ) -> RouterWeights:
        """Return the gradients of the weights, by the chain rule: autograd within autograd costs several times as much.

        Args:
            phi: The encoded architecture.
            out_weight: Of `RouterWeights`, the active rows.
            activations: Of `activations`; an expert that ``top_k`` leaves out has 0, and so a gradient of 0.
            upstream: The gradient of the coefficients, ``[rows, m]``.
            windows: Where the active rows lie in the last two tensors; the gradients of those then are whole.
        """
        hidden, coefficients = activations
        centred = upstream - (coefficients * upstream).sum(-1, keepdim=True)
        logits = coefficients * centred / self.temperature
        inner = (logits.reshape(-1) @ out_weight.reshape(-1, len(hidden))) * (hidden > 0)
        rest = (torch.outer(inner, phi), inner)
        if windows is None:
            return RouterWeights(*rest, logits.unsqueeze(-1) * hidden, logits)
        whole, part = windows[0].padded(logits)
        torch.mul(logits.unsqueeze(-1), hidden, out=part)
        whole_bias, part_bias = windows[1].padded(logits)
        part_bias.copy_(logits)
        return RouterWeights(*rest, whole, whole_bias)

    def extra_repr(self) -> str:
        """Return the shape for printing."""
        hidden, features = self.hidden_weight.shape
        return f"features={features}, hidden={hidden}, rows={self.rows}, experts={self.experts}"
