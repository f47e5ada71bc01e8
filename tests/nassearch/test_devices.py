"""Figures of different devices never mix: bounds, evaluations, the second look."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import nassearch
from nassearch.console import make_console
from nassearch.devices import Device, KnownDevices, devices_of
from nassearch.errors import EvaluationError
from nassearch.evaluation import Part, SupernetEvaluator
from nassearch.runs import Run
from nassearch.store import Outcome, Store
from search_spaces import Gene, SearchSpace


def _facts(fingerprint: str) -> dict[str, Any]:
    return {"setting": "cpu:eager", "device": {"cpu": "C", "gpu": None, "fingerprint": fingerprint}}


def test_devices_are_found_in_the_facts_of_an_evaluation() -> None:
    facts = {"latency_ms": _facts("a"), "size_mb": {"setting": "x"}, "cost": {"fingerprint": "b"}, "top1": "gpu"}
    assert devices_of(facts) == {"latency_ms": Device("a", "C"), "cost": Device("b", "?")}


def test_the_first_device_of_a_metric_decides() -> None:
    known = KnownDevices({"latency_ms@pi": Device("p", "Pi")})
    known.check({"latency_ms": _facts("a")})
    known.check({"latency_ms": _facts("a"), "latency_ms@pi": _facts("p")})
    with pytest.raises(EvaluationError, match=r"latency_ms@pi was measured on Pi \(p\) before and .* on C \(a\)"):
        known.check({"latency_ms@pi": _facts("a")})
    assert known.fingerprints == {"latency_ms@pi": "p", "latency_ms": "a"}


def test_a_store_remembers_what_measured_bounds_and_evaluations(tmp_path: Path) -> None:
    space = SearchSpace("toy", [Gene("w", [1, 2])])
    with Store(tmp_path / "evaluations.sqlite", space, create=True) as store:
        KnownDevices({"latency_ms": Device("a", "C")}).save(store)
        store.propose(space.largest[None], seed=0, origin="x")
        store.append(Outcome(1, "ok", {}, device={"latency_ms@pi": _facts("p")}))
        assert KnownDevices.of_store(store).fingerprints == {"latency_ms": "a", "latency_ms@pi": "p"}


@pytest.fixture
def settings(finished: Path, small_task: str, tmp_path: Path) -> dict[str, Any]:
    """A run that measures something on the device, in an instant."""
    return {
        "space": "mobilenetv3-tiny",
        "task": small_task,
        "objectives": ["top1:max", "peak_memory_mb:min"],
        "constraints": ["peak_memory_mb <= 1000% of largest"],
        "num_evals": 2,
        "batch_size": 2,
        "strategy": "random",
        "supernet": str(finished / "supernet"),
        "export": {"format": "none"},
        "out": str(tmp_path / "run"),
    }


def _move(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let costs be measured on another device from here on."""
    original = SupernetEvaluator.cost

    def elsewhere(self: SupernetEvaluator, arch: Mapping[str, Any]) -> Part:
        part = original(self, arch)
        return Part(part.values, part.std, part.measured, {m: _facts("other") for m in part.device})

    monkeypatch.setattr(SupernetEvaluator, "cost", elsewhere)


def test_bounds_and_evaluations_are_of_one_device(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    def stop(_self: SupernetEvaluator, _arch: Mapping[str, Any], _split: str = "search") -> Part:
        raise Stopped

    with monkeypatch.context() as patched:  # killed after the bounds, before the first evaluation
        patched.setattr(SupernetEvaluator, "quality", stop)
        with pytest.raises(Stopped):
            nassearch.run(settings, console=make_console(quiet=True))
    with monkeypatch.context() as patched:
        _move(patched)
        with pytest.raises(EvaluationError, match=r"peak_memory_mb .* on C \(other\)"):
            nassearch.resume(tmp_path / "run", console=make_console(quiet=True))
    assert len(nassearch.resume(tmp_path / "run", console=make_console(quiet=True)).records) == 2


def test_the_second_look_is_of_the_same_device(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SupernetEvaluator.quality

    def fails(self: SupernetEvaluator, arch: Mapping[str, Any], split: str = "search") -> Part:
        if split == "report":
            raise RuntimeError("not now")
        return original(self, arch, split)

    with monkeypatch.context() as patched:
        patched.setattr(SupernetEvaluator, "quality", fails)
        nassearch.run(settings, console=make_console(quiet=True))
    with monkeypatch.context() as patched:
        _move(patched)
        with pytest.raises(EvaluationError, match=r"now be on C \(other\)"):
            nassearch.resume(tmp_path / "run", console=make_console(quiet=True))
    assert not any(r.remeasured for r in Run(tmp_path / "run").front)
    run = nassearch.resume(tmp_path / "run", console=make_console(quiet=True))
    assert all(set(r.remeasured) == {"peak_memory_mb"} for r in run.front)
