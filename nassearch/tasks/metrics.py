"""Exact counting of right answers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def counts(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return float64 ``[3]``: how many targets are first, how many among the first five, and the summed loss.

    Of equal scores the lower class comes first, on every device; an answer with a score that is not finite
    counts as wrong.

    Args:
        outputs: Scores ``[n, classes]``.
        targets: int64 ``[n]``.
    """
    scores = outputs.detach()
    if scores.device.type == "mps":  # has no float64
        scores = scores.cpu()
    scores = scores.double()
    targets = targets.to(scores.device)
    own = scores.gather(1, targets[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device)[None, :] < targets[:, None]
    ahead = ((scores > own) | ((scores == own) & lower)).sum(1)
    finite = torch.isfinite(scores).all(1)
    loss = nn.functional.cross_entropy(scores, targets, reduction="sum")
    return torch.stack([((ahead < k) & finite).sum().double() for k in (1, 5)] + [loss])


def rates(total: Tensor, n: int, n_classes: int) -> dict[str, float]:
    """Turn summed `counts` of ``n`` items into top1 and top5 (0-100; top5 for more than 5 classes) and mean loss."""
    first, five, loss = total.tolist()
    result = {"top1": 100.0 * first / n}
    if n_classes > 5:
        result["top5"] = 100.0 * five / n
    result["loss"] = loss / n
    return result
