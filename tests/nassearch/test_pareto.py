import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nassearch.objectives import Objective
from nassearch.pareto import (
    constrained_front,
    crowding,
    hypervolume,
    knee,
    non_dominated,
    normalised_hypervolume,
    reference_point,
)

Floats = NDArray[np.float64]

# Few different values: ties and duplicates are the hard part.
coarse = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, float("nan")])


@st.composite
def tables(draw: st.DrawFn, least: int = 0) -> tuple[Floats, list[Objective]]:
    m = draw(st.integers(1, 4))
    n = draw(st.integers(least, 12))
    directions = draw(st.lists(st.sampled_from(["max", "min"]), min_size=m, max_size=m))
    values = draw(arrays(np.float64, (n, m), elements=coarse))
    return values, [Objective(f"m{i}", d) for i, d in enumerate(directions)]


def brute_force(values: Floats, objectives: list[Objective]) -> list[bool]:
    F = values * [o.sign for o in objectives]
    front = []
    for i, f in enumerate(F):
        dominated = any((g <= f).all() and (g < f).any() for g in F if not np.isnan(g).any())
        repeated = any((g == f).all() for g in F[:i])
        front.append(not np.isnan(f).any() and not dominated and not repeated)
    return front


@settings(deadline=None)
@given(tables())
def test_front_equals_brute_force(table: tuple[Floats, list[Objective]]) -> None:
    assert non_dominated(*table).tolist() == brute_force(*table)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_front_equals_brute_force_beyond_one_block(m: int) -> None:
    rng = np.random.default_rng(m)
    values = rng.integers(0, 12, size=(700, m)).astype(float)
    objectives = [Objective(f"m{i}", "min") for i in range(m)]
    assert non_dominated(values, objectives).tolist() == brute_force(values, objectives)


@settings(deadline=None)
@given(tables(), st.data())
def test_constrained_front_is_the_front_of_the_feasible(
    table: tuple[Floats, list[Objective]], data: st.DataObject
) -> None:
    values, objectives = table
    V = data.draw(arrays(np.float64, (len(values), 2), elements=st.sampled_from([0.0, 0.0, 0.3, float("nan")])))
    ok = (V == 0).all(axis=1)
    expected = np.zeros(len(values), dtype=bool)
    expected[ok] = brute_force(values[ok], objectives)
    assert constrained_front(values, objectives, V).tolist() == expected.tolist()
    assert constrained_front(values, objectives).tolist() == non_dominated(values, objectives).tolist()


@settings(deadline=None)
@given(tables(least=1))
def test_hypervolume_equals_counting_cells(table: tuple[Floats, list[Objective]]) -> None:
    values, objectives = table
    F = values * [o.sign for o in objectives]
    m = len(objectives)
    # All values are multiples of 1/2, so cells of that size are dominated wholly or not at all.
    centres = np.stack(np.meshgrid(*[np.arange(-2.25, 2.5, 0.5)] * m, indexing="ij"), axis=-1).reshape(-1, m)
    reference = np.full(m, 2.5)
    F = F[~np.isnan(F).any(axis=1)]
    dominated = np.zeros(len(centres), dtype=bool)
    for f in F:
        dominated |= (f < centres).all(axis=1)
    signs = np.array([o.sign for o in objectives])
    assert hypervolume(values, reference * signs, objectives) == pytest.approx(dominated.sum() * 0.5**m)


two = [Objective("top1", "max"), Objective("latency_ms", "min")]


def test_hypervolume_ignores_what_is_not_better_than_the_reference() -> None:
    values = np.array([[80.0, 5.0], [60.0, 1.0], [90.0, 11.0], [np.nan, 1.0]])
    assert hypervolume(values, [70.0, 10.0], two) == pytest.approx(10.0 * 5.0)
    assert hypervolume(np.empty((0, 2)), [70.0, 10.0], two) == 0.0


def test_normalised_hypervolume_is_one_at_the_ideal() -> None:
    assert normalised_hypervolume([[90.0, 1.0]], [90.0, 1.0], [50.0, 9.0], two) == pytest.approx(1.0)
    assert normalised_hypervolume([[70.0, 5.0]], [90.0, 1.0], [50.0, 9.0], two) == pytest.approx(0.25)


def test_reference_is_a_tenth_of_the_range_beyond_the_worst() -> None:
    values = np.array([[80.0, 5.0], [60.0, 1.0], [np.nan, 100.0]])
    np.testing.assert_allclose(reference_point(values, two), [58.0, 5.4])
    np.testing.assert_allclose(reference_point(np.array([[80.0, 0.0]]), two), [72.0, 0.1])
    with pytest.raises(ValueError, match="without NaN"):
        reference_point(np.full((2, 2), np.nan), two)


def test_knee_is_where_the_front_bulges() -> None:
    values = np.array([[50.0, 1.0], [88.0, 2.0], [np.nan, 0.0], [90.0, 10.0]])
    assert knee(values, two) == 1
    assert knee(values[:1], two) == 0
    with pytest.raises(ValueError, match="without NaN"):
        knee(values[2:3], two)


def test_crowding_by_hand() -> None:
    F = np.array([[0.0, 4.0], [1.0, 2.0], [4.0, 0.0], [2.0, 1.0]])
    np.testing.assert_allclose(crowding(F), [np.inf, 2 / 4 + 3 / 4, np.inf, 3 / 4 + 2 / 4])
    assert np.isinf(crowding(F[:2])).all()
    assert len(crowding(F[:0])) == 0
