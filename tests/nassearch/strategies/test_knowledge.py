"""What earlier searches know: kept apart from evaluations, asked first, learned from."""

from __future__ import annotations

import numpy as np
import pytest

from nassearch.constraints import Constraint
from nassearch.objectives import Objective
from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import metrics, small_space
from nassearch.strategies.gaussian_process import GenotypeGP, PairFeatures
from nassearch.strategies.knowledge import Knowledge
from nassearch.strategies.surrogates import SurrogateSet
from nassearch.strategies.transfer import GPTransfer
from search_spaces.rows import row_keys

SPACE = small_space()
ROWS = SPACE.sample(60, np.random.default_rng(0))
TOP1, LATENCY, PARAMS, MEMORY = metrics(ROWS).T
OBJECTIVES = [Objective("top1", "max"), Objective("latency_ms@pi", "min")]


def test_rows_are_canonical_and_distinct_and_of_equal_ones_the_first_counts() -> None:
    twice = np.concatenate([ROWS[:3], ROWS[:3]])
    knowledge = Knowledge.of(SPACE, twice, {"top1": np.arange(6.0)}, {"latency_ms": [1, 2, np.inf, 4, 5, 6]})
    assert knowledge.G.tolist() == ROWS[:3].tolist()
    rows, values = knowledge.values("top1")
    assert (len(rows), values.tolist()) == (3, [0, 1, 2])
    assert knowledge.prior_values("latency_ms")[1].tolist() == [1, 2]
    assert len(knowledge.values("latency_ms")[0]) == 0
    with pytest.raises(ValueError, match="expected 3 values of 'top1'"):
        Knowledge.of(SPACE, ROWS[:3], {"top1": [1.0]})


def test_known_and_prior_values_of_a_metric_are_never_mixed() -> None:
    known = np.where(np.arange(60) < 5, LATENCY, np.nan)
    knowledge = Knowledge.of(SPACE, ROWS, {"latency_ms": known}, {"latency_ms": 1000 * LATENCY})
    np.testing.assert_array_equal(knowledge.guess("latency_ms"), 1000 * LATENCY)
    assert Knowledge.of(SPACE, ROWS, {"latency_ms": np.full(60, np.nan)}).guess("latency_ms") is None


def test_the_best_rows_are_the_front_of_what_is_known() -> None:
    knowledge = Knowledge.of(SPACE, ROWS, {"top1": TOP1}, {"latency_ms@pi": LATENCY})
    best = knowledge.best(60, OBJECTIVES, [], {})
    at = {key: i for i, key in enumerate(row_keys(ROWS))}
    first = at[row_keys(best)[0]]
    assert not ((TOP1 > TOP1[first]) & (LATENCY < LATENCY[first])).any()
    limit = Constraint.parse("latency_ms@pi <= 3").resolve()
    # A limit in milliseconds of one device says nothing of another's.
    assert knowledge.best(60, OBJECTIVES, [limit], {}).tolist() == best.tolist()
    within = Constraint.parse("peak_memory_mb <= 16").resolve()
    better = Knowledge.of(SPACE, ROWS, {"top1": TOP1, "peak_memory_mb": MEMORY}).best(5, OBJECTIVES, [within], {})
    assert (MEMORY[[at[k] for k in row_keys(better)]] <= 16).all()


def test_nothing_is_asked_first_where_only_computed_metrics_are_known() -> None:
    objectives = [Objective("params_m", "min")]
    assert len(Knowledge.of(SPACE, ROWS, {}, {"top1": TOP1}).best(5, objectives, [], {"params_m": PARAMS})) == 0


def test_the_networks_known_are_asked_first_and_no_more_than_a_quarter_of_the_budget() -> None:
    for budget, n in ((100, 10), (20, 5)):
        strategy = make_strategy("random", SPACE, objectives=OBJECTIVES, budget=budget)
        strategy.warm_start(ROWS, {"top1": TOP1}, {"latency_ms@pi": LATENCY})
        asked = row_keys(strategy.ask(12))
        assert [key in set(row_keys(ROWS)) for key in asked[:n]] == [True] * n
        assert len(set(asked)) == 12


