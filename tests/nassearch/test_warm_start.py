"""Runs that start from what earlier runs found: what is reused, what is evaluated, and that they need them no more."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import nassearch
from nassearch import executors
from nassearch.config import make_config
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.evaluation import Part, SupernetEvaluator
from nassearch.problem import make_problem
from nassearch.runs import Run
from nassearch.store import Store
from nassearch.warm_start import WarmStart, gather

BOARD = {
    "objectives": ["top1:max", "latency_ms@board:min"],
    "latency": ["board=cpu:eager,batch=2,budget_ms=20"],
    "num_evals": 12,
    "batch_size": 4,
    "strategy": "nsga2",
    "export": {"format": "none"},
}

WarmRun = Callable[..., Run]


class _Killed(BaseException):
    """Ends the work as a kill would: nothing may catch it."""


@pytest.fixture
def warm(finished: Path, tmp_path: Path) -> WarmRun:
    """Run a search for another setting, warm-started from the finished run with its accuracy reused."""

    def run(console: Console | None = None, **settings: Any) -> Run:
        usual = BOARD | {"warm_start": [str(finished)], "reuse": ["accuracy"], "out": str(tmp_path / "warm")}
        return nassearch.run(usual | settings, console=console or make_console(quiet=True))

    return run


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """What is really evaluated on the search split, and what is measured."""
    seen: dict[str, list[Any]] = {"quality": [], "cost": []}
    quality, cost = SupernetEvaluator.quality, SupernetEvaluator.cost

    def seen_quality(self: SupernetEvaluator, arch: Mapping[str, Any], split: str = "search") -> Part:
        if split == "search":
            seen["quality"].append(dict(arch))
        return quality(self, arch, split)

    def seen_cost(self: SupernetEvaluator, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
        seen["cost"].append((dict(arch), metrics))
        return cost(self, arch, metrics)

    monkeypatch.setattr(SupernetEvaluator, "quality", seen_quality)
    monkeypatch.setattr(SupernetEvaluator, "cost", seen_cost)
    return seen


def _text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().split())


def test_networks_of_the_earlier_run_are_only_measured(
    warm: WarmRun, finished: Path, evaluated: dict[str, list[Any]]
) -> None:
    console = Console(file=io.StringIO(), width=200)
    run, earlier = warm(console), {r.row: r for r in Run(finished).records}
    old = [r for r in run.records if r.row in earlier]
    assert [r.row in earlier for r in run.records[:3]] == [True] * 3  # a quarter of the budget comes first
    assert 3 <= len(old) < 12
    for record in old:
        assert record.values["top1"] == earlier[record.row].values["top1"]
        assert record.reused == {m: str(finished) for m in run.task().metrics}
        assert record.measured["latency_ms@board"] == "measured"
        assert record.measured["params_m"] == "analytic"
        assert record.arch not in evaluated["quality"]
    for record in run.records:
        if record.row not in earlier:
            assert record.reused == {}
            assert record.measured["top1"] == "search-split"
            assert record.arch in evaluated["quality"]
        assert "latency_ms" not in record.values  # the earlier device's figures are a prior only
    assert f"top1 of {len(old)} of the 12 networks was reused from {finished}." in _text(console)
    assert "as a prior: latency_ms@board" in _text(console)
    assert "was reused from" in (run.folder / "report.html").read_text()
    front = json.loads((run.folder / "front.json").read_text())["front"]
    assert all(bool(m["reused"]) == (run.select(str(m["id"])).row in earlier) for m in front)


def test_the_weights_and_settings_are_those_of_the_earlier_run(warm: WarmRun, finished: Path) -> None:
    run, earlier = warm(num_evals=4), Run(finished)
    for name in ("space", "task", "seed", "evaluation"):
        assert getattr(run.config, name) == getattr(earlier.config, name)
    assert run.manifest["training_method"] == "none"
    weights = {p.name for p in (finished / "supernet").glob("*.safetensors")}
    assert {p.name for p in (run.folder / "supernet").glob("*.safetensors")} == weights


def test_costs_of_the_same_setting_and_device_can_be_reused(
    warm: WarmRun, finished: Path, evaluated: dict[str, list[Any]]
) -> None:
    run = warm(
        objectives=["top1:max", "latency_ms:min", "latency_ms@board:min"],
        latency=["cpu:eager,budget_ms=20", *BOARD["latency"]],
        reuse=["accuracy", "latency_ms"],
        num_evals=16,
    )
    earlier = {r.row: r for r in Run(finished).records}
    first = run.records[0]
    assert first.values["latency_ms"] == earlier[first.row].values["latency_ms"]
    assert first.reused["latency_ms"] == str(finished)
    assert first.device["latency_ms"]["reused_from"] == str(finished)
    measured = {json.dumps(arch): metrics for arch, metrics in reversed(evaluated["cost"])}  # the first time
    assert measured[json.dumps(first.arch)] == ("latency_ms@board",)


def test_everything_reused_costs_nothing(warm: WarmRun, finished: Path, evaluated: dict[str, list[Any]]) -> None:
    evaluated["cost"].clear()
    run = warm(
        objectives=["top1:max", "latency_ms:min"], latency=["cpu:eager,budget_ms=20"],
        reuse=["accuracy", "latency_ms"], num_evals=4, strategy="random",
    )  # fmt: skip
    assert run.records[0].reused.keys() >= {"top1", "latency_ms"}
    assert run.records[0].arch not in evaluated["quality"]


def test_without_reuse_everything_is_evaluated_anew(warm: WarmRun, finished: Path, small_task: str) -> None:
    run = warm(reuse=[], supernet=str(finished / "supernet"), num_evals=4, strategy="linas")
    assert all(r.reused == {} for r in run.records)
    with run.open_store() as store:
        taken = WarmStart.of_store(store)
    assert taken is not None
    assert set(taken.known) == {"top1"}  # the same weights and data: it would be found again
    assert set(taken.prior) == {"latency_ms@board"}
    assert taken.reused == {}


def test_other_data_are_a_prior(finished: Path, small_task: str, tmp_path: Path) -> None:
    settings = BOARD | {"warm_start": [str(finished)], "task": small_task + ",noise=0.3", "out": str(tmp_path / "x")}
    taken = gather(make_problem(make_config(settings)))
    assert taken is not None
    assert (taken.known, set(taken.prior)) == ({}, {"top1", "latency_ms@board"})
    assert len(taken.rows) == 12


def test_several_runs_are_joined(warm: WarmRun, finished: Path, tmp_path: Path) -> None:
    second = warm()
    settings = BOARD | {"warm_start": [str(finished), str(second.folder)], "out": str(tmp_path / "third")}
    taken = gather(make_problem(make_config(settings | {"reuse": ["accuracy", "latency_ms@board"]})))
    assert taken is not None
    rows = {r.row for r in Run(finished).records} | {r.row for r in second.records}
    assert set(taken.rows) == rows == set(taken.reused)
    for record in second.records:
        assert taken.reused[record.row].values["latency_ms@board"] == record.values["latency_ms@board"]
    both = next(r for r in second.records if r.reused)
    assert taken.reused[both.row].values["top1"] == both.values["top1"]
    # The scale of a prior is that of one run: the second run's own setting is known, the first one's a prior.
    assert np.isfinite(taken.known["latency_ms@board"]).sum() == 12
    assert np.isfinite(taken.prior["latency_ms@board"]).sum() == 12


@pytest.mark.parametrize("ids", ["id > 0", "id > 6"])
def test_costs_that_different_devices_measured_are_not_reused_together(
    finished: Path, run_folder: Path, monkeypatch: pytest.MonkeyPatch, ids: str
) -> None:
    """As for a cluster, whose device is not known yet; of two runs, and of one run that mixes them."""
    with contextlib.closing(sqlite3.connect(run_folder / "evaluations.sqlite")) as db, db:
        for id_, said in db.execute(f"SELECT id, device FROM evaluations WHERE {ids}").fetchall():
            facts = json.loads(said)
            facts["latency_ms"]["device"]["fingerprint"] = "f0"
            db.execute("UPDATE evaluations SET device = ? WHERE id = ?", (json.dumps(facts), id_))
    monkeypatch.setattr(executors, "measures_elsewhere", lambda *_: True)
    settings = BOARD | {"objectives": ["top1:max", "latency_ms:min"], "latency": ["cpu:eager,budget_ms=20"]}
    settings |= {"reuse": ["latency_ms"], "out": str(run_folder.parent / "x")}
    runs = [str(finished), str(run_folder)] if ids == "id > 0" else [str(run_folder)]
    with pytest.raises(ConfigError, match=r"--reuse latency_ms: .*\(f0\).*runs of one device"):
        gather(make_problem(make_config(settings | {"warm_start": runs})))
    taken = gather(make_problem(make_config(settings | {"warm_start": [str(finished)]})))
    assert taken is not None
    assert len(taken.devices) == 1


def test_a_warm_start_survives_its_store(warm: WarmRun, finished: Path, tmp_path: Path) -> None:
    taken = gather(make_problem(make_config(BOARD | {"warm_start": [str(finished)], "reuse": ["accuracy"]})))
    assert taken is not None
    with Store(tmp_path / "evaluations.sqlite", Run(finished).space, create=True) as store:
        assert WarmStart.of_store(store) is None
        taken.save(store)
        again = WarmStart.of_store(store)
    assert again is not None
    assert again.rows == taken.rows
    assert again.reused == taken.reused
    for metric, column in taken.prior.items():
        np.testing.assert_array_equal(again.prior[metric], column)


@pytest.mark.parametrize("strategy", ["nsga2", "linas"])
def test_a_run_killed_and_resumed_without_the_earlier_run_equals_the_uninterrupted_one(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    earlier = Path(shutil.copytree(finished, tmp_path / "earlier"))
    cost = SupernetEvaluator.cost
    left = [10**6]

    def exact_cost(self: SupernetEvaluator, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
        """A cost that repeats itself, as a measured one does not; the process may end in it."""
        left[0] -= 1
        if left[0] < 0:
            raise _Killed
        part = cost(self, arch, metrics)
        exact = self.quality(arch).values["macs_m"] ** 0.8
        return Part({"latency_ms@board": exact}, {}, part.measured, part.device)

    monkeypatch.setattr(SupernetEvaluator, "cost", exact_cost)
    settings = BOARD | {"warm_start": [str(earlier)], "reuse": ["accuracy"], "num_evals": 24, "strategy": strategy}
    console = make_console(quiet=True)
    whole = nassearch.run(settings | {"out": str(tmp_path / "whole")}, console=console)

    left[0] = 2
    with pytest.raises(_Killed):
        nassearch.run(settings | {"out": str(tmp_path / "parts")}, console=console)
    shutil.rmtree(earlier)
    for steps in (4, 9):
        left[0] = steps
        with pytest.raises(_Killed):
            nassearch.resume(tmp_path / "parts", console=console)
    left[0] = 10**6
    parts = nassearch.resume(tmp_path / "parts", console=console)
    assert [(r.row, r.values, r.predicted, r.measured) for r in parts.records] == [
        (r.row, r.values, r.predicted, r.measured) for r in whole.records
    ]
    assert len(parts.records) == 24
    assert (parts.folder / "front.csv").read_text() == (whole.folder / "front.csv").read_text()


def test_one_search_for_several_devices(warm: WarmRun) -> None:
    from nassearch.exports import export

    run = warm(
        reuse=["top1"],
        objectives=["top1:max", "latency_ms@board:min", "latency_ms@phone:min", "peak_memory_mb@phone:min"],
        constraints=["latency_ms@server <= 1000", "params_m <= 100% of largest"],
        latency=[f"{name}=cpu:eager,batch={b},budget_ms=10" for name, b in (("board", 2), ("phone", 1), ("server", 4))],
        num_evals=8,
    )
    costs = {"latency_ms@board", "latency_ms@phone", "peak_memory_mb@phone", "latency_ms@server"}
    for record in run.records:
        assert record.status == "ok"
        assert costs <= record.values.keys()
        assert {m for m, how in record.measured.items() if how == "measured"} == costs
    assert all(set(r.remeasured) == costs for r in run.front)
    assert run.bounds["latency_ms@server"]["largest"] > 0
    assert set(run.manifest["latency"]) == costs
    assert run.select("fastest").id == run.select("best-latency_ms@board").id  # the device named first
    report = (run.folder / "report.html").read_text()
    assert all(m in report for m in costs)
    card = json.loads((export(run, "knee", "state-dict").folder / "card.json").read_text())
    assert set(card["devices"]) == costs
    assert ("top1" in card["reused"]) == bool(run.select("knee").reused)
    header = (run.folder / "front.csv").read_text().splitlines()[0]
    assert all(f"{m}_remeasured" in header for m in costs)
