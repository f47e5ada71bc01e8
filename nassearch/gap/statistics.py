"""How well one set of qualities tells another: error, bias, rank correlation, regret, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nassearch.tasks.base import Direction

RESAMPLES = 10_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval; NaN where it is undefined."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """Return the fields as JSON data; None for NaN, which JSON does not have."""
        return {k: None if math.isnan(v) else v for k, v in vars(self).items()}


def resampled(n: int, seed: int = 0) -> Floats:
    """Return how often each of ``n`` architectures is in each bootstrap resample, float64 ``[RESAMPLES + 1, n]``.

    The first row is the sample itself. Figures of the same rows can be subtracted: the bootstrap is paired.
    """
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.concatenate([np.ones((1, n)), drawn.astype(np.float64)])


def estimate(figure: Floats) -> Estimate:
    """Return a figure of the sample and its percentile interval over the resamples (Efron and Tibshirani, 1993).

    Args:
        figure: Its values for the rows of `resampled`; resamples for which it is undefined (NaN) do not count.
    """
    drawn = figure[1:][np.isfinite(figure[1:])]
    low, high = np.quantile(drawn, [0.025, 0.975]) if len(drawn) else (math.nan, math.nan)
    return Estimate(float(figure[0]), float(low), float(high))


def agreement(told: Floats, true: Floats, direction: Direction, counts: Floats) -> dict[str, Floats]:
    """Return the figures of quality values beside the true ones, for each resample.

    Args:
        told: What a predictor says, in the metric's unit, float ``[n]``.
        true: What it is, float ``[n]``.
        direction: In which direction the metric is better.
        counts: How often each architecture counts, float ``[b, n]``.

    Returns:
        Name -> float64 ``[b]``: ``mae``; ``bias`` (told - true); ``mae_without_bias``; and those of `ranking`.
    """
    error = told - true
    share = counts / counts.sum(1, keepdims=True)
    bias = share @ error
    return {
        "mae": share @ np.abs(error),
        "bias": bias,
        "mae_without_bias": (share * np.abs(error[None] - bias[:, None])).sum(1),
        **ranking(told, true, direction, counts),
    }


def ranking(told: Floats, true: Floats, direction: Direction, counts: Floats) -> dict[str, Floats]:
    """Return ``kendall_tau`` (tau-b) and ``regret`` for each resample; arguments as `agreement`.

    The regret is the true quality that is lost by taking the architecture that is told to be best; where several are,
    their mean. ``told`` may be anything that is better in the metric's direction.
    """
    sign = 1.0 if direction == "max" else -1.0
    told, true = sign * told, sign * true
    return {"kendall_tau": _tau(told, true, counts), "regret": _regret(told, true, counts)}


def _tau(a: Floats, b: Floats, counts: Floats) -> Floats:
    """Return Kendall's tau-b, float64 ``[b]``; copies of one architecture are ties in both."""
    x, y = np.sign(a[:, None] - a[None]), np.sign(b[:, None] - b[None])

    def weigh(pairs: Floats) -> Floats:
        return np.asarray(((counts @ pairs) * counts).sum(1))

    untied = np.sqrt(weigh(x * x) * weigh(y * y))
    return np.asarray(np.divide(weigh(x * y), untied, out=np.full(len(counts), math.nan), where=untied > 0))


def _regret(told: Floats, true: Floats, counts: Floats) -> Floats:
    drawn = counts > 0
    seen = np.where(drawn, told, -np.inf)
    first = drawn & (seen == seen.max(1, keepdims=True))
    taken = (true * counts * first).sum(1) / (counts * first).sum(1)
    lost = np.where(drawn, true, -np.inf).max(1) - taken
    return np.asarray(np.maximum(lost, 0.0))  # rounding may leave less than nothing


def line_error(x: Floats, true: Floats) -> Floats:
    """Return the errors of a least-squares line through all other points, float64 ``[n]``; NaN where there is none."""
    n = len(x)
    design = np.stack([np.ones(n), x], axis=1)
    try:
        inverse = np.linalg.inv(design.T @ design)
    except np.linalg.LinAlgError:  # all x are equal
        return np.full(n, math.nan)
    hat = design @ inverse @ design.T
    with np.errstate(divide="ignore", invalid="ignore"):  # the line without a point that alone has its x is none
        return np.asarray((hat @ true - true) / (1 - np.diag(hat)))


def estimates(figures: Mapping[str, Floats]) -> dict[str, Estimate]:
    """Return all figures with their intervals."""
    return {name: estimate(values) for name, values in figures.items()}
