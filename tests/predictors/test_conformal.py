"""Quantiles of scores, against the definition and by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from predictors import make_predictor
from predictors.conformal import conformal_quantile, conformal_scores
from predictors.conformance import synthetic_problem


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


def test_intervals_are_wider_where_less_is_known() -> None:
    X, y = synthetic_problem(60, seed=0)
    p = make_predictor("gp").fit(X, y)
    near, far = (np.subtract(*p.interval(points)[::-1]).mean() for points in (X, X + 3.0))
    assert far > 1.5 * near
