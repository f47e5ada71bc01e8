"""Intervals with a stated coverage, from errors on rows that were held out.

The score of a held-out row is its error over the predicted standard deviation (normalised conformal prediction, Lei
et al., JASA 2018); held-out rows are those of cross-validation, so that none are lost to a calibration set
(cross-conformal prediction, Vovk, 2015; close to the CV+ of Barber et al., Annals of Statistics 2021, whose coverage
it shares where models of different folds agree).

What is chosen and calibrated from held-out rows (the weights of a stack, the factor of a standard deviation) is the
same in every score as in the prediction, so that a constant factor cancels. Choosing it anew for each fold on the
others looks more honest, but is biased: the fold with the large errors is the one whose others find a small factor
and prefer what is worse there, so that the upper scores, which are those that count, come out too large.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from predictors.model_errors import InvalidOption

Floats = NDArray[np.float64]


def check_coverage(name: str, coverage: object) -> float:
    """Return ``coverage`` if it is a share between 0 and 1, both excluded.

    Raises:
        InvalidOption: It is not.
    """
    number = isinstance(coverage, int | float | np.floating) and not isinstance(coverage, bool)
    if not number or not 0.0 < float(coverage) < 1.0:  # type: ignore[arg-type]
        raise InvalidOption(f"{name}: coverage must be a share between 0 and 1, e.g. 0.9, got {coverage!r}")
    return float(coverage)  # type: ignore[arg-type]


def conformal_scores(y: Floats, mean: Floats, std: Floats) -> Floats:
    """Return the sorted scores ``[n]`` of out-of-fold predictions.

    A standard deviation of 0 (a fold that was fitted on equal targets) stands for the median of the others, or for
    the root mean squared error where all are 0.
    """
    error = np.abs(y - mean)
    known = std[std > 0]
    typical = float(np.median(known)) if len(known) else float(np.sqrt(np.mean(error**2))) or 1.0
    return np.sort(error / np.where(std > 0, std, typical))


def conformal_quantile(scores: Floats, coverage: float) -> float:
    """Return the factor on the standard deviation that covers a new row with at least ``coverage``.

    It is score number ``ceil(coverage (n + 1))``. Where n rows cannot support so high a coverage, the greatest
    score is extrapolated with the quantiles of Student's distribution: finite and increasing, but then assumed
    rather than shown by the data.

    Args:
        scores: Sorted scores, float64 ``[n]``.
        coverage: Share of new rows to cover, in (0, 1).
    """
    from scipy.stats import t

    n = len(scores)
    rank = math.ceil(coverage * (n + 1) - 1e-9)
    if rank <= n:
        return float(scores[rank - 1])
    shown = n / (n + 1)
    ratio = t.ppf(0.5 + 0.5 * coverage, df=max(n - 1, 1)) / t.ppf(0.5 + 0.5 * shown, df=max(n - 1, 1))
    return float(scores[-1] * max(float(ratio), 1.0))
