import json
import time
import warnings

import numpy as np
import pytest

from nassearch.pareto import hypervolume
from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import analytic, drive, metrics, small_space
from nassearch.strategies.gaussian_process import GenotypeGP, PairFeatures
from nassearch.strategies.surrogates import WarpedSurrogate
from search_spaces import SearchSpace, get_space

OBJECTIVES = ["top1:max", "latency_ms:min"]


def hypervolume_of(name: str, seed: int, batches: int, **options: object) -> float:
    s = make_strategy(name, get_space("ofa-mobilenetv3-w1.0"), objectives=OBJECTIVES, seed=seed, **options)  # type: ignore[arg-type]
    drive(s, batches, 10)
    return hypervolume(s.F * s.signs, [60.0, 35.0], s.objectives)


@pytest.mark.parametrize("seed", range(2))
def test_needs_less_than_half_of_what_nsga2_needs(seed: int) -> None:
    assert hypervolume_of("linas", seed, 8) > hypervolume_of("nsga2", seed, 20)


@pytest.mark.parametrize("predictor", ["ridge", "svr"])
def test_works_with_any_predictor(predictor: str) -> None:
    assert hypervolume_of("linas", 0, 5, predictor=predictor, generations=8) > hypervolume_of("random", 0, 5)


def test_falls_back_to_evolution_with_a_warning_while_values_are_noise() -> None:
    s = make_strategy("linas", small_space(), objectives=OBJECTIVES, startup=30)
    noise = np.random.default_rng(1)
    rows = s.ask(30)
    s.tell(rows, noise.random((len(rows), 2)))
    with pytest.warns(UserWarning, match="better than chance"):
        s.ask(10)
    found = s.diagnostics()
    assert found["fallback"]
    assert "Kendall tau" in found["fallback_reason"]