def test_a_transfer_needs_fewer_rows_than_a_fit_from_nothing() -> None:
    features = PairFeatures(SPACE)
    rng = np.random.default_rng(1)
    few, held = SPACE.sample(12, rng), SPACE.sample(200, rng)
    there, here = metrics(ROWS)[:, 1], lambda G: 40.0 * metrics(G)[:, 1] ** 1.2
    transfer = GPTransfer(features.n_main, features(ROWS), there)
    transfer.fit(features(few), here(few))
    plain = SurrogateSet(SPACE, ["latency_ms"], "gp", 0)
    plain.fit(few, here(few)[:, None])
    error = np.abs(transfer.mean(features(held)) - here(held)).mean()
    assert error < 0.5 * np.abs(plain.mean(held)[:, 0] - here(held)).mean()
    assert transfer.quality["kendall_tau"] > 0.8
    drawn = transfer.sample(features(held), 2000, rng)
    _, std = transfer.marginal(features(held))
    np.testing.assert_allclose(np.median(drawn, axis=0), transfer.mean(features(held)), atol=0.2 * std.max())
    np.testing.assert_allclose(drawn.std(axis=0), std, rtol=0.15)


@pytest.mark.parametrize("kind", ["gp", "ridge"])
def test_a_prior_that_says_nothing_does_no_harm(kind: str) -> None:
    rng = np.random.default_rng(2)
    held = SPACE.sample(200, rng)
    fitted = []
    for misled in (False, True):
        models = SurrogateSet(SPACE, ["latency_ms"], kind, 0)
        if misled:
            models.set_prior("latency_ms", ROWS, rng.normal(size=60))
        models.fit(ROWS, LATENCY[:, None])
        fitted.append(np.abs(models.mean(held)[:, 0] - metrics(held)[:, 1]).mean())
    assert fitted[1] <= 1.05 * fitted[0]


def test_a_metric_is_learned_from_every_row_of_which_it_is_known() -> None:
    models = SurrogateSet(SPACE, ["top1", "latency_ms"], "gp", 0)
    targets = np.stack([-TOP1, LATENCY], axis=1)[:10]
    models.fit(ROWS[:10], targets, {"top1": (ROWS, -TOP1)})
    assert models.quality["top1"]["n"] == 60  # the ten that were evaluated count once
    assert models.quality["latency_ms"]["n"] == 10


def test_hyper_parameters_hold_until_the_rows_have_grown_whatever_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []
    maximise = GenotypeGP._maximise

    def counted(self: GenotypeGP, target: np.ndarray, pick: np.ndarray) -> np.ndarray:
        searched.append(len(target))
        return maximise(self, target, pick)

    monkeypatch.setattr(GenotypeGP, "_maximise", counted)
    rng = np.random.default_rng(3)
    fresh = SPACE.sample(40, rng)
    fresh = fresh[[key not in set(row_keys(ROWS)) for key in row_keys(fresh)]][:20]
    told = np.concatenate([fresh[:10], ROWS[20:25], fresh[10:]])  # known networks are evaluated too
    latency = metrics(told)[:, 1]
    models = SurrogateSet(SPACE, ["latency_ms"], "gp", 0)
    for n in range(8, 8 + 15):  # 67 to 77 rows in all: they grow by 15 % once
        models.fit(told[:n], latency[:n, None], {"latency_ms": (ROWS, LATENCY)})
    assert models.quality["latency_ms"]["n"] == 60 + len(told[:22]) - 5
    assert len(searched) <= 2 * 2  # one search for each of two warps, twice


def test_what_was_evaluated_counts_more_than_what_was_known() -> None:
    models = SurrogateSet(SPACE, ["latency_ms"], "gp", 0)
    models.fit(ROWS[:30], LATENCY[:30, None], {"latency_ms": (ROWS[:30], 100.0 + LATENCY[:30])})
    assert abs(models.mean(ROWS[:30])[:, 0].mean() - LATENCY[:30].mean()) < 5.0


def test_linas_starts_shorter_when_everything_is_known_or_has_a_prior() -> None:
    def made(*knowledge: dict[str, np.ndarray]) -> int:
        strategy = make_strategy("linas", SPACE, objectives=OBJECTIVES, budget=100)
        strategy.warm_start(ROWS, *knowledge)
        return strategy.startup  # type: ignore[attr-defined, no-any-return]

    assert made({"top1": TOP1}) == 20
    assert made({"top1": TOP1}, {"latency_ms@pi": LATENCY}) == 10


def test_linas_learns_violations_that_are_known() -> None:
    constraints = ["peak_memory_mb <= 16"]
    strategy = make_strategy("linas", SPACE, objectives=OBJECTIVES, constraints=constraints, budget=100)
    strategy.warm_start(ROWS, {"top1": TOP1, "peak_memory_mb": MEMORY}, {"latency_ms@pi": LATENCY})
    for _ in range(3):
        G = strategy.ask(10)
        values = metrics(G)
        strategy.tell(G, values[:, [0, 1]], strategy.constraints[0].violation(values[:, 3])[:, None])
    predictors = strategy.diagnostics()["predictors"]
    assert predictors["violation of peak_memory_mb <= 16"]["n"] > 60
    assert predictors["latency_ms@pi"]["model"] == "gp over a prior"
