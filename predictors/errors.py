"""Errors of predictors and measurements; each message says what was given, what is allowed and what to do."""

from __future__ import annotations

from collections.abc import Sequence


class PredictorsError(ValueError):
    """A predictor, a measurement or a backend is declared or used wrongly."""


class PredictorError(PredictorsError):
    """A predictor is built, fitted, used or loaded wrongly."""


class UnknownPredictor(PredictorError):
    """No predictor is registered under the name."""


class NotFitted(PredictorError):
    """A predictor is asked before it was fitted."""


class MeasurementError(PredictorsError):
    """A module could not be measured: it raised, or its inputs do not belong to the setting."""


class BackendUnavailable(MeasurementError):
    """A backend cannot run here; the message says what is missing and how to get it."""


class UnknownBackend(PredictorsError):
    """No backend is registered under the name."""


class LatencyTableError(PredictorsError):
    """A table of block latencies is missing, damaged, incomplete, or of another space or device."""


class InvalidSetting(PredictorsError):
    """A latency setting is malformed. All its faults come together.

    Args:
        text: What was given.
        faults: One or several messages.
    """

    def __init__(self, text: str, faults: Sequence[str]) -> None:
        self.text = text
        self.faults = list(faults)
        if len(self.faults) == 1:
            super().__init__(f"latency setting {text!r}: {self.faults[0]}")
        else:
            listed = "\n".join(f"  - {f}" for f in self.faults)
            super().__init__(f"latency setting {text!r} has {len(self.faults)} faults:\n{listed}")

    def __reduce__(self) -> tuple[type[InvalidSetting], tuple[str, list[str]]]:
        """Rebuild from both arguments, so that the error crosses process borders."""
        return type(self), (self.text, self.faults)
