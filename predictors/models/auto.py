"""The default: a stack of different predictors, weighted by how well each does on rows it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from predictors.base import Floats, Ints, Predictor
from predictors.model_errors import InvalidOption
from predictors.quality import calibration_factor, cross_calibrated
from predictors.registry import make_predictor, predictor_options, register_predictor
from predictors.serialization import Record

_DEFAULT_MODELS = ("ridge", "svr", "xgboost")
# Fewer trees than on its own: the stack's other members take care of the smooth part.
_DEFAULT_OPTIONS: dict[str, dict[str, Any]] = {"xgboost": {"trees": 150, "learning_rate": 0.12}}
_LEAST_WEIGHT = 0.05


@register_predictor("auto")
class Auto(Predictor):
    """Non-negative stack (Breiman, 1996) or the best of its members, whichever predicts held-out rows better.

    All members share the same folds. Weights are the convex combination with the least squared error of the
    members' out-of-fold predictions. `quality` comes from those predictions too, with the choice and the weights
    of each fold made on the other folds, and so costs nothing beyond the fit.

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
        models: Sequence[str] = _DEFAULT_MODELS,
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
        weights = _stack_weights(means, y, self._folds)
        self.weights = {n: float(w) for n, w in zip(names, weights, strict=True) if w > 0}

        mean, std = _mixture(weights, means, stds)
        self._factor = calibration_factor(mean - y, std)
        self._out_of_fold = _cross_stacked(means, stds, y, self._folds)

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
            record.children[name] = child

    def _restore(self, record: Record) -> None:
        self.weights = {str(k): float(v) for k, v in record.values["weights"].items()}
        self._factor = float(record.values["factor"])
        for name in self.weights:
            child = record.children[name]
            child.arrays |= {k: record.arrays[k] for k in ("base.X", "base.y")}
            self._made[name] = type(self._made[name]).from_record(child)


def _mixture(weights: Floats, means: Floats, stds: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation ``[n]`` of a mixture of ``[m, n]`` with weights ``[m]``."""
    mean = weights @ means
    return mean, np.sqrt(weights @ (stds**2 + (means - mean) ** 2))


def _stack_weights(means: Floats, y: Floats, folds: Ints) -> Floats:
    """Return the weights ``[m]`` of the stack, or of its best member where the stack does no better.

    The stack is judged with the weights of each fold fitted on the other folds.

    Args:
        means: Out-of-fold predictions of the members, float64 ``[m, n]``.
        y: Targets, float64 ``[n]``.
        folds: Fold of each row, int64 ``[n]``.
    """
    errors = np.mean((means - y) ** 2, axis=1)
    best = int(np.argmin(errors))
    stacked = np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        stacked[held] = _convex_weights(means[:, ~held], y[~held]) @ means[:, held]
    if np.mean((stacked - y) ** 2) <= errors[best]:
        return _convex_weights(means, y)
    return np.asarray(np.eye(len(means))[best])


def _convex_weights(means: Floats, y: Floats) -> Floats:
    """Return weights ``[m]``, >= 0 with sum 1, of the least squared error of ``weights @ means``."""
    from scipy.optimize import nnls

    residual = (means - y).T
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


def _cross_stacked(means: Floats, stds: Floats, y: Floats, folds: Ints) -> tuple[Floats, Floats]:
    """Return out-of-fold mean and std ``[n]``; weights and calibration of a fold come from the other folds."""
    mean, std = np.empty(len(y)), np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        if held.all() or len(np.unique(folds[~held])) < 2:
            weights = np.full(len(means), 1.0 / len(means))
        else:
            weights = _stack_weights(means[:, ~held], y[~held], folds[~held])
        mean[held], std[held] = _mixture(weights, means[:, held], stds[:, held])
    return mean, cross_calibrated(mean - y, std, folds)
