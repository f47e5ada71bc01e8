"""What predictors accept as data, with the place and the reason in the message where they do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from predictors.model_errors import InvalidData

Floats = NDArray[np.float64]

# Beyond this, squares and sums of squares overflow float64.
_LARGEST_VALUE = 1e100


def checked_features(name: str, X: ArrayLike) -> Floats:
    """Return ``X`` as finite float64 ``[n, f]``.

    Raises:
        InvalidData: It cannot be.
    """
    features = _as_floats(name, "X", X)
    if features.ndim != 2 or not features.shape[1]:
        raise InvalidData(f"{name}: X must be floats [n, f] with f >= 1, got shape {list(features.shape)}")
    _check_finite(name, "X", features)
    return features


def checked_targets(name: str, y: ArrayLike) -> Floats:
    """Return ``y`` as finite float64 ``[n]``.

    Raises:
        InvalidData: It cannot be.
    """
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
