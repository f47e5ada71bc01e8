"""How sure a BLEU is: bootstrap over sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SAMPLES = 1000

Statistics = NDArray[np.int64]
"""Of each sentence: four counts of matching n-grams, four of n-grams, tokens written, tokens of the reference."""


def statistics(written: Sequence[str], references: Sequence[str]) -> Statistics:
    """Return what sacreBLEU adds up, int64 ``[n, 10]``."""
    import sacrebleu

    scores = [sacrebleu.sentence_bleu(w, [r]) for w, r in zip(written, references, strict=True)]
    return np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scores], dtype=np.int64)


def bleu(sums: NDArray[np.int64]) -> float:
    """Return sacreBLEU's BLEU of added-up statistics, 0-100."""
    from sacrebleu.metrics import BLEU

    numbers = [int(x) for x in sums]
    return float(BLEU.compute_bleu(numbers[:4], numbers[4:8], numbers[8], numbers[9], smooth_method="exp").score)


def resampled(stats: Statistics, seed: int = 0) -> NDArray[np.float64]:
    """Return the BLEU of resampled sentences, float64 ``[SAMPLES]``; of two systems those of one index are pairs."""
    rng = np.random.default_rng(seed)
    n = len(stats)
    return np.array([bleu(stats[rng.integers(0, n, n)].sum(0)) for _ in range(SAMPLES)])
