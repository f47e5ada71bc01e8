"""Ray on a cluster whose target hardware is two nodes of their own: no cores to give away, one latency slot each."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import nassearch
from nassearch.console import make_console
from nassearch.errors import ConfigError
from nassearch.evaluation import Job, Part, SupernetEvaluator
from nassearch.executors import ExecutorSettings
from nassearch.executors.conformance import DEVICE_VARIABLE, ScriptedSource, run_all
from nassearch.executors.ray import RayExecutor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TWO = ExecutorSettings(num_workers=2, exclusive_latency=False, latency_cpus=2)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A cluster of a head with two cores, and one node of each of two kinds of target hardware."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    for device in ("one", "two"):
        cluster.add_node(num_cpus=0, resources={"latency_slot": 1, device: 1}, env_vars={DEVICE_VARIABLE: device})
    yield cluster.address
    cluster.shutdown()


@pytest.fixture
def connection(address: str) -> Iterator[str]:
    """A connection that executors use and leave open."""
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    yield address
    ray.shutdown()


def test_measurements_run_beside_evaluations_on_a_node_without_cores(connection: str) -> None:
    with RayExecutor(ScriptedSource(needs_cost=True), TWO) as executor:
        assert executor.slots == 3
        outcomes = run_all(executor, [{"x": x} for x in range(4)])
        assert {o.status for o in outcomes.values()} == {"ok"}
        assert [outcomes[i].values["cost"] for i in range(1, 5)] == [0.0, 2.0, 4.0, 6.0]


def test_each_cost_is_measured_by_the_nodes_of_its_resource(connection: str) -> None:
    settings = replace(TWO, resources={"cost@a": "one", "cost@b": "two", "memory@b": "two"})
    with RayExecutor(ScriptedSource(needs_cost=True), settings) as executor:
        assert executor.slots == 4
        outcomes = run_all(executor, [{"x": x} for x in range(4)])
        executor.submit([Job(9, {"x": 3}, None, ("memory@b",))])
        while executor.in_flight:
            outcomes |= {o.id: o for o in executor.wait()}
    for i in range(1, 5):
        devices = {metric: said["fingerprint"] for metric, said in outcomes[i].device.items()}
        assert devices == {"cost@a": "one", "cost@b": "two", "memory@b": "two"}
        assert outcomes[i].values["cost@b"] == 2.0 * (i - 1)
        assert "quality" in outcomes[i].values
    assert set(outcomes[9].device) == {"memory@b"}
    with pytest.raises(ConfigError, match=r"1 'three'.*measure cost@b.*resource=NAME"):
        RayExecutor(ScriptedSource(needs_cost=True), replace(settings, resources={"cost@a": "one", "cost@b": "three"}))


def test_a_new_executor_measures_on_the_device_of_the_run(connection: str) -> None:
    import ray

    costs_only, source = replace(TWO, num_workers=0), ScriptedSource(needs_cost=True)
    with RayExecutor(source, costs_only) as first:
        (before,) = run_all(first, [{"x": 1}], split=None).values()
        device = before.device["cost"]["fingerprint"]
        # While the right slot is taken, an executor comes up on the wrong one.
        resumed = RayExecutor(source, replace(costs_only, devices={"cost": device}))
        deadline = time.monotonic() + 60.0
        while ray.available_resources().get("latency_slot"):
            assert time.monotonic() < deadline, "the second actor never got a place"
            time.sleep(0.1)
    with resumed:
        outcomes = run_all(resumed, [{"x": 1}, {"x": 2}], split=None)
    assert [o.device["cost"]["fingerprint"] for o in outcomes.values()] == [device, device]
    assert [o.status for o in outcomes.values()] == ["ok", "ok"]


def test_bounds_search_and_resume_measure_on_the_cluster(
    connection: str, finished: Path, small_task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_here(_self: SupernetEvaluator, _arch: Mapping[str, Any]) -> Part:
        raise AssertionError("measured in the driver's process")

    monkeypatch.setattr(SupernetEvaluator, "cost", not_here)
    settings: dict[str, Any] = {
        "space": "mobilenetv3-tiny",
        "task": small_task,
        "objectives": ["top1:max", "latency_ms:min"],
        "constraints": ["latency_ms <= 1000% of largest"],
        "latency": ["cpu:eager,budget_ms=20,threads=2"],
        "num_evals": 3,
        "batch_size": 3,
        "strategy": "random",
        "supernet": str(finished / "supernet"),
        "export": {"format": "none"},
        "executor": {"name": "ray", "address": connection, "asynchronous": True},
        "out": str(tmp_path / "run"),
    }
    console = make_console(quiet=True)
    lacking = {"executor": settings["executor"] | {"latency_resource": "jetson"}, "constraints": []}
    with pytest.raises(ConfigError, match=r"'jetson'.*ray start"):
        nassearch.run(settings | lacking, console=console)
    assert not (tmp_path / "run").exists()

    run = nassearch.run(settings, console=console)
    assert [r.status for r in run.records] == ["ok"] * 3
    again = nassearch.resume(run.folder, num_evals=4, console=console)
    assert [r.status for r in again.records] == ["ok"] * 4
    assert all(set(r.remeasured) == {"latency_ms"} for r in again.front)
    with again.open_store() as store:
        (device,) = {o.device["latency_ms"]["device"]["fingerprint"] for o in store.outcomes().values()}
        assert store.meta("devices")["latency_ms"]["fingerprint"] == device
