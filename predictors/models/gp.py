"""Gaussian process regression for tens to hundreds of rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from predictors.base import Floats, Predictor
from predictors.model_errors import InvalidData, InvalidOption
from predictors.models.additive_gp import AdditiveGP, AdditiveMarginals
from predictors.models.options import choice
from predictors.models.relevance_gp import RelevanceGP
from predictors.models.scaling import Scaler
from predictors.quality import calibration_factor, cross_calibrated
from predictors.registry import register_predictor
from predictors.serialization import Record
from predictors.targets import TARGETS

_ROWS_FOR_CHOICE = 4
_CANDIDATES = ([0, 1], [0], [1])  # both parts, the raw one, the logarithmic one; the first wins a tie


@register_predictor("gp")
class GP(Predictor):
    """Gaussian process with a linear, a product and a smooth part, hyper-parameters by marginal likelihood.

    With the kernel "relevance" each column, or each group of columns, has a weight of its own, products of all pairs
    are covered and outliers are forgiven: see `RelevanceGP`. With the kernel "additive" columns after the first
    ``n_main`` are products made by the caller, within layers say, and there are five hyper-parameters in all: see
    `AdditiveGP`. Both are exact and cost the cube of the rows; "relevance" uses 2,000 of them at most.

    Args:
        seed: Seed of the folds, and of the rows that are used where there are too many.
        kernel: "relevance" or "additive".
        noise: "student" or "normal"; "additive" knows normal noise only.
        groups: Numbers of the columns' groups, e.g. their gene or layer: equal numbers share a relevance.
        n_main: Number of leading columns that are features, for "additive"; all of them where None.
        target: "raw", "log", or "auto": one model of each where targets are positive, and either or their mean,
            whichever predicts held-out rows best.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        kernel: str = "relevance",
        noise: str = "student",
        groups: Sequence[int] | None = None,
        n_main: int | None = None,
        target: str = "auto",
    ) -> None:
        super().__init__(
            seed=seed,
            kernel=choice(self.name, "kernel", kernel, ("relevance", "additive")),
            noise=choice(self.name, "noise", noise, ("student", "normal")),
            groups=_whole_numbers(self.name, "groups", groups),
            n_main=None if n_main is None else _whole_numbers(self.name, "n_main", [n_main])[0],  # type: ignore[index]
            target=choice(self.name, "target", target, TARGETS),
        )

    def _fit(self, X: Floats, y: Floats) -> None:
        self._parts: dict[str, GP] = {}
        if self.options["target"] == "auto" and y.min() > 0 and len(y) >= _ROWS_FOR_CHOICE:
            self._fit_both(X, y)
        else:
            self._fit_one(X, y)

    def _prefers_log(self, X: Floats, y: Floats) -> bool:
        return False  # `_fit` weighs both

    def _fit_both(self, X: Floats, y: Floats) -> None:
        both = {target: self._fresh(target) for target in ("raw", "log")}
        for part in both.values():
            part._fit_any(X, y)
        outputs = np.stack([np.stack(part._cross_predict()) for part in both.values()])
        as_used = np.stack([np.stack(part._held_out_as_used()) for part in both.values()])
        candidates = [_mean_of(outputs[chosen]) for chosen in _CANDIDATES]
        errors = np.stack([np.abs(mean - y) for mean, _ in candidates])
        chosen = _CANDIDATES[int(np.argmin(errors.mean(axis=1)))]
        self._parts = {list(both)[i]: list(both.values())[i] for i in chosen}
        mean, std = _mean_of(outputs[chosen])
        self._factor = calibration_factor(mean - y, std)
        self._as_used = mean, self._factor * _mean_of(as_used[chosen])[1]
        # The choice of each fold is made on the others.
        honest = np.empty((2, len(y)))
        for fold in np.unique(self._folds):
            held = self._folds == fold
            honest[:, held] = np.stack(candidates[int(np.argmin(errors[:, ~held].mean(axis=1)))])[:, held]
        self._out_of_fold = honest[0], cross_calibrated(honest[0] - y, honest[1], self._folds)

    def _fit_one(self, X: Floats, y: Floats) -> None:
        self._scaler = Scaler.fit(X, y)
        self._model = self._fitted(X, y)
        mean, std = np.empty(len(y)), np.empty(len(y))
        for fold in np.unique(self._folds):
            held = self._folds == fold
            if np.ptp(y[~held]) > 0:
                mean[held], std[held] = self._fitted(X[~held], y[~held]).predict(self._inputs(X[held]))
            else:
                mean[held], std[held] = y[~held].mean(), self._scaler.y_scale
        self._factor = calibration_factor(mean - y, std)
        self._as_used = mean, self._factor * std
        self._out_of_fold = mean, cross_calibrated(mean - y, std, self._folds)

    def _inputs(self, X: Floats) -> Floats:
        """Scale with all training rows: folds must not differ in units that none of their targets decide."""
        return self._scaler.features(X) if self.options["kernel"] == "relevance" else X

    def _fitted(self, X: Floats, y: Floats) -> RelevanceGP | AdditiveMarginals:
        if self.options["kernel"] == "relevance":
            return self._relevance(self._inputs(X), y)
        n_main = X.shape[1] if self.options["n_main"] is None else self.options["n_main"]
        if n_main > X.shape[1]:
            raise InvalidData(f"{self.name}: n_main is {n_main}, but X has {X.shape[1]} features")
        return AdditiveMarginals(AdditiveGP(n_main).fit(X, y).arrays())

    def _relevance(self, inputs: Floats, y: Floats) -> RelevanceGP:
        groups = self.options["groups"]
        numbers = None
        if groups is not None:
            numbers = np.array(groups, dtype=np.int64)
            if len(numbers) == inputs.shape[1] - 1:  # with the column of a prior, which is of no group
                numbers = np.append(numbers, numbers.max() + 1)
            if len(numbers) != inputs.shape[1]:
                raise InvalidData(
                    f"{self.name}: {len(groups)} groups were given for {inputs.shape[1]} features; give one each"
                )
        return RelevanceGP(groups=numbers, student=self.options["noise"] == "student", seed=self.seed).fit(inputs, y)

    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        if self._parts:
            mean, std = _mean_of(np.stack([np.stack(part._predict_any(X)) for part in self._parts.values()]))
        else:
            mean, std = self._model.predict(self._inputs(X))
        return mean, self._factor * std

    def _store(self, record: Record) -> None:
        record.values["factor"] = self._factor
        record.values["parts"] = list(self._parts)
        for target, part in self._parts.items():
            record.children[f"part-{target}"] = part.to_record()
        if not self._parts:
            self._scaler.store(record)
            arrays = self._model.arrays() if isinstance(self._model, RelevanceGP) else self._model.arrays
            record.arrays |= {f"model.{k}": v for k, v in arrays.items()}

    def _restore(self, record: Record) -> None:
        self._factor = float(record.values["factor"])
        self._parts = {t: GP.from_record(record.children[f"part-{t}"]) for t in record.values["parts"]}
        if not self._parts:
            self._scaler = Scaler.restore(record)
            prefix = "model."
            arrays = {k.removeprefix(prefix): v for k, v in record.arrays.items() if k.startswith(prefix)}
            additive = self.options["kernel"] == "additive"
            self._model = AdditiveMarginals(arrays) if additive else RelevanceGP.from_arrays(arrays)


def _mean_of(outputs: Floats) -> tuple[Floats, Floats]:
    """Return mean and standard deviation ``[n]`` of an equal mixture of outputs ``[m, 2, n]``."""
    mean = outputs[:, 0].mean(axis=0)
    return mean, np.sqrt(np.mean(outputs[:, 1] ** 2 + (outputs[:, 0] - mean) ** 2, axis=0))


def _whole_numbers(predictor: str, option: str, values: object) -> list[int] | None:
    if values is None:
        return None
    numbers = list(values) if isinstance(values, list | tuple | np.ndarray) else []
    if not numbers or not all(isinstance(v, int | np.integer) and not isinstance(v, bool) and v >= 0 for v in numbers):
        raise InvalidOption(f"{predictor}: {option} must be integers >= 0, got {values!r}")
    return [int(v) for v in numbers]
