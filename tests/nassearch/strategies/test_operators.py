import numpy as np
import pytest

from nassearch.strategies.conformance import small_space
from nassearch.strategies.operators import Operators
from search_spaces import Gene, SearchSpace, get_space


@pytest.fixture(params=["ofa-mobilenetv3-w1.0", "mobilenetv3-tiny", "small"])
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return small_space() if request.param == "small" else get_space(request.param)


def test_mutation_changes_every_row_by_about_the_rate(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    parents = space.sample(1000, rng)
    parents = parents[rng.integers(0, len(parents), 1000)]
    children = Operators(space).mutate(parents, rng, rate=2.0)
    # Genes that were active before and after: what depth switches on or off is not counted as mutation.
    both = space.active(parents) & space.active(children)
    changed = ((parents != children) & both).sum(axis=1)
    assert (parents != children).any(axis=1).all()
    assert 1.0 <= changed.mean() <= 3.0
    assert space.feasible(children).all()
    np.testing.assert_array_equal(space.canonical(children), children)


def test_children_of_a_pair_differ_from_both_parents_beyond_crossover() -> None:
    """Between equal parents crossover does nothing: what changes is mutation, at least one gene in each child."""
    space = get_space("ofa-mobilenetv3-w1.0")
    rng = np.random.default_rng(1)
    parents = space.sample(500, rng)
    children = Operators(space).offspring(np.stack([parents, parents], axis=1), rng)
    assert (children != parents).any(axis=1).all()


def test_mutation_reaches_every_value_of_every_gene() -> None:
    space = small_space()
    rng = np.random.default_rng(2)
    start = np.repeat(space.largest[None], 3000, axis=0)
    rows = Operators(space).mutate(start, rng, rate=4.0)
    for column, gene in enumerate(space.genes):
        assert set(rows[:, column]) == set(gene.canonical_indices())


def test_a_gene_without_alternatives_is_left_alone() -> None:
    space = SearchSpace("one", [Gene("a", (1,)), Gene("b", (1, 2)), Gene("c", (3, 4), aliases={4: 3})])
    rows = Operators(space).mutate(np.zeros((50, 3), dtype=np.int64), np.random.default_rng(0))
    assert (rows == [0, 1, 0]).all()


def test_crossover_takes_genes_of_both_parents_and_keeps_active_values() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    rng = np.random.default_rng(3)
    deep = np.repeat(space.largest[None], 400, axis=0)
    shallow = np.repeat(space.smallest[None], 400, axis=0)
    children = space.canonical(Operators(space).crossover(deep, shallow, rng))
    depth = space.columns_of_role("depth")
    assert 0.4 < (children[:, depth] == deep[:, depth]).mean() < 0.6
    # Blocks that only the deep parent has keep its values; they do not fall back to the first choice.
    only_deep = space.active(children) & ~space.active(shallow)
    assert only_deep.any()
    assert (children[only_deep] == deep[only_deep]).all()


def test_graded_rows_span_the_sizes_and_uniform_rows_do_not() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    rng = np.random.default_rng(4)
    depth = space.columns_of_role("depth")
    graded = Operators(space).graded(200, rng)[:, depth].sum(axis=1)
    uniform = space.sample(200, rng)[:, depth].sum(axis=1)
    assert graded.min() == 0
    assert graded.max() == 10
    assert graded.std() > 1.3 * uniform.std()


def test_determinism() -> None:
    space = small_space()
    rows = space.sample(50, np.random.default_rng(0))
    a, b = (Operators(space).mutate(rows, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a, b)
