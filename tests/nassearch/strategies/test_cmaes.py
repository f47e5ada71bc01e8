import numpy as np
import pytest

from nassearch.strategies import make_strategy
from nassearch.strategies.cmaes import EvolutionPath
from nassearch.strategies.conformance import metrics, small_space
from search_spaces import Gene, SearchSpace, get_space


def test_converges_on_an_ellipsoid() -> None:
    rng, n, population = np.random.default_rng(0), 6, 12
    path = EvolutionPath(n, population, 0.3)
    goal, weight = np.linspace(0.2, 0.8, n), 10.0 ** np.linspace(0, 3, n)
    for _ in range(150):
        X = path.sample(population, rng, np.zeros(n))
        path.update(X[np.argsort((weight * (X - goal) ** 2).sum(axis=1))])
    np.testing.assert_allclose(path.mean, goal, atol=1e-2)


def test_draws_keep_a_least_deviation() -> None:
    path = EvolutionPath(4, 8, 1e-4)
    drawn = path.sample(4000, np.random.default_rng(0), np.full(4, 0.1))
    np.testing.assert_allclose(drawn.std(axis=0), 0.1, rtol=0.1)


@pytest.mark.parametrize("seed", range(2))
def test_beats_random_search(seed: int) -> None:
    best = {}
    for name in ("cmaes", "random"):
        s = make_strategy(name, get_space("ofa-mobilenetv3-w1.0"), objectives=["latency_ms:min"], seed=seed)
        for _ in range(20):
            rows = s.ask(20)
            s.tell(rows, metrics(rows)[:, 1:2])
        best[name] = s.F.min()
    assert best["cmaes"] < 0.8 * best["random"]


def test_repeated_draws_are_counted_and_filled() -> None:
    """In a space of 27 networks most draws were asked before."""
    space = SearchSpace("few", [Gene(g, (1, 2, 3)) for g in "abc"])
    s = make_strategy("cmaes", space, objectives=["top1:max"], redraws=3)
    for _ in range(9):
        rows = s.ask(3)
        assert len(rows) == 3
        s.tell(rows, rows.sum(axis=1)[:, None].astype(float))
    assert s.diagnostics()["redrawn"] > 0
    assert not len(s.ask(3))


def test_only_complete_generations_are_learned() -> None:
    s = make_strategy("cmaes", small_space(), objectives=["top1:max"], population=10)
    for _ in range(3):
        rows = s.ask(7)
        s.tell(rows, metrics(rows)[:, :1])
    s.ask(1)
    assert s._learned == 20  # type: ignore[attr-defined]
