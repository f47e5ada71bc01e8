"""Random subnets that depend on the seed and the step alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from search_spaces import SearchSpace


def sample_subnets(space: SearchSpace, n: int, seed: int, step: int) -> list[dict[str, Any]]:
    """Return ``n`` architectures whose genes are drawn uniformly and independently.

    They may repeat. Forbidden combinations are repaired.
    """
    rng = np.random.default_rng([seed, step])
    rows = rng.integers(0, space.n_choices, size=(n, len(space.genes)))
    rows = space.repair(rows, rng) if space.forbidden else space.canonical(rows)
    return list(space.decode(rows))
