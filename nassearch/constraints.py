"""Constraints: limits on metrics, written as text and resolved once the bounds of the metric are known.

Grammar: ``METRIC OP NUMBER`` or ``METRIC OP NUMBER% [of largest|smallest]`` with OP one of ``<= < >= >``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.errors import ConfigError
from nassearch.objectives import METRIC_PATTERN

OPERATORS = ("<=", "<", ">=", ">")
REFERENCES = ("largest", "smallest")
GRAMMAR = (
    "write METRIC <= NUMBER, or METRIC <= NUMBER% of largest (or smallest), with <=, <, >= or >; "
    "for example latency_ms <= 20, or params_m <= 60% of largest"
)

_METRIC = re.compile(METRIC_PATTERN)
_OPERATOR = re.compile(r"[<>=!~≤≥]+")
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
STRICT_VIOLATION = 1e-9  # violation of "<" by a value on the limit: more than nothing, less than any other


@dataclass(frozen=True)
class Constraint:
    """A limit on a metric, absolute or relative to the largest or smallest network.

    Args:
        metric: Name of the metric.
        op: ``"<="``, ``"<"``, ``">="`` or ``">"``.
        number: The limit in the metric's unit, or in percent where ``of`` is given.
        of: ``"largest"``, ``"smallest"``, or None for an absolute limit.

    Raises:
        ConfigError: One of them is not allowed.

    Example:
        >>> c = Constraint.parse("params_m <= 60% of largest").resolve({"largest": 5.0, "smallest": 1.0})
        >>> c.limit
        3.0
    """

    metric: str
    op: str
    number: float
    of: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not _METRIC.fullmatch(self.metric):
            raise ConfigError(f"constraint: {self.metric!r} is not the name of a metric; {GRAMMAR}")
        if self.op not in OPERATORS:
            raise ConfigError(f"constraint on {self.metric!r}: unknown comparison {self.op!r}; {GRAMMAR}")
        if isinstance(self.number, bool) or not isinstance(self.number, int | float) or not math.isfinite(self.number):
            raise ConfigError(f"constraint on {self.metric!r}: {self.number!r} is not a finite number; {GRAMMAR}")
        if self.of is not None and self.of not in REFERENCES:
            raise ConfigError(f"constraint on {self.metric!r}: unknown reference {self.of!r}; {GRAMMAR}")
        if self.of is not None and self.number <= 0:
            raise ConfigError(f"constraint on {self.metric!r}: {self.number:g}% is not a positive share; {GRAMMAR}")
        # One form of each number, so that equal constraints are equal and print alike.
        object.__setattr__(self, "number", float(self.number) + 0.0)

    @classmethod
    def parse(cls, text: str) -> Constraint:
        """Read a constraint; ``Constraint.parse(str(c)) == c``.

        Raises:
            ConfigError: The text does not follow the grammar; the message names the part that is wrong.
        """
        if not isinstance(text, str):
            raise ConfigError(f"constraint {text!r} is not a text; {GRAMMAR}")
        found = _OPERATOR.search(text)
        if found is None:
            raise ConfigError(f"constraint {text!r} has no comparison; {GRAMMAR}")
        metric, op, limit = text[: found.start()].strip(), found.group(), text[found.end() :].strip()
        if not _METRIC.fullmatch(metric):
            what = f"{metric!r} is not the name of a metric" if metric else "the metric is missing"
            raise ConfigError(f"constraint {text!r}: {what}; {GRAMMAR}")
        if op in ("=", "=="):
            raise ConfigError(
                f"constraint {text!r}: networks that meet {op!r} exactly hardly exist; give a limit with <= or >=, "
                f"or two limits for a range; {GRAMMAR}"
            )
        op = {"≤": "<=", "≥": ">="}.get(op, op)
        if op not in OPERATORS:
            raise ConfigError(f"constraint {text!r}: unknown comparison {op!r}; {GRAMMAR}")
        number, of = _parse_limit(text, limit)
        return cls(metric, op, number, of)

    def __str__(self) -> str:
        number = repr(self.number).removesuffix(".0")
        return f"{self.metric} {self.op} {number}" + (f"% of {self.of}" if self.of else "")

    @property
    def relative(self) -> bool:
        """Whether the limit depends on the largest or smallest network."""
        return self.of is not None

    def resolve(self, bounds: Mapping[str, float] | None = None) -> ResolvedConstraint:
        """Return the constraint with its limit in the metric's unit.

        Args:
            bounds: The metric of the ``"largest"`` and ``"smallest"`` network; an absolute constraint needs
                neither, and where both are there violations are measured in units of their distance.

        Raises:
            ConfigError: The bound that the constraint refers to is missing or not finite.
        """
        known = {k: float(v) for k, v in (bounds or {}).items()}
        limit = self.number
        if self.of is not None:
            if not math.isfinite(known.get(self.of, math.nan)):
                raise ConfigError(
                    f"constraint '{self}': {self.metric!r} of the {self.of} network is not known; "
                    "give an absolute limit instead"
                )
            limit = self.number / 100.0 * known[self.of]
        spread = abs(known.get("largest", math.nan) - known.get("smallest", math.nan))
        candidates = (spread, abs(limit), 1.0)
        scale = next(s for s in candidates if math.isfinite(s) and s > 1e-12)
        return ResolvedConstraint(self.metric, self.op, limit, scale, self)


def _parse_limit(text: str, limit: str) -> tuple[float, str | None]:
    """Return number and reference of the part behind the comparison."""
    found = _NUMBER.match(limit)
    if found is None:
        what = f"{limit!r} does not start with a number" if limit else "the limit is missing"
        raise ConfigError(f"constraint {text!r}: {what}; {GRAMMAR}")
    number, rest = float(found.group()), limit[found.end() :].strip()
    if not rest:
        return number, None
    if not rest.startswith("%"):
        hint = "units belong to the name of the metric" if not rest.startswith("of") else "'of' needs a percentage"
        raise ConfigError(f"constraint {text!r}: {rest!r} behind the number is not understood ({hint}); {GRAMMAR}")
    words = rest[1:].split()
    if not words:
        return number, "largest"
    if len(words) != 2 or words[0] != "of" or words[1] not in REFERENCES:
        raise ConfigError(
            f"constraint {text!r}: {' '.join(words)!r} behind the percentage is not understood; {GRAMMAR}"
        )
    return number, words[1]


@dataclass(frozen=True)
class ResolvedConstraint:
    """A constraint whose limit is known.

    Args:
        metric: Name of the metric.
        op: ``"<="``, ``"<"``, ``">="`` or ``">"``.
        limit: In the metric's unit.
        scale: What counts as a violation of 1, in the metric's unit, so that violations can be added up.
        source: What the user wrote.
    """

    metric: str
    op: str
    limit: float
    scale: float
    source: Constraint

    def __str__(self) -> str:
        return f"{self.metric} {self.op} {self.limit:.6g}" if self.source.relative else str(self.source)

    def violation(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return by how much values miss the limit, in units of ``scale``.

        Args:
            values: ``[n]`` in the metric's unit.

        Returns:
            float64 ``[n]``: 0 where the limit is met, NaN where the value is NaN (a failed evaluation).
        """
        array = np.asarray(values, dtype=np.float64)
        with np.errstate(over="ignore"):
            excess = (array - self.limit if self.op[0] == "<" else self.limit - array) / self.scale
        missed = np.maximum(excess, 0.0)
        if self.op in ("<", ">"):
            missed = np.where(excess == 0, STRICT_VIOLATION, missed)
        return np.asarray(np.where(np.isnan(array), np.nan, missed), dtype=np.float64)

    def satisfied(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Return which values meet the limit, bool ``[n]``; NaN does not."""
        return np.asarray(self.violation(values) == 0.0)


def parse_constraints(texts: Sequence[str | Constraint]) -> list[Constraint]:
    """Return the constraints of a run; all faults are reported together.

    Raises:
        ConfigError: A text that is no constraint.
    """
    constraints: list[Constraint] = []
    faults: list[str] = []
    for text in texts:
        try:
            constraints.append(text if isinstance(text, Constraint) else Constraint.parse(text))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return constraints
