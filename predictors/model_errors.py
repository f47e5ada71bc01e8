"""Errors of predictors; each message says what was given, what is allowed and what to do."""

from __future__ import annotations

from predictors.errors import NotFitted, PredictorError, UnknownPredictor

__all__ = ["InvalidData", "InvalidOption", "NotFitted", "PredictorError", "PredictorFileError", "UnknownPredictor"]


class InvalidOption(PredictorError):
    """An option that the predictor does not have, or a value that it does not allow."""


class InvalidData(PredictorError):
    """Features or targets that cannot be used: wrong shape, not finite, too few rows."""


class PredictorFileError(PredictorError):
    """A saved predictor that is missing, damaged, not ours or of a newer format."""
