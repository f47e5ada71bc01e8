"""A predictor of one device or dataset as the prior of another: what is left to learn from 10-50 rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from predictors.model_errors import InvalidData
from predictors.quality import calibration_factor, cross_calibrated
from predictors.serialization import Record
from predictors.targets import LogTargets

if TYPE_CHECKING:
    from predictors.base import Predictor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Outputs = tuple[Floats, Floats]

_REWEIGHTINGS = 8
_HUBER = 1.345  # standard deviations up to which errors count in full (Huber, 1981)


@dataclass(frozen=True)
class Line:
    """``offset + scale * z`` of a prior's predictions, or the same in logarithms (then a power law).

    Attributes:
        offset: Value at z = 0.
        scale: Slope.
        log: Bounds of the target where both sides are logarithms.
        least: Smallest prediction of the prior that a logarithm is taken of.
    """

    offset: float
    scale: float
    log: LogTargets | None
    least: float

    @classmethod
    def fit(cls, z: Floats, y: Floats, *, log: bool) -> Self:
        """Fit robustly (Huber, by reweighting), with one row's worth of belief in proportionality.

        Args:
            z: The prior's predictions, float64 ``[n]``; positive where ``log``.
            y: Targets, float64 ``[n]``; positive where ``log``.
            log: Whether to fit logarithms.
        """
        bounds = LogTargets.fit("transfer", y) if log else None
        least = float(z.min()) / 2 if log else 0.0
        a, b = (np.log(z), np.log(y)) if log else (z, y)
        typical = 1.0 if log else float(y.mean()) / float(z.mean()) if z.mean() != 0 else 0.0
        weights = np.ones(len(a))
        for _ in range(_REWEIGHTINGS):
            centre, level = np.average(a, weights=weights), np.average(b, weights=weights)
            spread = float(weights @ (a - centre) ** 2)
            belief = spread / len(a)
            scale = (float(weights @ ((a - centre) * (b - level))) + belief * typical) / max(spread + belief, 1e-300)
            error = np.abs(b - level - scale * (a - centre))
            bound = _HUBER * 1.4826 * float(np.median(error))
            weights = np.minimum(1.0, max(bound, 1e-12 * float(np.abs(b).max())) / np.maximum(error, 1e-300))
        return cls(float(level - scale * centre), scale, bounds, least)

    def linked(self, values: Floats) -> Floats:
        """Return values or their logarithms, whichever the line is of."""
        return values if self.log is None else np.asarray(np.log(np.maximum(values, self.least)))

    def __call__(self, z: Floats) -> Floats:
        """Return the line at predictions ``[n]`` of the prior, as `linked` values."""
        return np.asarray(self.offset + self.scale * self.linked(z))

    def back(self, mean: Floats, std: Floats) -> Outputs:
        """Return linked values in the unit of the target."""
        return (mean, std) if self.log is None else self.log.back(mean, std)


@dataclass(frozen=True)
class Transfer:
    """A line through a prior's predictions, and a model of what it leaves or a noise level.

    Attributes:
        prior: The fitted prior.
        line: The line.
        residual: Fitted on the features, the linked prediction of the prior as one more; None for the line alone.
        level: Standard deviation around the line where it stands alone, linked.
    """

    prior: Predictor
    line: Line
    residual: Predictor | None
    level: float

    @property
    def kind(self) -> Literal["line", "residual"]:
        """Whether there is a model of what the line leaves."""
        return "line" if self.residual is None else "residual"

    def predict(self, X: Floats) -> Outputs:
        """Return mean and standard deviation ``[n]`` of rows ``[n, f]``."""
        z = self.prior._predict_any(X)[0]
        mean = self.line(z)
        if self.residual is None:
            return self.line.back(mean, np.full(len(X), self.level))
        rest, std = self.residual._predict_any(_design(X, z, self.line))
        return self.line.back(mean + rest, std)

    def store(self, record: Record) -> None:
        """Put everything but the prior into the record."""
        line = self.line
        bounds = None if line.log is None else [line.log.low, line.log.high]
        record.values["transfer"] = [line.offset, line.scale, line.least, self.level]
        record.values["transfer_log"] = bounds
        if self.residual is not None:
            record.children["residual"] = self.residual.to_record()

    @classmethod
    def restore(cls, record: Record, prior: Predictor, kind: type[Predictor]) -> Self:
        """Rebuild from `store`; the residual's model is of the class ``kind``."""
        offset, scale, least, level = (float(v) for v in record.values["transfer"])
        bounds = record.values["transfer_log"]
        line = Line(offset, scale, None if bounds is None else LogTargets(*bounds), least)
        child = record.children.get("residual")
        return cls(prior, line, None if child is None else kind.from_record(child), level)


def check_prior(owner: Predictor, prior: object, n_features: int) -> None:
    """Refuse what cannot be the prior of a predictor that is fitted on so many features.

    Raises:
        InvalidData: It is no predictor, not fitted, the predictor itself, or of other features.
    """
    from predictors.base import Predictor

    name = owner.name
    if not isinstance(prior, Predictor):
        raise InvalidData(f"{name}: prior must be a fitted predictor, got a {type(prior).__name__}")
    if prior.n_features is None:
        raise InvalidData(f"{name}: the prior, a {prior.name!r}, is not fitted; call its fit(X, y) first")
    if prior is owner:
        raise InvalidData(f"{name}: a predictor cannot be its own prior; make a new one to fit")
    if prior.n_features != n_features:
        raise InvalidData(
            f"{name}: the prior was fitted on {prior.n_features} features, X has {n_features}; are they of the same "
            "search space?"
        )


