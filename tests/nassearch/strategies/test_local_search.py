from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import drive, metrics, small_space
from nassearch.strategies.operators import Operators
from search_spaces import Gene, SearchSpace, get_space
from search_spaces.rows import row_keys


def changed_genes(space: SearchSpace, row: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    both = space.active(row[None]) & space.active(others)
    return np.asarray(((row != others) & both).sum(axis=1))


def test_neighbourhood_is_every_change_of_one_gene() -> None:
    space = small_space()
    for row in space.sample(20, np.random.default_rng(0)):
        near = Operators(space).neighbours(row)
        assert len(set(row_keys(near))) == len(near)
        assert space.feasible(near).all()
        assert row.tobytes() not in {n.tobytes() for n in near}
        assert (changed_genes(space, row, near) == 1).all()
    assert len(Operators(get_space("ofa-mobilenetv3-w1.0")).neighbours(space_full())) == 45 * 2


def space_full() -> NDArray[Any]:
    return get_space("ofa-mobilenetv3-w1.0").largest


def test_proposals_are_neighbours_of_the_front() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("local-search", space, objectives=["top1:max", "latency_ms:min"], startup=10)
    drive(s, 1, 10)
    for _ in range(8):
        front = s.told[s.front]  # type: ignore[attr-defined]
        near = {n.tobytes() for row in front for n in Operators(space).neighbours(row)}
        rows = s.ask(5)
        assert {r.tobytes() for r in rows} <= near
        s.tell(rows, metrics(rows)[:, :2])


def test_a_local_optimum_ends_the_climb() -> None:
    """With one start, the optimum is reached by single steps, its neighbourhood used up, and a new start drawn."""
    space = SearchSpace("line", [Gene(g, (0, 1, 2, 3, 4, 5)) for g in "abc"])
    s = make_strategy("local-search", space, objectives=["top1:max"], startup=1)
    starts = []
    for _ in range(120):
        rows = s.ask(1)
        known = s.told[s.front]  # type: ignore[attr-defined]
        starts.append(not len(known) or changed_genes(space, rows[0], known).min() > 1)
        s.tell(rows, -((rows - [4, 1, 3]) ** 2).sum(axis=1)[:, None].astype(float))
    assert s.F.min() == 0
    assert s.restarts >= 1  # type: ignore[attr-defined]
    assert s.diagnostics()["restarts"] == s.restarts  # type: ignore[attr-defined]
    assert starts[0]
    best = int(s.F[:, 0].argmin())
    after = best + 1 + int(np.argmax(starts[best + 1 :]))
    near = Operators(space).neighbours(s.told[best])
    assert set(row_keys(near)) <= set(row_keys(s.told[:after]))


def test_restarts_survive_a_replay() -> None:
    space = SearchSpace("line", [Gene(g, (0, 1, 2, 3)) for g in "abcd"])

    def value(rows: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(-np.abs(rows - 2).sum(axis=1)[:, None], dtype=float)

    one, two = (make_strategy("local-search", space, objectives=["top1:max"], startup=2) for _ in range(2))
    for _ in range(40):
        rows = one.ask(2)
        one.tell(rows, value(rows))
        two.replay(rows)
        two.tell(rows, value(rows))
    assert one.restarts > 0  # type: ignore[attr-defined]
    np.testing.assert_array_equal(one.ask(3), two.ask(3))
    assert one.restarts == two.restarts  # type: ignore[attr-defined]
