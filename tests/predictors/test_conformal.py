"""Quantiles of scores, against the definition and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from predictors import make_predictor
from predictors.conformal import conformal_quantile, conformal_scores
from predictors.conformance import synthetic_problem
from predictors.quality import Z_INTERVAL, calibration_factor, cross_calibrated


def test_the_rank_is_the_one_of_split_conformal_prediction() -> None:
    scores = np.arange(1.0, 100.0)  # 99 scores: rank 90 of 100 for 90 %
    assert conformal_quantile(scores, 0.9) == 90.0
    assert conformal_quantile(scores, 0.901) == 91.0
    assert conformal_quantile(scores, 0.99) == 99.0
    assert conformal_quantile(np.arange(1.0, 10.0), 0.9) == 9.0


def test_beyond_what_rows_show_it_grows_and_stays_finite() -> None:
    scores = np.arange(1.0, 10.0)
    found = [conformal_quantile(scores, c) for c in (0.9, 0.95, 0.99, 0.9999)]
    assert found == sorted(found)
    assert 9.0 < found[1] < found[-1] < 200.0


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.95])
def test_coverage_of_exchangeable_scores(coverage: float) -> None:
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(2000):
        scores = np.abs(rng.standard_t(3, size=41))
        covered.append(scores[-1] <= conformal_quantile(np.sort(scores[:-1]), coverage))
    assert coverage - 0.02 < np.mean(covered) < coverage + 0.045


def test_scores_are_errors_over_deviations_and_deviations_of_zero_are_typical() -> None:
    y, mean, std = np.array([1.0, 2.0, 3.0]), np.array([2.0, 2.0, 0.0]), np.array([0.5, 0.0, 1.5])
    np.testing.assert_allclose(conformal_scores(y, mean, std), [0.0, 2.0, 2.0])
    np.testing.assert_allclose(conformal_scores(y, mean, np.zeros(3)).max(), 3.0 / np.sqrt(10 / 3))


def test_a_factor_found_anew_for_each_fold_covers_too_much_and_one_of_all_rows_does_not() -> None:
    rng = np.random.default_rng(0)
    folds, ones = np.arange(100) % 10, np.ones(100)
    anew, one = [], []
    for _ in range(600):
        error = rng.standard_t(5, size=100)
        factor, unseen = calibration_factor(error, ones), np.abs(rng.standard_t(5, size=400))
        for covered, std in ((anew, cross_calibrated(error, ones, folds)), (one, factor * ones)):
            margin = factor * conformal_quantile(conformal_scores(error, np.zeros(100), std), 0.9)
            covered.append(np.mean(unseen <= margin))
    assert abs(np.mean(one) - 91 / 101) < 0.004  # rank 91 of 100 scores
    assert np.mean(anew) > np.mean(one) + 0.004


@pytest.mark.parametrize("name", ["stack", "auto"])
def test_a_stack_of_one_has_the_intervals_of_its_member(name: str) -> None:
    X, y = synthetic_problem(60, seed=0)
    unseen, _ = synthetic_problem(20, seed=1)
    alone = make_predictor("gp", seed=3).fit(X, y)
    stacked = make_predictor(name, seed=3, models=["gp"]).fit(X, y)
    np.testing.assert_allclose(stacked.interval(unseen), alone.interval(unseen), rtol=1e-9)


def test_scores_use_the_scale_of_the_prediction() -> None:
    X, y = synthetic_problem(60, seed=0)
    p = make_predictor("xgboost", seed=0, trees=20).fit(X, y)
    mean, std = p._held_out_as_used()
    np.testing.assert_array_equal(mean, p._cross_predict()[0])
    assert abs(np.mean(np.abs(y - mean) <= Z_INTERVAL * std) - 0.9) < 0.02  # the factor's own rows
    assert len(np.unique(np.round(p._cross_predict()[1] / std, 9))) > 1  # other factors in other folds


def test_intervals_are_wider_where_less_is_known() -> None:
    X, y = synthetic_problem(60, seed=0)
    p = make_predictor("gp").fit(X, y)
    near, far = (np.subtract(*p.interval(points)[::-1]).mean() for points in (X, X + 3.0))
    assert far > 1.5 * near
