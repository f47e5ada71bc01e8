"""Held-out predictions and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from predictors import held_out, make_predictor
from predictors.conformance import synthetic_problem
from predictors.model_errors import InvalidOption, NotFitted


def test_rows_are_predicted_by_models_that_did_not_see_them() -> None:
    X, y = synthetic_problem(200, seed=0)
    predictor = make_predictor("ridge").fit(X, y)
    held = held_out(predictor)
    np.testing.assert_array_equal(held.true, y)
    assert np.abs(held.mean - y).mean() > np.abs(predictor.predict(X)[0] - y).mean()
    assert (held.low < held.mean).all()
    assert (held.mean < held.high).all()
    assert 0.85 <= held.coverage <= 0.95
    assert 0.4 <= held_out(predictor, 0.5).coverage <= 0.6


def test_coverage_is_honest_where_rows_are_noise() -> None:
    X, y = synthetic_problem(150, seed=1)
    noise = np.random.default_rng(0).permutation(y)
    assert 0.84 <= held_out(make_predictor("ridge").fit(X, noise)).coverage <= 0.97


def test_few_rows_and_constant_targets() -> None:
    X, y = synthetic_problem(3, seed=0)
    held = held_out(make_predictor("ridge").fit(X, y))
    assert np.isfinite(np.stack([held.low, held.high])).all()
    held = held_out(make_predictor("ridge").fit(X, np.ones(3)))
    np.testing.assert_array_equal(held.low, held.high)
    assert held.coverage == 1


def test_bad_use() -> None:
    with pytest.raises(NotFitted):
        held_out(make_predictor("ridge"))
    X, y = synthetic_problem(5, seed=0)
    with pytest.raises(InvalidOption, match="between 0 and 1"):
        held_out(make_predictor("ridge").fit(X, y), 90)
