from typing import Any

import numpy as np

from nassearch.strategies import make_strategy
from nassearch.strategies.base import Strategy
from nassearch.strategies.conformance import analytic, metrics, small_space
from search_spaces import get_space
from search_spaces.rows import row_keys

OPTIONS: dict[str, Any] = {"trees": 60, "depth": 8, "query": 40, "pool": 1000, "top": 100}


def search(batches: int, n: int, column: int = 1, **arguments: object) -> Strategy:
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("weaknas", space, objectives=["latency_ms:min"], **(OPTIONS | arguments))
    for _ in range(batches):
        rows = s.ask(n)
        s.tell(rows, metrics(rows)[:, column : column + 1])
    return s


def test_everything_comes_from_the_pool() -> None:
    s = search(5, 40)
    pool = s.pool  # type: ignore[attr-defined]
    assert len(pool) == 1000
    assert set(row_keys(s.told)) <= set(row_keys(pool))


def test_later_rounds_come_from_the_predicted_top() -> None:
    s = search(2, 40)
    rows = s.ask(40)
    ranked = s.unseen(s.pool[s._ranking])  # type: ignore[attr-defined]
    asked = set(row_keys(rows))
    place = [k for k, key in enumerate(row_keys(s.pool[s._ranking])) if key in asked]  # type: ignore[attr-defined]
    told_in_front = len(s.told)
    assert max(place) < 100 + told_in_front
    # Uniform among the top hundred: not simply the first forty.
    assert max(place) > 60
    assert len(ranked) == 1000 - 120
    truth = metrics(s.pool)[:, 1]  # type: ignore[attr-defined]
    assert metrics(rows)[:, 1].mean() < np.quantile(truth, 0.25)


def test_a_round_is_not_changed_by_its_own_results() -> None:
    small, large = search(8, 10), search(2, 40)
    assert not np.array_equal(small.told, large.told)
    for s in (small, large):
        assert s.diagnostics()["ranked_after"] == 40
        s.ask(1)
        assert s.diagnostics()["ranked_after"] == 80


def test_rounds_follow_a_known_budget() -> None:
    s = make_strategy("weaknas", small_space(), objectives=["top1:max"], budget=800)
    assert s.query == 100  # type: ignore[attr-defined]
    s = make_strategy("weaknas", small_space(), objectives=["top1:max"], budget=90)
    assert s.query == 12  # type: ignore[attr-defined]


def test_analytic_limits_cut_the_pool_and_measured_ones_are_predicted() -> None:
    space = small_space()
    s = make_strategy(
        "weaknas", space, objectives=["top1:max"], constraints=["params_m <= 5"], analytic=analytic, pool=300
    )
    assert (analytic(s.pool)["params_m"] <= 5).all()  # type: ignore[attr-defined]
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("weaknas", space, objectives=["top1:max"], constraints=["latency_ms <= 17"], **OPTIONS)
    for _ in range(4):
        rows = s.ask(40)
        values = metrics(rows)
        s.tell(rows, values[:, :1], s.constraints[0].violation(values[:, 1])[:, None])
    satisfied = s.V[:, 0] == 0
    assert satisfied[-80:].mean() > satisfied[:40].mean() + 0.2


def test_a_used_up_pool_is_followed_by_random_networks() -> None:
    s = search(4, 10, pool=20, query=10)
    assert len(s.told) == 40
