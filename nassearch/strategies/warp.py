"""Monotone warping of a metric to something that a Gaussian process can model."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

_ROWS_FOR_SHAPE = 6
_POWERS = np.linspace(-1.0, 3.0, 81)
_BEYOND = 0.5  # spreads beyond the worst value to which predictions are taken back


class Warp(Protocol):
    """A monotone, invertible map of values that are to be made small; made from those that were measured."""

    def __init__(self, y: Values) -> None: ...

    def __call__(self, y: Values) -> Values:
        """Return the warped values, of the same shape."""

    def inverse(self, z: Values) -> Values:
        """Return values in their own unit."""

    def log_slope(self, y: Values) -> Values:
        """Return the logarithm of the derivative at the values, of the same shape."""


class Squeeze:
    """Leaves values as they are, but for those that are far worse than most.

    Broken networks (disconnected cells, accuracies at chance level) would otherwise decide the fit, and nothing is
    gained by predicting how bad they are. Values beyond the third quartile by more than twice the interquartile
    range grow logarithmically from there; all others are kept.

    Args:
        y: float ``[n]``, to be made small.
    """

    def __init__(self, y: Values) -> None:
        low, high = np.quantile(y, [0.25, 0.75])
        self._scale = float(high - low)
        self._start = float(high) + 2.0 * self._scale
        self._top = float(y.max())
        self._idle = self._scale <= 0 or self._top <= self._start

    def _over(self, y: Values) -> Values:
        return np.asarray(np.maximum(y - self._start, 0.0) / self._scale, dtype=np.float64)

    def __call__(self, y: Values) -> Values:
        """Return the squeezed values, of the same shape."""
        if self._idle:
            return y
        return np.asarray(np.minimum(y, self._start) + self._scale * np.log1p(self._over(y)), dtype=np.float64)

    def inverse(self, z: Values) -> Values:
        """Return the values in their own unit; what is squeezed ends at twice the worst excess seen."""
        if self._idle:
            return z
        most = np.log1p(2.0 * (self._top - self._start) / self._scale)
        over = np.clip((z - self._start) / self._scale, 0.0, most)
        return np.asarray(np.minimum(z, self._start) + self._scale * np.expm1(over), dtype=np.float64)

    def log_slope(self, y: Values) -> Values:
        """Return the logarithm of the derivative at the values, of the same shape."""
        return np.zeros(np.shape(y)) if self._idle else -np.log1p(self._over(y))


class Power:
    """The Yeo-Johnson power transform that makes values most normal (Yeo and Johnson, Biometrika 2000).

    Accuracies have a long tail of broken networks and latencies one of slow ones: unwarped, these decide the fit, and
    the few per cent that a search is about are within its error. As in HEBO (Cowen-Rivers et al., JAIR 2022) the power
    is the one of greatest likelihood; it comes from a fixed grid, so that it does not hang on the last bit.

    Args:
        y: float ``[n]``, to be made small.
    """

    def __init__(self, y: Values) -> None:
        low, self._centre, high = (float(q) for q in np.quantile(y, [0.25, 0.5, 0.75]))
        self._scale = (high - low) or float(np.ptp(y)) or 1.0
        self.power = 1.0
        if len(y) >= _ROWS_FOR_SHAPE and np.ptp(y) > 0:
            self.power = _most_normal((y - self._centre) / self._scale)
        warped = self(y)
        spread = float(np.ptp(warped))
        # A power that flattens the good side has an end there, just before which everything is endlessly good.
        best = float(self(y.min() - np.ptp(y)))
        self._bounds = max(float(warped.min()) - spread, best), float(warped.max()) + _BEYOND * spread

    def __call__(self, y: Values) -> Values:
        """Return the warped values, of the same shape."""
        return _yeo_johnson((y - self._centre) / self._scale, self.power)

    def inverse(self, z: Values) -> Values:
        """Return values in their own unit; none is better than the best seen by more than the range of those seen.

        What lies far beyond the worst is drawn to a bound too.
        """
        return self._centre + self._scale * _inverse(np.clip(z, *self._bounds), self.power)

    def log_slope(self, y: Values) -> Values:
        """Return the logarithm of the derivative at the values, of the same shape."""
        z = (y - self._centre) / self._scale
        return np.asarray((self.power - 1.0) * np.sign(z) * np.log1p(np.abs(z)) - np.log(self._scale))


def _most_normal(z: Values) -> float:
    """Return the power of greatest likelihood of values ``[n]`` that are not constant."""
    jacobian = float((np.sign(z) * np.log1p(np.abs(z))).sum())
    scores = []
    for power in _POWERS:
        variance = float(_yeo_johnson(z, float(power)).var())
        scores.append(-0.5 * len(z) * np.log(variance) + (power - 1.0) * jacobian if variance > 0 else -np.inf)
    return float(_POWERS[int(np.argmax(scores))])


def _yeo_johnson(z: Values, power: float) -> Values:
    size = np.log1p(np.abs(z))
    return np.where(z >= 0, _power(size, power), -_power(size, 2.0 - power))


def _power(logarithm: Values, power: float) -> Values:
    """Return ``(exp(logarithm) ** power - 1) / power``, which is the logarithm at power 0."""
    if abs(power) < 1e-9:
        return logarithm
    return np.asarray(np.expm1(power * logarithm) / power, dtype=np.float64)


def _inverse(w: Values, power: float) -> Values:
    positive = np.expm1(_logarithm(np.maximum(w, 0.0), power))
    negative = np.expm1(_logarithm(np.maximum(-w, 0.0), 2.0 - power))
    return np.where(w >= 0, positive, -negative)


def _logarithm(w: Values, power: float) -> Values:
    """Return what `_power` was given, for results at least 0; those it cannot have become its largest."""
    if abs(power) < 1e-9:
        return w
    return np.asarray(np.log1p(np.maximum(power * w, -1.0 + 1e-12)) / power, dtype=np.float64)
