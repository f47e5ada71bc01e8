"""SVR: our formula against libsvm, the grid, the uncertainty."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import svm

from predictors.models import SVR

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, size=(60, 3))
Y = np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.05 * RNG.normal(size=60)


def test_formula_equals_libsvm() -> None:
    p = SVR(gammas=[0.5], costs=[5.0]).fit(X, Y)
    scaled = p._scaler.features(X)
    reference = svm.SVR(kernel="rbf", gamma=p._gamma, C=5.0, epsilon=0.02).fit(scaled, p._scaler.targets(Y))
    new = RNG.uniform(-1, 1, size=(50, 3))
    expected = p._scaler.y_mean + p._scaler.y_scale * reference.predict(p._scaler.features(new))
    # Both stop within libsvm's tolerance of 1e-3 of the optimum, on kernels that differ by rounding.
    np.testing.assert_allclose(p.predict(new)[0], expected, atol=5e-3)
    assert p._gamma == pytest.approx(0.5 / np.mean(np.sum(scaled**2, axis=1)))


def test_grid_prefers_what_fits() -> None:
    wiggly = SVR(gammas=[0.001, 1.0], costs=[10.0]).fit(X, np.sin(5 * X[:, 0]))
    line = SVR(gammas=[0.03, 30.0], costs=[100.0]).fit(X, X[:, 0])
    unit = float(np.mean(np.sum(wiggly._scaler.features(X) ** 2, axis=1)))
    assert wiggly._gamma * unit == pytest.approx(1.0)
    assert line._gamma * unit == pytest.approx(0.03)


def test_uncertainty_is_that_of_a_gaussian_process() -> None:
    p = SVR(gammas=[0.5], costs=[10.0]).fit(X, Y)
    A, B = p._scaler.features(X), p._scaler.features(X + 0.3)

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.exp(-p._gamma * ((a[:, None] - b[None]) ** 2).sum(axis=2))

    inverse = np.linalg.inv(kernel(A, A) + 0.1 * np.eye(60))
    variance = 1.0 + 0.1 - np.einsum("ij,jk,ik->i", kernel(B, A), inverse, kernel(B, A))
    np.testing.assert_allclose(p.predict(X + 0.3)[1], p._scaler.y_scale * p._level * np.sqrt(variance), rtol=1e-6)


def test_uncertainty_grows_away_from_the_data() -> None:
    std = SVR().fit(X, Y).predict(np.array([[0.0] * 3, [1.5] * 3, [30.0] * 3]))[1]
    assert std[0] < std[1] < std[2]
