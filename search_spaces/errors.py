"""Errors of search spaces; each message says what was given and what is allowed."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(given: object, allowed: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest allowed name, or ``""`` where none is near."""
    near = get_close_matches(str(given), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


class SearchSpaceError(ValueError):
    """A search space is declared or used wrongly."""


class InvalidArchitecture(SearchSpaceError):
    """An architecture does not belong to the space: an unknown gene, a value outside its choices, …"""


class UnknownSpace(SearchSpaceError):
    """No search space is registered under the name."""
