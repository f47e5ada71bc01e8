from __future__ import annotations

import numpy as np
import pytest

from predictors import list_predictors, make_predictor
from predictors.model_errors import InvalidData, NotFitted
from predictors.models.additive_gp import AdditiveGP

RNG = np.random.default_rng(0)
X = RNG.random((40, 6))
Y = 3.0 + X @ RNG.random(6) + 0.1 * X[:, 0] * X[:, 1]
QUICK = [name for name in list_predictors() if name not in {"auto", "stack"}]  # those are made of the others


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_it_is_the_mean_of_predict(name: str, dtype: type[np.floating]) -> None:
    model = make_predictor(name, seed=0).fit(X, Y)
    rows = RNG.random((30, 6)).astype(dtype)
    np.testing.assert_allclose(model.predict_mean(rows), model.predict(rows)[0], rtol=1e-5)
    assert model.predict_mean(rows[:0]).shape == (0,)


@pytest.mark.parametrize("options", [{"target": "log"}, {"products": 4}])
def test_it_is_the_mean_whatever_the_options_of_ridge(options: dict[str, object]) -> None:
    model = make_predictor("ridge", seed=0, **options).fit(X, Y)
    np.testing.assert_allclose(model.predict_mean(X), model.predict(X)[0], rtol=1e-10)


def test_it_is_the_mean_over_a_prior_and_of_constant_targets() -> None:
    prior = make_predictor("ridge", seed=0).fit(X, Y)
    model = make_predictor("ridge", seed=0).fit(X[:10], 2.0 * Y[:10] + 1.0, prior=prior)
    np.testing.assert_allclose(model.predict_mean(X), model.predict(X)[0])
    np.testing.assert_array_equal(make_predictor("ridge").fit(X, np.full(40, 2.0)).predict_mean(X), np.full(40, 2.0))


@pytest.mark.parametrize("bad", [np.full((2, 6), np.nan), np.full((2, 6), np.inf), np.ones((2, 5)), np.ones(6)])
def test_bad_rows_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(InvalidData):
        make_predictor("ridge").fit(X, Y).predict_mean(bad)


def test_it_needs_a_fit() -> None:
    with pytest.raises(NotFitted):
        make_predictor("ridge").predict_mean(X)


def test_marginals_of_the_additive_process_are_its_joint_prediction() -> None:
    model = AdditiveGP(6).fit(X, Y)
    mean, covariance = model.joint(X[:7] + 0.05)
    marginal_mean, std = model.marginals.predict(X[:7] + 0.05)
    np.testing.assert_allclose(marginal_mean, mean)
    np.testing.assert_allclose(std**2, np.diag(covariance) + model.noise_variance, rtol=1e-6)
