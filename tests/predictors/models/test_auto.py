"""`auto`: the stack, the choice and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from predictors import load_predictor, make_predictor
from predictors.conformance import synthetic_problem
from predictors.models.auto import Auto
from predictors.models.stack import Stack, convex_weights, robust_convex_weights


def _plain(means: np.ndarray, y: np.ndarray) -> np.ndarray:
    return convex_weights(means, y, np.ones(len(y)))


def test_convex_weights_recover_a_mixture() -> None:
    rng = np.random.default_rng(0)
    means = rng.normal(size=(3, 200))
    np.testing.assert_allclose(_plain(means, np.array([0.7, 0.3, 0.0]) @ means), [0.7, 0.3, 0.0], atol=1e-3)
    with_opposite = np.stack([means[0], -means[0]])
    np.testing.assert_allclose(_plain(with_opposite, means[0]), [1.0, 0.0], atol=1e-3)


def test_convex_weights_in_any_unit_and_where_members_agree() -> None:
    means = np.random.default_rng(0).normal(size=(2, 50))
    y = 0.4 * means[0] + 0.6 * means[1]
    np.testing.assert_allclose(_plain(1e9 * means, 1e9 * y), [0.4, 0.6], atol=1e-3)
    np.testing.assert_allclose(_plain(np.stack([y, y]), y), [0.5, 0.5])


def test_picks_the_line_for_a_line_and_trees_for_steps() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 5))
    line = make_predictor("auto", models=["ridge", "xgboost"]).fit(X, X @ np.arange(1.0, 6.0))
    steps = make_predictor("auto", models=["ridge", "xgboost"]).fit(X, np.sign(X[:, 0] * X[:, 1]))
    assert isinstance(line, Auto)
    assert isinstance(steps, Auto)
    assert line.weights["ridge"] > 0.9
    assert steps.weights["xgboost"] > 0.9
    assert sum(steps.weights.values()) == pytest.approx(1.0)


def test_members_without_weight_are_neither_asked_nor_saved(tmp_path: Path) -> None:
    X = np.random.default_rng(0).normal(size=(60, 4))
    p = make_predictor("auto", models=["ridge", "xgboost"]).fit(X, X @ np.arange(1.0, 5.0))
    assert isinstance(p, Auto)
    assert list(p.weights) == ["ridge"]
    p.save(tmp_path / "p")
    assert not (tmp_path / "p" / "model-xgboost").exists()
    assert "base.X" not in np.load(tmp_path / "p" / "model-ridge" / "arrays.npz").files
    loaded = load_predictor(tmp_path / "p")
    assert loaded.fit(X, np.sign(X[:, 0] * X[:, 1])).quality.n == 60  # all members are back for a new fit


def test_the_first_member_has_the_benefit_of_the_doubt() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=100)
    folds = np.arange(100) % 5
    auto, stack = Auto(models=["ridge", "svr"]), Stack(models=["ridge", "svr"])
    near_ties = y + 0.3 * rng.normal(size=(2, 100)) * [[1.05], [1.0]]
    assert stack._weigh(near_ties, y, folds).min() > 0.2
    much_better = y + rng.normal(size=(2, 100)) * [[1.0], [0.1]]
    assert auto._weigh(much_better, y, folds)[1] > 0.9
    blurred = y + rng.normal(size=(2, 100)) * [[0.1], [3.0]]
    np.testing.assert_array_equal(auto._weigh(blurred, y, folds), [1.0, 0.0])


def test_outliers_do_not_choose_the_weights() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    means = np.stack([y + 0.1 * rng.normal(size=200), y + 1.0 * rng.normal(size=200)])
    y[:20] += 30.0
    means[1, :20] += 3.0  # the worse member leans towards the outliers
    assert robust_convex_weights(means, y)[0] > 0.85


def test_quality_of_the_stack_is_honest() -> None:
    gaps = []
    for seed in range(12):
        X, y = synthetic_problem(80, seed=seed, noise=0.5)
        unseen, truth = synthetic_problem(500, seed=100 + seed, noise=0.5)
        p = make_predictor("auto", seed=seed, models=["ridge", "svr"]).fit(X, y)
        gaps.append(p.quality.rmse / np.sqrt(np.mean((p.predict(unseen)[0] - truth) ** 2)))
    # Folds train on a fifth less data, so the estimate may be a little pessimistic, not optimistic.
    assert 0.9 < np.mean(gaps) < 1.25


def test_quick_enough_for_a_search() -> None:
    X = (np.random.default_rng(0).random((150, 180)) < 0.4).astype(np.float32)
    y = X @ np.linspace(-1, 1, 180)
    many = np.tile(X, (134, 1))[:20000]
    make_predictor("auto").fit(X, y)  # imports
    fits, predictions = [], []
    for _ in range(3):
        start = time.process_time()
        p = make_predictor("auto").fit(X, y)
        fits.append(time.process_time() - start)
        start = time.process_time()
        p.predict(many)
        predictions.append(time.process_time() - start)
    # Processor time, as the machine may be busy; an idle core takes 0.2 s each.
    assert min(fits) < 1.5
    assert min(predictions) < 1.0


@pytest.mark.parametrize(
    "models", [["gp", "ridge", "svr", "xgboost"], pytest.param(["mlp"], marks=pytest.mark.slow)], ids=["default", "mlp"]
)
def test_predictions_do_not_depend_on_the_number_of_threads(models: list[str]) -> None:
    code = (
        "import hashlib, numpy as np; from predictors import make_predictor;"
        "X = np.random.default_rng(0).normal(size=(100, 208)); y = X[:, :20].sum(axis=1) + X[:, 0] * X[:, 1];"
        f"p = make_predictor('auto', models={models!r}).fit(X, y);"
        "parts = [m.predict(X) for m in p._made.values()] + [p.predict(X)];"
        "print([hashlib.sha256(np.stack(a).tobytes()).hexdigest() for a in parts])"
    )
    outputs = set()
    for threads in ("1", "2"):
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1
