"""Criteria by name: which experts of a block matter most."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from search_spaces.errors import did_you_mean
from supernets.errors import SupernetError
from supernets.experts.blocks import Block
from supernets.experts.statistics import LayerStatistics

Score: TypeAlias = Callable[[Block, LayerStatistics], Tensor]
"""A block and what calibration knows of it -> float64 ``[E]``; experts of higher scores are kept."""


@dataclass(frozen=True)
class Criterion:
    """A registered criterion.

    Attributes:
        name: The name users give.
        score: The function.
        calibrated: Whether it needs calibration.
    """

    name: str
    score: Score
    calibrated: bool


_CRITERIA: dict[str, Criterion] = {}


def register_criterion(name: str, *, calibrated: bool = True) -> Callable[[Score], Score]:
    """Register a scoring function.

    Raises:
        SupernetError: The name is taken.
    """

    def register(score: Score) -> Score:
        if name in _CRITERIA:
            raise SupernetError(f"an expert criterion named {name!r} is registered already; choose another name")
        _CRITERIA[name] = Criterion(name, score, calibrated)
        return score

    return register


def list_criteria() -> list[str]:
    """Return the names, sorted."""
    return sorted(_CRITERIA)


def get_criterion(name: str) -> Criterion:
    """Return a criterion.

    Raises:
        SupernetError: It is not registered.
    """
    if name not in _CRITERIA:
        raise SupernetError(
            f"unknown expert criterion {name!r}{did_you_mean(name, _CRITERIA)}; available: {', '.join(_CRITERIA)}"
        )
    return _CRITERIA[name]
