"""Predictions by a table of blocks, as it is, by a line, and with a learnt residual."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from predictors import LatencyTable, list_predictors, load_predictor, make_predictor
from predictors.errors import LatencyTableError
from predictors.model_errors import InvalidData, InvalidOption
from predictors.models.table import TablePredictor

_spec = importlib.util.spec_from_file_location("latency_tables", Path(__file__).parents[1] / "test_latency_table.py")
assert _spec is not None
assert _spec.loader is not None
_tables = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_tables)

CORRECTIONS = ["none", "line", "ridge"]


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    made: LatencyTable = _tables.small_table()
    return made


def networks(table: LatencyTable, n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features and latencies: a line through the sums, a surcharge for one kernel, noise."""
    rng = np.random.default_rng(seed)
    rows = table.space.sample(n, rng)
    extra = 0.3 * np.array([arch["k.0"] == 7 for arch in table.space.decode(rows)])
    y = 0.4 + 1.2 * table.predict(rows)[0] + extra
    return table.space.features(rows), y * (1 + 0.01 * rng.normal(size=n))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_saved_and_loaded_it_predicts_the_same_to_the_bit(table: LatencyTable, correction: str, tmp_path: Path) -> None:
    X, y = networks(table, 30)
    predictor = make_predictor("table", table=table, correction=correction, seed=3).fit(X, y)
    quality = predictor.quality
    predictor.save(tmp_path / "p")
    loaded = load_predictor(tmp_path / "p")
    assert isinstance(loaded, TablePredictor)
    assert loaded.way == predictor.way  # type: ignore[attr-defined]
    assert loaded.quality == quality
    for a, b in zip(predictor.predict(X), loaded.predict(X), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(predictor.interval(X), loaded.interval(X), strict=True):
        np.testing.assert_array_equal(a, b)


def test_each_correction_is_better_than_the_one_before(table: LatencyTable) -> None:
    unseen, truth = networks(table, 70, seed=1)
    X, y = networks(table, 30)
    errors, ways = [], []
    for correction in CORRECTIONS:
        predictor = TablePredictor(table=table, correction=correction).fit(X, y)
        mean, std = predictor.predict(unseen)
        assert mean.shape == std.shape == (len(unseen),)
        assert (std > 0).all()
        errors.append(float(np.mean(np.abs(mean / truth - 1))))
        ways.append(predictor.way)
    assert errors[0] > 2 * errors[1] > 2 * errors[2]
    assert ways == ["sum", "line", "residual"]


def test_the_sums_alone_are_the_table(table: LatencyTable) -> None:
    rows = table.space.sample(20, np.random.default_rng(0))
    X, y = networks(table, 20)
    predictor = TablePredictor(table=table, correction="none").fit(X, y)
    np.testing.assert_array_equal(predictor.predict(table.space.features(rows))[0], table.predict(rows)[0])


def test_quality_and_learning_curve(table: LatencyTable) -> None:
    X, y = networks(table, 30)
    predictor = TablePredictor(table=table, correction="line").fit(X, y)
    assert 0.5 < predictor.quality.kendall_tau <= 1
    assert 0.8 <= predictor.quality.coverage <= 1
    assert [p.n for p in predictor.quality.learning_curve][-1] == 27


def test_a_table_that_misleads_is_left_aside(table: LatencyTable) -> None:
    X, _ = networks(table, 30)
    backwards = TablePredictor(table=table, correction="ridge").fit(X, X[:, :6] @ np.arange(1, 7) ** 2)
    assert backwards.way in ("model", "residual")
    assert backwards.quality.kendall_tau > 0.8


def test_it_is_not_offered_without_its_table() -> None:
    assert "table" not in list_predictors()
    with pytest.raises(InvalidOption, match="table= must be given"):
        make_predictor("table")


def test_bad_options_and_data(table: LatencyTable) -> None:
    with pytest.raises(InvalidOption, match="correction must be one of none, line, "):
        TablePredictor(table=table, correction="magic")
    with pytest.raises(LatencyTableError, match="0 of 7 blocks"):
        TablePredictor(table=_tables.small_table(measured=False))
    with pytest.raises(InvalidData, match="not features of networks"):
        TablePredictor(table=table).fit(np.full((5, len(table.space.feature_names)), 0.5), np.arange(5.0))
