"""The default: a stack of different predictors or the best of them, whichever cross-validation prefers."""

from __future__ import annotations

import numpy as np

from predictors.base import Floats, Ints
from predictors.models.stack import Stack, huber_losses, robust_convex_weights, typical_error
from predictors.registry import register_predictor

_MARGIN = 2.0  # standard errors: with 100 rows the best of five is often the luckiest


@register_predictor("auto")
class Auto(Stack):
    """The best member, or the stack of all where that predicts held-out rows no worse.

    As `Stack`, but a member that the others only blur stands alone. The first member has the benefit of the doubt:
    another one, or the stack, has to do better by two standard errors of the paired difference. The stack is judged
    with the weights of each fold fitted on the other folds; losses are Huber's, so that a few outliers among the
    measurements do not choose.

    Args:
        seed: Seed of folds and members.
        models: Names of the predictors to choose from and to stack, the most trusted first; add
            ``"mlp"`` for larger data.
        model_options: Options of each, by name.

    Attributes:
        weights: Weight of each member after `fit`; members without weight are dropped.
    """

    def _weigh(self, means: Floats, y: Floats, folds: Ints) -> Floats:
        stacked = np.empty(len(y))
        for fold in np.unique(folds):
            held = folds == fold
            stacked[held] = robust_convex_weights(means[:, ~held], y[~held]) @ means[:, held]
        losses = huber_losses(np.vstack([means, stacked]) - y, typical_error(means, y))
        best = int(np.argmin(losses.mean(axis=1)))
        if best and not _clearly_less(losses[best], losses[0]):
            best = 0
        if best == len(means):
            return robust_convex_weights(means, y)
        return np.asarray(np.eye(len(means))[best])


def _clearly_less(a: Floats, b: Floats) -> bool:
    """Return whether the mean of ``a`` is below that of ``b``, paired, by more than `_MARGIN` standard errors."""
    difference = b - a
    error = float(difference.std()) / np.sqrt(len(difference))
    return bool(difference.mean() > _MARGIN * error)
