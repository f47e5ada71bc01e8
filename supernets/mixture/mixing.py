"""The mixture of some tensors, and its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from supernets.mixture.router import Router, RouterWeights


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
    """A mixture that has been computed before, as a function of the experts and the router.

    The forward pass hands the given value out, so it may come from a cache; nothing of the graph is kept with it. The
    backward pass asks the router again.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, phi: Tensor, router: Router, dim: int, *tensors: Tensor) -> Tensor:
        """Return the value.

        Args:
            ctx: Of autograd.
            value: The mixture of these tensors.
            phi: The encoded architecture.
            router: Whose coefficients were used.
            dim: The dimension of the rows.
            *tensors: The four of `RouterWeights`, then the experts.
        """
        ctx.router, ctx.dim = router, dim
        ctx.save_for_backward(phi, *tensors)
        return value.view_as(value)

    @staticmethod
    @once_differentiable  # type: ignore[no-untyped-call, untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of the tensors."""
        phi, *tensors = ctx.saved_tensors
        needed = ctx.needs_input_grad[4:]
        inner = [t.detach().requires_grad_(need) for t, need in zip(tensors[:4], needed, strict=False)]
        routed = any(needed[:4])
        with torch.set_grad_enabled(routed), torch.autocast(gradient.device.type, enabled=False):
            coefficients = ctx.router.coefficients(phi, RouterWeights(*inner))
        fixed = coefficients.detach()
        experts = [
            gradient * _along(fixed[:, j], ctx.dim, gradient).to(gradient.dtype) if need else None
            for j, need in enumerate(needed[4:])
        ]
        found: list[Tensor | None] = [None] * 4
        if routed:
            agreement = torch.stack([_row_sums(gradient * e, ctx.dim, len(fixed)) for e in tensors[4:]], -1)
            wanted = [t for t in inner if t.requires_grad]
            given = iter(torch.autograd.grad(coefficients, wanted, agreement.to(coefficients.dtype)))
            found = [next(given) if t.requires_grad else None for t in inner]
        return (None, None, None, None, *found, *experts)


def _row_sums(product: Tensor, dim: int, rows: int) -> Tensor:
    """Return the sum of each row, ``[rows]``; of everything where one row serves all."""
    if rows == 1:
        return product.sum().view(1)
    others = [d for d in range(product.ndim) if d != dim]
    return product.sum(others) if others else product
