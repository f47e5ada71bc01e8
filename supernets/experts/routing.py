"""What happens between the router and the experts: top-p, maps, constant experts, experts that always answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def keep_top_p(logits: Tensor, weights: Tensor, index: Tensor, p: float, *, sigmoid: bool) -> Tensor:
    """Return the weights with those beyond top-p set to zero.

    Dynamic top-p (Huang et al., ACL 2024, arXiv:2403.07652): in descending order of probability, experts count until
    their cumulative probability reaches ``p``, the one that reaches it included. Not renormalised. At most those that
    top-k chose.

    Args:
        logits: Of the router, ``[T, R]``.
        weights: ``[T, k]``.
        index: The chosen rows, ``[T, k]``.
        p: Above 0; at 1 all count.
        sigmoid: Whether probabilities are sigmoids, divided by their sum.
    """
    scores = logits.float().sigmoid() if sigmoid else logits.float().softmax(-1)
    if sigmoid:
        scores = scores / scores.sum(-1, keepdim=True)
    chosen, order = scores.gather(1, index).sort(dim=-1, descending=True, stable=True)
    before = chosen.cumsum(-1) - chosen
    active = torch.zeros_like(before, dtype=torch.bool).scatter(1, order, before < p)
    active.scatter_(1, order[:, :1], torch.ones_like(active[:, :1]))  # one expert always answers
    return weights * active


def to_experts(
    index: Tensor, weights: Tensor, target: Tensor | None, constants: Tensor | None, places: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Translate rows of the router to experts.

    Returns:
        Index and weights for the experts, and what constant experts add, ``[T, H]`` or None. A stock kernel computes
        the expert that stands in for a constant one, at weight zero.
    """
    added = None
    if constants is not None and places is not None:
        place = places[index]
        constant = place >= 0
        added = ((weights * constant).unsqueeze(-1) * constants[place.clamp(min=0)]).sum(1)
        weights = weights.masked_fill(constant, 0.0)
    return (index if target is None else target[index]), weights, added


def with_always(
    index: Tensor, weights: Tensor, always: Tensor | None, always_weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Append experts that answer every token, at constant weights, to those that were chosen: ``[T, k + S]``."""
    if always is None or always_weights is None:
        return index, weights
    n = len(index)
    constant = always_weights.to(weights.dtype).expand(n, -1)
    return torch.cat([index, always.expand(n, -1)], 1), torch.cat([weights, constant], 1)


def nothing_routed(hidden: Tensor, n_rows: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a router without rows says: logits ``[T, n_rows]`` of zero, no weight and no expert, ``[T, 0]``."""
    flat = hidden.reshape(-1, hidden.shape[-1])
    none = flat.new_zeros(len(flat), 0)
    return flat.new_zeros(len(flat), n_rows), none, none.long()


class MapHooks:
    """Hooks that let a stock experts module answer for other rows than it has experts; for extracted models.

    What they read is stored in the module by these names; each may be missing: buffers ``expert_map`` (row -> expert),
    ``expert_places`` (row -> constant, or -1), ``expert_scale`` (of the chosen experts' weights), ``expert_always`` and
    ``expert_always_weights``; the parameter ``expert_constants``. See `supernets.experts.plan.Plan`.
    """

    @staticmethod
    def before(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Translate the rows; what constants add is kept for `after`."""
        hidden, index, weights = args
        buffers = module._buffers
        scale, constants = buffers.get("expert_scale"), module._parameters.get("expert_constants")
        index, weights, module.__dict__["_added"] = to_experts(
            index,
            weights if scale is None else weights * scale.to(weights.dtype),
            buffers.get("expert_map"),
            constants,
            buffers.get("expert_places"),
        )
        return hidden, *with_always(index, weights, buffers.get("expert_always"), buffers.get("expert_always_weights"))

    @staticmethod
    def after(module: Any, _: Any, output: Tensor) -> Tensor:
        """Add what constant experts give."""
        added = module.__dict__.pop("_added", None)
        return output if added is None else output + added.to(output.dtype)


def silent_router(_: Any, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Stand in for the forward method of a router without rows; for extracted models."""
    return nothing_routed(hidden)


def silent_experts(_: Any, hidden: Tensor, *__: Tensor) -> Tensor:
    """Stand in for the forward method of experts of which none is left; for extracted models."""
    return torch.zeros_like(hidden)


class TopPHook:
    """A hook that zeroes weights beyond top-p; for extracted models.

    Args:
        p: The probability.
        sigmoid: As in `keep_top_p`.
    """

    def __init__(self, p: float, *, sigmoid: bool) -> None:
        self.p = p
        self.sigmoid = sigmoid

    def __call__(self, _: Any, __: Any, output: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the router's output with fewer weights."""
        logits, weights, index = output
        return logits, keep_top_p(logits, weights, index, self.p, sigmoid=self.sigmoid), index
