from itertools import product

import numpy as np
import pytest
from expert_layers import experts_like, size

from nassearch.errors import ConfigError
from nassearch.strategies import make_strategy
from nassearch.strategies.additive_program import least_sum
from search_spaces import Gene, Rows, SearchSpace
from search_spaces.rows import unique_rows

WEIGHTS = np.array([1.0, 3.0, 0.3])


def additive(G: Rows) -> np.ndarray:
    """Return a loss that is a sum over layers, of count, operator and k, float64 [n]."""
    loss = np.zeros(len(G))
    for i in range(3):
        keep, op, k = (G[:, 1 + 3 * i + j] for j in range(3))
        loss += WEIGHTS[i] * (3 - keep) ** 1.5 * (1 - 0.2 * op) + 0.1 * (2 - k) * (i + 1)
    return loss


def test_the_program_is_solved_exactly() -> None:
    """The least sum under limits, and the next best ones, as brute force finds them."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        tables = [rng.normal(size=(n, 3)) for n in (4, 3, 5, 2)]
        tables[2][1, 0] = np.nan
        upper = np.array([np.inf, 0.5, np.inf])
        everything = [
            (sum(t[i] for t, i in zip(tables, choice, strict=True)), choice)
            for choice in product(*(range(len(t)) for t in tables))
        ]
        allowed = [(float(v[0]), c) for v, c in everything if not np.isnan(v).any() and v[1] <= 0.5]
        excluded: list[tuple[int, ...]] = []
        for _, expected in sorted(allowed)[:5]:
            found = least_sum(tables, upper, excluded)
            assert found is not None
            assert tuple(found) == expected
            excluded.append(expected)
    assert least_sum(tables, np.array([np.inf, -100.0, np.inf])) is None
    assert least_sum([np.full((2, 1), np.nan)], np.array([np.inf])) is None


def test_blocks_are_scored_alone_and_the_best_network_follows() -> None:
    """On an additive loss the first solution is the best network within the limit; the next ones follow in order."""
    s = make_strategy(
        "additive-mip",
        experts_like(),
        objectives=["nll:min"],
        constraints=["size_mb <= 60%"],
        analytic=size,
        fixed="criterion=reap",
    )
    space = s.space
    singles: list[Rows] = []
    base = space.largest
    while True:
        rows = s.ask(10)
        if (
            len(rows)
            and ((rows != base).reshape(len(rows), -1)[:, 1:].reshape(-1, 3, 3).any(axis=2).sum(axis=1) > 1).any()
        ):
            break
        singles.append(rows)
        s.tell(rows, additive(rows)[:, None])
    # A layer: three smaller counts x two operators x three k, without two forbidden ones, and two k at the full count.
    assert len(np.concatenate(singles)) == 1 + 3 * (3 * 2 * 3 - 2 + 2)
    everything = space.enumerate()
    assert everything is not None
    everything = everything[(everything[:, 0] == 0) & (size(everything)["size_mb"] <= 0.6 * 24)]
    best = np.sort(additive(everything))
    np.testing.assert_allclose(additive(rows), best[:10], rtol=1e-9)
    assert (size(rows)["size_mb"] <= 0.6 * 24).all()


def test_several_objectives_trace_the_front() -> None:
    s = make_strategy("additive-mip", experts_like(), objectives=["nll:min", "size_mb:min"], analytic=size, budget=150)
    while len(s.told) < 150:
        rows = s.ask(10)
        s.tell(rows, np.stack([additive(rows), size(rows)["size_mb"]], axis=1))
    everything = s.space.enumerate()
    assert everything is not None
    least = {float(v): additive(everything[size(everything)["size_mb"] == v]).min() for v in np.arange(6.0, 25.0, 2.0)}
    told = {v: additive(s.told[size(s.told)["size_mb"] == v]).min() for v in least}
    assert told == pytest.approx(least)


def test_alternatives_follow_the_budget() -> None:
    s = make_strategy("additive-mip", experts_like(), objectives=["nll:min"], budget=50)
    assert s.diagnostics()["alternatives"] == [1, 7, 7, 7]  # the criterion alone changes nothing
    rows = s.ask(50)
    assert len(rows) == 1 + 3 * 6
    # One change before two: the four counts and k of each layer that are possible alone are among them.
    changed = (rows[:, 1:].reshape(-1, 3, 3) != s.space.largest[1:].reshape(3, 3)).sum(axis=(1, 2))
    assert sorted(changed.tolist()) == [0, *[1] * 12, *[2] * 6]


def test_failed_scores_are_never_chosen() -> None:
    s = make_strategy("additive-mip", experts_like(), objectives=["nll:min"], fixed="op=drop+criterion=reap")
    rows = s.ask(100)
    failed = rows[:, 1] == 0
    s.tell(rows, np.where(failed, np.nan, additive(rows))[:, None])
    more = s.ask(20)
    assert len(more)
    assert (more[:, 1] != 0).all()
    assert len(unique_rows(np.concatenate([rows, more]))) == len(rows) + len(more)


def test_it_waits_for_scores() -> None:
    s = make_strategy("additive-mip", experts_like(), objectives=["nll:min"], fixed="op=drop+criterion=reap")
    rows = s.ask(100)
    assert len(s.ask(5)) == 0
    s.tell(rows, additive(rows)[:, None])
    assert len(s.ask(5)) == 5


def test_nothing_free_is_refused() -> None:
    fixed = "criterion=reap+keep=largest+op=drop+k=largest"
    with pytest.raises(ConfigError, match="every gene of space 'experts-like' is fixed"):
        make_strategy("additive-mip", experts_like(), objectives=["nll:min"], fixed=fixed)


def test_few_alternatives_still_reach_a_tight_limit() -> None:
    """With two alternatives a layer the smallest is one of them, so that programs within the limit have a solution."""
    limits = {"constraints": ["size_mb <= 30%"], "analytic": size, "fixed": "criterion=reap+k=2"}
    for seed in range(6):
        s = make_strategy(
            "additive-mip", experts_like(), objectives=["nll:min"], budget=14, share=0.6, seed=seed, **limits
        )
        for _ in range(4):
            rows = s.ask(4)
            if len(rows):
                s.tell(rows, additive(rows)[:, None])
        assert (size(s.told)["size_mb"] <= 0.3 * 24).any()


def test_a_fixed_gene_that_starts_to_matter_is_no_change() -> None:
    """Where a criterion matters only beside dropped experts, counts are alternatives of one change all the same."""
    genes = [Gene("criterion", ("a", "b"), "categorical", active_if_any=[{f"keep.{i}": [2, 4]} for i in range(2)])]
    for i in range(2):
        genes += [Gene(f"keep.{i}", (2, 4, 8), layer=i), Gene(f"width.{i}", (4, 8), layer=i)]
    scored = []
    for seed in range(10):
        s = make_strategy(
            "additive-mip", SearchSpace("s", genes), objectives=["nll:min"], fixed="criterion=b", budget=3, share=1.0,
            seed=seed,
        )  # fmt: skip
        scored += [(a["keep.0"], a["width.0"]) for a in s.space.decode(s.ask(3))]
    assert {(2, 8), (4, 8), (8, 4)} <= set(scored)
