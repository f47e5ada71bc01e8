"""A resumed search asks for what the uninterrupted one would have asked for, wherever it was cut."""

from __future__ import annotations

import numpy as np
import pytest

from nassearch.strategies import make_strategy
from search_spaces import Rows, get_space

SPACE = get_space("mobilenetv3-tiny")
OBJECTIVES = ["top1:max", "latency_ms:min"]


def _values(G: Rows) -> np.ndarray:
    X = SPACE.features(G).astype(np.float64)
    rng = np.random.default_rng(7)
    cost = X @ rng.random(X.shape[1])
    quality = 70 + 20 * np.tanh(X @ rng.normal(size=X.shape[1]) / 4 + cost / cost.mean() - 1)
    return np.stack([quality, cost], axis=1)


def _strategy() -> object:
    return make_strategy("linas", SPACE, objectives=OBJECTIVES, seed=3, budget=150)


@pytest.mark.slow
def test_linas_cut_after_any_batch_asks_for_the_same_next_batch() -> None:
    whole, batches = _strategy(), []
    for _ in range(15):
        batches.append(whole.ask(10))
        whole.tell(batches[-1], _values(batches[-1]))
    for cut in range(1, 15):
        resumed = _strategy()
        for batch in batches[:cut]:
            resumed.replay(batch)
            resumed.tell(batch, _values(batch))
        np.testing.assert_array_equal(resumed.ask(10), batches[cut], err_msg=f"cut after {cut} batches")
