"""Axes of a plot: which metric, its unit and direction, and the range worth showing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from nassearch.metrics import ACCURACIES, PERCENTAGES, base_name
from nassearch.runs import Record, Run
from search_spaces.errors import did_you_mean

_UNITS = {"params_m": "M", "macs_m": "M", "size_mb": "MB", "latency_ms": "ms", "peak_memory_mb": "MB"}
_BETTER = {"max": "higher is better", "min": "lower is better"}
_FENCE = 3.0  # Tukey's outer fence: points beyond it are left outside the axes


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Attributes:
        metric: Name of the metric; None for the number of the evaluation.
        direction: ``"max"`` or ``"min"`` for an objective, else None.
    """

    metric: str | None
    direction: str | None = None

    @property
    def label(self) -> str:
        """Metric, unit and direction, e.g. ``top1 [%], higher is better``."""
        if self.metric is None:
            return "evaluation, in the order of asking"
        unit = unit_of(self.metric)
        text = f"{self.metric} [{unit}]" if unit else self.metric
        return f"{text}, {_BETTER[self.direction]}" if self.direction else text

    def of(self, record: Record) -> float:
        """Return a record's value as the search saw it; NaN where it has none."""
        return float(record.id) if self.metric is None else record.values.get(self.metric, math.nan)

    def second_look(self, record: Record) -> float | None:
        """Return the value of the report split or of the second measurement, or None where there is neither."""
        if self.metric is None:
            return None
        return record.report.get(self.metric, record.remeasured.get(self.metric))


def unit_of(metric: str) -> str:
    """Return the unit of a metric; empty where its name does not tell."""
    base = base_name(metric)
    return "%" if base.partition(".")[0] in (*ACCURACIES, *PERCENTAGES) else _UNITS.get(base, "")


def axis_of(run: Run, metric: str) -> Axis:
    """Return the axis of a metric of the run.

    Raises:
        ConfigError: The metric was not evaluated; the message says which were.
    """
    directions = {o.metric: o.direction for o in run.goal.objectives}
    known = list(dict.fromkeys([*run.goal.metrics, *(m for r in run.records for m in r.values)]))
    if metric not in known:
        raise ConfigError(
            f"metric {metric!r} was not evaluated in this run{did_you_mean(metric, known)}; "
            f"plot one of: {', '.join(known)}"
        )
    return Axis(metric, directions.get(metric))


def choose_axes(run: Run, x: str | None = None, y: str | None = None) -> tuple[Axis, Axis]:
    """Return both axes: by default the second objective (or the evaluation's number) and the first.

    Raises:
        ConfigError: A metric that was not evaluated.
    """
    metrics = [o.metric for o in run.goal.objectives]
    if y is None:
        y = next((m for m in metrics if m != x), metrics[0])
    if x is None:
        others = [m for m in metrics[1:] + metrics[:1] if m != y]
        return (axis_of(run, others[0]) if others else Axis(None)), axis_of(run, y)
    return axis_of(run, x), axis_of(run, y)


def ordinary(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which values are no far outliers, bool ``[n]``: within three interquartile ranges of the quartiles.

    One interrupted measurement may take ten times as long as all others.
    """
    if len(values) < 12:  # fewer do not tell what an outlier is
        return np.ones(len(values), dtype=bool)
    first, third = np.quantile(values, [0.25, 0.75])
    reach = _FENCE * (third - first)
    if reach == 0:
        return np.ones(len(values), dtype=bool)
    return np.asarray((values >= first - reach) & (values <= third + reach))


def show_range(values: Iterable[float], must: Iterable[float] = ()) -> tuple[float, float]:
    """Return the range of an axis: all values but far outliers, everything of ``must``, and a little margin.

    Args:
        values: Plotted values; those that are not finite are ignored.
        must: Values that must be inside.
    """
    found = np.array([v for v in values if math.isfinite(v)])
    needed = np.array([v for v in must if math.isfinite(v)])
    if not len(found) and not len(needed):
        return 0.0, 1.0
    found = found[ordinary(found)]
    shown = np.concatenate([found, needed])
    low, high = float(shown.min()), float(shown.max())
    margin = 0.06 * (high - low) or 0.1 * abs(low) or 1.0
    return low - margin, high + margin
