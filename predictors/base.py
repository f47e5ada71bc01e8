"""What every predictor is: checked data in, mean and standard deviation out, a quality, and a safe file form."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predictors.model_errors import InvalidData, InvalidOption, NotFitted, PredictorFileError
from predictors.quality import Quality, assign_folds, measure_quality
from predictors.serialization import Record, write_record
from predictors.threads import one_numpy_thread, one_thread

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Beyond this, squares and sums of squares overflow float64.
_LARGEST_VALUE = 1e100
# Rows predicted at a time: what a model makes of a chunk stays in the cache.
_CHUNK = 2048
# Targets that differ by less than rounding are constant.
_RELATIVE_SPAN = 1e-13


class Predictor(ABC):
    """Learns a scalar metric from features and says how sure it is.

    Fitting is a function of the seed, the options and the data; the global random state is neither read nor
    changed. Subclasses implement `_fit`, `_predict`, `_store` and `_restore`, pass all their options to
    ``super().__init__``, and never see bad data: constant targets, non-finite values and wrong shapes are
    dealt with here.

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

    def __init__(self, *, seed: int = 0, **options: Any) -> None:
        if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
            raise InvalidOption(f"{self.name}: seed must be an integer >= 0, got {seed!r}")
        self.seed = int(seed)
        self.options = options
        self._X: Floats | None = None
        self._y: Floats | None = None
        self._constant: float | None = None
        self._quality: Quality | None = None
        self._out_of_fold: tuple[Floats, Floats] | None = None
        self._fold_cache: Ints | None = None

    def __repr__(self) -> str:
        state = f"fitted on {len(self._y)} rows" if self._y is not None else "not fitted"
        given = "".join(f", {k}={v!r}" for k, v in self.options.items())
        return f"<{self.name} predictor, seed={self.seed}{given}; {state}>"

    # -- what subclasses implement -------------------------------------------------------------------

    @abstractmethod
    def _fit(self, X: Floats, y: Floats) -> None:
        """Fit on finite ``X`` ``[n, f]`` and ``y`` ``[n]`` with at least two different targets."""

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

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit on all of the data, forgetting what was seen before.

        Args:
            X: Features, finite floats ``[n, f]`` with n >= 2.
            y: Targets in the metric's own unit, finite floats ``[n]``.

        Raises:
            InvalidData: Wrong shapes, NaN or infinite values, fewer than two rows.
        """
        features, targets = _checked_features(self.name, X), _checked_targets(self.name, y)
        if len(features) != len(targets):
            raise InvalidData(
                f"{self.name}: X has {len(features)} rows and y has {len(targets)}; give one target a row"
            )
        if len(targets) < 2:
            raise InvalidData(f"{self.name}: at least 2 rows are needed to fit, got {len(targets)}")
        with one_thread():
            self._fit_any(features, targets)
        return self

    def _fit_any(self, X: Floats, y: Floats) -> None:
        """As `fit`, on checked data that may be a single row."""
        self._X, self._y = X.copy(), y.copy()
        self._quality = self._out_of_fold = self._fold_cache = None
        span = np.ptp(y)
        constant = bool(span <= _RELATIVE_SPAN * np.abs(y).max())
        self._constant = float(np.median(y)) if constant else None
        if not constant:
            self._fit(self._X, self._y)

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
        features = _checked_features(self.name, X)
        fitted, _ = self._data("predict")
        if features.shape[1] != fitted.shape[1]:
            raise InvalidData(
                f"{self.name}: fitted on {fitted.shape[1]} features, asked to predict rows of "
                f"{features.shape[1]}; are they of the same search space?"
            )
        with one_numpy_thread():
            return self._predict_any(features)

    def _predict_any(self, X: Floats) -> tuple[Floats, Floats]:
        if self._constant is not None:
            return np.full(len(X), self._constant), np.zeros(len(X))
        mean, std = np.empty(len(X)), np.empty(len(X))
        for start in range(0, len(X), _CHUNK):
            part = slice(start, start + _CHUNK)
            mean[part], std[part] = self._predict(X[part])
        return mean, std

    @property
    def quality(self) -> Quality:
        """Quality on rows that were held out, 5-fold or leave-one-out; computed when first asked for.

        Raises:
            NotFitted: `fit` has not been called.
        """
        if self._quality is None:
            _, y = self._data("measure the quality")
            mean, std = self._cross_predict()
            self._quality = measure_quality(y, mean, std, self._folds)
        return self._quality

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
                    model = type(self)(seed=self.seed, **self.options)
                    model._fit_any(X[~held], y[~held])
                    mean[held], std[held] = model._predict_any(X[held])
            self._out_of_fold = (mean, std)
        return self._out_of_fold

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
                "quality": self._quality.to_json() if self._quality is not None else None,
            },
            arrays={"base.X": X, "base.y": y},
        )
        if self._out_of_fold is not None:
            record.arrays["base.out_of_fold"] = np.stack(self._out_of_fold)
        if self._constant is None:
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
        if values["quality"] is not None:
            predictor._quality = Quality.from_json(values["quality"])
        if "base.out_of_fold" in arrays:
            predictor._out_of_fold = (arrays["base.out_of_fold"][0], arrays["base.out_of_fold"][1])
        if predictor._constant is None:
            predictor._restore(record)
        return predictor


def _checked_features(name: str, X: ArrayLike) -> Floats:
    features = _as_floats(name, "X", X)
    if features.ndim != 2 or not features.shape[1]:
        raise InvalidData(f"{name}: X must be floats [n, f] with f >= 1, got shape {list(features.shape)}")
    _check_finite(name, "X", features)
    return features


def _checked_targets(name: str, y: ArrayLike) -> Floats:
    targets = _as_floats(name, "y", y)
    if targets.ndim != 1:
        raise InvalidData(f"{name}: y must be floats [n], got shape {list(targets.shape)}")
    _check_finite(name, "y", targets)
    return targets


def _as_floats(name: str, what: str, values: ArrayLike) -> Floats:
    try:
        array = np.asarray(values)
        if np.iscomplexobj(array):
            raise TypeError("complex numbers")
        return np.ascontiguousarray(array, dtype=np.float64) if array.ndim else array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidData(f"{name}: {what} must be an array of numbers: {error}") from error


def _check_finite(name: str, what: str, values: Floats) -> None:
    # One pass over the data in the usual case: a NaN or infinity anywhere makes the comparison fail.
    if not values.size or (values.max() <= _LARGEST_VALUE and values.min() >= -_LARGEST_VALUE):
        return
    bad = ~(np.abs(values) <= _LARGEST_VALUE)
    row = tuple(int(i) for i in np.argwhere(bad)[0])
    where = f"row {row[0]}, column {row[1]}" if values.ndim == 2 else f"row {row[0]}"
    raise InvalidData(
        f"{name}: {what} has {int(bad.sum())} values that are NaN, infinite or beyond ±{_LARGEST_VALUE:g}, the "
        f"first in {where} ({values[row]}); leave failed evaluations out"
    )
