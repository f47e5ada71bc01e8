"""The interface of a training method, and training methods by name."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from torch import Tensor

from search_spaces import SearchSpace
from search_spaces.errors import did_you_mean
from supernets.base import Supernet
from supernets.training.data import Batch
from supernets.training.errors import InvalidSettings, TrainingError, UnknownMethod

if TYPE_CHECKING:
    from supernets.training.passes import Passes


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own optimiser and learning-rate schedule.

    Attributes:
        name: For progress reports.
        start: Its first step.
        stop: One past its last step.
        lr: Factor on the learning rate.
    """

    name: str
    start: int
    stop: int
    lr: float = 1.0


class Method(ABC):
    """Which subnets run in a step, and what each learns from.

    Everything random is a function of the seed and the step, so that a resumed training goes on as it was.

    Args:
        space: The space of the supernet.
        total_steps: Optimiser steps of the whole training.
        seed: Of the sampled subnets.

    Attributes:
        name: The name in the registry.
        training_defaults: Values of `TrainSettings` that suit the method, where they differ from the general ones.
        orders_units: Whether the supernet's units should be ordered by importance before the first step.
        phases: The phases in order; they cover all steps.
    """

    name: ClassVar[str] = ""
    training_defaults: ClassVar[Mapping[str, Any]] = {}
    orders_units: ClassVar[bool] = False

    def __init__(self, space: SearchSpace, *, total_steps: int, seed: int = 0) -> None:
        self.space = space
        self.seed = seed
        self.phases: tuple[Phase, ...] = (Phase("all", 0, total_steps),)
        (self.largest,) = space.decode(space.largest[None])
        (self.smallest,) = space.decode(space.smallest[None])

    def phase(self, step: int) -> Phase:
        """Return the phase of a step."""
        return next(p for p in self.phases if p.start <= step < p.stop)

    def check(self, net: Supernet) -> None:  # noqa: B027 - most methods train any supernet
        """Check that the method can train a supernet, before any work; the supernet stays as it is.

        Raises:
            InvalidSettings: It cannot.
        """

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options as JSON data that tells this training from others; called after `check`.

        What a folder holds counts, not where it lies: a checkpoint may be resumed where everything was moved to.

        Args:
            options: As they were given.
        """
        return dict(options)

    def enter(self, phase: Phase, net: Supernet) -> None:  # noqa: B027 - most methods have one phase
        """Prepare the supernet for a phase; called before its first step, with the largest subnet active."""

    @abstractmethod
    def subnets(self, step: int) -> list[dict[str, Any]]:
        """Return the architectures of a step, in the order in which they run."""

    @abstractmethod
    def backward(self, batch: Batch, subnets: list[dict[str, Any]], passes: Passes) -> None:
        """Add the gradients of all subnets on one batch."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return tensors that a checkpoint must keep beside the supernet's own."""
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor], net: Supernet) -> None:  # noqa: B027
        """Restore what `state_dict` returned; the supernet has its weights already."""


_METHODS: dict[str, type[Method]] = {}
_Class = TypeVar("_Class", bound=type[Method])


def register_method(name: str) -> Callable[[_Class], _Class]:
    """Register a `Method` class under ``name``; keyword arguments of its constructor become options.

    Raises:
        TrainingError: The name is taken.
    """

    def register(cls: _Class) -> _Class:
        if name in _METHODS:
            raise TrainingError(f"a training method named {name!r} is registered already; choose another name")
        _METHODS[name] = cls
        cls.name = name
        return cls

    return register


def list_methods() -> list[str]:
    """Return the names of all training methods, sorted."""
    return sorted(_METHODS)


def method_options(name: str) -> dict[str, Any]:
    """Return the options of a method with their defaults.

    Raises:
        UnknownMethod: There is none; the message suggests the nearest name.
    """
    parameters = inspect.signature(_method_class(name)).parameters
    return {n: p.default for n, p in parameters.items() if n not in ("space", "total_steps", "seed")}


def method_settings(name: str) -> dict[str, Any]:
    """Return the values of `TrainSettings` that suit a method, e.g. for ``TrainSettings(epochs=3, **values)``.

    Raises:
        UnknownMethod: There is none; the message suggests the nearest name.
    """
    return dict(_method_class(name).training_defaults)


def orders_units(name: str) -> bool:
    """Return whether a method wants the supernet's units ordered by importance before the first step.

    Raises:
        UnknownMethod: There is none; the message suggests the nearest name.
    """
    return _method_class(name).orders_units


def make_method(name: str, space: SearchSpace, *, total_steps: int, seed: int = 0, **options: Any) -> Method:
    """Build the training method registered under ``name``.

    Args:
        name: One of `list_methods`.
        space: The space of the supernet.
        total_steps: Optimiser steps of the whole training.
        seed: Of the sampled subnets.
        options: Options of the method, see `method_options`.

    Raises:
        UnknownMethod: There is none; the message suggests the nearest name.
        InvalidSettings: Unknown options or wrong values of options, all of them together.
    """
    allowed = method_options(name)
    known = {n: v for n, v in options.items() if n in allowed}
    faults = [
        f"training method {name!r} has no option {n!r}{did_you_mean(n, allowed)}; "
        f"available: {', '.join(allowed) or 'none'}"
        for n in options
        if n not in allowed
    ]
    try:
        method = _method_class(name)(space, total_steps=total_steps, seed=seed, **known)
    except InvalidSettings as error:
        raise InvalidSettings([*faults, *error.faults]) from None
    if faults:
        raise InvalidSettings(faults)
    return method


def _method_class(name: str) -> type[Method]:
    if name not in _METHODS:
        raise UnknownMethod(
            f"unknown training method {name!r}{did_you_mean(name, _METHODS)}; available: {', '.join(list_methods())}"
        )
    return _METHODS[name]
