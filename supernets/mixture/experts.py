"""How experts start."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from supernets.mixture.spec import MixtureSpec


@torch.no_grad()
def initialise(experts: Sequence[Tensor], spec: MixtureSpec) -> None:
    """Give the experts of one parameter their first values, in place.

    Copies: the first one's value plus noise that adds up to zero, so that an equal mixture is that value. Experts that
    are equal would give no router a gradient, and Adam, which does not see the scale of a gradient, would move all of
    them alike. Independent: the others are drawn anew with the first one's root mean square; a bias of zeros stays so.

    Args:
        experts: The parameter of each expert; the first holds the layer's value.
        spec: Of the mixture.
    """
    first = experts[0]
    spread = first.float().square().mean().sqrt()
    if spec.init == "independent":
        for expert in experts[1:]:
            expert.copy_(torch.randn(first.shape) * spread.cpu())
        return
    for expert in experts[1:]:
        expert.copy_(first)
    if spec.noise == 0 or spread == 0 or len(experts) == 1:
        return
    noise = torch.randn(len(experts), *first.shape) * spread.cpu() * spec.noise
    noise -= noise.mean(0, keepdim=True)
    for expert, own in zip(experts, noise, strict=True):
        expert.add_(own.to(expert.device, expert.dtype))
