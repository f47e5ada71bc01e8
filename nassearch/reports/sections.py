"""Sections and pictures of a report that only some runs have: registered by the files that make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from nassearch.reports.markup import Markup
from nassearch.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Picture

    from nassearch.reports.results import Figures

Section: TypeAlias = "Callable[[Run, Figures], Markup]"
"""A run, and where figures go -> a section; empty where the run has nothing of the kind."""
Draw: TypeAlias = "Callable[[Run], Picture | None]"
"""A run -> a matplotlib figure; None where the run has nothing of the kind."""

S = TypeVar("S", bound="Section")
D = TypeVar("D", bound="Draw")
_SECTIONS: list[Section] = []
_PICTURES: dict[str, Draw] = {}


def register_section(section: S) -> S:
    """Register a section; they stand after what the front is made of, in the order of registration."""
    _SECTIONS.append(section)
    return section


def register_picture(name: str) -> Callable[[D], D]:
    """Register a picture under the name of its file, ``NAME.png`` in the run folder."""

    def register(draw: D) -> D:
        _PICTURES[name] = draw
        return draw

    return register


def sections(run: Run, figures: Figures) -> list[Markup]:
    """Return the registered sections that a run has."""
    return [made for section in _SECTIONS if (made := section(run, figures))]


def pictures(run: Run) -> dict[str, Picture]:
    """Return the registered pictures that a run has, by name."""
    return {name: made for name, draw in _PICTURES.items() if (made := draw(run)) is not None}
