from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_spaces_strategies import brute_force_networks, spaces

from search_spaces import InvalidArchitecture, SearchSpace, SearchSpaceError


def _random_rows(space: SearchSpace, n: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, space.n_choices, size=(n, len(space.genes)))


@given(spaces())
def test_n_distinct_equals_brute_force(space: SearchSpace) -> None:
    assert space.n_distinct == len(brute_force_networks(space))


@given(spaces())
def test_enumeration_is_every_network_once(space: SearchSpace) -> None:
    rows = space.enumerate()
    assert rows is not None
    assert len(set(space.keys(rows))) == len(rows) == space.n_distinct
    np.testing.assert_array_equal(space.canonical(rows), rows)
    assert space.feasible(rows).all()


@given(spaces())
def test_canonical_rows_are_fixed_points(space: SearchSpace) -> None:
    rows = space.canonical(_random_rows(space))
    np.testing.assert_array_equal(space.canonical(rows), rows)
    assert (rows[~space.active(rows)] == 0).all()


@given(spaces())
def test_encode_decode_round_trip(space: SearchSpace) -> None:
    rows = space.canonical(_random_rows(space))
    rows = rows[space.feasible(rows)]
    np.testing.assert_array_equal(space.encode(space.decode(rows)), rows)


@given(spaces(), st.integers(1, 60), st.integers(0, 3))
def test_sampled_rows_are_distinct_canonical_and_feasible(space: SearchSpace, n: int, seed: int) -> None:
    rows = space.sample(n, np.random.default_rng(seed))
    assert len(rows) == min(n, space.n_distinct)
    assert len(set(space.keys(rows))) == len(rows)
    np.testing.assert_array_equal(space.canonical(rows), rows)
    assert space.feasible(rows).all()
    np.testing.assert_array_equal(rows, space.sample(n, np.random.default_rng(seed)))


@given(spaces())
def test_features_are_equal_exactly_for_equal_networks(space: SearchSpace) -> None:
    rows = _random_rows(space)
    X, canonical = space.features(rows), space.canonical(rows)
    assert X.dtype == np.float32
    assert X.shape == (len(rows), len(space.feature_names))
    np.testing.assert_array_equal(X, space.features(canonical))
    multi = [i for i, g in enumerate(space.genes) if len(g.choices) > 1]
    by_features: dict[bytes, bytes] = {}
    for x, row, on in zip(X, canonical, space.active(canonical), strict=True):
        # A gene with one choice has no columns, so what it adds to a network is told by its controllers alone.
        known = by_features.setdefault(x.tobytes(), (row[multi].tobytes() + on[multi].tobytes()))
        assert known == row[multi].tobytes() + on[multi].tobytes()


@given(spaces(), st.integers(0, 3))
def test_repair_gives_feasible_rows_and_leaves_feasible_ones(space: SearchSpace, seed: int) -> None:
    rows = space.canonical(_random_rows(space))
    if space.n_distinct == 0:
        with pytest.raises(SearchSpaceError, match="could not be repaired"):
            space.repair(rows, np.random.default_rng(seed))
        return
    repaired = space.repair(rows, np.random.default_rng(seed))
    assert space.feasible(repaired).all()
    ok = space.feasible(rows)
    np.testing.assert_array_equal(repaired[ok], rows[ok])


@given(spaces())
def test_json_round_trip_keeps_the_identity(space: SearchSpace) -> None:
    again = SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again.identity == space.identity
    rows = _random_rows(space)
    np.testing.assert_array_equal(again.canonical(rows), space.canonical(rows))
    np.testing.assert_array_equal(again.feasible(rows), space.feasible(rows))


@given(spaces(), st.data())
@settings(max_examples=60)
def test_restricted_architectures_are_those_of_the_space_with_the_kept_values(
    space: SearchSpace, data: st.DataObject
) -> None:
    gene = data.draw(st.sampled_from(space.genes))
    keep = data.draw(st.sets(st.sampled_from(gene.choices), min_size=1))
    smaller = space.restricted({gene.name: keep})
    found = brute_force_networks(smaller)
    assert smaller.n_distinct == len(found)
    rows = smaller.enumerate()
    assert rows is not None
    for arch in smaller.decode(rows):
        space.validate(arch)
        assert arch[gene.name] in keep


@given(spaces(), st.data())
def test_a_value_outside_the_choices_is_named(space: SearchSpace, data: st.DataObject) -> None:
    arch = space.decode(space.canonical(_random_rows(space))[:1])[0]
    gene = data.draw(st.sampled_from(space.genes))
    with pytest.raises(InvalidArchitecture, match=f"{gene.name}.*99"):
        space.validate({**arch, gene.name: 99})
