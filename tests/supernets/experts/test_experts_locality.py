"""SRP, SCH, balance and divergence against hand-computed values and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest

from supernets.experts.balance import dead_share, js_divergence, load_entropy, load_max_mean, mean_divergence
from supernets.experts.locality import cache_hits, segment_histogram, segment_performance, transfer_ms


def test_segment_performance_by_hand():
    # One sequence, experts per token: 0, 0, 1, 0. Windows of two tokens: 00, 01, 10.
    histogram = segment_histogram(np.array([[[0], [0], [1], [0]]]), 2, 2)
    # Expert 0 has counts 2, 1, 1; expert 1 has 0, 1, 1.
    assert histogram.tolist() == [1, 4, 1]
    # t = 1: 2 * 6 / (2 * 5 + 6) = 0.75; t = 2: 2 * 2 / (2 * 1 + 6) = 0.5.
    assert segment_performance(histogram) == (0.75, 10 / 6)


def test_segment_performance_equals_the_loop():
    rng = np.random.default_rng(0)
    trace = np.argsort(rng.random((5, 20, 6)), axis=2)[:, :, :2]
    for m in (1, 3, 8):
        counts = [
            sum(e in token for token in sequence[s : s + m])
            for sequence in trace.tolist()
            for s in range(20 - m + 1)
            for e in range(6)
        ]
        values = [
            2 * sum(c for c in counts if c >= t) / (m * sum(c >= t for c in counts) + sum(counts))
            for t in range(1, m + 1)
        ]
        assert segment_performance(segment_histogram(trace, 6, m))[0] == pytest.approx(max(values))
    assert segment_performance(segment_histogram(trace, 6, 1))[0] == 1.0  # a window of one token predicts itself
    assert segment_performance(segment_histogram(trace, 6, 21)) == (0.0, 0.0)  # no window is that long


def naive_hits(sequence, ahead, capacity):
    """The definition word for word, for one sequence of lists of experts."""
    cache, last, seen, hits, clock = set(), {}, set(), 0, 0
    for t, token in enumerate(sequence):
        for e in token:
            if e not in seen:
                hits += len(seen) < capacity
                seen.add(e)
            else:
                hits += e in cache
        for j, e in enumerate(token):
            clock += 1
            last[e] = clock
            cache.add(e)
            if len(cache) > capacity:
                coming = token[j + 1 :] + [x for later in sequence[t + 1 : t + ahead] for x in later]
                cache.remove(min(cache - {e}, key=lambda x: (coming.count(x), last[x])))
    return hits


def test_cache_hits_equal_the_naive_simulation():
    rng = np.random.default_rng(1)
    for n, k, ahead in ((6, 1, 1), (6, 2, 1), (8, 3, 4), (5, 2, 50)):
        trace = np.argsort(rng.random((10, 25, n)), axis=2)[:, :, :k]
        for capacity in range(1, n + 1):
            hits, accesses = cache_hits(trace, n, ahead, capacity)
            assert accesses.tolist() == [25 * k] * 10
            assert hits.tolist() == [naive_hits(s, ahead, capacity) for s in trace.tolist()]


def test_cache_hits_by_hand():
    # Experts 0 1 2 0 with room for two, least recently used: 0 and 1 are free, 2 pushes 0 out, 0 misses.
    trace = np.array([[[0], [1], [2], [0]]])
    assert cache_hits(trace, 3, 1, 2)[0].tolist() == [2]
    # With a look ahead of two tokens 2 pushes 1 out, for 0 is coming.
    assert cache_hits(trace, 3, 2, 2)[0].tolist() == [3]
    assert cache_hits(trace, 3, 1, 0)[0].tolist() == [0]
    assert cache_hits(trace, 3, 1, 3)[0].tolist() == [4]


def test_padding_and_repeats_are_no_accesses():
    trace = np.array([[[0, 0], [1, -1], [-1, -1]]])
    hits, accesses = cache_hits(trace, 2, 1, 1)
    assert (hits.tolist(), accesses.tolist()) == ([1], [2])
    assert segment_histogram(trace, 2, 2).tolist() == [0, 2, 0]


def test_time_of_transfers():
    # Two layers miss 0.5 and 1 expert of 4 MB and 2 MB a token, at 8 GB/s: 4 MB take 0.5 ms.
    assert transfer_ms([0.5, 1.0], [4e6, 2e6], 8e9) == pytest.approx(0.5)


def test_balance_by_hand():
    assert load_entropy([5, 5, 5, 5]) == pytest.approx(1)
    assert load_entropy([1, 1, 0, 0]) == pytest.approx(math.log(2) / math.log(4))
    assert load_entropy([7]) == 1
    assert load_max_mean([3, 1, 0, 0]) == pytest.approx(3)
    assert dead_share([3, 1, 0, 0]) == 0.5


def test_divergence_by_hand():
    assert js_divergence([1, 0], [0, 3]) == pytest.approx(1)  # nothing in common: one bit
    assert js_divergence([1, 3], [2, 6]) == pytest.approx(0)
    expected = 0.5 * (math.log2(1 / 0.75)) + 0.5 * (0.5 * math.log2(0.5 / 0.75) + 0.5 * math.log2(0.5 / 0.25))
    assert js_divergence([1, 0], [1, 1]) == pytest.approx(expected)
    assert mean_divergence([[[1, 0], [0, 1], [0, 1]], [[1, 0], [1, 0], [1, 0]]]) == pytest.approx((1 + 1 + 0) / 6)
