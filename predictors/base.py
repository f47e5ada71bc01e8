"""What every predictor is: checked data in, mean and standard deviation out, a quality, and a safe file form."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predictors.checks import checked_features, checked_targets
from predictors.conformal import check_coverage, conformal_quantile, conformal_scores
from predictors.model_errors import InvalidData, InvalidOption, NotFitted, PredictorFileError
from predictors.quality import LearningPoint, Quality, assign_folds, measure_learning, measure_quality
from predictors.serialization import Record, write_record
from predictors.targets import LogTargets, check_target
from predictors.threads import one_numpy_thread, one_thread
from predictors.transfer import Transfer, check_prior, choose_transfer

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Rows predicted at a time: what a model makes of a chunk stays in the cache.
_CHUNK = 2048
_RELATIVE_SPAN = 1e-13  # targets that differ by less than rounding are constant


class Predictor(ABC):
    """Learns a scalar metric from features and says how sure it is.

    Fitting is a function of the seed, the options and the data; the global random state is neither read nor
    changed. Subclasses implement `_fit`, `_predict`, `_store` and `_restore`, pass all their options to
    ``super().__init__``, and never see bad data: constant targets, non-finite values and wrong shapes are
    dealt with here. So are logarithms: a subclass that passes on an option ``target`` ("raw", "log" or "auto", which
    cross-validates) is fitted to the logarithm of the target where that is asked for or better.

    Args:
        seed: Seed of folds and of whatever the subclass draws.
        **options: The subclass's options, JSON values; kept for `save` and for refits in cross-validation.

    Example:
        >>> from predictors import make_predictor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.normal(size=(40, 3))
        >>> p = make_predictor("ridge").fit(X, X @ [1.0, 2.0, 3.0])
        >>> mean, std = p.predict(X)
        >>> mean.shape, std.shape, p.quality.kendall_tau > 0.9
        ((40,), (40,), True)
    """

    name: ClassVar[str] = "unregistered"
    _mean_chunk: ClassVar[int] = _CHUNK

    def __init__(self, *, seed: int = 0, **options: Any) -> None:
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
            raise InvalidOption(f"{self.name}: seed must be an integer >= 0, got {seed!r}")
        self.seed = int(seed)
        self.options = options
        self._target = check_target(self.name, options.get("target", "raw"))
        self._X: Floats | None = None
        self._y: Floats | None = None
        self._forget()

    def _forget(self) -> None:
        self._constant: float | None = None
        self._log: LogTargets | None = None
        self._transfer: Transfer | None = None
        self._prior: Predictor | None = None
        self._quality: Quality | None = None
        self._curve: tuple[LearningPoint, ...] | None = None
        self._out_of_fold: tuple[Floats, Floats] | None = None
        self._as_used: tuple[Floats, Floats] | None = None
        self._fold_cache: Ints | None = None

    def __repr__(self) -> str:
        state = f"fitted on {len(self._y)} rows" if self._y is not None else "not fitted"
        given = "".join(f", {k}={v!r}" for k, v in self.options.items())
        return f"<{self.name} predictor, seed={self.seed}{given}; {state}>"

    # -- what subclasses implement -------------------------------------------------------------------

    @abstractmethod
    def _fit(self, X: Floats, y: Floats) -> None:
        """Fit on finite ``X`` ``[n, f]`` and ``y`` ``[n]`` with at least two different targets.

        A subclass that cross-validates while it fits sets ``_out_of_fold``, in the unit of ``y``; one that chooses or
        calibrates anew in each fold also ``_as_used``: the same rows with the choice and calibration that it keeps.
        """

    @abstractmethod
    def _predict(self, X: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation ``[n]`` of ``X`` ``[n, f]``, n >= 1."""

    @abstractmethod
    def _store(self, record: Record) -> None:
        """Put the fitted state into the record; names that start with ``base.`` are taken."""

    @abstractmethod
    def _restore(self, record: Record) -> None:
        """Take the fitted state out of the record."""

    # -- use -----------------------------------------------------------------------------------------

    def fit(self, X: ArrayLike, y: ArrayLike, *, prior: Predictor | None = None) -> Self:
        """Fit on all of the data, forgetting what was seen before.

        Args:
            X: Features, finite floats ``[n, f]`` with n >= 2.
            y: Targets in the metric's own unit, finite floats ``[n]``.
            prior: A fitted predictor of the same features and a related metric, another device's latency say. A line
                through its predictions, or that line and a model of what it leaves, is used where cross-validation
                finds it better than a fit without (`transfer` tells); the prior is saved with this predictor.

        Raises:
            InvalidData: Wrong shapes, NaN or infinite values, fewer than two rows, a prior that is not fitted or of
                other features, or targets that have no logarithm where ``target="log"``.
        """
        features, targets = checked_features(self.name, X), checked_targets(self.name, y)
        if len(features) != len(targets):
            raise InvalidData(
                f"{self.name}: X has {len(features)} rows and y has {len(targets)}; give one target a row"
            )
        if len(targets) < 2:
            raise InvalidData(f"{self.name}: at least 2 rows are needed to fit, got {len(targets)}")
        if prior is not None:
            check_prior(self, prior, features.shape[1])
        with one_thread():
            self._fit_any(features, targets, prior)
        return self

    def _fit_any(self, X: Floats, y: Floats, prior: Predictor | None = None) -> None:
        """As `fit`, on checked data that may be a single row."""
        self._forget()
        self._X, self._y, self._prior = X.copy(), y.copy(), prior
        span = np.ptp(y)
        if span <= _RELATIVE_SPAN * np.abs(y).max():
            self._constant = float(np.median(y))
            return
        if prior is not None:
            self._transfer, out_of_fold = choose_transfer(self._X, self._y, self._folds, prior, self._fresh)
            if self._transfer is not None:
                self._out_of_fold = out_of_fold
                return
        self._fit_chosen_target(self._X, self._y)

    def _fit_chosen_target(self, X: Floats, y: Floats) -> None:
        if self._target == "log" or (self._target == "auto" and y.min() > 0 and self._prefers_log(X, y)):
            self._log = LogTargets.fit(self.name, y)
        self._fit(X, y if self._log is None else np.log(y))
        if self._log is not None and self._out_of_fold is not None:
            self._out_of_fold = self._log.back(*self._out_of_fold)
            self._as_used = self._as_used and self._log.back(*self._as_used)

    def _prefers_log(self, X: Floats, y: Floats) -> bool:
        """Return whether held-out errors are smaller for a fit to the logarithm; both are in the unit of ``y``."""
        errors = []
        for target in ("raw", "log"):
            model = self._fresh(target)
            model._fit_any(X, y)
            errors.append(float(np.mean(np.abs(model._cross_predict()[0] - y))))
        return errors[1] < errors[0]

    def _fresh(self, target: str | None = None) -> Self:
        """Return an unfitted predictor of the same options, but for its target where one is given."""
        options = self.options if target is None or "target" not in self.options else {**self.options, "target": target}
        return type(self)(seed=self.seed, **options)

    def predict(self, X: ArrayLike) -> tuple[Floats, Floats]:
        """Predict mean and standard deviation.

        ``mean ± Z_INTERVAL * std`` is meant to hold 90 % of the true values. A predictor that was fitted on
        constant targets predicts them with a standard deviation of 0.

        Args:
            X: Features, finite floats ``[n, f]``; n may be 0.

        Returns:
            Mean and standard deviation, float64 ``[n]`` each, in the unit of the targets.

        Raises:
            NotFitted: `fit` has not been called.
            InvalidData: Another number of features than at `fit`, NaN or infinite values.
        """
        features = checked_features(self.name, X)
        fitted, _ = self._data("predict")
        if features.shape[1] != fitted.shape[1]:
            raise InvalidData(
                f"{self.name}: fitted on {fitted.shape[1]} features, asked to predict rows of "
                f"{features.shape[1]}; are they of the same search space?"
            )
        with one_numpy_thread():
            return self._predict_any(features)

    def predict_mean(self, X: ArrayLike) -> Floats:
        """Return the mean of `predict` to within rounding, ``[n]``, fast for thousands of rows; raises as `predict`."""
        rows = np.asarray(X)
        fitted, _ = self._data("predict")
        known = rows.ndim == 2 and rows.shape[1] == fitted.shape[1] and np.issubdtype(rows.dtype, np.floating)
        plain = self._constant is None and self._transfer is None and self._log is None
        if not known or not plain or not np.isfinite(rows.sum()):
            return self.predict(X)[0]
        mean = np.empty(len(rows))
        with one_numpy_thread():
            for start in range(0, len(rows), self._mean_chunk):
                part = slice(start, start + self._mean_chunk)
                mean[part] = self._predict_mean(rows[part])
        return mean

    def _predict_mean(self, X: NDArray[np.floating[Any]]) -> Floats:
        """Return the mean of `_predict`; for subclasses that need not work out the standard deviation for it."""
        return self._predict(np.asarray(X, dtype=np.float64))[0]

    def _predict_any(self, X: Floats) -> tuple[Floats, Floats]:
        if self._constant is not None:
            return np.full(len(X), self._constant), np.zeros(len(X))
        mean, std = np.empty(len(X)), np.empty(len(X))
        for start in range(0, len(X), _CHUNK):
            part = slice(start, start + _CHUNK)
            mean[part], std[part] = self._predict_chunk(X[part])
        return mean, std

    def _predict_chunk(self, X: Floats) -> tuple[Floats, Floats]:
        if self._transfer is not None:
            return self._transfer.predict(X)
        mean, std = self._predict(X)
        return (mean, std) if self._log is None else self._log.back(mean, std)

    def interval(self, X: ArrayLike, coverage: float = 0.9) -> tuple[Floats, Floats]:
        """Predict intervals that cover a new row of the same distribution with the given probability.

        The width is the predicted standard deviation times a quantile of the held-out errors, each over its own (see
        `predictors.conformal`). More coverage never gives a narrower interval. See `conformal_quantile` for
        coverages beyond what the number of rows can show.

        Args:
            X: Features, finite floats ``[n, f]``; n may be 0.
            coverage: Share of new rows to cover, between 0 and 1.

        Returns:
            Lower and upper ends, float64 ``[n]`` each, in the unit of the targets.

        Raises:
            NotFitted: `fit` has not been called.
            InvalidData: As for `predict`.
            InvalidOption: A coverage that is not between 0 and 1.
        """
        share = check_coverage(self.name, coverage)
        mean, std = self.predict(X)
        _, y = self._data("give intervals")
        if self._constant is not None:
            return mean, mean.copy()
        margin = conformal_quantile(conformal_scores(y, *self._held_out_as_used()), share) * std
        return mean - margin, mean + margin

    @property
    def n_features(self) -> int | None:
        """Number of features it was fitted on; None before `fit`."""
        return None if self._X is None else self._X.shape[1]

    @property
    def transfer(self) -> Literal["none", "line", "residual"]:
        """What `fit` made of its prior: nothing, a line through its predictions, or that and a model of the rest."""
        return "none" if self._transfer is None else self._transfer.kind

    @property
    def quality(self) -> Quality:
        """Quality on rows that were held out, 5-fold or leave-one-out; computed when first asked for.

        Raises:
            NotFitted: `fit` has not been called.
        """
        if self._quality is None:
            _, y = self._data("measure the quality")
            mean, std = self._cross_predict()
            self._quality = replace(measure_quality(y, mean, std, self._folds), curve_source=self._learning_curve)
        return self._quality

    def _learning_curve(self) -> tuple[LearningPoint, ...]:
        if self._curve is None:
            X, y = self._data("measure a learning curve")

            def predict(seen: Ints, held: Ints) -> Floats:
                model = self._fresh()
                model._fit_any(X[seen], y[seen], self._prior)
                return model._predict_any(X[held])[0]

            with one_thread():
                self._curve = measure_learning(y, self._cross_predict()[0], self._folds, self.seed, predict)
        return self._curve

    # -- cross-validation ----------------------------------------------------------------------------

    @property
    def _folds(self) -> Ints:
        """Fold of each training row; a function of the features and the seed, equal for all predictors."""
        if self._fold_cache is None:
            X, _ = self._data("cross-validate")
            self._fold_cache = assign_folds(X, self.seed)
        return self._fold_cache

    def _cross_predict(self) -> tuple[Floats, Floats]:
        """Return mean and std of each training row by a model that was not fitted on it, float64 ``[n]`` each.

        Subclasses that cross-validate while they fit set ``_out_of_fold`` there; the rest are refitted.
        """
        if self._out_of_fold is None:
            X, y = self._data("cross-validate")
            mean, std = np.empty(len(y)), np.empty(len(y))
            with one_thread():
                for fold in np.unique(self._folds):
                    held = self._folds == fold
                    # What was chosen on all rows: an inner choice in each fold would cost as much again.
                    model = self._fresh("raw" if self._log is None else "log")
                    model._fit_any(X[~held], y[~held])
                    mean[held], std[held] = model._predict_any(X[held])
            self._out_of_fold = (mean, std)
        return self._out_of_fold

    def _held_out_as_used(self) -> tuple[Floats, Floats]:
        """As `_cross_predict`, with what all rows chose and calibrated: see `predictors.conformal`."""
        return self._cross_predict() if self._as_used is None else self._as_used

    def _data(self, purpose: str) -> tuple[Floats, Floats]:
        if self._X is None or self._y is None:
            raise NotFitted(f"{self.name}: cannot {purpose} before fit(X, y) has been called")
        return self._X, self._y

    # -- files ---------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a folder of JSON and npz files that `load_predictor` reads; an older one is replaced.

        The training data go with it, so that a loaded predictor can tell its quality.

        Raises:
            NotFitted: `fit` has not been called.
            PredictorFileError: ``path`` exists and is not a saved predictor.
        """
        write_record(self.to_record(), path)

    def to_record(self) -> Record:
        """Return everything that makes up this fitted predictor."""
        X, y = self._data("save")
        record = Record(
            values={
                "name": self.name,
                "seed": self.seed,
                "options": self.options,
                "constant": self._constant,
                "log": None if self._log is None else [self._log.low, self._log.high],
                "quality": self._quality.to_json() if self._quality is not None else None,
                "learning_curve": [p.to_json() for p in self._curve] if self._curve is not None else None,
            },
            arrays={"base.X": X, "base.y": y},
        )
        if self._out_of_fold is not None:
            record.arrays["base.out_of_fold"] = np.stack([*self._out_of_fold, *(self._as_used or ())])
        if self._prior is not None:
            record.children["prior"] = self._prior.to_record()
        if self._transfer is not None:
            self._transfer.store(record)
        elif self._constant is None:
            self._store(record)
        return record

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Rebuild a fitted predictor from `to_record`.

        Raises:
            PredictorFileError: Shapes that do not fit together.
        """
        values, arrays = record.values, record.arrays
        predictor = cls(seed=values["seed"], **values["options"])
        X, y = arrays["base.X"], arrays["base.y"]
        if X.ndim != 2 or y.shape != X.shape[:1]:
            raise PredictorFileError(f"{cls.name}: training data of shapes {X.shape} and {y.shape}")
        predictor._X, predictor._y = X, y
        predictor._constant = values["constant"]
        if values.get("log") is not None:
            predictor._log = LogTargets(*values["log"])
        if values["quality"] is not None:
            predictor._quality = replace(Quality.from_json(values["quality"]), curve_source=predictor._learning_curve)
        if values.get("learning_curve") is not None:
            predictor._curve = tuple(LearningPoint.from_json(p) for p in values["learning_curve"])
        if "base.out_of_fold" in arrays:
            mean, std, *used = arrays["base.out_of_fold"]
            predictor._out_of_fold, predictor._as_used = (mean, std), (used[0], used[1]) if used else None
        if (prior := record.children.get("prior")) is not None:
            from predictors.registry import predictor_class

            predictor._prior = predictor_class(prior.values["name"]).from_record(prior)
        if predictor._prior is not None and "transfer" in values:
            predictor._transfer = Transfer.restore(record, predictor._prior, cls)
        elif predictor._constant is None:
            predictor._restore(record)
        return predictor