def test_fallback_ends_when_values_can_be_ranked() -> None:
    s = make_strategy("linas", small_space(), objectives=OBJECTIVES, startup=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(s, 4, 10)
    found = s.diagnostics()
    json.dumps(found)
    assert not found["fallback"]
    assert found["predictors"]["latency_ms"]["kendall_tau"] > 0.7


def test_predictions_are_of_the_last_batch_and_in_the_metrics_own_units() -> None:
    s = make_strategy("linas", small_space(), objectives=OBJECTIVES, startup=20, explore=0.0)
    rows = s.ask(10)
    assert np.isnan(s.predictions(rows)["top1"]).all()  # type: ignore[index]
    s.tell(rows, metrics(rows)[:, :2])
    drive(s, 3, 10)
    rows = s.ask(10)
    predicted = s.predictions(rows)
    assert predicted is not None
    assert set(predicted) == {"top1", "latency_ms"}
    np.testing.assert_allclose(predicted["latency_ms"], metrics(rows)[:, 1], rtol=0.2)
    assert (predicted["top1"] > 50).all()


def test_analytic_metrics_are_not_predicted() -> None:
    s = make_strategy("linas", small_space(), objectives=["top1:max", "params_m:min"], startup=10, analytic=analytic)
    for _ in range(3):
        rows = s.ask(10)
        s.tell(rows, metrics(rows)[:, [0, 2]])
    s.ask(5)
    assert set(s.diagnostics()["predictors"]) == {"top1"}
    only = make_strategy("linas", small_space(), objectives=["params_m:min"], startup=4, analytic=analytic)
    rows = only.ask(4)
    only.tell(rows, metrics(rows)[:, [2]])
    # Nothing has to be predicted: the first asked row after the start is the best there is.
    assert metrics(only.ask(1))[0, 2] <= np.sort(metrics(small_space().enumerate())[:, 2])[1]  # type: ignore[arg-type]


def test_violations_of_a_metric_that_is_no_objective_are_learnt() -> None:
    s = make_strategy(
        "linas", get_space("ofa-mobilenetv3-w1.0"), objectives=OBJECTIVES, constraints=["peak_memory_mb <= 15"]
    )
    drive(s, 8, 10)
    assert (s.V[-40:, 0] == 0).mean() > 0.6


def test_first_batch_has_both_ends_of_the_space_whatever_its_size() -> None:
    space = get_space("mobilenetv3-tiny")
    s = make_strategy("linas", space, objectives=OBJECTIVES)
    np.testing.assert_array_equal(np.concatenate([s.ask(1), s.ask(1)]), [space.largest, space.smallest])


def test_gaussian_process_learns_sums_over_layers_with_honest_uncertainty() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    rng = np.random.default_rng(0)
    table = rng.random((20, 3, 3))
    G = space.sample(260, rng)
    y = (table[np.arange(20), G[:, :20], G[:, 20:40]] * space.active(G)[:, :20]).sum(axis=1)
    features = PairFeatures(space)
    X = features(G)
    model = GenotypeGP(features.n_main).fit(X[:160], y[:160])
    mean, std = model.predict(X[160:])
    np.testing.assert_allclose(model.mean(X[160:]), mean, atol=1e-3)
    assert np.corrcoef(mean, y[160:])[0, 1] > 0.9
    assert 0.5 < np.sqrt(np.mean(((y[160:] - mean) / std) ** 2)) < 2.0
    assert model.quality["kendall_tau"] >= 0.7


def test_gaussian_process_leave_one_out_equals_refitting() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((20, 4)), rng.random(20)
    model = GenotypeGP(4).fit(X, y)
    theta = next(iter(model._hyper.values()))
    centre, norms, keep = model._centre, model._norms, np.arange(20) != 7
    parts = ((X - centre) / norms[0], np.empty((20, 0)))
    K = model._kernel(parts, parts)
    target = (y - y.mean()) / y.std()
    A = K[np.ix_(keep, keep)] + (np.exp(theta[4]) + 1e-6) * np.eye(19)
    left_out = K[7, keep] @ np.linalg.solve(A, target[keep])
    assert model.loo[7] == pytest.approx(y.mean() + y.std() * left_out)


@pytest.mark.parametrize("y", [np.ones(10), np.r_[np.zeros(9), 1e6]])
def test_gaussian_process_survives_degenerate_targets(y: np.ndarray) -> None:
    X = np.random.default_rng(0).random((10, 3))
    mean, std = GenotypeGP(3).fit(X, y).predict(X)
    assert np.isfinite(mean).all()
    assert np.isfinite(std).all()


def test_objectives_that_are_all_computed_wait_for_a_success() -> None:
    s = make_strategy("linas", small_space(), objectives=["params_m:min"], analytic=analytic, startup=4)
    asked = 0
    for _ in range(4):
        G = s.ask(3)
        asked += len(G)
        s.tell(G, np.full((len(G), 1), np.nan))
    assert asked == 12
    assert s.diagnostics()["fallback_reason"] == "no evaluation has succeeded yet"


def test_predictions_stay_in_the_range_of_the_metric() -> None:
    s = make_strategy("linas", small_space(), objectives=OBJECTIVES, startup=6)
    G = s.ask(6)
    s.tell(G, np.zeros((6, len(OBJECTIVES))))
    G = s.ask(2)
    s._remember(G, np.full((2, len(OBJECTIVES)), -1e12))
    predicted = s.predictions(G)
    assert (predicted["top1"] <= 100.0).all()
    assert all((v >= 0).all() for v in predicted.values())


@pytest.mark.slow
def test_own_time_of_400_evaluations_is_below_a_minute() -> None:
    s = make_strategy("linas", get_space("ofa-mobilenetv3-w1.0"), objectives=OBJECTIVES, budget=400)
    start = time.process_time()
    drive(s, 40, 10)
    assert time.process_time() - start < 60


def _chosen_warp(y: np.ndarray, G: np.ndarray, space: SearchSpace) -> str:
    features = PairFeatures(space)
    surrogate = WarpedSurrogate("gp", features, seed=0)
    surrogate.fit(features(G), y)
    return type(surrogate._warp).__name__


def test_metric_is_warped_only_where_the_model_explains_it_better() -> None:
    space = get_space("mobilenetv3-tiny")
    G = space.sample(80, np.random.default_rng(0))
    X = space.features(G).astype(np.float64)
    additive = X @ np.random.default_rng(1).random(X.shape[1])
    additive = (additive - additive.mean()) / additive.std()
    assert _chosen_warp(additive, G, space) == "Squeeze"
    assert _chosen_warp(np.exp(1.5 * additive), G, space) == "Power"


def test_samples_include_what_the_model_cannot_explain() -> None:
    space = get_space("mobilenetv3-tiny")
    rng = np.random.default_rng(0)
    G = space.sample(120, rng)
    features = PairFeatures(space)
    surrogate = WarpedSurrogate("gp", features, seed=0)
    surrogate.fit(features(G), rng.standard_normal(len(G)))  # nothing but noise
    drawn = surrogate.sample(features(G[:5]), 400, rng)
    assert 0.5 < drawn.std(axis=0).mean() < 1.5


def test_networks_told_beforehand_are_half_of_the_start_up_at_most() -> None:
    """Networks that are all alike say nothing about single layers: half of the first networks is its own."""
    space = small_space()
    s = make_strategy("linas", space, objectives=["top1:max"], startup=8)
    rng = np.random.default_rng(0)
    told = space.sample(40, rng)
    s.tell(told, rng.random((40, 1)))
    first = s.ask(3)
    assert s.predictions(first)["top1"] is not None
    assert np.isnan(s.predictions(first)["top1"]).all()
    s.tell(first, rng.random((3, 1)))
    assert s._missing() == 1  # type: ignore[attr-defined]
