import numpy as np
import pytest
from numpy.typing import NDArray

from nassearch.strategies.inner import Scored, best_first, evolve, ranks
from nassearch.strategies.operators import Operators
from search_spaces import Rows, get_space

Floats = NDArray[np.float64]


def brute_force_ranks(F: Floats) -> list[int]:
    rank = [-1] * len(F)
    k = 0
    while -1 in rank:
        left = [i for i, r in enumerate(rank) if r < 0]
        for i in [i for i in left if not any((F[j] <= F[i]).all() and (F[j] < F[i]).any() for j in left)]:
            rank[i] = k
        k += 1
    return rank


@pytest.mark.parametrize("m", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_ranks_equal_brute_force(m: int, seed: int) -> None:
    F = np.random.default_rng(seed).integers(0, 5, size=(40, m)).astype(float)
    expected = brute_force_ranks(F)
    assert ranks(F).tolist() == expected
    some = ranks(F, enough=10)
    last = max(r for r in range(max(expected) + 1) if (np.array(expected) < r).sum() < 10)
    assert [r if r <= last else last + 1 for r in expected] == some.tolist()


def test_best_first_puts_feasible_rows_first_then_small_violations() -> None:
    F = np.array([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0], [9.0, 9.0]])
    scored = Scored(np.zeros((4, 3), dtype=np.int64), F, np.array([0.5, 0.0, 0.1, 0.0]))
    assert best_first(scored).tolist() == [1, 3, 2, 0]
    assert best_first(scored, 2).tolist() == [1, 3]


def test_evolution_finds_the_known_front_of_a_separable_problem() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")

    def score(G: Rows) -> tuple[Floats, Floats]:
        size = (G * np.arange(1, 46)).sum(axis=1).astype(float)
        return np.stack([size, -size], axis=1), np.zeros(len(G))

    rng = np.random.default_rng(0)
    found = evolve(Operators(space), score, space.sample(50, rng), rng, population=80, generations=60)
    largest = score(space.largest[None])[0][0, 0]
    # The ends of the front are the smallest and the largest network.
    assert found.F[:, 0].min() <= 0.1 * largest
    assert found.F[:, 0].max() >= 0.85 * largest
    assert len({tuple(r) for r in found.G.tolist()}) == len(found)


def test_evolution_satisfies_a_constraint_that_no_start_satisfies() -> None:
    space = get_space("mobilenetv3-tiny")

    def score(G: Rows) -> tuple[Floats, Floats]:
        size = G.sum(axis=1).astype(float)
        return -size[:, None], np.maximum(size - 6.0, 0.0)

    rng = np.random.default_rng(0)
    start = space.sample(200, rng)
    start = start[start.sum(axis=1) > 10]
    found = evolve(Operators(space), score, start, rng, population=30, generations=30)
    assert found.violation[0] == 0
    assert found.F[0, 0] == -6.0
