"""Single layers first, the program over them, then linas."""

import numpy as np
from expert_layers import experts_like, size

from nassearch.strategies import Strategy, make_strategy
from nassearch.strategies.probed_linas import ProbedLinas
from search_spaces import Rows

TARGET = np.array([3, 0, 1])  # counts of the layers that matter, as places among 2, 4, 6, 8


def loss(G: Rows) -> np.ndarray:
    """Return what each layer loses, added up, and a little more where two are small; frequency and dropping are bad."""
    keep = G[:, 1::3]
    lost = (np.maximum(TARGET - keep, 0.0) ** 2).sum(axis=1) + 0.02 * (3 - keep).sum(axis=1)
    return lost + 0.3 * G[:, 0] + 0.1 * (G[:, 2::3] == 0).sum(axis=1) + 0.05 * (2 - G[:, 3::3]).sum(axis=1)


def made(budget: int = 60, **options: object) -> Strategy:
    return make_strategy(
        "probed-linas", experts_like(), objectives=["nll:min"], constraints=["size_mb <= 60%"], analytic=size,
        budget=budget, **options,
    )  # fmt: skip


def alike() -> Rows:
    """Return networks whose layers are alike: each criterion and operator with four experts kept, two a token."""
    space = experts_like()
    archs = [
        {"criterion": c, **{f"keep.{i}": 4 for i in range(3)}, **{f"op.{i}": o for i in range(3)},
         **{f"k.{i}": 3 for i in range(3)}}
        for c in ("reap", "frequency") for o in ("drop", "m-smoe:reference=none")
    ]  # fmt: skip
    return space.canonical(space.encode(archs))


def drive(s: Strategy, batches: int) -> list[Rows]:
    asked = []
    for _ in range(batches):
        G = s.ask(5)
        s.tell(G, loss(G)[:, None])
        asked.append(G)
    return asked


def test_probes_change_one_layer_and_have_the_categories_of_the_best_network_told() -> None:
    s = made(share=0.5)
    s.tell(alike(), loss(alike())[:, None])
    assert isinstance(s, ProbedLinas)
    asked = np.concatenate(drive(s, 12))
    assert s._additive is not None
    n = s._additive.n_probes
    probes = s.space.decode(asked[:n])
    full = s.space.decode(s.space.largest[None])[0]
    for arch in probes:
        assert len({i for i in range(3) for gene in ("keep", "k") if arch[f"{gene}.{i}"] != full[f"{gene}.{i}"]}) <= 1
        assert all(arch[f"op.{i}"] == "m-smoe:reference=none" for i in range(3) if arch[f"keep.{i}"] < 8)
        assert arch["criterion"] == "reap"
    first = asked[n : n + s.programs]
    assert (s.analytic_violations(first) == 0).all()
    told = s.predictions(s.ask(5))
    assert told is not None
    assert not np.isnan(told["nll"]).all()


def test_it_finds_what_layers_need_with_fewer_evaluations_than_linas_alone() -> None:
    """The best network within the limit after 35 evaluations, median over seeds."""
    best: dict[str, list[float]] = {"probed-linas": [], "linas": []}
    for name, found in best.items():
        for seed in range(3):
            s = make_strategy(
                name, experts_like(), objectives=["nll:min"], constraints=["size_mb <= 60%"], analytic=size,
                budget=35, seed=seed,
            )  # fmt: skip
            drive(s, 7)
            ok = s.V[:, 0] <= 0
            found.append(float(s.F[ok, 0].min()))
    assert np.median(best["probed-linas"]) <= np.median(best["linas"])


def test_a_budget_too_small_for_probes_is_left_to_linas() -> None:
    s = made(budget=12)
    assert isinstance(s, ProbedLinas)
    G = s.ask(4)
    assert s._additive is None
    assert (s.analytic_violations(G) == 0).all()
    assert s.diagnostics()["alternatives"] == []


def test_a_search_that_goes_on_asks_what_an_uninterrupted_one_asks() -> None:
    """Told networks, probes, programs and predictions: replayed and told again, the next batches are the same."""
    whole = made()
    whole.tell(alike(), loss(alike())[:, None])
    asked = drive(whole, 10)
    for stop in (1, 4, 8):
        again = made()
        again.tell(alike(), loss(alike())[:, None])
        for G in asked[:stop]:
            again.replay(G)
            again.tell(G, loss(G)[:, None])
        rest = drive(again, 10 - stop)
        assert all(np.array_equal(a, b) for a, b in zip(asked[stop:], rest, strict=True))


def test_all_probes_and_programs_are_asked_whatever_the_batch() -> None:
    """Networks that fill a batch up, and networks asked while probes run, take no program's place."""
    for size_of_batch in (1, 7, 16):
        s = made()
        assert isinstance(s, ProbedLinas)
        s.tell(alike(), loss(alike())[:, None])
        while len(s.told) < 60 + len(alike()):
            G = s.ask(size_of_batch)
            s.tell(G, loss(G)[:, None])
        assert s._additive is not None
        assert not len(s._additive.probes_left)
        assert s._programs_asked(s._additive) >= s.programs
