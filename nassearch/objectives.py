"""Objectives: which metric is made large or small."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nassearch.errors import ConfigError

DIRECTIONS = ("max", "min")
METRIC_PATTERN = r"[A-Za-z_][A-Za-z0-9_.\-]*(?:@[A-Za-z0-9_.\-]+)?"

_METRIC = re.compile(METRIC_PATTERN)
_EXAMPLE = "write METRIC:max or METRIC:min, for example top1:max or latency_ms@pi:min"


@dataclass(frozen=True)
class Objective:
    """A metric and the direction in which it improves.

    Args:
        metric: Name of the metric, unit included; ``latency_ms@pi`` is the metric in the setting named ``pi``.
        direction: ``"max"`` or ``"min"``.

    Raises:
        ConfigError: The name or the direction is not allowed.

    Example:
        >>> Objective.parse("top1:max").to_min([70.0])
        array([-70.])
    """

    metric: str
    direction: str

    def __post_init__(self) -> None:
        if not isinstance(self.metric, str) or not _METRIC.fullmatch(self.metric):
            raise ConfigError(f"objective {self.metric!r}: that is not the name of a metric; {_EXAMPLE}")
        if self.direction not in DIRECTIONS:
            raise ConfigError(
                f"objective {self.metric!r}: direction {self.direction!r} is neither 'max' nor 'min'; {_EXAMPLE}"
            )

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read ``"METRIC:max"`` or ``"METRIC:min"``; `str` gives the text back.

        Raises:
            ConfigError: The text is not of that form.
        """
        if not isinstance(text, str):
            raise ConfigError(f"objective {text!r} is not a text; {_EXAMPLE}")
        metric, colon, direction = text.strip().rpartition(":")
        if not colon:
            raise ConfigError(f"objective {text!r} has no direction; {_EXAMPLE}")
        return cls(metric.strip(), direction.strip())

    def __str__(self) -> str:
        return f"{self.metric}:{self.direction}"

    @property
    def sign(self) -> float:
        """1.0 where small values are good, -1.0 where large ones are."""
        return 1.0 if self.direction == "min" else -1.0

    def to_min(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return the values with the sign that makes smaller better, float64 of the same shape."""
        return self.sign * np.asarray(values, dtype=np.float64)


def parse_objectives(texts: Sequence[str | Objective]) -> list[Objective]:
    """Return the objectives of a run; all faults are reported together.

    Raises:
        ConfigError: None given, a text that is no objective, or a metric given twice.
    """
    objectives: list[Objective] = []
    faults: list[str] = []
    for text in texts:
        try:
            objectives.append(text if isinstance(text, Objective) else Objective.parse(text))
        except ConfigError as error:
            faults += error.faults
    metrics = [o.metric for o in objectives]
    faults += [f"objective {m!r} is given more than once" for m in sorted({m for m in metrics if metrics.count(m) > 1})]
    if not objectives and not faults:
        faults.append(f"no objective given; {_EXAMPLE}")
    if faults:
        raise ConfigError(faults)
    return objectives


def to_min(values: ArrayLike, objectives: Sequence[Objective]) -> NDArray[np.float64]:
    """Return ``[n, m]`` values of the objectives with the signs that make smaller better, float64 ``[n, m]``."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != len(objectives):
        raise ValueError(f"expected values [n, {len(objectives)}], one column an objective; got {list(array.shape)}")
    return np.asarray(array * np.array([o.sign for o in objectives]), dtype=np.float64)
