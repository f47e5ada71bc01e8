"""Features for the Gaussian process of a search: those of the space, and products of them.

The model itself is `predictors.models.additive_gp`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from predictors.models.additive_gp import AdditiveGP as GenotypeGP
from search_spaces import Rows, SearchSpace

Values = NDArray[np.float64]

__all__ = ["GenotypeGP", "PairFeatures", "correlated"]

_ALL_PAIRS_UP_TO = 600
_PAIRS_AT_MOST = 3000


class PairFeatures:
    """The features of a space and products of them: one for each pair of choices of genes of one layer.

    Genes without a layer act on the whole network: their ordinal column multiplies all others. A space so small
    that all pairs of choices are few has all of them. Derived features of the space multiply one another.

    Args:
        space: The search space.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        one_hot: list[list[int]] = []
        ordinal: list[list[int]] = []
        column = 0
        for gene in space.genes:
            k = len(set(gene.canonical_indices())) if len(gene.choices) > 1 else 0
            has_ordinal = gene.kind == "ordinal" and len(gene.choices) > 1
            one_hot.append(list(range(column, column + k)))
            ordinal.append([column + k] if has_ordinal else [])
            column += k + has_ordinal
        derived = list(range(column, column + len(space.derived)))
        numbers = range(len(space.genes))
        pairs = [(i, j) for i in numbers for j in numbers if i < j]
        product = [(a, b) for i, j in pairs for a in one_hot[i] for b in one_hot[j]]
        if len(product) > _ALL_PAIRS_UP_TO:
            layer = [g.layer for g in space.genes]
            same = [(i, j) for i, j in pairs if layer[i] is not None and layer[i] == layer[j]]
            product = [(a, b) for i, j in same for a in one_hot[i] for b in one_hot[j]]
            whole = [i for i in numbers if layer[i] is None]
            product += [
                (a, b) for i in whole for a in ordinal[i] for j in numbers if j != i for b in one_hot[j] + ordinal[j]
            ]
        product += [(a, b) for a in derived for b in derived if a < b]
        product = product[:_PAIRS_AT_MOST]
        self._left = np.array([a for a, _ in product], dtype=np.intp)
        self._right = np.array([b for _, b in product], dtype=np.intp)
        self.n_main = column + len(derived)

    def __call__(self, G: Rows) -> NDArray[np.float32]:
        """Return float32 ``[n, n_main + number of products]``."""
        X = self.space.features(G)
        return np.concatenate([X, X[:, self._left] * X[:, self._right]], axis=1)


def correlated(covariance: Values, n: int, rng: np.random.Generator) -> Values:
    """Return ``n`` draws of a centred Gaussian, float64 ``[n, k]``; a covariance of deficient rank is fine."""
    k = len(covariance)
    jitter = 1e-9 * max(float(np.trace(covariance)) / max(k, 1), 1e-12)
    noise = rng.standard_normal((n, k))
    for _ in range(8):
        try:
            factor = np.linalg.cholesky(covariance + jitter * np.eye(k))
        except np.linalg.LinAlgError:
            jitter *= 30
            continue
        return np.asarray(noise @ factor.T, dtype=np.float64)
    return np.asarray(noise * np.sqrt(np.maximum(np.diag(covariance), 0.0)), dtype=np.float64)
