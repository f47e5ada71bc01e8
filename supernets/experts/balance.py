"""How evenly the experts of a layer are used, and how differently by different texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.float64]


def load_entropy(counts: ArrayLike) -> float:
    """Return the entropy of the experts' shares of all routings, divided by that of equal shares, in 0 to 1.

    Args:
        counts: Routings of each expert, ``[E]``.
    """
    p = _shares(counts)
    if len(p) < 2:
        return 1.0
    used = p[p > 0]
    return float(-(used * np.log(used)).sum() / np.log(len(p)))


def load_max_mean(counts: ArrayLike) -> float:
    """Return the greatest number of routings divided by the mean; 1 where all are equal."""
    p = _shares(counts)
    return float(p.max() * len(p))


def dead_share(counts: ArrayLike) -> float:
    """Return the share of the experts that no token was routed to, in 0 to 1."""
    return float((np.asarray(counts) == 0).mean())


def js_divergence(p: ArrayLike, q: ArrayLike) -> float:
    """Return the Jensen-Shannon divergence of two routings in bits, 0 to 1: the mean KL divergence to their mean.

    Args:
        p: Routings of each expert by one text, ``[E]``; they need not add up to 1.
        q: By another.
    """
    a, b = _shares(p), _shares(q)
    middle = (a + b) / 2
    return float((_kl(a, middle) + _kl(b, middle)) / 2)


def mean_divergence(layers: Sequence[Sequence[ArrayLike]]) -> float:
    """Return the mean of `js_divergence` over all pairs of texts and all layers, in bits.

    Args:
        layers: For each layer the routings of each expert, by each text.
    """
    return float(np.mean([js_divergence(a, b) for texts in layers for a, b in combinations(texts, 2)]))


def _shares(counts: ArrayLike) -> Numbers:
    values = np.asarray(counts, dtype=np.float64)
    total = values.sum()
    return values / total if total else np.full(len(values), 1 / len(values))


def _kl(p: Numbers, q: Numbers) -> float:
    used = p > 0
    return float((p[used] * np.log2(p[used] / q[used])).sum())
