"""Statistics of the supernet-quality report on data whose answers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from nassearch.gap.folder import GapRow, GapSettings
from nassearch.gap.report import make_report, qualities
from nassearch.gap.statistics import agreement, estimate, line_error, ranking, resampled

ONCE = np.ones((1, 4))


def test_known_answers():
    told, true = np.array([70.0, 60.0, 80.0, 78.0]), np.array([72.0, 64.0, 83.0, 85.0])
    found = {k: float(v[0]) for k, v in agreement(told, true, "max", ONCE).items()}
    assert found["mae"] == pytest.approx(4.0)
    assert found["bias"] == pytest.approx(-4.0)
    assert found["mae_without_bias"] == pytest.approx((2 + 0 + 1 + 3) / 4)
    assert found["kendall_tau"] == pytest.approx((5 - 1) / 6)  # the last two change places
    assert found["regret"] == pytest.approx(2.0)


def test_small_is_good_where_the_metric_says_so():
    loss_told, loss_true = np.array([0.5, 0.9, 0.7]), np.array([0.6, 0.8, 0.4])
    found = ranking(loss_told, loss_true, "min", np.ones((1, 3)))
    assert found["regret"][0] == pytest.approx(0.2)
    assert found["kendall_tau"][0] == pytest.approx(1 / 3)


def test_regret_of_ties_is_their_mean():
    found = ranking(np.array([1.0, 1.0, 0.0]), np.array([3.0, 5.0, 6.0]), "max", np.ones((1, 3)))
    assert found["regret"][0] == pytest.approx(2.0)


def test_tau_is_scipys_with_ties_and_in_every_resample():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 6, 12).astype(float), rng.integers(0, 6, 12).astype(float)
    counts = resampled(12)[:40]
    found = ranking(a, b, "max", counts)
    for count, tau, regret in zip(counts.astype(int), found["kendall_tau"], found["regret"], strict=True):
        x, y = np.repeat(a, count), np.repeat(b, count)
        assert tau == pytest.approx(kendalltau(x, y).statistic)
        assert regret == pytest.approx(y.max() - y[x == x.max()].mean())


def test_tau_without_an_order_is_undefined():
    assert math.isnan(ranking(np.zeros(4), np.arange(4.0), "max", ONCE)["kendall_tau"][0])


def test_line_error_leaves_each_point_out():
    rng = np.random.default_rng(0)
    x, y = rng.random(9), rng.random(9)
    expected = []
    for i in range(9):
        rest = np.arange(9) != i
        slope, height = np.polyfit(x[rest], y[rest], 1)
        expected.append(slope * x[i] + height - y[i])
    assert line_error(x, y) == pytest.approx(expected)
    assert np.isnan(line_error(np.zeros(4), np.arange(4.0))).all()


def test_intervals_cover_the_mean_error():
    hits, rng = 0, np.random.default_rng(3)
    for seed in range(60):
        true = rng.normal(80, 5, 30)
        told = true - 2 + rng.normal(0, 1, 30)
        found = estimate(agreement(told, true, "max", resampled(30, seed)[:1001])["bias"])
        hits += found.low <= -2 <= found.high
    assert 51 <= hits <= 60  # 95 %, less what the bootstrap of 30 misses


def test_paired_differences_are_narrower_than_their_parts():
    rng = np.random.default_rng(5)
    true, common = rng.normal(80, 5, 30), rng.normal(0, 3, 30)
    counts = resampled(30)
    worse, better = (agreement(true + common - d, true, "max", counts)["bias"] for d in (2.0, 1.0))
    difference = estimate(worse - better)
    assert difference.value == pytest.approx(-1.0)
    assert difference.high - difference.low < 1e-9 < estimate(worse).high - estimate(worse).low


def made_up(metrics=None) -> GapSettings:
    return GapSettings(
        "runs/a", "s", "id", "digits", "data", metrics or {"top1": "max", "loss": "min"}, "top1", "net", 0, {}, {}, {}
    )


def test_a_report_averages_seeds_and_leaves_failures_out():
    rows = []
    for i in range(5):
        for seed in (0, 1):
            scratch = {} if (i, seed) == (1, 0) or i == 4 else {"top1": 80.0 + i + seed, "loss": 1.0}
            error = "" if scratch else "diverged"
            rows.append(
                GapRow(i + 1, seed, (i,), 1.0 + i, 2.0, {"top1": 79.0 + i, "loss": 1.0}, scratch, 1.0, error=error)
            )
    q = qualities(made_up(), rows, "top1")
    assert q.scratch == pytest.approx([80.5, 82.0, 82.5, 83.5])
    assert q.seed_std == pytest.approx(math.sqrt(0.5))
    assert q.failed == 1
    report = make_report(q)
    assert report.supernet["bias"].value == pytest.approx(np.mean([-1.5, -2.0, -1.5, -1.5]))
    assert report.supernet["kendall_tau"].value == 1 == report.trivial["kendall_tau"].value
    assert report.advantage["kendall_tau"].value == 0
    assert report.supernet["regret"].value == 0


def test_the_number_of_parameters_is_a_predictor_in_both_directions():
    rows = [
        GapRow(i + 1, 0, (i,), 1.0 + i, 2.0, {"loss": 1.0 - 0.1 * i}, {"loss": 2.0 - 0.2 * i}, 1.0) for i in range(5)
    ]
    report = make_report(qualities(made_up({"loss": "min"}), rows, "loss"))
    assert report.trivial["kendall_tau"].value == 1
    assert report.trivial["regret"].value == 0
    assert report.trivial["mae"].value == pytest.approx(0, abs=1e-9)
    assert report.supernet["bias"].value == pytest.approx(-0.8)
