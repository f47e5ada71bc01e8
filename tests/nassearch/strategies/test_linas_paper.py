import numpy as np
import pytest

from nassearch.strategies import make_strategy
from nassearch.strategies.conformance import metrics, small_space
from nassearch.strategies.linas_paper import PaperPredictor
from search_spaces import get_space
from search_spaces.rows import row_keys

OBJECTIVES = ["top1:max", "latency_ms:min"]


def test_predictor_chooses_by_cross_validated_error() -> None:
    rng = np.random.default_rng(0)
    X = rng.integers(0, 2, size=(120, 12)).astype(float)
    linear = PaperPredictor(X, 50 + X @ np.arange(12.0), seed=0)
    assert linear.model == "ridge"
    np.testing.assert_allclose(linear.predict(X), 50 + X @ np.arange(12.0), rtol=0.01)
    bent = PaperPredictor(X, 5 + 3 * (X[:, 0] != X[:, 1]) + 2 * (X[:, 2] != X[:, 3]), seed=0)
    assert bent.model == "svr"
    assert bent.mape["svr"] < bent.mape["ridge"]


@pytest.mark.parametrize("value", [0.0, 7.0, -3e-5])
def test_predictor_survives_constants(value: float) -> None:
    X = np.eye(12)
    np.testing.assert_allclose(PaperPredictor(X, np.full(12, value), seed=0).predict(X), value, atol=1e-6)


def test_a_round_is_not_changed_by_its_own_results() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    searches = []
    for batch in (50, 10):
        s = make_strategy("linas-paper", space, objectives=OBJECTIVES, evaluations=2000)
        start = space.sample(50, np.random.default_rng(3))
        s.tell(start, metrics(start)[:, :2])
        for _ in range(50 // batch):
            rows = s.ask(batch)
            s.tell(rows, metrics(rows)[:, :2])
        searches.append(set(row_keys(s.told)))
    assert searches[0] == searches[1]


def test_rounds_of_predictions_improve() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    s = make_strategy("linas-paper", space, objectives=["latency_ms:min"], evaluations=3000)
    for _ in range(3):
        rows = s.ask(50)
        s.tell(rows, metrics(rows)[:, 1:2])
    assert s.F[50:].max() < np.quantile(s.F[:50], 0.1)
    assert s.diagnostics()["rounds"] == 2
    s.ask(1)
    assert s.diagnostics()["rounds"] == 3
    assert set(s.diagnostics()["predictors"]) == {"latency_ms"}


def test_without_mutation_the_inner_search_is_weaker() -> None:
    space = get_space("ofa-mobilenetv3-w1.0")
    best = {}
    for mutation in (0, 1.0):
        s = make_strategy("linas-paper", space, objectives=["latency_ms:min"], evaluations=1500, mutation=mutation)
        for _ in range(3):
            rows = s.ask(50)
            s.tell(rows, metrics(rows)[:, 1:2])
        best[mutation] = s.F.min()
    assert best[1.0] < best[0]


def test_few_successes_mean_random_networks() -> None:
    s = make_strategy("linas-paper", small_space(), objectives=OBJECTIVES, population=20)
    for _ in range(3):
        rows = s.ask(20)
        s.tell(rows, np.full((len(rows), 2), np.nan))
    assert len(s.ask(5)) == 5
    assert s.diagnostics()["rounds"] == 0
