"""A convex combination of different predictors, weighted by how well they do on rows they have not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from predictors.base import Floats, Ints, Predictor
from predictors.model_errors import InvalidOption
from predictors.quality import calibration_factor, cross_calibrated
from predictors.registry import make_predictor, predictor_options, register_predictor
from predictors.serialization import Record

DEFAULT_MODELS = ("gp", "ridge", "svr", "xgboost")
# Fewer trees than on their own: the stack's other members take care of the smooth part.
_DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {
    "ridge": {"products": 10, "target": "auto"},
    "xgboost": {"trees": 150, "learning_rate": 0.12},
}
_LEAST_WEIGHT = 0.05
_HUBER = 1.345  # standard deviations up to which errors count in full (Huber, 1981)
_REWEIGHTINGS = 5


@register_predictor("stack")
class Stack(Predictor):
    """Non-negative stack (Breiman, 1996), robust against outliers.

    All members share the same folds. Weights are the convex combination with the least Huber loss of the members'
    out-of-fold predictions. `quality` comes from those predictions too, with the weights of each fold fitted on the
    other folds, and so costs nothing beyond the fit.

    Args:
        seed: Seed of folds and members.
        models: Names of the predictors to stack; add ``"mlp"`` for larger data.
        model_options: Options of each, by name.

    Attributes:
        weights: Weight of each member after `fit`; members without weight are dropped.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        models: Sequence[str] = DEFAULT_MODELS,
        model_options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        names = [models] if isinstance(models, str) else list(models)
        if not names or len(set(names)) < len(names) or self.name in names:
            raise InvalidOption(
                f"{self.name}: models must be one or several different predictors other than {self.name!r}, "
                f"got {names!r}"
            )
        given = {k: dict(v) for k, v in (model_options or {}).items()}
        stray = sorted(set(given) - set(names))
        if stray:
            raise InvalidOption(
                f"{self.name}: model_options for {stray}, which are not among its models {names}; "
                "add them to models or leave their options out"
            )
        super().__init__(seed=seed, models=names, model_options=given)
        self._made = {n: make_predictor(n, seed=seed, **self._options_of(n)) for n in names}
        self.weights: dict[str, float] = {}
        self._factor = 1.0

    def _options_of(self, name: str) -> dict[str, Any]:
        defaults = _DEFAULT_OPTIONS.get(name, {})
        usable = {k: v for k, v in defaults.items() if k in predictor_options(name)}
        return {**usable, **self.options["model_options"].get(name, {})}

    def _fit(self, X: Floats, y: Floats) -> None:
        names = list(self._made)
        means, stds = np.empty((len(names), len(y))), np.empty((len(names), len(y)))
        for i, name in enumerate(names):
            model = self._made[name]
            model._fit_any(X, y)
            means[i], stds[i] = model._cross_predict()
        weights = self._weigh(means, y, self._folds)
        self.weights = {n: float(w) for n, w in zip(names, weights, strict=True) if w > 0}

        mean, std = _mixture(weights, means, stds)
        self._factor = calibration_factor(mean - y, std)
        used = np.stack([np.stack(self._made[name]._held_out_as_used()) for name in names])
        mean, std = _mixture(weights, used[:, 0], used[:, 1])
        self._as_used = mean, self._factor * std
        self._out_of_fold = self._cross_stacked(means, stds, y)

    def _weigh(self, means: Floats, y: Floats, folds: Ints) -> Floats:
        """Return the weights ``[m]`` of members with out-of-fold predictions ``[m, n]`` of targets ``[n]``."""
        return robust_convex_weights(means, y)

    def _cross_stacked(self, means: Floats, stds: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return out-of-fold mean and std ``[n]``; weights and calibration of a fold come from the other folds."""
        mean, std, folds = np.empty(len(y)), np.empty(len(y)), self._folds
        for fold in np.unique(folds):
            held = folds == fold
            if held.all() or len(np.unique(folds[~held])) < 2:
                weights = np.full(len(means), 1.0 / len(means))
            else:
                weights = self._weigh(means[:, ~held], y[~held], folds[~held])
            mean[held], std[held] = _mixture(weights, means[:, held], stds[:, held])
        return mean, cross_calibrated(mean - y, std, folds)

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        parts = [self._made[n]._predict_any(X) for n in self.weights]
        weights = np.array(list(self.weights.values()))
        mean, std = _mixture(weights, np.stack([m for m, _ in parts]), np.stack([s for _, s in parts]))
        return mean, self._factor * std

    def _store(self, record: Record) -> None:
        record.values["weights"] = self.weights
        record.values["factor"] = self._factor
        for name in self.weights:
            child = self._made[name].to_record()
            del child.arrays["base.X"], child.arrays["base.y"]  # the same as ours
            record.children[f"model-{name}"] = child

    def _restore(self, record: Record) -> None:
        self.weights = {str(k): float(v) for k, v in record.values["weights"].items()}
        self._factor = float(record.values["factor"])
        for name in self.weights:
            child = record.children[f"model-{name}"]
            child.arrays |= {k: record.arrays[k] for k in ("base.X", "base.y")}
            self._made[name] = type(self._made[name]).from_record(child)


def huber_losses(error: Floats, scale: float) -> Floats:
    """Return the Huber losses of errors, of any shape, whose typical size is ``scale``."""
    if scale <= 0:
        return np.abs(error)
    size = np.abs(error) / scale
    return np.asarray(np.where(size <= _HUBER, 0.5 * size**2, _HUBER * (size - 0.5 * _HUBER)))


def typical_error(means: Floats, y: Floats) -> float:
    """Return the robust standard deviation of the errors of the best member of ``means`` ``[m, n]``."""
    return float(1.4826 * np.median(np.abs(means - y), axis=1).min())


def robust_convex_weights(means: Floats, y: Floats) -> Floats:
    """Return weights ``[m]``, >= 0 with sum 1, of the least Huber loss of ``weights @ means``.

    Args:
        means: Out-of-fold predictions of the members, float64 ``[m, n]``.
        y: Targets, float64 ``[n]``.
    """
    scale = typical_error(means, y)
    weights = convex_weights(means, y, np.ones(len(y)))
    for _ in range(_REWEIGHTINGS if scale > 0 else 0):
        error = np.abs(weights @ means - y)
        rows = np.minimum(1.0, _HUBER * scale / np.maximum(error, 1e-300))
        weights = convex_weights(means, y, rows)
    return weights


def convex_weights(means: Floats, y: Floats, rows: Floats) -> Floats:
    """Return weights ``[m]``, >= 0 with sum 1, of the least squared error of rows weighted by ``rows`` ``[n]``."""
    from scipy.optimize import nnls

    residual = ((means - y) * np.sqrt(rows)).T
    scale = float(np.abs(residual).max())
    if scale == 0:
        return np.full(len(means), 1.0 / len(means))
    # sum(w) = 1 makes the error w'(m - y); NNLS with a heavy row of ones enforces it (Haskell and Hanson, 1981).
    heavy = 1e4 * np.sqrt(len(y))
    system = np.vstack([residual / scale, np.full((1, len(means)), heavy)])
    right = np.zeros(len(y) + 1)
    right[-1] = heavy
    weights = np.asarray(nnls(system, right)[0], dtype=np.float64)
    weights[weights < _LEAST_WEIGHT * weights.max()] = 0.0
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _mixture(weights: Floats, means: Floats, stds: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation ``[n]`` of a mixture of ``[m, n]`` with weights ``[m]``."""
    mean = weights @ means
    return mean, np.sqrt(weights @ (stds**2 + (means - mean) ** 2))
