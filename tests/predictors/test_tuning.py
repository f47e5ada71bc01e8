"""Tuning: never worse than the default in cross-validation, and the same again."""

from __future__ import annotations

import numpy as np
import pytest

from predictors import make_predictor
from predictors.conformance import synthetic_problem
from predictors.model_errors import InvalidOption
from predictors.tuning import Range, tune_predictor


def cross_error(predictor: object, y: np.ndarray) -> float:
    return float(np.mean(np.abs(predictor._cross_predict()[0] - y)))


def test_tuning_is_deterministic_and_no_worse_than_the_default() -> None:
    X, y = synthetic_problem(60, seed=0)
    space = {"trees": Range(20, 80), "learning_rate": Range(0.05, 0.4, log=True), "depth": (1, 3)}
    found = [tune_predictor("xgboost", X, y, trials=8, seed=1, space=space, trees=40) for _ in range(2)]
    np.testing.assert_array_equal(found[0].predict(X), found[1].predict(X))
    assert found[0].options == found[1].options
    assert found[0].options["trees"] == 40  # given: not tuned
    assert cross_error(found[0], y) <= cross_error(make_predictor("xgboost", seed=1, trees=40).fit(X, y), y)


def test_one_trial_is_the_default() -> None:
    X, y = synthetic_problem(30, seed=0)
    assert tune_predictor("ridge", X, y, trials=1).options == make_predictor("ridge").options


def test_products_are_found() -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    assert tune_predictor("ridge", X, X[:, 0] * X[:, 1], trials=6).options["products"] > 0


@pytest.mark.parametrize(
    ("name", "arguments", "fragment"),
    [
        ("auto", {}, "nothing to tune"),
        ("ridge", {"space": {"trees": Range(1, 2)}}, "no option 'trees'"),
        ("ridge", {"trials": 0}, "trials must be an integer >= 1"),
    ],
)
def test_bad_use(name: str, arguments: dict[str, object], fragment: str) -> None:
    X, y = synthetic_problem(10, seed=0)
    with pytest.raises(InvalidOption, match=fragment):
        tune_predictor(name, X, y, **arguments)
