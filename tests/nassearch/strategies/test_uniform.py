import pytest
from expert_layers import experts_like, size

from nassearch.errors import ConfigError
from nassearch.strategies import make_strategy
from search_spaces import Gene, SearchSpace


def test_all_layers_are_alike_and_all_such_networks_are_asked() -> None:
    s = make_strategy("uniform", experts_like(), objectives=["nll:min"])
    rows = s.ask(200)
    archs = s.space.decode(rows)
    assert all(len({a[f"{n}.{i}"] for i in range(3)}) == 1 for a in archs for n in ("keep", "k"))
    assert {(a["criterion"], a["keep.0"], a["op.0"], a["k.0"]) for a in archs} == {
        (c, keep, op, k)
        for c in ("reap", "frequency")
        for keep in (2, 4, 6, 8)
        for op in ("drop", "m-smoe:reference=none")
        for k in (1, 2, 3)
        if not (keep == 2 and k == 3) and not (keep == 8 and (c == "frequency" or op != "drop"))
    }
    assert len(s.ask(5)) == 0


def test_fixed_genes_make_a_published_method() -> None:
    s = make_strategy(
        "uniform", experts_like(), objectives=["nll:min"], fixed="criterion=frequency+op=m-smoe:reference=none+k=2"
    )
    archs = s.space.decode(s.ask(50))
    assert sorted(a["keep.0"] for a in archs) == [2, 4, 6]
    assert {(a["criterion"], a["op.1"], a["k.2"]) for a in archs} == {("frequency", "m-smoe:reference=none", 2)}
    same = make_strategy(
        "uniform", experts_like(), objectives=["nll:min"], fixed={"criterion": "frequency", "k": "largest"}
    )
    assert {a["k.0"] for a in same.space.decode(same.ask(50))} == {3}


def test_limits_that_can_be_computed_are_met() -> None:
    s = make_strategy("uniform", experts_like(), objectives=["nll:min"], constraints=["size_mb <= 50%"], analytic=size)
    rows = s.ask(100)
    assert len(rows)
    assert (size(rows)["size_mb"] <= 12).all()
    impossible = make_strategy(
        "uniform", experts_like(), objectives=["nll:min"], constraints=["size_mb <= 1"], analytic=size
    )
    assert size(impossible.ask(1))["size_mb"] == 6  # nothing meets it: the nearest first


def test_bad_fixed_values_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        make_strategy("uniform", experts_like(), objectives=["nll:min"], fixed="criteron=reap+keep=5+op")
    text = str(caught.value)
    assert "did you mean 'criterion'" in text
    assert "its values: 2, 4, 6, 8, largest, smallest" in text
    assert "'op' fixes nothing" in text
    with pytest.raises(ConfigError, match="must be text"):
        make_strategy("uniform", experts_like(), objectives=["nll:min"], fixed=3)


def test_layers_with_other_choices_share_the_values_that_all_have() -> None:
    genes = [Gene("keep.0", (2, 4, 8)), Gene("keep.1", (4, 6, 8)), Gene("w.0", (1, 2)), Gene("w.1", (3, 4))]
    s = make_strategy("uniform", SearchSpace("mixed", genes), objectives=["nll:min"])
    archs = s.space.decode(s.ask(50))
    assert {(a["keep.0"], a["keep.1"]) for a in archs} == {(4, 4), (8, 8)}
    assert len(archs) == 2 * 2 * 2
