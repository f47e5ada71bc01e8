"""Search spaces by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch

from search_spaces.errors import SearchSpaceError, UnknownSpace, did_you_mean
from search_spaces.space import SearchSpace

Builder = Callable[[], SearchSpace]


@dataclass(frozen=True)
class SpaceEntry:
    """A registered space: how to build it and one line on what it is."""

    name: str
    build: Builder
    summary: str


_REGISTRY: dict[str, SpaceEntry] = {}


def register_space(name: str, summary: str = "") -> Callable[[Builder], Builder]:
    """Register a function that builds a space under ``name``.

    Args:
        name: The name users give, e.g. ``"ofa-mobilenetv3-w1.0"``.
        summary: One line for listings. Default: the first line of the function's docstring.

    Raises:
        SearchSpaceError: The name is taken.
    """

    def register(build: Builder) -> Builder:
        if name in _REGISTRY:
            raise SearchSpaceError(f"a search space named {name!r} is registered already; choose another name")
        first_line = (build.__doc__ or "").strip().splitlines()[:1]
        _REGISTRY[name] = SpaceEntry(name, build, summary or "".join(first_line))
        return build

    return register


def get_space(name: str) -> SearchSpace:
    """Build the space registered under ``name``.

    Raises:
        UnknownSpace: There is none; the message suggests the nearest name.
    """
    if name not in _REGISTRY:
        raise UnknownSpace(
            f"unknown search space {name!r}{did_you_mean(name, _REGISTRY)}; available: {', '.join(list_spaces())}"
        )
    return _REGISTRY[name].build()


def list_spaces(pattern: str = "*") -> list[str]:
    """Return the registered names that match a shell-style pattern, sorted."""
    return sorted(n for n in _REGISTRY if fnmatch(n, pattern))


def space_summary(name: str) -> str:
    """Return the one-line description of a registered space."""
    return _REGISTRY[name].summary
