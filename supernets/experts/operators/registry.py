"""Operators by name: what becomes of the experts that a configuration does not keep."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

from search_spaces.errors import did_you_mean
from supernets.errors import SupernetError
from supernets.experts.blocks import Block
from supernets.experts.plan import Plan
from supernets.experts.statistics import LayerStatistics


@dataclass(frozen=True)
class Request:
    """What an operator is asked for.

    Attributes:
        order: All experts, the most important first; protected ones before all others.
        kept: Those to keep, ascending; the same number of each routing group.
        protected: Kept, and never merged with others: super experts, and those that answer every token.
        width: Neurons of an expert; only `factored` operators look at it.
    """

    order: Sequence[int]
    kept: Sequence[int]
    protected: frozenset[int]
    width: int

    @property
    def by_rank(self) -> list[int]:
        """The kept experts, the most important first."""
        kept = set(self.kept)
        return [e for e in self.order if e in kept]

    @property
    def open(self) -> list[int]:
        """The kept experts that others may be merged into, the most important first."""
        return [e for e in self.by_rank if e not in self.protected]

    @property
    def others(self) -> list[int]:
        """The other experts, the most important first."""
        kept = set(self.kept)
        return [e for e in self.order if e not in kept]


@dataclass(frozen=True)
class Operator(ABC):
    """What becomes of the experts that are not kept; the fields of a subclass are its options.

    Attributes:
        name: The name users give.
        all_rows: Whether the router keeps all its rows. A stock class cannot hold that: experts answer for several.
        constants: Whether the others become constants.
        merges: Whether the others are merged into kept experts that are not protected. It is asked for a plan only
            where there is such a one: elsewhere nobody may change, and the others are dropped.
        drops: Whether the others are gone and nothing else changes: such operators that keep the same experts make
            equal networks.
        ordered: Whether it matters which experts the criterion keeps, not only how many.
        calibrated: Whether it needs calibration.
        factored: Whether experts are stored as factors, see `supernets.experts.factored`; protected ones stay whole.
            Such a plan is made for one width.
        offered: Whether a space has it without being asked to.
    """

    name: ClassVar[str]
    offered: ClassVar[bool] = True
    all_rows: ClassVar[bool] = False
    constants: ClassVar[bool] = False
    merges: ClassVar[bool] = False
    drops: ClassVar[bool] = False
    ordered: ClassVar[bool] = True
    calibrated: ClassVar[bool] = True
    factored: ClassVar[bool] = False

    def factors(self, hidden: int, width: int) -> tuple[int, int]:
        """Return how many weights (biases not counted) and places of rows a factored expert has.

        Raises:
            SupernetError: The operator makes none (the default).
        """
        raise SupernetError(f"expert operator {self.name!r} makes no factors of experts of {hidden} x {width}")

    def faults(self) -> str | None:
        """Return what is wrong with the options; None (the default) if all is well."""
        return None

    def impossible(self, block: Block, keep: int) -> str | None:
        """Return why a block cannot keep so many experts by this operator; None (the default) where it can."""
        return None

    @abstractmethod
    def plan(self, block: Block, statistics: LayerStatistics, request: Request) -> Plan:
        """Return what the block computes with. The block is not changed."""


_OPERATORS: dict[str, Operator] = {}


def register_operator(operator: Operator) -> Operator:
    """Register an operator with its default options.

    Raises:
        SupernetError: The name is taken.
    """
    if operator.name in _OPERATORS:
        raise SupernetError(f"an expert operator named {operator.name!r} is registered already; choose another name")
    _OPERATORS[operator.name] = operator
    return operator


def list_operators() -> list[str]:
    """Return the names, sorted."""
    return sorted(_OPERATORS)


def get_operator(text: str) -> Operator:
    """Return an operator by ``NAME`` or ``NAME:OPTION=VALUE,…``.

    Raises:
        SupernetError: Unknown name or option, or a value of the wrong kind.

    Example:
        >>> get_operator("m-smoe:reference=first").reference
        'first'
    """
    name, _, given = text.partition(":")
    if name not in _OPERATORS:
        raise SupernetError(
            f"unknown expert operator {name!r}{did_you_mean(name, _OPERATORS)}; available: {', '.join(_OPERATORS)}"
        )
    operator = _OPERATORS[name]
    options = {f.name: getattr(operator, f.name) for f in fields(operator)}
    changes: dict[str, Any] = {}
    for part in filter(None, given.split(",")):
        option, _, value = part.partition("=")
        if option not in options:
            raise SupernetError(
                f"expert operator {name!r} has no option {option!r}{did_you_mean(option, options)}; "
                f"allowed: {', '.join(options) or 'none'}"
            )
        changes[option] = _value(text, option, value, options[option])
    operator = replace(operator, **changes)
    if fault := operator.faults():
        raise SupernetError(f"expert operator {text!r}: {fault}")
    return operator


def _value(text: str, option: str, value: str, default: Any) -> Any:
    if isinstance(default, bool):
        if value not in ("true", "false"):
            raise SupernetError(f"{text!r}: {option} must be true or false, got {value!r}")
        return value == "true"
    try:
        return type(default)(value)
    except ValueError:
        raise SupernetError(f"{text!r}: {option} must be of kind {type(default).__name__}, got {value!r}") from None
