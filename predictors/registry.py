"""Predictors by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from fnmatch import fnmatch
from typing import Any, TypeVar

from predictors.base import Predictor
from predictors.model_errors import InvalidOption, PredictorError, PredictorFileError, UnknownPredictor
from predictors.serialization import read_record
from search_spaces.errors import did_you_mean

_REGISTRY: dict[str, type[Predictor]] = {}
_UNLISTED: set[str] = set()

P = TypeVar("P", bound=Predictor)


def register_predictor(name: str, *, listed: bool = True) -> Callable[[type[P]], type[P]]:
    """Register a `Predictor` subclass under ``name``; the class gets it as its ``name``.

    Args:
        name: The name users give.
        listed: Whether the predictor works without options, so that it is one to choose from.

    Raises:
        PredictorError: The name is taken, or the class is not a predictor.

    Example:
        >>> @register_predictor("mean-of-targets")  # doctest: +SKIP
        ... class MeanOfTargets(Predictor): ...
    """

    def register(cls: type[P]) -> type[P]:
        if not (inspect.isclass(cls) and issubclass(cls, Predictor)):
            raise PredictorError(f"{cls!r} cannot be registered as {name!r}: it is not a subclass of Predictor")
        if name in _REGISTRY:
            raise PredictorError(f"a predictor named {name!r} is registered already; choose another name")
        cls.name = name
        _REGISTRY[name] = cls
        if not listed:
            _UNLISTED.add(name)
        return cls

    return register


def list_predictors(pattern: str = "*") -> list[str]:
    """Return the names that match a shell-style pattern of predictors that need no options, sorted."""
    return sorted(n for n in _registered() if n not in _UNLISTED and fnmatch(n, pattern))


def make_predictor(name: str, *, seed: int = 0, **options: Any) -> Predictor:
    """Make an unfitted predictor.

    Args:
        name: A registered name, e.g. ``"auto"``.
        seed: Seed of folds, subsampling and initial weights.
        **options: Options of that predictor.

    Raises:
        UnknownPredictor: There is none of that name; the message suggests the nearest.
        InvalidOption: The predictor has no such option, or does not allow the value.
    """
    cls = predictor_class(name)
    allowed = predictor_options(name)
    for option in options:
        if option not in allowed:
            raise InvalidOption(
                f"predictor {name!r} has no option {option!r}{did_you_mean(option, allowed)}; "
                f"its options: {', '.join(['seed', *allowed])}"
            )
    return cls(seed=seed, **options)


def predictor_class(name: str) -> type[Predictor]:
    """Return the class registered under ``name``.

    Raises:
        UnknownPredictor: There is none.
    """
    known = _registered()
    if name not in known:
        raise UnknownPredictor(
            f"unknown predictor {name!r}{did_you_mean(name, known)}; available: {', '.join(list_predictors())}"
        )
    return known[name]


def predictor_options(name: str) -> list[str]:
    """Return the names of the options of a registered predictor, without ``seed``."""
    parameters = inspect.signature(predictor_class(name)).parameters
    return [p for p in parameters if p != "seed"]


def load_predictor(path: str | os.PathLike[str]) -> Predictor:
    """Load what `Predictor.save` wrote; predictions are equal to the bit.

    Raises:
        PredictorFileError: Missing, damaged, not ours, of a newer format, or of a predictor unknown here.
    """
    record = read_record(path)
    name = record.values.get("name")
    known = _registered()
    if not isinstance(name, str) or name not in known:
        raise PredictorFileError(
            f"the predictor in {os.fspath(path)!r} is a {name!r}, which is not registered here; available: "
            f"{', '.join(list_predictors())}; import the package that registers it first"
        )
    try:
        return known[name].from_record(record)
    except PredictorFileError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise PredictorFileError(
            f"the {name!r} predictor in {os.fspath(path)!r} is damaged ({type(error).__name__}: {error}); "
            "fit and save it again"
        ) from error


def _registered() -> dict[str, type[Predictor]]:
    from predictors import models  # noqa: F401  (registers the predictors that ship with the package)

    return _REGISTRY
