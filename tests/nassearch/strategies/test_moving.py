"""Limits on a size are kept by moving counts between layers."""

from __future__ import annotations

import numpy as np
import pytest

from nassearch.strategies import make_strategy
from nassearch.strategies.moving import CountMover
from search_spaces import Gene, Rows, SearchSpace

KEEP, WIDTH = (2, 4, 6, 8), (8, 16)


def experts(role: str = "experts") -> SearchSpace:
    """Return six layers with a count, a width, and a k that needs two experts more than it is."""
    genes = []
    for i in range(6):
        genes += [
            Gene(f"keep.{i}", KEEP, role=role, layer=i),
            Gene(f"k.{i}", (1, 2, 3, 4), role="top_k", layer=i),
            Gene(f"width.{i}", WIDTH, role="width", layer=i),
        ]
    return SearchSpace("experts", genes, [{f"keep.{i}": {2}, f"k.{i}": {3, 4}} for i in range(6)])


def size(G: Rows) -> np.ndarray:
    """Return the sum over the layers of count times width."""
    return (np.array(KEEP)[G[:, 0::3]] * np.array(WIDTH)[G[:, 2::3]]).sum(axis=1).astype(np.float64)


def mover(limit: float, space: SearchSpace) -> CountMover:
    return CountMover(space, lambda G: np.maximum(size(G) - limit, 0.0))


def test_rows_end_within_the_limit_and_use_it() -> None:
    """Rows beyond the limit come within, feasible, by counts alone where these do, and no count could be larger."""
    space, rng = experts(), np.random.default_rng(0)
    G = space.sample(200, rng)
    limit = 330.0
    repaired = mover(limit, space)(G.copy(), np.random.default_rng(1))
    before = size(G) <= limit
    assert 0 < before.sum() < 200
    assert np.array_equal(repaired[before], G[before])
    assert (size(repaired) <= limit).all()
    assert space.feasible(repaired).all()
    assert np.array_equal(repaired[:, 2::3], G[:, 2::3])
    for row in repaired[~before]:
        for column in range(0, 18, 3):
            larger = row.copy()
            larger[column] += 1
            assert row[column] == 3 or size(larger[None])[0] > limit


def test_widths_follow_where_counts_do_not_do() -> None:
    """Below what the smallest counts need widths get smaller; what cannot be met stays nearest to it."""
    space = experts()
    for limit, least in ((100.0, 100.0), (10.0, 96.0)):
        repaired = mover(limit, space)(space.largest[None].copy(), np.random.default_rng(0))
        assert size(repaired)[0] <= least


@pytest.mark.parametrize("name", ["random", "nsga2", "regularized-evolution", "cmaes", "tpe", "ga", "linas"])
def test_strategies_ask_within_a_tight_limit(name: str) -> None:
    """Of a limit that hardly any random network meets every network asked is within, and the largest counts differ."""
    space = experts()
    limit = 200.0
    assert (size(space.sample(2000, np.random.default_rng(0))) <= limit).mean() < 0.05
    strategy = make_strategy(
        name,
        space,
        objectives=["loss:min"],
        constraints=[f"size_mb <= {limit}"],
        analytic=lambda G: {"size_mb": size(G)},
        budget=24,
    )
    for _ in range(3):
        G = strategy.ask(8)
        assert len(G) == 8
        assert (size(G) <= limit).all()
        strategy.tell(G, -size(G)[:, None] + G.sum(axis=1)[:, None])
    assert len({tuple(row[0::3]) for row in strategy.told}) > 6


def test_other_spaces_are_left_alone() -> None:
    """Without counts of experts nothing is moved: searches of other spaces are what they were."""
    space = experts(role="heads")
    strategy = make_strategy(
        "random",
        space,
        objectives=["loss:min"],
        constraints=["size_mb <= 300"],
        analytic=lambda G: {"size_mb": size(G)},
    )
    G = space.sample(20, np.random.default_rng(0))
    assert strategy.within_limits(G, np.random.default_rng(0)) is G


def test_a_search_that_gains_nothing_by_smaller_networks_fills_the_limit() -> None:
    """Filled rows keep the limit, and no count and no width could be larger; rows that are full stay as they are."""
    space, limit = experts(), 330.0
    G = space.sample(100, np.random.default_rng(0))
    fill = CountMover(space, lambda rows: np.maximum(size(rows) - limit, 0.0), fill=True)
    filled = fill(G, np.random.default_rng(1))
    assert (size(filled) <= limit).all()
    assert space.feasible(filled).all()
    assert np.array_equal(fill(filled, np.random.default_rng(2)), filled)
    for row in filled:
        for column in (c for c in range(18) if c % 3 != 1):
            larger = row.copy()
            larger[column] += 1
            assert row[column] == len(space.genes[column].choices) - 1 or size(larger[None])[0] > limit


def test_only_one_objective_fills_the_limit() -> None:
    """With size as a second objective small networks are worth asking; alone, all that is asked is near the limit."""
    space, limit = experts(), 330.0
    used = {}
    for objectives in (["loss:min"], ["loss:min", "size_mb:min"]):
        strategy = make_strategy(
            "random",
            space,
            objectives=objectives,
            constraints=[f"size_mb <= {limit}"],
            analytic=lambda G: {"size_mb": size(G)},
        )
        used[len(objectives)] = size(strategy.ask(40)).mean() / limit
    assert used[1] > 0.96  # steps are a twentieth of the limit
    assert used[2] < used[1] - 0.02


def test_a_cost_as_the_only_objective_does_not_fill_the_limit() -> None:
    """Of a time, smaller networks are better: what is asked stays as small as it was drawn."""
    space, limit = experts(), 330.0
    strategy = make_strategy(
        "random",
        space,
        objectives=["latency_ms:min"],
        constraints=[f"size_mb <= {limit}"],
        analytic=lambda G: {"size_mb": size(G)},
    )
    assert size(strategy.ask(40)).min() < 0.8 * limit
