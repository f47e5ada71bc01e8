"""What happens between the router and the experts: top-p, maps, constant experts."""

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


class MapHooks:
    """Hooks that let a stock experts module answer for more rows than it has experts; for extracted models."""

    @staticmethod
    def before(module: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """Translate the rows; what constants add is kept for `after`."""
        hidden, index, weights = args
        buffers = module._buffers
        constants = module._parameters.get("expert_constants")
        index, weights, module.__dict__["_added"] = to_experts(
            index, weights, buffers.get("expert_map"), constants, buffers.get("expert_places")
        )
        return hidden, index, weights

    @staticmethod
    def after(module: Any, _: Any, output: Tensor) -> Tensor:
        """Add what constant experts give."""
        added = module.__dict__.pop("_added", None)
        return output if added is None else output + added.to(output.dtype)


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
