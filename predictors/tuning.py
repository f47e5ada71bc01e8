"""Hyper-parameters by a fixed number of trials, so that the same data give the same predictor on any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from predictors.base import Predictor
from predictors.checks import checked_targets
from predictors.model_errors import InvalidOption
from predictors.models.options import whole
from predictors.registry import make_predictor, predictor_options


@dataclass(frozen=True)
class Range:
    """Values that an option may take.

    Attributes:
        low: Least value.
        high: Greatest value; integers where both are.
        log: Whether ratios rather than differences matter.
    """

    low: float
    high: float
    log: bool = False


TUNABLE: Mapping[str, Mapping[str, Range | tuple[Any, ...]]] = {
    "gp": {"noise": ("student", "normal"), "target": ("raw", "log", "auto")},
    "ridge": {"products": Range(0, 20), "target": ("raw", "auto")},
    "svr": {"target": ("raw", "auto")},
    "xgboost": {
        "trees": Range(50, 500, log=True),
        "depth": Range(1, 6),
        "learning_rate": Range(0.02, 0.3, log=True),
        "colsample": Range(0.1, 1.0),
        "subsample": Range(0.5, 1.0),
        "min_child_weight": Range(1.0, 8.0, log=True),
        "reg_lambda": Range(0.1, 10.0, log=True),
        "target": ("raw", "auto"),
    },
    "mlp": {
        "hidden": Range(16, 128, log=True),
        "steps": Range(100, 400, log=True),
        "learning_rate": Range(0.003, 0.03, log=True),
        "weight_decay": Range(0.1, 10.0, log=True),
    },
}
"""What `tune_predictor` tries, by predictor."""


def tune_predictor(
    name: str,
    X: ArrayLike,
    y: ArrayLike,
    *,
    trials: int = 30,
    seed: int = 0,
    space: Mapping[str, Range | tuple[Any, ...]] | None = None,
    **options: Any,
) -> Predictor:
    """Return a predictor fitted with the best of a fixed number of settings, found by a Parzen estimator.

    The first trial is the default setting; all are compared by the mean absolute error on the held-out rows of
    cross-validation (TPE, Bergstra et al., NeurIPS 2011, by Optuna). The quality of the result is that of the
    winner on the rows it was chosen on, and a little optimistic for it.

    Args:
        name: A registered predictor.
        X: Features, finite floats ``[n, f]``.
        y: Targets, finite floats ``[n]``.
        trials: Number of settings, the default included.
        seed: Seed of the predictor and of the trials.
        space: Values to try by option: a `Range` or a tuple of choices; those of `TUNABLE` where None.
        **options: Options that stay as they are.

    Raises:
        InvalidOption: Nothing to try, an option that the predictor does not have, less than one trial.
        InvalidData: As for `Predictor.fit`.
    """
    import optuna

    whole("tune_predictor", "trials", trials, at_least=1)
    tried = {k: v for k, v in (TUNABLE.get(name, {}) if space is None else space).items() if k not in options}
    unknown = sorted(set(tried) - set(predictor_options(name)))
    if unknown or not tried:
        what = f"has no option {unknown[0]!r}" if unknown else "has nothing to tune"
        raise InvalidOption(
            f"predictor {name!r} {what}; give space={{option: Range(low, high)}} for some of its options: "
            f"{', '.join(predictor_options(name))}"
        )
    targets = checked_targets(name, y)
    fitted: dict[int, Predictor] = {}

    def error(trial: optuna.Trial) -> float:
        chosen = {} if trial.number == 0 else {k: _suggest(trial, k, v) for k, v in tried.items()}
        model = make_predictor(name, seed=seed, **options, **chosen).fit(X, targets)
        found = float(np.mean(np.abs(model._cross_predict()[0] - targets)))
        if not fitted or found < best["error"]:
            fitted.clear()
            fitted[trial.number] = model
            best["error"] = found
        return found

    best = {"error": float("inf")}
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(trials // 3, 1))
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        optuna.create_study(direction="minimize", sampler=sampler).optimize(error, n_trials=trials)
    finally:
        optuna.logging.set_verbosity(level)
    (model,) = fitted.values()
    return model


def _suggest(trial: Any, name: str, values: Range | tuple[Any, ...]) -> Any:
    if not isinstance(values, Range):
        return trial.suggest_categorical(name, list(values))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return trial.suggest_int(name, values.low, values.high, log=values.log)
    return trial.suggest_float(name, values.low, values.high, log=values.log)
