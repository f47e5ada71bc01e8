"""Checks of option values, with the option, its value and the allowed range in the message."""

from __future__ import annotations

import math

from predictors.model_errors import InvalidOption


def whole(predictor: str, option: str, value: object, *, at_least: int) -> int:
    """Return ``value`` if it is an integer >= ``at_least``.

    Raises:
        InvalidOption: It is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise InvalidOption(f"{predictor}: {option} must be an integer >= {at_least}, got {value!r}")
    return value


def real(predictor: str, option: str, value: object, *, above: float = 0.0, at_most: float = math.inf) -> float:
    """Return ``value`` as a float if ``above < value <= at_most``.

    Raises:
        InvalidOption: It is not.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not above < float(value) <= at_most or math.isinf(float(value)):  # type: ignore[arg-type]
        limit = "" if math.isinf(at_most) else f" and <= {at_most:g}"
        raise InvalidOption(f"{predictor}: {option} must be a number > {above:g}{limit}, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def reals(predictor: str, option: str, values: object) -> list[float]:
    """Return ``values`` as floats if they are one or several positive numbers.

    Raises:
        InvalidOption: They are not.
    """
    if not isinstance(values, list | tuple) or not values:
        raise InvalidOption(f"{predictor}: {option} must be a list of positive numbers, got {values!r}")
    return [real(predictor, option, v) for v in values]


def choice(predictor: str, option: str, value: object, allowed: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``allowed``.

    Raises:
        InvalidOption: It is not.
    """
    if value not in allowed:
        names = ", ".join(repr(a) for a in allowed)
        raise InvalidOption(f"{predictor}: {option} must be one of {names}, got {value!r}")
    return str(value)
