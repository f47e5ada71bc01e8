"""Exact counting of right answers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
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


class Tally(Protocol):
    """Counts right answers, batch by batch."""

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch: scores ``[n, classes]`` and int64 ``[n]``."""

    def result(self) -> dict[str, float]:
        """Return the metrics of everything counted."""


class RateTally:
    """top1, top5 (for more than 5 classes) and loss.

    Args:
        n_classes: Number of classes.
    """

    def __init__(self, n_classes: int) -> None:
        self._n_classes, self._n = n_classes, 0
        self._total = torch.zeros(3, dtype=torch.float64)

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch."""
        self._total += counts(outputs, targets).cpu()
        self._n += len(targets)

    def result(self) -> dict[str, float]:
        """Return the metrics of everything counted."""
        return rates(self._total, self._n, self._n_classes)


class LabelTally:
    """accuracy, f1, matthews (all in percent) and loss.

    F1 is that of the second of two classes, as GLUE has it; of more classes the mean over them. An answer with a
    score that is not finite counts as the class behind the right one.
    """

    def __init__(self) -> None:
        self._total = torch.zeros(3, dtype=torch.float64)
        self._wanted: list[NDArray[np.int64]] = []
        self._given: list[NDArray[np.int64]] = []
        self._classes = 0

    def add(self, outputs: Tensor, targets: Tensor) -> None:
        """Count a batch."""
        self._total += counts(outputs, targets).cpu()
        scores, wanted = outputs.detach().float().cpu().numpy(), targets.cpu().numpy()
        self._classes = scores.shape[1]
        wrong = (wanted + 1) % self._classes
        self._given.append(np.where(np.isfinite(scores).all(1), scores.argmax(1), wrong))
        self._wanted.append(wanted)

    def result(self) -> dict[str, float]:
        """Return the metrics of everything counted."""
        from sklearn.metrics import f1_score, matthews_corrcoef

        wanted, given = np.concatenate(self._wanted), np.concatenate(self._given)
        first, _, loss = self._total.tolist()
        average = "binary" if self._classes == 2 else "macro"
        return {
            "accuracy": 100.0 * first / len(wanted),
            "f1": 100.0 * float(f1_score(wanted, given, average=average, zero_division=0)),
            "matthews": 100.0 * float(matthews_corrcoef(wanted, given)),
            "loss": loss / len(wanted),
        }
