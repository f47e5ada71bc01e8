"""What a fitted predictor says of rows that it was not fitted on, with conformal intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from predictors.base import Predictor
from predictors.conformal import check_coverage, conformal_quantile, conformal_scores

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HeldOut:
    """Training rows as models saw them that were not fitted on them; float64 ``[n]`` each, in the target's unit.

    Attributes:
        true: Targets.
        mean: Predictions.
        low: Lower ends of the intervals.
        high: Upper ends.
    """

    true: Floats
    mean: Floats
    low: Floats
    high: Floats

    @property
    def coverage(self) -> float:
        """Share of targets within their interval, 0-1."""
        return float(np.mean((self.low <= self.true) & (self.true <= self.high)))


def held_out(predictor: Predictor, coverage: float = 0.9) -> HeldOut:
    """Return cross-validated predictions of the training rows with split-conformal intervals.

    The intervals of each fold come from the errors on the other folds, so that their coverage can be believed.

    Args:
        predictor: Fitted.
        coverage: Share of rows to cover, between 0 and 1.

    Raises:
        NotFitted: `Predictor.fit` has not been called.
        InvalidOption: A coverage that is not between 0 and 1.
    """
    share = check_coverage(predictor.name, coverage)
    _, y = predictor._data("predict held-out rows")
    mean, std = predictor._cross_predict()
    folds, margin = predictor._folds, np.empty(len(y))
    for fold in np.unique(folds):
        held = folds == fold
        others = ~held if not held.all() else held
        scores = conformal_scores(y[others], mean[others], std[others])
        margin[held] = conformal_quantile(scores, share) * std[held]
    return HeldOut(y.copy(), mean.copy(), mean - margin, mean + margin)
