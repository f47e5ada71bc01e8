import numpy as np
import pytest
from expert_layers import experts_like, size

from nassearch.errors import ConfigError
from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import layered_space
from search_spaces import Gene, SearchSpace


def test_the_total_is_fixed_and_only_counts_vary() -> None:
    space = layered_space()
    s = make_strategy("evoesap", space, objectives=["esap:max"], share=0.5)
    columns = space.columns_of_role("size")
    for _ in range(6):
        rows = s.ask(20)
        assert (rows[:, columns] + 1).sum(axis=1).tolist() == [32] * 20
        assert (rows[:, -1] == 0).all()
        s.tell(rows, -np.abs(rows[:, columns] - np.arange(8)).sum(axis=1)[:, None].astype(float))


def test_it_climbs_to_the_best_distribution() -> None:
    space = layered_space()
    target = np.array([0, 1, 2, 3, 4, 5, 6, 7])  # counts 1..8: sum 36
    s = make_strategy("evoesap", space, objectives=["esap:max"], share=36 / 64, seed=1, budget=240)
    for _ in range(24):
        rows = s.ask(10)
        s.tell(rows, -np.square(rows[:, :8] - target[[3, 1, 0, 2, 7, 5, 4, 6]]).sum(axis=1)[:, None].astype(float))
    best = s.told[s.F[:, 0].argmin()]
    random = make_strategy("random", space, objectives=["esap:max"], seed=1)
    drawn = random.ask(240)
    nearest = np.square(drawn[:, :8] - target[[3, 1, 0, 2, 7, 5, 4, 6]]).sum(axis=1).min()
    assert s.F[:, 0].min() <= 4
    assert s.F[:, 0].min() < nearest
    assert best[:8].sum() + 8 == 36


def test_the_total_follows_the_limits() -> None:
    s = make_strategy(
        "evoesap", experts_like(), objectives=["esap:max"], constraints=["size_mb <= 75%"], analytic=size, fixed="k=2"
    )
    assert s.total == 18  # type: ignore[attr-defined]
    rows = s.ask(40)
    assert (size(rows)["size_mb"] == 18).all()
    archs = s.space.decode(rows)
    assert {a["k.0"] for a in archs} == {2}
    # Every distribution of 18 over three layers of 2, 4, 6 or 8: 6+6+6, 8+6+4 and 8+8+2 in any order.
    assert len(rows) == 1 + 6 + 3
    assert len(s.ask(1)) == 0


def test_children_are_parents_with_moves() -> None:
    s = make_strategy("evoesap", layered_space(), objectives=["esap:max"], population=4, delta=2)
    first = s.ask(4)
    s.tell(first, np.array([[1.0], [2.0], [3.0], [4.0]]))
    children = s.ask(12)
    distance = np.abs(children[:, None, :8] - first[None, :, :8]).sum(axis=2).min(axis=1)
    assert (distance % 2 == 0).all()
    assert distance.max() <= 2 * 2 * 3  # three moves of two steps at most


def test_a_space_without_layers_to_move_between_is_refused() -> None:
    flat = SearchSpace("flat", [Gene("a", (1, 2, 3)), Gene("b", (1, 2))])
    with pytest.raises(ConfigError, match=r"not two ordinal genes.*roles with a gene in each of several layers: none"):
        make_strategy("evoesap", flat, objectives=["esap:max"])
    with pytest.raises(ConfigError, match="roles with a gene in each of several layers: experts, top_k"):
        make_strategy("evoesap", experts_like(), objectives=["esap:max"], role="width")


def test_what_a_count_does_not_allow_follows() -> None:
    """A layer of two experts cannot have the largest k: k gets smaller there, and the network is asked all the same."""
    s = make_strategy("evoesap", experts_like(), objectives=["esap:max"], share=0.5)
    archs = s.space.decode(s.ask(30))
    few = [a[f"k.{i}"] for a in archs for i in range(3) if a[f"keep.{i}"] == 2]
    assert few
    assert set(few) == {2}
    assert {a[f"k.{i}"] for a in archs for i in range(3) if a[f"keep.{i}"] > 2} == {3}


def test_fixed_genes_hold_where_a_layer_keeps_everything() -> None:
    """Operator and criterion do not matter where all is kept; they are as fixed wherever they do."""
    s = make_strategy(
        "evoesap",
        experts_like(),
        objectives=["esap:max"],
        share=0.7,
        fixed="op=m-smoe:reference=none+criterion=frequency",
    )
    archs = s.space.decode(s.ask(30))
    assert any(a["keep.0"] == 8 and a["keep.2"] < 8 for a in archs)
    assert all(a["criterion"] == "frequency" for a in archs)
    assert {a[f"op.{i}"] for a in archs for i in range(3) if a[f"keep.{i}"] < 8} == {"m-smoe:reference=none"}
