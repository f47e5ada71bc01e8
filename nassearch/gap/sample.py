"""Which architectures are trained from scratch: spread evenly over cost, each sample a part of the greater ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from nassearch.errors import ConfigError
from search_spaces import SearchSpace

POOL = 1000
"""Random architectures among which the sample is chosen."""
LEAST = 3
"""Architectures in the smallest sample whose ranking says anything."""

Analytic = Callable[[NDArray[np.int64]], Mapping[str, NDArray[np.float64]]]


def stratified(space: SearchSpace, analytic: Analytic, n: int, seed: int) -> NDArray[np.int64]:
    """Return distinct canonical architectures, small and large ones in the proportion in which the space has them.

    `POOL` random architectures are sorted by multiply-accumulates; the sample takes their quantiles in the order of van
    der Corput's sequence (1/2, 1/4, 3/4, 1/8, …): any first n of it are spread evenly, so a sample can grow. The ends
    of the space are not added: methods that train them in each step would look better than they are.

    Args:
        space: The search space.
        analytic: Rows -> costs, `Supernet.analytic`.
        n: How many.
        seed: Decides the pool.

    Returns:
        int64 ``[n, n_genes]``.

    Raises:
        ConfigError: Fewer than `LEAST` or more than `POOL` are asked for, or more than the space has.
    """
    if not LEAST <= n <= POOL:
        raise ConfigError(f"--architectures {n}: give {LEAST} to {POOL}; fewer have no order, 30 are usual")
    pool = space.sample(POOL, np.random.default_rng([seed, 30]))
    if len(pool) < n:
        raise ConfigError(
            f"--architectures {n}: the space {space.name!r} has {len(pool)} distinct networks; give "
            f"{f'--architectures {len(pool)} or fewer' if len(pool) >= LEAST else 'a larger space'}"
        )
    costs = analytic(pool)
    # Genes break ties, so that the order is the same wherever it is computed.
    order = np.lexsort((*pool.T[::-1], costs["params_m"], costs["macs_m"]))
    chosen: dict[int, None] = {}
    number = 1
    while len(chosen) < n:
        chosen.setdefault(int(_van_der_corput(number) * len(pool)))
        number += 1
    sample: NDArray[np.int64] = pool[order[list(chosen)]]
    return sample


def _van_der_corput(number: int) -> float:
    """Return the number's binary digits mirrored at the point: 1/2, 1/4, 3/4, 1/8, …."""
    value, weight = 0.0, 0.5
    while number:
        number, digit = divmod(number, 2)
        value += weight * digit
        weight /= 2
    return value
