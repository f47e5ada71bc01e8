import numpy as np
import pytest

from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import drive, metrics, small_space, told
from search_spaces import get_space

OBJECTIVES = ["top1:max", "latency_ms:min"]


def test_population_shrinks_for_small_budgets() -> None:
    def population(budget: int | None) -> int:
        return make_strategy("nsga2", small_space(), objectives=OBJECTIVES, budget=budget).population  # type: ignore[attr-defined, no-any-return]

    assert [population(b) for b in (None, 400, 100, 20)] == [50, 50, 25, 10]


def test_landmarks_come_first() -> None:
    space = get_space("mobilenetv3-tiny")
    s = make_strategy("nsga2", space, objectives=OBJECTIVES, landmarks=True)
    np.testing.assert_array_equal(s.ask(4)[:2], [space.largest, space.smallest])


def test_children_really_are_mutated() -> None:
    """With one parent crossover can bring nothing new: each child differs from it in an active gene."""
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("nsga2", space, objectives=["top1:max"], population=2)
    parent = space.sample(1, np.random.default_rng(0))
    s.tell(np.repeat(parent, 1, axis=0), np.zeros((1, 1)))
    s.tell(space.smallest[None], np.full((1, 1), np.nan))
    children = s.ask(40)
    changed = ((children != parent) & space.active(parent) & space.active(children)).sum(axis=1)
    assert changed.mean() >= 1.0
    assert changed.mean() < 5.0


@pytest.mark.parametrize("seed", range(3))
def test_beats_random_search(seed: int) -> None:
    results = {}
    for name in ("nsga2", "random"):
        s = make_strategy(name, get_space("ofa-mobilenetv3-w1.0"), objectives=["latency_ms:min"], seed=seed)
        for _ in range(12):
            rows = s.ask(25)
            s.tell(rows, metrics(rows)[:, 1:2])
        results[name] = s.F.min()
    assert results["nsga2"] < 0.8 * results["random"]


def test_constraints_steer() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("nsga2", space, objectives=["top1:max"], constraints=["latency_ms <= 12"], population=20)
    drive(s, 2, 10)
    assert (s.V[:, 0] == 0).mean() < 0.2
    drive(s, 20, 10)
    assert (s.V[-50:, 0] == 0).mean() > 0.4


def test_survivors_do_not_depend_on_how_results_were_grouped() -> None:
    one, many = (make_strategy("nsga2", small_space(), objectives=OBJECTIVES, population=10) for _ in range(2))
    for _ in range(5):
        rows = one.ask(8)
        many.replay(rows)
        told(one, rows)
        many.tell(rows[:3], metrics(rows[:3])[:, :2])
        many.tell(rows[3:], metrics(rows[3:])[:, :2])
    np.testing.assert_array_equal(one.ask(8), many.ask(8))
