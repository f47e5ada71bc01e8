"""XGBoost, the MLP ensemble and how members that leave one fold out are combined."""

from __future__ import annotations

import numpy as np
import torch

from predictors import make_predictor
from predictors.conformance import synthetic_problem
from predictors.models.fold_ensemble import FoldEnsemble


def test_out_of_fold_means_use_members_that_did_not_see_the_row() -> None:
    folds = np.array([0, 0, 1])
    members = np.array([[1.0, 2.0, 30.0], [10.0, 20.0, 3.0], [3.0, 4.0, 50.0]])
    ensemble, mean, std, used = FoldEnsemble.fit(members, np.array([0, 1, 0]), np.array([2.0, 3.5, 4.0]), folds)
    np.testing.assert_allclose(mean, [2.0, 3.0, 3.0])
    assert (std > 0).all()
    np.testing.assert_allclose(used, ensemble.combine(members)[1])
    combined, spread = ensemble.combine(members)
    np.testing.assert_allclose(combined, members.mean(axis=0))
    np.testing.assert_allclose(spread, ensemble.factor * np.sqrt(ensemble.noise**2 + members.var(axis=0)))


def test_fold_ensemble_covers_what_it_states() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=2000)
    members = targets + rng.normal(size=(5, 2000))
    _, mean, std, _ = FoldEnsemble.fit(members, np.arange(5), targets, np.arange(2000) % 5)
    assert abs(np.mean(np.abs(mean - targets) <= 1.645 * std) - 0.9) < 0.03


def test_xgboost_does_not_depend_on_threads() -> None:
    X, y = synthetic_problem(60, seed=0)
    one = make_predictor("xgboost", trees=30).fit(X, y).predict(X)
    two = make_predictor("xgboost", trees=30, n_jobs=2).fit(X, y).predict(X)
    np.testing.assert_allclose(one[0], two[0], rtol=1e-6)


def test_xgboost_finds_an_interaction_that_a_line_cannot() -> None:
    X = np.random.default_rng(0).integers(0, 2, size=(120, 6)).astype(float)
    y = np.where(X[:, 0] == X[:, 1], 1.0, 5.0)
    assert make_predictor("xgboost", depth=3).fit(X, y).quality.rmse < 0.8
    assert make_predictor("ridge").fit(X, y).quality.rmse > 1.5


def test_mlp_trains_inside_inference_mode_and_restores_the_thread_count() -> None:
    X, y = synthetic_problem(30, seed=0)
    threads = torch.get_num_threads()
    expected = make_predictor("mlp", steps=10).fit(X, y).predict(X)[0]
    with torch.inference_mode():
        inside = make_predictor("mlp", steps=10).fit(X, y).predict(X)[0]
    np.testing.assert_array_equal(inside, expected)
    assert torch.get_num_threads() == threads


def test_mlp_members_differ_and_disagree_more_far_away() -> None:
    X, y = synthetic_problem(60, seed=0)
    p = make_predictor("mlp", steps=60).fit(X, y)
    near, far = p.predict(X)[1], p.predict(X * 20)[1]
    assert np.median(far) > 2 * np.median(near)


def test_mlp_raises_members_to_the_number_of_folds() -> None:
    X, y = synthetic_problem(8, seed=0)
    p = make_predictor("mlp", members=2, steps=5).fit(X, y)
    assert len(p._weights["w0"]) == 8  # leave-one-out
