"""Collect the faults of settings, so that all of them are reported together."""

from __future__ import annotations

import math
from collections.abc import Collection

from search_spaces.errors import did_you_mean
from supernets.training.errors import InvalidSettings


class Faults(list[str]):
    """Messages about wrong values; `raise_any` raises them as one error."""

    def integer(self, name: str, value: object, *, at_least: int) -> None:
        """Note a fault unless ``value`` is an integer that is great enough."""
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            self.append(f"{name} must be an integer >= {at_least}, got {value!r}")

    def number(
        self,
        name: str,
        value: object,
        *,
        above: float | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        below: float | None = None,
    ) -> None:
        """Note a fault unless ``value`` is a finite number within the bounds."""
        limits = [(">", above), (">=", at_least), ("<=", at_most), ("<", below)]
        allowed = " and ".join(f"{sign} {bound:g}" for sign, bound in limits if bound is not None)
        ok = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if ok:
            assert isinstance(value, int | float)  # noqa: S101 - for the type checker
            ok = (
                (above is None or value > above)
                and (at_least is None or value >= at_least)
                and (at_most is None or value <= at_most)
                and (below is None or value < below)
            )
        if not ok:
            self.append(f"{name} must be a number {allowed}".rstrip() + f", got {value!r}")

    def boolean(self, name: str, value: object) -> None:
        """Note a fault unless ``value`` is True or False."""
        if not isinstance(value, bool):
            self.append(f"{name} must be true or false, got {value!r}")

    def one_of(self, name: str, value: object, allowed: Collection[str]) -> None:
        """Note a fault unless ``value`` is one of the allowed names."""
        if value not in allowed:
            self.append(f"{name} must be one of {sorted(allowed)}, got {value!r}{did_you_mean(value, allowed)}")

    def raise_any(self) -> None:
        """Raise the collected faults.

        Raises:
            InvalidSettings: There are some.
        """
        if self:
            raise InvalidSettings(self)
