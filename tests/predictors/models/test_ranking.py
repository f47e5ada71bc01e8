"""The ranking losses of XGBoost and of the networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from predictors import load_predictor, make_predictor
from predictors.conformance import synthetic_problem
from predictors.model_errors import InvalidOption
from predictors.models.ranking import Calibration


@pytest.mark.parametrize("name", ["xgboost", "mlp"])
def test_ranks_and_keeps_the_unit_and_survives_files(tmp_path: Path, name: str) -> None:
    X, y = synthetic_problem(150, seed=0)
    unseen, truth = synthetic_problem(300, seed=1)
    p = make_predictor(name, loss="rank").fit(X, y)
    mean, std = p.predict(unseen)
    assert kendalltau(mean, truth).statistic > 0.78
    assert np.mean(np.abs(mean - truth)) < 0.5 * truth.std()
    again = make_predictor(name, loss="rank").fit(X, y).predict(unseen)
    np.testing.assert_array_equal(again, (mean, std))
    p.save(tmp_path / "p")
    np.testing.assert_array_equal(load_predictor(tmp_path / "p").predict(unseen), (mean, std))


def test_ranking_is_not_moved_by_a_monotone_change_of_the_far_end() -> None:
    X, y = synthetic_problem(120, seed=0)
    unseen, truth = synthetic_problem(300, seed=1)
    stretched = np.where(y > np.quantile(y, 0.9), 20 * y, y)  # as broken networks would
    taus = {
        loss: kendalltau(make_predictor("xgboost", loss=loss).fit(X, stretched).predict(unseen)[0], truth).statistic
        for loss in ("squared", "rank")
    }
    assert taus["rank"] > taus["squared"] + 0.05


def test_calibration_is_the_line_through_the_rows_seen() -> None:
    scores = np.array([[0.0, 1.0, 2.0, 9.0], [0.0, -1.0, -2.0, 0.0]])
    targets = np.array([10.0, 12.0, 14.0, 0.0])
    seen = np.array([[True, True, True, False], [True, True, True, False]])
    found = Calibration.fit(scores, targets, seen)(scores)
    np.testing.assert_allclose(found[0, :3], targets[:3])
    np.testing.assert_allclose(found[1], 12.0)  # a score of the wrong order is not turned round


@pytest.mark.parametrize("name", ["xgboost", "mlp"])
def test_unknown_losses_are_refused(name: str) -> None:
    with pytest.raises(InvalidOption, match="'squared', 'rank'"):
        make_predictor(name, loss="hinge")
