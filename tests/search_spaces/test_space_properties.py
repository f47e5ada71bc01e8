from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_spaces_strategies import brute_force_networks, spaces

from search_spaces import Derived, Gene, InvalidArchitecture, SearchSpace, SearchSpaceError


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


@given(spaces())
def test_derived_features_hold_exactly_where_a_combination_does(space: SearchSpace) -> None:
    rows = space.canonical(_random_rows(space))
    X, active, architectures = space.features(rows), space.active(rows), space.decode(rows)
    names = space.feature_names
    assert names[len(names) - len(space.derived) :] == tuple(d.name for d in space.derived)
    for j, derived in enumerate(space.derived):
        column = X[:, len(names) - len(space.derived) + j]
        for i, architecture in enumerate(architectures):
            expected = any(
                all(
                    active[i, space.column(g)]
                    and architecture[g]
                    in {c for c in space.genes[space.column(g)].choices if _same(space, g, c, values)}
                    for g, values in combination.items()
                )
                for combination in derived.any_of
            )
            assert column[i] == float(expected)


def _same(space: SearchSpace, gene: str, choice: object, values: frozenset[object]) -> bool:
    """Whether a choice is the same network as one of the values."""
    g = space.genes[space.column(gene)]
    first = g.canonical_indices()
    return first[g.index(choice)] in {first[g.index(v)] for v in values}


@given(spaces())
def test_derived_features_survive_json_and_restriction(space: SearchSpace) -> None:
    again = SearchSpace.from_json(json.loads(json.dumps(space.to_json())))
    assert again.identity == space.identity
    rows = space.canonical(_random_rows(space))
    np.testing.assert_array_equal(again.features(rows), space.features(rows))
    kept = space.restricted({g.name: g.choices[:1] for g in space.genes[:1]})
    assert {d.name for d in kept.derived} <= {d.name for d in space.derived}


def test_derived_features_change_the_identity_and_not_the_networks() -> None:
    genes = [Gene("a", [1, 2]), Gene("b", [1, 2])]
    plain = SearchSpace("s", genes)
    derived = SearchSpace("s", genes, derived=[Derived("both", [{"a": [2], "b": [2]}])])
    assert plain.identity != derived.identity
    assert plain.n_distinct == derived.n_distinct
    G = np.array([[0, 0], [1, 0], [1, 1]])
    np.testing.assert_array_equal(derived.features(G)[:, -1], [0, 0, 1])


@pytest.mark.parametrize(
    ("derived", "message"),
    [
        ([("both", [{"nope": [1]}])], "no gene 'nope'"),
        ([("both", [{"a": [7]}])], "7"),
        ([("both", [{"a": [1]}]), ("both", [{"b": [1]}])], "repeats derived feature names"),
        ([("both", [])], "empty combination"),
        ([("both", [{"a": []}])], "empty combination"),
        ([("", [{"a": [1]}])], "needs a name"),
        ([("a=1", [{"b": [1]}])], "names of genes' features"),
        ([("a", [{"b": [1]}])], "names of genes' features"),
    ],
)
def test_bad_derived_features_are_refused(derived: list[tuple[str, list[dict[str, list[int]]]]], message: str) -> None:
    genes = [Gene("a", [1, 2]), Gene("b", [1, 2])]
    with pytest.raises(SearchSpaceError, match=message):
        SearchSpace("s", genes, derived=[Derived(*d) for d in derived])


@pytest.mark.parametrize("any_of", [5, None, [5], [{"a": 5}], [{"a": "12"}], [{"a": [[1]]}], ["a"], [[["a", [1]]]]])
def test_derived_features_from_damaged_data_are_refused(any_of: object) -> None:
    with pytest.raises(SearchSpaceError, match="maps genes to values"):
        Derived.from_json({"name": "both", "any_of": any_of})
