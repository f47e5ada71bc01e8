"""Predictors on measured accuracies of Once-for-All subnets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from predictors import make_predictor
from search_spaces import get_space

pytestmark = pytest.mark.needs_shared


@pytest.fixture
def table(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    space = get_space("ofa-mobilenetv3-w1.0")
    with np.load(shared_data / "ofa_mobilenetv3" / "imagenet_top1.npz", allow_pickle=False) as data:
        rows = zip(data["ks"].tolist(), data["e"].tolist(), data["d"].tolist(), strict=True)
        G = space.encode([{"ks": ks, "e": e, "d": d} for ks, e, d in rows])
        return space.features(G), data["top1"].astype(np.float64)


@pytest.mark.parametrize(("name", "least_tau", "most_mape"), [("ridge", 0.88, 0.26), ("auto", 0.90, 0.21)])
def test_top1_from_a_hundred_rows(
    table: tuple[np.ndarray, np.ndarray], name: str, least_tau: float, most_mape: float
) -> None:
    X, y = table
    taus, mapes, covered, estimated = [], [], [], []
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(y))
        seen, unseen = order[:100], order[100:]
        p = make_predictor(name, seed=seed).fit(X[seen], y[seen])
        mean, std = p.predict(X[unseen])
        taus.append(kendalltau(mean, y[unseen]).statistic)
        mapes.append(100 * np.mean(np.abs(mean / y[unseen] - 1)))
        covered.append(np.mean(np.abs(mean - y[unseen]) <= 1.645 * std))
        estimated.append(p.quality.kendall_tau)
    assert np.mean(taus) > least_tau
    assert np.mean(mapes) < most_mape
    assert 0.85 < np.mean(covered) < 0.97
    assert abs(np.mean(estimated) - np.mean(taus)) < 0.05
