"""The Gaussian process: relevances, products, outliers, its two kernels and its target."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from predictors import load_predictor, make_predictor
from predictors.conformance import held_out_error, synthetic_problem
from predictors.model_errors import InvalidData, InvalidOption
from predictors.models.relevance_gp import RelevanceGP

RNG = np.random.default_rng(0)


def test_finds_the_columns_that_matter() -> None:
    X = RNG.normal(size=(80, 30))
    model = RelevanceGP().fit(X, 2 * X[:, 3] + np.sin(2 * X[:, 7]))
    relevances = model.arrays()["relevances"]
    assert set(np.argsort(-relevances)[:2]) == {3, 7}
    assert relevances[3] > 10 * np.median(relevances)


def test_learns_products_that_a_line_cannot() -> None:
    X, unseen = RNG.uniform(0, 1, size=(80, 6)), RNG.uniform(0, 1, size=(300, 6))

    def cost(X: np.ndarray) -> np.ndarray:
        return 1.0 + X[:, 0] * (X[:, 1] + X[:, 2]) * 10.0

    ridge = make_predictor("ridge").fit(X, cost(X))
    expanded = make_predictor("ridge", products=6).fit(X, cost(X))
    gp = make_predictor("gp").fit(X, cost(X))
    error = held_out_error(ridge, unseen, cost(unseen))
    assert held_out_error(gp, unseen, cost(unseen)) < 0.1 * error
    assert held_out_error(expanded, unseen, cost(unseen)) < 0.1 * error


def test_outliers_are_forgiven() -> None:
    X, y = synthetic_problem(100, seed=0, noise=0.01)
    unseen, truth = synthetic_problem(300, seed=1, noise=0.01)
    dirty = y.copy()
    dirty[::10] += 15.0
    student = make_predictor("gp").fit(X, dirty)
    normal = make_predictor("gp", noise="normal").fit(X, dirty)
    assert held_out_error(student, unseen, truth) < 0.5 * held_out_error(normal, unseen, truth)


def test_logarithm_where_costs_multiply() -> None:
    X = RNG.integers(0, 3, size=(60, 8)).astype(float)
    y = np.exp(X @ np.linspace(0.1, 0.6, 8))
    both = make_predictor("gp").fit(X, y)
    assert list(both._parts) == ["log"]
    assert make_predictor("ridge", target="auto").fit(X, y)._log is not None
    assert make_predictor("ridge", target="auto").fit(X, np.log(y) + 50.0)._log is None
    with pytest.raises(InvalidData, match="positive targets"):
        make_predictor("gp", target="log").fit(X, y - 5.0)
    assert make_predictor("gp").fit(X, y - y.mean()).quality.kendall_tau > 0.5


def test_groups_share_a_relevance() -> None:
    X, y = synthetic_problem(60, seed=0)
    groups = [i // 2 for i in range(26)]
    p = make_predictor("gp", groups=groups, target="raw").fit(X, y)
    relevances = p._model.arrays()["relevances"]
    np.testing.assert_array_equal(relevances[::2], relevances[1::2])
    with pytest.raises(InvalidData, match="3 groups were given for 26 features"):
        make_predictor("gp", groups=[0, 1, 2]).fit(X, y)


@pytest.mark.parametrize("target", ["raw", "auto"])
def test_additive_kernel_survives_files(tmp_path: Path, target: str) -> None:
    X, y = synthetic_problem(80, seed=0)
    expanded = np.hstack([X, X[:, :1] * X])
    p = make_predictor("gp", kernel="additive", n_main=26, target=target).fit(expanded, y)
    assert p.quality.kendall_tau > 0.8
    p.save(tmp_path / "p")
    np.testing.assert_array_equal(load_predictor(tmp_path / "p").predict(expanded), p.predict(expanded))
    with pytest.raises(InvalidData, match="n_main is 90"):
        make_predictor("gp", kernel="additive", n_main=90).fit(X, y)


def test_many_rows_are_thinned_out() -> None:
    X, y = synthetic_problem(2300, seed=0)
    model = RelevanceGP(student=False).fit(X - X.mean(axis=0), y)
    assert len(model.arrays()["alpha"]) == 2000


@pytest.mark.parametrize(
    "options",
    [{"kernel": "rbf"}, {"noise": "laplace"}, {"groups": []}, {"groups": [-1]}, {"n_main": 1.5}, {"target": "sqrt"}],
)
def test_bad_options(options: dict[str, object]) -> None:
    with pytest.raises(InvalidOption):
        make_predictor("gp", **options)
