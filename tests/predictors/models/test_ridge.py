"""Ridge against the textbook."""

from __future__ import annotations

import numpy as np
import pytest

from predictors import make_predictor
from predictors.models import Ridge

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(30, 5), (12, 40)])
def test_leave_one_out_choice_equals_refitting(shape: tuple[int, int]) -> None:
    X = RNG.normal(size=shape)
    y = X[:, 0] + RNG.normal(size=shape[0])
    alphas = [0.01, 1.0, 10.0, 100.0]
    chosen = Ridge(alphas=alphas).fit(X, y)
    scaled, targets = chosen._scaler.features(X), chosen._scaler.targets(y)
    errors = []
    for alpha in alphas:
        left_out = 0.0
        for i in range(len(y)):
            rest = np.arange(len(y)) != i
            centre, level = scaled[rest].mean(axis=0), targets[rest].mean()
            A = scaled[rest] - centre
            w = np.linalg.solve(A.T @ A + alpha * np.eye(A.shape[1]), A.T @ (targets[rest] - level))
            left_out += (level + (scaled[i] - centre) @ w - targets[i]) ** 2
        errors.append(left_out)
    assert chosen._alpha == alphas[int(np.argmin(errors))]


def test_prediction_and_leverage_equal_the_normal_equations() -> None:
    X = RNG.normal(size=(15, 25))
    y = X[:, :3].sum(axis=1)
    p = Ridge(alphas=[2.0]).fit(X, y)
    new = RNG.normal(size=(7, 25))
    A, B = p._scaler.features(X), p._scaler.features(new)
    inverse = np.linalg.inv(A.T @ A + 2.0 * np.eye(25))
    mean, std = p.predict(new)
    expected = p._scaler.y_mean + p._scaler.y_scale * (B @ inverse @ A.T @ p._scaler.targets(y))
    np.testing.assert_allclose(mean, expected, rtol=1e-10)
    shape = np.sqrt(1.0 + 1.0 / 15 + np.einsum("ij,jk,ik->i", B, inverse, B))
    np.testing.assert_allclose(std / std[0], shape / shape[0], rtol=1e-8)


def test_a_line_without_noise_is_found() -> None:
    X = RNG.normal(size=(30, 4))
    y = 5.0 + X @ [1.0, -2.0, 3.0, 0.5]
    mean, std = make_predictor("ridge").fit(X, y).predict(X + 3.0)
    np.testing.assert_allclose(mean, 5.0 + (X + 3.0) @ [1.0, -2.0, 3.0, 0.5], rtol=1e-3)
    assert std.max() < 0.1


def test_uncertainty_grows_away_from_the_data() -> None:
    X = RNG.normal(size=(40, 4))
    p = make_predictor("ridge").fit(X, X[:, 0] + RNG.normal(size=40))
    std = p.predict(np.array([[0.0] * 4, [5.0] * 4, [50.0] * 4]))[1]
    assert std[0] < std[1] < std[2]
