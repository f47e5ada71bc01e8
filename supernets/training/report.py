"""What a finished training reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TrainReport:
    """Figures of a finished training.

    Attributes:
        method: Name of the method.
        steps: Optimiser steps.
        epochs: Passes over the training data.
        images: Training inputs, each counted once whatever the number of subnets.
        seconds: Wall time, interrupted parts since their last checkpoint not counted.
        loss: Of the last step's first subnet.
        top1_largest: Score of the largest subnet at the end, 0-100; None where it was not evaluated.
        top1_smallest: Score of the smallest subnet at the end, 0-100; None where it was not evaluated.
        history: Evaluations: ``step``, ``loss``, ``top1_largest``, ``top1_smallest``.
        resumed_from: Step of the checkpoint from which the training went on; None: from none.
        settings: The settings as JSON data.
    """

    method: str
    steps: int
    epochs: float
    images: int
    seconds: float
    loss: float
    top1_largest: float | None
    top1_smallest: float | None
    history: tuple[dict[str, Any], ...]
    resumed_from: int | None
    settings: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON data."""
        return {**asdict(self), "history": list(self.history)}
