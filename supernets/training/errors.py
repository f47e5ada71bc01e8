"""Errors of supernet training; each message says what was given, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Sequence

from supernets.errors import SupernetError


class TrainingError(SupernetError):
    """Supernet training cannot start or go on."""


class UnknownMethod(TrainingError):
    """No training method is registered under the name."""


class InvalidSettings(TrainingError):
    """Settings or options of a training method that make no sense, all of them together.

    Args:
        faults: One message per fault.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(faults)
        if len(self.faults) == 1:
            super().__init__(self.faults[0])
        else:
            listed = "\n".join(f"  - {f}" for f in self.faults)
            super().__init__(f"{len(self.faults)} training settings need your attention:\n{listed}")


class ResumeError(TrainingError):
    """A checkpoint that is damaged, belongs to another training, or would be overwritten."""


class NonFiniteLoss(TrainingError):
    """The loss became NaN or infinite; the last checkpoint is from before that."""