def choose_transfer(
    X: Floats, y: Floats, folds: Ints, prior: Predictor, fresh: Callable[[str | None], Predictor]
) -> tuple[Transfer | None, Outputs | None]:
    """Return the transfer that cross-validates best, or None where a fit without the prior does.

    Three ways compete on the mean absolute error of held-out rows: a line through the prior's predictions, the line
    with a model of its residuals, and no prior at all. Lines in logarithms compete with plain ones where both sides
    are positive.

    Args:
        X: Features, float64 ``[n, f]``.
        y: Targets, float64 ``[n]``, not constant.
        folds: Fold of each row, int64 ``[n]``.
        prior: Fitted on rows of f features.
        fresh: Returns an unfitted predictor with the given target.

    Returns:
        The transfer, and its out-of-fold mean and standard deviation ``[n]`` with the choice of each fold made on
        the others.
    """
    z = prior._predict_any(X)[0]
    log, line_alone = _chosen_line(z, y, folds)
    scratch = fresh(None)
    scratch._fit_any(X, y)
    ways = [line_alone, _cross_residual(X, z, y, folds, log, fresh), scratch._cross_predict()]
    best = int(np.argmin([_error(mean, y) for mean, _ in ways]))
    if best == 2:
        return None, None
    if best == 0:
        return _line_transfer(prior, z, y, log), _cross_chosen(ways, y, folds)
    line = Line.fit(z, y, log=log)
    rest = line.linked(y) - line(z)
    residual = fresh("raw")
    residual._fit_any(_design(X, z, line), rest)
    return Transfer(prior, line, residual, 0.0), _cross_chosen(ways, y, folds)


def fit_line(X: Floats, y: Floats, folds: Ints, prior: Predictor) -> tuple[Transfer, Outputs]:
    """Return a line through the prior's predictions, plain or of logarithms, and its out-of-fold predictions.

    Args:
        X: Features, float64 ``[n, f]``.
        y: Targets, float64 ``[n]``, not constant.
        folds: Fold of each row, int64 ``[n]``.
        prior: Fitted on rows of f features.
    """
    z = prior._predict_any(X)[0]
    log, out_of_fold = _chosen_line(z, y, folds)
    return _line_transfer(prior, z, y, log), out_of_fold


def _chosen_line(z: Floats, y: Floats, folds: Ints) -> tuple[bool, Outputs]:
    """Return whether the line of logarithms predicts held-out rows better, and the better one's predictions."""
    logs = [False, True] if y.min() > 0 and z.min() > 0 else [False]
    lines = [_cross_line(z, y, folds, log) for log in logs]
    best = int(np.argmin([_error(mean, y) for mean, _ in lines]))
    return logs[best], lines[best]


def _line_transfer(prior: Predictor, z: Floats, y: Floats, log: bool) -> Transfer:
    line = Line.fit(z, y, log=log)
    rest = line.linked(y) - line(z)
    std = np.full(len(y), float(np.sqrt(np.mean(rest**2))))
    return Transfer(prior, line, None, float(std[0]) * calibration_factor(rest, std))


def _design(X: Floats, z: Floats, line: Line) -> Floats:
    return np.hstack([X, line.linked(z)[:, None]])


def _error(mean: Floats, y: Floats) -> float:
    return float(np.mean(np.abs(mean - y)))


def _cross_line(z: Floats, y: Floats, folds: Ints, log: bool) -> Outputs:
    """Return out-of-fold mean and standard deviation ``[n]`` of the line alone."""
    mean, std = np.empty(len(y)), np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        line = Line.fit(z[~held], y[~held], log=log)
        rest = line.linked(y[~held]) - line(z[~held])
        level = max(float(np.sqrt(np.mean(rest**2))), 1e-12)
        mean[held], std[held] = line.back(line(z[held]), np.full(int(held.sum()), level))
    return mean, cross_calibrated(mean - y, std, folds)


def _cross_residual(
    X: Floats, z: Floats, y: Floats, folds: Ints, log: bool, fresh: Callable[[str | None], Predictor]
) -> Outputs:
    """Return out-of-fold mean and standard deviation ``[n]`` of the line with a model of its residuals."""
    mean, std = np.empty(len(y)), np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        line = Line.fit(z[~held], y[~held], log=log)
        model = fresh("raw")
        design = _design(X, z, line)
        model._fit_any(design[~held], line.linked(y[~held]) - line(z[~held]))
        rest, deviation = model._predict_any(design[held])
        mean[held], std[held] = line.back(line(z[held]) + rest, deviation)
    return mean, std


def _cross_chosen(ways: list[Outputs], y: Floats, folds: Ints) -> Outputs:
    """Return, in each fold, the predictions of the way that is best on the other folds."""
    mean, std = np.empty(len(y)), np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        best = int(np.argmin([_error(m[~held], y[~held]) for m, _ in ways]))
        mean[held], std[held] = ways[best][0][held], ways[best][1][held]
    return mean, std
