"""One device as the prior of another."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from predictors import load_predictor, make_predictor
from predictors.conformance import synthetic_problem
from predictors.targets import LogTargets
from predictors.transfer import Line

RNG = np.random.default_rng(0)


def test_line_forgives_outliers() -> None:
    z = RNG.uniform(10, 20, size=30)
    y = 3.0 + 2.0 * z
    y[:3] += 100.0
    line = Line.fit(z, y, log=False)
    # One row's worth of belief in proportionality remains.
    np.testing.assert_allclose(line(z), 3.0 + 2.0 * z, atol=0.5)


def test_line_of_logarithms_is_a_power_law() -> None:
    z = RNG.uniform(1, 20, size=40)
    line = Line.fit(z, 0.5 * z**1.5, log=True)
    assert isinstance(line.log, LogTargets)
    median, _ = line.back(line(z), np.zeros(40))
    np.testing.assert_allclose(median, 0.5 * z**1.5, rtol=0.05)
    assert line.scale == pytest.approx(1.5, abs=0.05)


def test_a_proportional_device_is_learnt_from_a_dozen_rows(tmp_path: Path) -> None:
    X, y = synthetic_problem(150, seed=0, noise=0.0)
    prior = make_predictor("ridge", products=10).fit(X, y)
    few, target = synthetic_problem(12, seed=3, noise=0.0)
    p = make_predictor("ridge").fit(few, 4.0 * target, prior=prior)
    assert p.transfer != "none"
    unseen, truth = synthetic_problem(200, seed=4, noise=0.0)
    assert np.mean(np.abs(p.predict(unseen)[0] / (4.0 * truth) - 1)) < 0.005
    p.save(tmp_path / "p")
    np.testing.assert_array_equal(load_predictor(tmp_path / "p").predict(unseen), p.predict(unseen))


def test_refitting_without_a_prior_forgets_it() -> None:
    X, y = synthetic_problem(60, seed=0)
    prior = make_predictor("ridge").fit(X, y)
    p = make_predictor("ridge").fit(X[:12], 2 * y[:12], prior=prior)
    assert p.transfer != "none"
    p.fit(X, y)
    assert p.transfer == "none"
    np.testing.assert_array_equal(p.predict(X), prior.predict(X))


@pytest.mark.needs_shared
@pytest.mark.parametrize("n", [10, 30])
@pytest.mark.parametrize("problem", ["hat", "nas-bench-201"])
def test_measured_devices(shared_data: Path, problem: str, n: int) -> None:
    if problem == "hat":
        tables = []
        for device in ("cpu_xeon", "gpu_titanxp"):
            path = shared_data / "hat_latency" / f"wmt14ende_{device}_all.csv"
            with path.open(newline="", encoding="utf-8") as file:
                tables.append(np.array([[float(v) for v in row] for row in list(csv.reader(file))[1:]]))
        # The files list different networks: what they share are the features.
        (source, y_source), (X, y) = ((t[:, :10], t[:, 10] + t[:, 11]) for t in tables)
    else:
        with np.load(shared_data / "nas_bench_201" / "accuracy.npz", allow_pickle=False) as file:
            keep = file["connected"]
            X = source = np.eye(5)[file["ops"][keep]].reshape(int(keep.sum()), -1)
        with np.load(shared_data / "nas_bench_201" / "latency_ms.npz", allow_pickle=False) as file:
            y_source, y = file["gold_6226"][keep].astype(float), file["pixel3"][keep].astype(float)
    rows = np.random.default_rng(0).permutation(len(y_source))[:200]
    prior = make_predictor("gp").fit(source[rows], y_source[rows])
    errors = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(y))
        seen, unseen = order[:n], order[n : n + 1000]
        with_prior = make_predictor("gp").fit(X[seen], y[seen], prior=prior)
        scratch = make_predictor("gp").fit(X[seen], y[seen])
        errors.append([np.mean(np.abs(p.predict(X[unseen])[0] - y[unseen])) for p in (with_prior, scratch)])
    with_prior_error, scratch_error = np.mean(errors, axis=0)
    print(f"{problem}, {n} rows: mean absolute error {with_prior_error:.3g} ms with, {scratch_error:.3g} without")
    # With 30 rows the model alone knows about as much: the prior must not get in the way.
    assert with_prior_error < (0.8 if n == 10 else 1.1) * scratch_error
