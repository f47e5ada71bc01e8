import numpy as np
import pytest

from nassearch.errors import ConfigError
from nassearch.strategies import make_strategy, strategy_options
from nassearch.strategies.age_engine import age_scores
from nassearch.strategies.conformance import OBJECTIVES, drive, metrics, small_space
from nassearch.strategies.inner import ranks
from nassearch.strategies.operators import Operators
from nassearch.strategies.pymoo_engines import DecompositionEngine, reference_directions
from search_spaces import get_space

NAMES = ["age-moea", "ctaea", "ga", "moead", "nsga3", "sms-emoa", "unsga3"]
MANY = [n for n in NAMES if n != "ga"]


@pytest.mark.parametrize(("m", "at_most", "count"), [(2, 50, 50), (3, 50, 45), (4, 50, 35), (4, 10, 10), (3, 4, 3)])
def test_reference_directions(m: int, at_most: int, count: int) -> None:
    directions = reference_directions(m, at_most)
    assert directions.shape == (count, m)
    np.testing.assert_allclose(directions.sum(axis=1), 1)


@pytest.mark.parametrize("name", NAMES)
def test_beats_random_search(name: str) -> None:
    """One objective of 45 genes; also that a single objective works with algorithms for several."""
    best = {}
    for each in (name, "random"):
        s = make_strategy(each, get_space("ofa-mobilenetv3-w1.0"), objectives=["latency_ms:min"])
        for _ in range(12):
            rows = s.ask(25)
            s.tell(rows, metrics(rows)[:, 1:2])
        best[each] = s.F.min()
    assert best[name] < 0.8 * best["random"]


@pytest.mark.parametrize("name", MANY)
def test_the_front_spreads(name: str) -> None:
    """The survivors of two conflicting objectives hold both ends, not one compromise."""
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy(name, space, objectives=OBJECTIVES[:2], population=30)
    drive(s, 15, 20)
    s.ask(1)
    members = s._engine.members  # type: ignore[attr-defined]
    F = s.F
    assert len(members) <= 60
    reach = np.ptp(F[members], axis=0) / np.ptp(F, axis=0)
    assert (reach > 0.4).all()


@pytest.mark.parametrize("name", NAMES)
def test_constraints_steer(name: str) -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    objectives = ["top1:max"] if name == "ga" else ["top1:max", "params_m:min"]
    s = make_strategy(name, space, objectives=objectives, constraints=["latency_ms <= 12"], population=20)
    drive(s, 2, 10)
    assert (s.V[:, 0] == 0).mean() < 0.2
    drive(s, 20, 10)
    s.ask(1)
    members = s._engine.members  # type: ignore[attr-defined]
    # C-TAEA keeps infeasible networks around on purpose, in an archive of their own.
    assert (s.V[members, 0] == 0).mean() > (0.3 if name == "ctaea" else 0.6)


def test_ctaea_needs_two_objectives_for_constraints() -> None:
    """Its diversity archive ignores them: with one objective it would breed from infeasible networks only."""
    with pytest.raises(ConfigError, match="choose ga"):
        make_strategy("ctaea", small_space(), objectives=["top1:max"], constraints=["latency_ms <= 2"])


@pytest.mark.parametrize("name", NAMES)
def test_unseeded_ties_do_not_reach_pymoo(name: str) -> None:
    """All rows violate a constraint by the same amount: some of pymoo's tournaments then draw without a seed."""
    searches = []
    m = 1 if name == "ga" else 2
    for _ in range(2):
        s = make_strategy(
            name, small_space(), objectives=OBJECTIVES[:m], constraints=["peak_memory_mb <= 1"], population=12
        )
        for _ in range(8):
            rows = s.ask(8)
            s.tell(rows, metrics(rows)[:, :m], np.ones((len(rows), 1)))
        searches.append(s.told)
    np.testing.assert_array_equal(searches[0], searches[1])


def test_options() -> None:
    assert strategy_options("nsga3")["crossover_kind"] == "uniform"
    assert {"scalarise", "population", "mutation"} <= set(strategy_options("ga"))
    with pytest.raises(ConfigError, match=r"uniform, one-point"):
        make_strategy("nsga3", small_space(), objectives=OBJECTIVES[:2], crossover_kind="two-point")
    s = make_strategy("nsga3", small_space(), objectives=OBJECTIVES[:2], crossover_kind="one-point", budget=80)
    assert len(np.concatenate(drive(s, 6, 8))) == 48


def test_one_point_crossover_takes_a_prefix_of_one_parent() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    A, B = np.repeat(space.smallest[None], 200, axis=0), np.repeat(space.largest[None], 200, axis=0)
    children = Operators(space).crossover(A, B, np.random.default_rng(0), kind="one-point")
    # Blocks behind the smallest depth are inactive in A and take B's genes: look at the others.
    always = space.active(space.smallest[None])[0]
    from_b = (children == B)[:, always]
    assert (np.diff(from_b.astype(int), axis=1) >= 0).all()
    assert 2 < np.unique(from_b.sum(axis=1)).size


def test_age_scores_prefer_extremes_then_spread() -> None:
    x = np.array([0.0, 0.02, 0.04, 0.5, 1.0])
    F = np.column_stack([x, (1 - np.sqrt(x)) ** 2])
    F = np.concatenate([F, F + 0.5])
    rank = ranks(F)
    score = age_scores(F, rank)
    assert np.isinf(score[[0, 4]]).all()
    assert score[3] > score[1]
    assert np.isfinite(score[5:]).all()
    for degenerate in (np.zeros((4, 2)), np.zeros((1, 3)), np.array([[0.0, 1.0], [1.0, 0.0]])):
        assert len(age_scores(degenerate, np.zeros(len(degenerate), dtype=np.int64))) == len(degenerate)


def test_decomposition_replaces_only_what_is_worse() -> None:
    engine = DecompositionEngine(reference_directions(2, 5), neighbours=2)
    F = np.array([[0.0, 1.0], [1.0, 0.0], [0.4, 0.4], [0.9, 0.9], [0.0, 0.0]])
    violation = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
    rng = np.random.default_rng(0)
    engine.advance(np.arange(3), F, violation, rng)
    assert set(engine.members) == {0, 1, 2}
    engine.advance(np.array([3, 4]), F, violation, rng)
    assert set(engine.members) == {0, 1, 2}
    assert engine.parents(7, rng).shape == (7, 2)
