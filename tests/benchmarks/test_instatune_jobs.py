"""How the InstaTune benchmarks choose networks and count time."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("instatune_jobs")


def test_the_best_within_a_limit(script):
    scored = [{"accuracy": a, "loss": x} for a, x in [(90.0, 0.1), (88.0, 0.4), (88.0, 0.3), (80.0, 0.9)]]
    macs = np.array([100.0, 60.0, 70.0, 20.0])
    assert script.best_within(scored, macs, 75.0) == 2  # of equal accuracy that of the lesser loss
    assert script.best_within(scored, macs, 60.0) == 1  # the limit itself is allowed
    assert script.best_within(scored, macs, 10.0) is None


def test_binomial_error(script):
    assert script.binomial_error(50.0, 2500) == pytest.approx(1.0)
    assert script.binomial_error(100.0, 2500) == 0.0


def test_seconds_before_an_interruption_count(script, tmp_path):
    path = tmp_path / "job" / "spent.json"
    state = SimpleNamespace(step=script.CHECKPOINT_EVERY, total=200, loss=0.5)
    script.Spent(path)(state)
    path.write_text(json.dumps([100.0, 300.0]))
    cpu, wall = script.Spent(path).seconds()
    assert 100 <= cpu < 101
    assert 300 <= wall < 301


def test_scores_are_kept_and_the_front_is_read_by_share(script, monkeypatch, tmp_path):
    calls = []

    class Net:
        def activated(self, arch):
            return pytest.MonkeyPatch.context()

    task = SimpleNamespace(
        metrics={"top1": "max", "loss": "min"},
        evaluate=lambda forward, split, size: calls.append(split) or {"top1": 81.25, "loss": 0.5},
    )
    arch = {"depth": 3}
    for _ in range(2):  # the second reads the table
        score = script.remembering(task, tmp_path / "scores.csv")
        assert score(Net(), arch, "search") == {"accuracy": 81.25, "loss": 0.5}
    assert calls == ["search"]
    figure = importlib.import_module("instatune_figure")
    rows = [
        {"way": "g1", "seed": "0", "point": p, "share": s, "report": r}
        for p, s, r in [("front", "0.8", "88"), ("front", "0.3", "80"), ("-25 %", "0.75", "87")]
    ]
    assert figure.fronts(rows) == {("g1", "0"): [(30.0, 80.0), (80.0, 88.0)]}


def test_classes_are_split(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    vit = importlib.import_module("instatune_vit")
    for name in ("train.npz", "test.npz"):
        arrays = {"offset": np.array([0, 2, 3, 6, 7]), "label": np.array([1, 0, 3, 1], np.uint8)}
        np.savez(tmp_path / name, blob=np.arange(7, dtype=np.uint8), **arrays)
    with np.load(vit.split_by_class(tmp_path, tmp_path / "odd", (1, 3)) / "train.npz") as data:
        assert data["label"].tolist() == [1, 3, 1]
        assert data["offset"].tolist() == [0, 2, 5, 6]
        assert data["blob"].tolist() == [0, 1, 3, 4, 5, 6]
