"""How local routing is: how well a segment's experts predict it, what a cache of experts hits, what misses cost.

SRP and SCH by the definitions of Liang et al., "Not All Models Suit Expert Offloading" (2025). A trace is int
``[S, T, k]``: sequences, tokens, and the experts that each token asks; -1 stands for none. An expert that a token asks
twice counts once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]
Trace = NDArray[np.int64]


def segment_histogram(trace: Trace, n_experts: int, m: int) -> Numbers:
    """Return how many pairs of a window and an expert have each count of tokens in it, float64 ``[m + 1]``.

    Windows are all runs of ``m`` consecutive tokens of a sequence. One whose last token asks no expert does not count.

    Args:
        trace: See above.
        n_experts: Number of experts.
        m: Tokens of a window.
    """
    sequences, tokens, _ = trace.shape
    histogram = np.zeros(m + 1)
    if tokens < m:
        return histogram
    ids = np.where(trace < 0, n_experts, trace)
    active = np.zeros((sequences, tokens + 1, n_experts + 1), dtype=np.int64)
    np.put_along_axis(active[:, 1:], ids, 1, axis=2)
    totals = active[:, :, :n_experts].cumsum(axis=1)
    counts = totals[:, m:] - totals[:, :-m]
    real = (trace[:, m - 1 :] >= 0).any(axis=2)
    histogram += np.bincount(counts[real].ravel(), minlength=m + 1)
    return histogram


def segment_performance(histogram: Numbers) -> tuple[float, float]:
    """Return SRP in 0 to 1, and rho: how many experts are predicted at the best threshold, per expert asked.

    An expert is predicted for all tokens of a window where at least t of them ask it. SRP is the greatest value over t
    of ``2 sum_{c >= t} c / (m #{c >= t} + sum c)``, the harmonic mean of precision and recall.

    Args:
        histogram: Of `segment_histogram`, summed over layers for one threshold of the model.
    """
    m = len(histogram) - 1
    asked = histogram * np.arange(m + 1)
    matched, predicted = asked[::-1].cumsum()[::-1][1:], m * histogram[::-1].cumsum()[::-1][1:]
    total = asked.sum()
    if not total:
        return 0.0, 0.0
    values = 2 * matched / (predicted + total)
    best = int(values.argmax())
    return float(values[best]), float(predicted[best] / total)


def cache_hits(trace: Trace, n_experts: int, ahead: int, capacity: int) -> tuple[Numbers, Numbers]:
    """Return the hits and accesses of each sequence in a cache of experts that looks ahead, float64 ``[S]`` each.

    SCH: all experts of a token are looked up before any is loaded; the first access of an expert is free while the
    cache has room for all seen so far. Each access then puts its expert into the cache; where there are more than
    ``capacity``, the one goes that the coming accesses ask least, those of this token and of the ``ahead - 1`` after
    it, the least recent of several.

    Args:
        trace: See above.
        n_experts: Number of experts.
        ahead: Tokens that are known, this one included; 1 is least recently used.
        capacity: Experts in the cache.
    """
    sequences, tokens, k = trace.shape
    ids = np.where(_first_only(trace), trace, n_experts)  # one more column takes what is none
    hits, accesses = np.zeros(sequences), (ids < n_experts).sum(axis=(1, 2)).astype(np.float64)
    if capacity < 1:
        return hits, accesses
    rows = np.arange(sequences)
    shape = (sequences, n_experts + 1)
    future, last = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    cached, seen = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    n_seen = np.zeros(sequences, dtype=np.int64)
    for t in range(min(ahead, tokens)):
        future[rows[:, None], ids[:, t]] += 1
    for t in range(tokens):
        x = ids[:, t]
        real = x < n_experts
        new = real & ~seen[rows[:, None], x]
        free = new & (n_seen[:, None] + new.cumsum(axis=1) <= capacity)
        hits += (free | (real & cached[rows[:, None], x])).sum(axis=1)
        seen[rows[:, None], x] = True
        n_seen += new.sum(axis=1)
        for j in range(k):
            e = x[:, j]
            future[rows, e] -= 1
            last[rows, e] = t * k + j + 1
            cached[rows, e] = True
            cached[:, n_experts] = False
            over = np.flatnonzero(cached.sum(axis=1) > capacity)
            if len(over):
                worth = future[over] * (tokens * k + 1) + last[over]
                worth[~cached[over]] = np.iinfo(np.int64).max
                worth[np.arange(len(over)), e[over]] = np.iinfo(np.int64).max
                cached[over, worth.argmin(axis=1)] = False
        if t + ahead < tokens:
            future[rows[:, None], ids[:, t + ahead]] += 1
    return hits, accesses


def _first_only(trace: Trace) -> NDArray[np.bool_]:
    """Return which entries are an expert that none before it in the token is."""
    first = trace >= 0
    for j in range(1, trace.shape[2]):
        first[:, :, j] &= (trace[:, :, :j] != trace[:, :, [j]]).all(axis=2)
    return first


def transfer_ms(misses_per_token: Any, expert_bytes: Any, bandwidth: float) -> float:
    """Return the time to load what a token misses, in milliseconds: the sum over layers of misses x bytes / bandwidth.

    With ``misses = (1 - SCH) k`` this is the second term of the time of a token with offloaded experts,
    ``t_compute + (1 - SCH) k bytes / bandwidth``.

    Args:
        misses_per_token: Of each layer.
        expert_bytes: Of an expert of each layer.
        bandwidth: Bytes a second.
    """
    return float(1e3 * np.sum(np.asarray(misses_per_token) * np.asarray(expert_bytes)) / bandwidth)
