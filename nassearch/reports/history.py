"""How a search progressed: hypervolume after each evaluation; and how well predictions ranked what followed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nassearch.objectives import to_min
from nassearch.pareto import hypervolume_min, non_dominated_min, reference_point
from nassearch.reports.axes import ordinary
from nassearch.runs import Record, Run

MOST_STEPS = 150  # hypervolumes of many objectives take long: at most so many are computed


@dataclass(frozen=True)
class Progress:
    """Hypervolume against evaluations.

    Attributes:
        ids: Evaluations after which the hypervolume was computed, ascending.
        volumes: The hypervolume then, of feasible evaluations only.
        reference: The reference point, in the objectives' own units.
    """

    ids: list[int]
    volumes: list[float]
    reference: NDArray[np.float64]


def progress(run: Run) -> Progress | None:
    """Return the hypervolume of the feasible evaluations after each of them; None without any.

    The reference point is that of `reference_point` over all feasible evaluations of this run but far outliers
    behind the front: one interrupted measurement would make all progress look small.
    """
    records = run.records
    feasible = [r for r in records if r.feasible]
    if not feasible:
        return None
    objectives = run.goal.objectives
    values = run.objective_values(feasible)
    counts = np.array([r.on_front for r in feasible])
    counts |= np.stack([ordinary(column) for column in values.T]).all(axis=0)
    reference = reference_point(values[counts], objectives)
    worst = to_min(reference[None], objectives)[0]
    stride = max(1, math.ceil(len(records) / MOST_STEPS)) if len(objectives) > 2 else 1
    front = np.zeros((0, len(objectives)))
    ids, volumes, stale, volume = [], [], False, 0.0
    for k, r in enumerate(records, start=1):
        if r.feasible:
            point = to_min(run.objective_values([r]), objectives)
            if not (front <= point).all(axis=1).any():
                front = np.concatenate([front, point])
                front, stale = front[non_dominated_min(front)], True
        if k % stride and k < len(records):
            continue
        if stale:
            volume, stale = hypervolume_min(front, worst), False
        ids.append(r.id)
        volumes.append(volume)
    return Progress(ids, volumes, reference)


@dataclass(frozen=True)
class Forecast:
    """Predictions of one metric beside what was measured afterwards.

    Attributes:
        metric: The metric.
        records: Evaluations that were predicted and succeeded.
        predicted: Predicted values, float64 ``[n]``.
        measured: Values as evaluated, float64 ``[n]``.
        kendall_tau: Kendall's tau-b between both; NaN where undefined.
    """

    metric: str
    records: list[Record]
    predicted: NDArray[np.float64]
    measured: NDArray[np.float64]
    kendall_tau: float


def forecasts(records: Sequence[Record]) -> list[Forecast]:
    """Return predictions and outcomes of every metric that a strategy predicted."""
    metrics = dict.fromkeys(m for r in records for m, v in r.predicted.items() if _finite(v))
    found = []
    for metric in metrics:
        known = [r for r in records if _finite(r.predicted.get(metric)) and _finite(r.values.get(metric))]
        if known:
            predicted = np.array([r.predicted[metric] for r in known], dtype=np.float64)
            measured = np.array([r.values[metric] for r in known], dtype=np.float64)
            found.append(Forecast(metric, known, predicted, measured, _tau(predicted, measured)))
    return found


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _tau(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    from scipy.stats import kendalltau

    return float(kendalltau(a, b).statistic)
