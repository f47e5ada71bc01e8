"""The mixture of some tensors, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supernets.mixture.router import Router


class MixedValue(NamedTuple):
    """A mixture, and what the router had on the way: hidden units ``[H]`` and coefficients ``[rows, m]``."""

    value: Tensor
    hidden: Tensor
    coefficients: Tensor


def mix(experts: Sequence[Tensor], coefficients: Tensor, dim: int) -> Tensor:
    """Return the sum of the experts weighted by their coefficients, a new tensor.

    As a chain of interpolations: equal experts give that expert bit for bit, whatever the coefficients, and one-hot
    coefficients give the expert that they name.

    Args:
        experts: ``m`` tensors of one shape.
        coefficients: ``[rows, m]``, each row adds up to 1; one row serves all, else as many as ``dim`` is long.
        dim: The dimension of the rows.
    """
    result, total = experts[0], coefficients[:, 0]
    for j, expert in enumerate(experts[1:], 1):
        total = total + coefficients[:, j]
        share = torch.where(total > 0, coefficients[:, j] / total, 0.0)
        result = torch.lerp(result, expert, _along(share, dim, expert).to(expert.dtype))
    return result.clone() if len(experts) == 1 else result


def _along(rows: Tensor, dim: int, like: Tensor) -> Tensor:
    """Return ``[rows]`` in a shape that broadcasts along ``dim``."""
    shape = [1] * like.ndim
    shape[dim] = -1
    return rows.view(shape)


class Mixed(torch.autograd.Function):
    """A mixture that has been computed before, as a function of the router's weights and the experts.

    The forward pass hands the given value out, so it may come from a cache; nothing of the graph is kept with it.
    """

    @staticmethod
    def forward(ctx: Any, mixture: MixedValue, phi: Tensor, router: Router, dim: int, *tensors: Tensor) -> Tensor:
        """Return the value.

        Args:
            ctx: Of autograd.
            mixture: The mixture of these tensors.
            phi: The encoded architecture.
            router: Whose coefficients were used.
            dim: The dimension of the rows.
            *tensors: The four of `RouterWeights`, then the experts.
        """
        ctx.router, ctx.dim = router, dim
        ctx.save_for_backward(phi, mixture.hidden, mixture.coefficients, tensors[2], *tensors[4:])
        return mixture.value.view_as(mixture.value)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the tensors."""
        phi, hidden, coefficients, out_weight, *experts = ctx.saved_tensors
        dim, needed = ctx.dim, ctx.needs_input_grad[4:]
        scaled = [
            gradient * _along(coefficients[:, j], dim, gradient).to(gradient.dtype) if need else None
            for j, need in enumerate(needed[4:])
        ]
        found: tuple[Tensor | None, ...] = (None,) * 4
        if any(needed[:4]):
            agreement = torch.stack([_row_sums(gradient * e, dim, len(coefficients)) for e in experts], -1)
            upstream = agreement.to(coefficients.dtype)
            found = ctx.router.gradients(phi, out_weight, hidden, coefficients, upstream)
        return (None, None, None, None, *found, *scaled)


def _row_sums(product: Tensor, dim: int, rows: int) -> Tensor:
    """Return the sum of each row, ``[rows]``; of everything where one row serves all."""
    if rows == 1:
        return product.sum().view(1)
    others = [d for d in range(product.ndim) if d != dim]
    return product.sum(others) if others else product
