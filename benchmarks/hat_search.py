"""HAT's search (Wang et al., ACL 2020): a genetic algorithm within a limit of predicted latency.

As in its published code: the fitness is the loss of the validation split, the population is parents, mutants (each gene
drawn anew with probability 0.3) and uniform crossovers of two parents, 1 : 2 : 2, and what the latency predictor holds
to be too slow is drawn again. Unlike it, no network is evaluated twice: its code pays for parents in every iteration.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from translation_latency import hat_network

from search_spaces import SearchSpace, hat_averages

Rows = NDArray[np.int64]
Values = NDArray[np.float64]

_MUTATION = 0.3
_TRIES = 1000  # for each network that is wanted


def latency_predictor(space: SearchSpace, rows: Rows, latency: Values, seed: int) -> Callable[[Rows], Values]:
    """Return HAT's predictor of latency, learnt from measured rows.

    A network of 3 x 400 on ten averages, each divided by that of the largest network, with HAT's learning rate.
    """
    scale = hat_averages(space, space.largest[None])
    scale = np.where(scale == 0, 1.0, scale)
    predict = hat_network(hat_averages(space, rows) / scale, latency, rate=1e-5, seed=seed)
    return lambda G: predict(hat_averages(space, G) / scale)


def hat_search(
    space: SearchSpace,
    loss: Callable[[Rows], Values],
    latency: Callable[[Rows], Values],
    limit: float,
    *,
    budget: int,
    population: int,
    rng: np.random.Generator,
) -> tuple[Rows, Values]:
    """Return the networks that the genetic algorithm evaluated within a limit, and their losses.

    Args:
        space: The search space.
        loss: What is minimised, of rows.
        latency: Predicted latency of rows.
        limit: In the unit of the latency.
        budget: Networks to evaluate; fewer where no more are found within the limit.
        population: Networks of the first generation; a fifth of them, at least two, are parents of the next.
        rng: Of all that is random.

    Raises:
        ValueError: Not one network was found within the limit.
    """
    known: set[bytes] = set()

    def accepted(make: Callable[[], Rows], n: int) -> list[Rows]:
        """Return up to ``n`` networks that are within the limit and new."""
        found: list[Rows] = []
        for _ in range(n * _TRIES):
            if len(found) >= n:
                break
            row = space.canonical(make()[None])
            if row.tobytes() not in known and latency(row)[0] <= limit:
                known.add(row.tobytes())
                found.append(row[0])
        return found

    def anew() -> Rows:
        return rng.integers(0, space.n_choices)

    new = accepted(anew, min(population, budget))
    if not new:
        raise ValueError(f"none of {population * _TRIES} random networks has a predicted latency of at most {limit}")
    seen, scores = np.array(new), loss(np.array(new))
    n_parents = max(2, population // 5)
    while len(seen) < budget:
        parents = seen[np.argsort(scores, kind="stable")[:n_parents]]

        def mutant(parents: Rows = parents) -> Rows:
            parent = parents[rng.integers(len(parents))]
            return np.where(rng.random(len(parent)) < _MUTATION, anew(), parent)

        def child(parents: Rows = parents) -> Rows:
            a, b = parents[rng.choice(len(parents), 2, replace=len(parents) < 2)]
            return np.where(rng.random(len(a)) < 0.5, a, b)

        wanted = min(population - n_parents, budget - len(seen))
        new = accepted(mutant, wanted - wanted // 2)
        new += accepted(child, wanted // 2)
        if not new:  # all that mutation and crossover reach is known
            break
        seen, scores = np.concatenate([seen, new]), np.concatenate([scores, loss(np.array(new))])
    return seen, scores
