"""The mixture of some tensors, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supernets.mixture.window import Window


def mix(experts: Sequence[Tensor], coefficients: Tensor, dim: int) -> Tensor:
    """Return the sum of the experts weighted by their coefficients, a new tensor.

    As a chain of interpolations: equal experts give that expert bit for bit, whatever the coefficients, and one-hot
    coefficients give the expert that they name.

    Args:
        experts: ``m`` tensors of one shape.
        coefficients: ``[rows, m]``, each row adds up to 1; one row serves all, else as many as ``dim`` is long.
        dim: The dimension of the rows.
    """
    result, last = experts[0], len(experts) - 1
    total = coefficients[:, 0]
    for j, expert in enumerate(experts[1:], 1):
        share = coefficients[:, j]
        if j < last:
            total = total + share
            share = torch.where(total > 0, share / total, 0.0)
        result = torch.lerp(result, expert, _along(share, dim, expert).to(expert.dtype))
    return result.clone() if len(experts) == 1 else result


def _along(rows: Tensor, dim: int, like: Tensor) -> Tensor:
    """Return ``[rows]`` in a shape that broadcasts along ``dim``."""
    shape = [1] * like.ndim
    shape[dim] = -1
    return rows.view(shape)


class Mixed(torch.autograd.Function):
    """A mixture that has been computed before, as a function of the coefficients and the experts.

    The forward pass hands the given value out, so it may come from a cache; nothing of the graph is kept with it.
    """

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, dim: int, window: Window | None, coefficients: Tensor, *experts: Tensor
    ) -> Tensor:
        """Return the value.

        Args:
            ctx: Of autograd.
            value: The mixture.
            dim: The dimension of the rows.
            window: Which part of the experts is mixed; None: all of them.
            coefficients: ``[rows, m]``.
            *experts: The whole experts.
        """
        ctx.dim, ctx.window = dim, window
        ctx.save_for_backward(coefficients, *experts)
        return value.view_as(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the coefficients and the experts."""
        coefficients, *experts = ctx.saved_tensors
        dim, window = ctx.dim, ctx.window
        upstream = None
        if ctx.needs_input_grad[3]:
            parts = experts if window is None else [window.view(e) for e in experts]
            agreement = [_row_sums(gradient * e, dim, len(coefficients)) for e in parts]
            upstream = torch.stack(agreement, -1).to(coefficients.dtype)
        shares = [_along(s, dim, gradient) for s in coefficients.to(gradient.dtype).unbind(-1)]
        needed = ctx.needs_input_grad[4:]
        found = [_scaled(gradient, s, window) if need else None for s, need in zip(shares, needed, strict=True)]
        return (None, None, None, upstream, *found)


def _scaled(gradient: Tensor, share: Tensor, window: Window | None) -> Tensor:
    """Return the gradient of one expert, zero outside the window."""
    if window is None:
        return gradient * share
    whole, part = window.padded(gradient)
    torch.mul(gradient, share, out=part)
    return whole


def _row_sums(product: Tensor, dim: int, rows: int) -> Tensor:
    """Return the sum of each row, ``[rows]``; of everything where one row serves all."""
    if rows == 1:
        return product.sum().view(1)
    others = [d for d in range(product.ndim) if d != dim]
    return product.sum(others) if others else product
