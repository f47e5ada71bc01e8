"""Strategies by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from nassearch.constraints import Constraint, ResolvedConstraint
from nassearch.errors import ConfigError
from nassearch.objectives import Objective
from nassearch.strategies.base import Analytic, Strategy
from search_spaces import SearchSpace
from search_spaces.errors import did_you_mean

S = TypeVar("S", bound=Strategy)

_REGISTRY: dict[str, type[Strategy]] = {}


def register_strategy(name: str) -> Callable[[type[S]], type[S]]:
    """Register a `Strategy` class under ``name``; keyword-only arguments of its constructor are its options.

    Raises:
        ValueError: The name is taken, or the class is no strategy.
    """

    def register(cls: type[S]) -> type[S]:
        if name in _REGISTRY:
            raise ValueError(f"a strategy named {name!r} is registered already; choose another name")
        if not issubclass(cls, Strategy):
            raise ValueError(f"{cls!r} is not a subclass of Strategy")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return register


def list_strategies() -> list[str]:
    """Return the names of all strategies, sorted."""
    return sorted(_REGISTRY)


def strategy_summary(name: str) -> str:
    """Return the first line of a strategy's documentation.

    Raises:
        ConfigError: There is no such strategy.
    """
    return (_find(name).__doc__ or "").strip().partition("\n")[0]


def strategy_options(name: str) -> dict[str, Any]:
    """Return the options of a strategy and their defaults.

    Raises:
        ConfigError: There is no such strategy.
    """
    common = set(inspect.signature(Strategy.__init__).parameters)
    options: dict[str, Any] = {}
    for cls in _find(name).__mro__:
        if cls is Strategy:
            break
        if "__init__" not in vars(cls):
            continue
        parameters = inspect.signature(vars(cls)["__init__"]).parameters.values()
        options |= {
            p.name: p.default
            for p in parameters
            if p.kind is p.KEYWORD_ONLY and p.name not in common and p.name not in options
        }
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return options


def takes_one_objective(name: str) -> bool:
    """Return whether a strategy refuses several objectives unless its option ``scalarise`` makes one of them.

    Raises:
        ConfigError: There is no such strategy.
    """
    return _find(name).single_objective


def strategy_class(name: str) -> type[Strategy]:
    """Return the class of a strategy, which says how it behaves.

    Raises:
        ConfigError: There is no such strategy.
    """
    return _find(name)


def _find(name: str) -> type[Strategy]:
    if name not in _REGISTRY:
        available = ", ".join(list_strategies())
        raise ConfigError(f"unknown strategy {name!r}{did_you_mean(name, _REGISTRY)}; available: {available}")
    return _REGISTRY[name]


def make_strategy(
    name: str,
    space: SearchSpace,
    *,
    objectives: Sequence[Objective | str],
    constraints: Sequence[Constraint | ResolvedConstraint | str] = (),
    seed: int = 0,
    analytic: Analytic | None = None,
    budget: int | None = None,
    **options: Any,
) -> Strategy:
    """Build a strategy by name.

    Args:
        name: One of `list_strategies`.
        space: The search space.
        objectives: What to optimise.
        constraints: Limits to satisfy.
        seed: Seed, at least 0.
        analytic: Maps rows to metrics that are exact, see `Strategy`.
        budget: Number of evaluations planned, where known.
        **options: Options of the strategy, see `strategy_options`.

    Raises:
        ConfigError: Unknown strategy or option, or an argument that is not allowed.

    Example:
        >>> from search_spaces import get_space
        >>> s = make_strategy("random", get_space("mobilenetv3-tiny"), objectives=["top1:max"])
        >>> s.ask(3).shape
        (3, 23)
    """
    cls = _find(name)
    allowed = strategy_options(name)
    faults = []
    for option in options:
        if option not in allowed:
            listed = ", ".join(f"{k}={v!r}" for k, v in allowed.items()) or "none"
            near = did_you_mean(option, allowed)
            faults.append(f"strategy {name!r} has no option {option!r}{near}; its options: {listed}")
    if faults:
        raise ConfigError(faults)
    return cls(
        space,
        objectives=objectives,
        constraints=constraints,
        seed=seed,
        analytic=analytic,
        budget=budget,
        **options,
    )
