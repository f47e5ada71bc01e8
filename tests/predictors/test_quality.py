"""Quality figures, folds and calibration."""

from __future__ import annotations

import math

import numpy as np
import pytest

from predictors.quality import (
    Z_INTERVAL,
    Quality,
    assign_folds,
    calibration_factor,
    cross_calibrated,
    measure_quality,
)


def test_figures_of_a_small_example() -> None:
    y = np.array([1.0, 2.0, 4.0, 0.0])
    mean = np.array([1.1, 1.8, 3.0, 0.5])
    std = np.array([0.1, 0.1, 1.0, 0.1])
    quality = measure_quality(y, mean, std, np.array([0, 0, 1, 1]))
    assert quality.kendall_tau == pytest.approx(1.0)
    assert quality.spearman == pytest.approx(1.0)
    assert quality.mape == pytest.approx(100 * (0.1 + 0.1 + 0.25) / 3)  # the zero target has no percentage
    assert quality.rmse == pytest.approx(math.sqrt((0.01 + 0.04 + 1.0 + 0.25) / 4))
    assert quality.coverage == 0.5
    assert (quality.n, quality.folds) == (4, 2)


def test_one_swapped_pair_of_four() -> None:
    y = np.arange(1.0, 5.0)
    quality = measure_quality(y, np.array([1.0, 3.0, 2.0, 4.0]), np.ones(4), np.arange(4))
    assert quality.kendall_tau == pytest.approx(4 / 6)


def test_undefined_figures_are_nan_and_null_in_json() -> None:
    quality = measure_quality(np.zeros(5), np.zeros(5), np.zeros(5), np.arange(5))
    assert math.isnan(quality.kendall_tau)
    assert math.isnan(quality.mape)
    assert quality.to_json()["kendall_tau"] is None
    assert math.isnan(Quality.from_json(quality.to_json()).spearman)
    assert not quality.ranks_better_than_chance


@pytest.mark.parametrize(("tau", "n", "better"), [(0.2, 10, False), (0.5, 10, True), (0.2, 100, True), (1.0, 3, False)])
def test_better_than_chance_depends_on_n(tau: float, n: int, better: bool) -> None:
    assert Quality(tau, tau, 1.0, 1.0, n, 0.9, 5).ranks_better_than_chance is better


@pytest.mark.parametrize(("n", "folds"), [(2, 2), (10, 10), (11, 10), (103, 10), (121, 5)])
def test_folds_are_balanced_and_cover_all_rows(n: int, folds: int) -> None:
    assigned = assign_folds(np.random.default_rng(0).normal(size=(n, 3)), seed=1)
    sizes = np.bincount(assigned)
    assert len(sizes) == folds
    assert sizes.max() - sizes.min() <= 1


def test_folds_follow_the_seed_and_keep_copies_together() -> None:
    X = np.random.default_rng(0).normal(size=(40, 3))
    doubled = np.vstack([X, X])
    a = assign_folds(doubled, seed=1)
    np.testing.assert_array_equal(a[:40], a[40:])
    np.testing.assert_array_equal(a, assign_folds(doubled, seed=1))
    assert (a != assign_folds(doubled, seed=2)).any()


def test_calibration_reaches_the_nominal_coverage() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(0.5, 2.0, size=4000)
    residual = 3.0 * std * rng.standard_t(4, size=4000) / 2.0  # stds too small, tails too heavy
    factor = calibration_factor(residual[:2000], std[:2000])
    covered = np.mean(np.abs(residual[2000:]) <= Z_INTERVAL * factor * std[2000:])
    assert covered == pytest.approx(0.9, abs=0.02)


def test_calibration_is_bounded_and_ignores_zero_std() -> None:
    assert calibration_factor(np.array([100.0]), np.array([0.1])) == 4.0
    assert calibration_factor(np.zeros(5), np.ones(5)) == 0.25
    assert calibration_factor(np.ones(5), np.zeros(5)) == 1.0


def test_cross_calibration_uses_the_other_folds_only() -> None:
    residual = np.array([1.0] * 10 + [1000.0] * 10)
    scaled = cross_calibrated(residual, np.ones(20), np.repeat([0, 1], 10))
    assert (scaled[:10] == 4.0).all()  # fold 1 is wild: the bound
    np.testing.assert_allclose(scaled[10:], 1.0 / Z_INTERVAL)
