import itertools

import numpy as np
import pytest

from nassearch.pareto import hypervolume_min
from nassearch.strategies.ehvi import _Coverage, _Staircase, choose_batch


def improvement(samples: np.ndarray, chosen: list[int], front: np.ndarray, reference: np.ndarray) -> float:
    base = hypervolume_min(front, reference)
    gains = [hypervolume_min(np.concatenate([front, s[chosen]]), reference) - base for s in samples]
    return float(np.mean(gains))


@pytest.mark.parametrize("m", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_gains_are_exact_for_one_and_two_objectives(m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples, front, reference = rng.random((4, 9, m)) * 1.3, rng.random((seed, m)) * 1.2, np.ones(m)
    tally = _Staircase(samples, front, reference)
    chosen: list[int] = []
    for pick in (3, 5, 0):
        before = improvement(samples, chosen, front, reference)
        expected = [improvement(samples, [*chosen, c], front, reference) - before for c in range(9)]
        np.testing.assert_allclose(tally.gains(), expected, atol=1e-12)
        tally.choose(pick)
        chosen.append(pick)


@pytest.mark.parametrize("m", [3, 4])
def test_gains_rank_alike_for_more_objectives(m: int) -> None:
    rng = np.random.default_rng(0)
    samples, front, reference = rng.random((2, 15, m)), 0.5 + rng.random((6, m)) / 2, np.ones(m)
    exact = np.array([improvement(samples, [c], front, reference) for c in range(15)])
    estimate = _Coverage(samples, front, reference, rng).gains()
    assert np.corrcoef(exact, estimate)[0, 1] > 0.95


def test_greedy_batch_is_nearly_the_best_batch() -> None:
    rng = np.random.default_rng(1)
    samples, front = rng.random((3, 8, 2)), np.array([[0.1, 0.9], [0.9, 0.1]])
    chosen = choose_batch(samples, np.ones((3, 8), bool), front, np.ones(2), 3, rng)
    best = max(improvement(samples, list(c), front, np.ones(2)) for c in itertools.combinations(range(8), 3))
    # Greedy choice of a submodular measure: at least 1 - 1/e of the best, in practice nearly all.
    assert improvement(samples, chosen, front, np.ones(2)) >= 0.9 * best


def test_equal_candidates_are_not_taken_twice() -> None:
    samples = np.array([[[0.2, 0.2], [0.2, 0.2], [0.1, 0.8]]])
    chosen = choose_batch(samples, np.ones((1, 3), bool), np.empty((0, 2)), np.ones(2), 3, np.random.default_rng(0))
    assert chosen == [0, 2]


def test_pending_candidates_count_as_chosen() -> None:
    samples = np.array([[[0.2, 0.2], [0.25, 0.25], [0.1, 0.8]]])
    rng = np.random.default_rng(0)
    assert choose_batch(samples, np.ones((1, 3), bool), np.empty((0, 2)), np.ones(2), 3, rng, taken=1) == [2]


@pytest.mark.parametrize("m", [1, 2, 3])
def test_infeasible_candidates_are_not_chosen(m: int) -> None:
    rng = np.random.default_rng(0)
    samples = rng.random((2, 5, m))
    feasible = np.ones((2, 5), bool)
    feasible[:, 1:] = False
    assert choose_batch(samples, feasible, np.empty((0, m)), np.ones(m), 5, rng) == [0]
