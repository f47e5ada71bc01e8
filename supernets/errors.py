"""Errors of supernets; each message says what was given, what is allowed and what to do."""

from __future__ import annotations


class SupernetError(ValueError):
    """A supernet is built, loaded or used wrongly."""


class UnknownFamily(SupernetError):
    """No supernet family or named size is registered under the name."""


class CheckpointError(SupernetError):
    """A checkpoint file does not hold what the supernet needs."""


class UnsupportedModel(SupernetError):
    """A pre-trained model that no adapter can convert."""
