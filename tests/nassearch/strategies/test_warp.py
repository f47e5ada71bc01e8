from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import skew, yeojohnson

from nassearch.strategies.warp import Power, Squeeze, Warp

WARPS = [Squeeze, Power]
floats = st.lists(st.floats(-1e4, 1e4).map(lambda v: round(v, 3)), min_size=1, max_size=40)


@pytest.mark.parametrize("kind", WARPS)
@given(floats)
def test_warp_comes_back_and_keeps_the_order(kind: type[Warp], values: list[float]) -> None:
    y = np.array(values)
    warp = kind(y)
    z = warp(y)
    assert np.isfinite(z).all()
    np.testing.assert_allclose(warp.inverse(z), y, rtol=1e-6, atol=1e-6 * max(1.0, np.abs(y).max()))
    order = np.argsort(y, kind="stable")
    assert (np.diff(z[order]) >= -1e-12 * max(1.0, np.abs(z).max())).all()


@pytest.mark.parametrize("kind", WARPS)
def test_log_slope_is_the_derivative(kind: type[Warp]) -> None:
    y = np.r_[np.random.default_rng(0).gamma(2.0, size=60), 30.0]
    warp = kind(y)
    at = np.r_[y[:20], 25.0, 40.0]
    step = 1e-5
    numeric = (warp(at + step) - warp(at - step)) / (2 * step)
    np.testing.assert_allclose(np.exp(warp.log_slope(at)), numeric, rtol=1e-3)


@pytest.mark.parametrize("kind", WARPS)
def test_predictions_far_beyond_come_back_finite(kind: type[Warp]) -> None:
    warp = kind(np.random.default_rng(0).lognormal(size=50))
    assert np.isfinite(warp.inverse(np.array([-1e6, -50.0, 50.0, 1e6]))).all()


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_predicted_far_better_than_the_best_seen(seed: int) -> None:
    y = -np.random.default_rng(seed).lognormal(sigma=1.0, size=60)  # most are nearly as bad as the worst
    warp = Power(y)
    assert warp.power > 1.5  # flattens the good side: unbounded, a predicted value there has no end
    found = warp.inverse(np.array([-1e6, warp(y).min() - 0.5 * np.ptp(warp(y))]))
    assert (found >= y.min() - 1.001 * np.ptp(y)).all()
    np.testing.assert_allclose(warp.inverse(warp(y)), y, rtol=1e-9)


@pytest.mark.parametrize("kind", WARPS)
@pytest.mark.parametrize("y", [np.ones(10), np.r_[np.zeros(9), 1e6], np.array([3.0])])
def test_degenerate_values(kind: type[Warp], y: np.ndarray) -> None:
    warp = kind(y)
    np.testing.assert_allclose(warp.inverse(warp(y)), y, rtol=1e-6)


def test_squeeze_keeps_all_but_the_bad_tail() -> None:
    y = np.r_[np.random.default_rng(0).random(50), 40.0, 90.0]
    z = Squeeze(y)(y)
    assert z.max() < 15
    np.testing.assert_allclose(z[:50], y[:50])


@pytest.mark.parametrize("power", [-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
def test_power_is_scipys_transform(power: float) -> None:
    y = np.random.default_rng(0).normal(size=50)
    warp = Power(y)
    warp.power = power
    z = (y - warp._centre) / warp._scale
    np.testing.assert_allclose(warp(y), yeojohnson(z, power), rtol=1e-12, atol=1e-12)


def test_power_makes_a_skewed_metric_symmetric() -> None:
    y = np.random.default_rng(0).lognormal(sigma=1.0, size=200)
    assert abs(skew(Power(y)(y))) < 0.3 < skew(y)
