import numpy as np

from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import drive, metrics, small_space
from search_spaces import get_space

OBJECTIVES = ["top1:max", "latency_ms:min"]


def test_ageing_removes_the_oldest_however_good() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("regularized-evolution", space, objectives=["top1:max"], population=12)
    first = s.ask(12)
    s.tell(first, np.r_[100.0, np.zeros(11)][:, None])
    np.testing.assert_array_equal(s.living, np.arange(12))  # type: ignore[attr-defined]
    later = s.ask(3)
    s.tell(later, np.zeros((3, 1)))
    np.testing.assert_array_equal(s.living, np.arange(3, 15))  # type: ignore[attr-defined]
    assert s.F[:, 0].argmin() == 0  # the best ever is no member any more


def test_failures_are_no_members() -> None:
    space = small_space()
    s = make_strategy("regularized-evolution", space, objectives=["top1:max"], population=10)
    rows = s.ask(10)
    s.tell(rows, np.where(np.arange(10) % 2, np.nan, 1.0)[:, None])
    np.testing.assert_array_equal(s.living, [0, 2, 4, 6, 8])  # type: ignore[attr-defined]


def test_children_differ_from_a_parent_in_one_gene() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("regularized-evolution", space, objectives=OBJECTIVES, population=10)
    rows = s.ask(10)
    s.tell(rows, metrics(rows)[:, :2])
    for child in s.ask(20):
        both = space.active(child[None]) & space.active(rows)
        # A depth may switch a block on or off, so only genes that both have are compared.
        assert ((child != rows) & both).sum(axis=1).min() <= 1


def test_the_tournament_prefers_feasible_members() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy(
        "regularized-evolution", space, objectives=["top1:max"], constraints=["latency_ms <= 12"], population=20
    )
    drive(s, 2, 10)
    before = (s.V[:, 0] == 0).mean()
    drive(s, 20, 10)
    assert before < 0.2
    assert (s.V[-50:, 0] == 0).mean() > 0.4


def test_sizes_follow_a_small_budget() -> None:
    s = make_strategy("regularized-evolution", small_space(), objectives=OBJECTIVES, budget=100)
    assert (s.population, s.sample) == (25, 6)  # type: ignore[attr-defined]
