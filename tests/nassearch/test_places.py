"""Where a run is evaluated, and what is settled before any work."""

from __future__ import annotations

from typing import Any

import pytest

from nassearch.config import make_config
from nassearch.errors import ConfigError
from nassearch.executors import ExecutorSettings, measures_elsewhere
from nassearch.executors.ray_needs import check_needs, latency_cores, room_beside
from nassearch.places import executor_settings
from nassearch.problem import make_problem
from predictors.backends import make_backend


class Nodes:
    """A cluster as far as its resources go."""

    def __init__(self, **nodes: dict[str, float]) -> None:
        self.nodes = nodes

    def nodes_with(self, name: str, amount: float) -> list[str]:
        return [node for node, has in self.nodes.items() if has.get(name, 0) >= amount]

    def resource(self, node: str, name: str) -> float:
        return self.nodes[node].get(name, 0.0)


SLOT = {"latency_slot": 1.0}
BOARD = Nodes(head={"CPU": 4.0}, board=SLOT | {"CPU": 0.0})
ONE = Nodes(head=SLOT | {"CPU": 4.0})


def _settings(workers: int, threads: int = 1, latency_cpus: int = 1, **more: Any) -> ExecutorSettings:
    return ExecutorSettings(num_workers=workers, threads=threads, latency_cpus=latency_cpus, **more)


@pytest.mark.parametrize(
    ("cluster", "settings", "cores", "beside"),
    [
        (BOARD, _settings(4), 0, True),  # the board gives no cores away and needs none
        (BOARD, _settings(5), 0, False),
        (ONE, _settings(3), 1, True),
        (ONE, _settings(4), 1, False),  # the workers would hold the core that the measurement waits for
        (ONE, _settings(2, threads=2), 1, False),
        (ONE, _settings(1, threads=2, latency_cpus=2), 2, True),
        (ONE, _settings(1, latency_cpus=8), 4, False),  # capped by what its node has
        (Nodes(head={"CPU": 4.0}, small=SLOT | {"CPU": 1.0}, large=SLOT | {"CPU": 8.0}), _settings(9, 1, 4), 4, True),
    ],
)
def test_cores_of_a_measurement(cluster: Any, settings: ExecutorSettings, cores: int, beside: bool) -> None:
    assert latency_cores(cluster, settings, cluster.nodes_with("latency_slot", 1)) == cores
    assert room_beside(cluster, settings) == beside


def test_all_that_a_cluster_lacks_is_said_at_once() -> None:
    check_needs(BOARD, _settings(1), costs=True)  # type: ignore[arg-type]
    with pytest.raises(ConfigError) as caught:
        check_needs(BOARD, _settings(1, threads=8, latency_resource="jetson"), costs=True)  # type: ignore[arg-type]
    assert len(caught.value.faults) == 2
    assert "fewer `threads`" in caught.value.faults[0]
    assert "'jetson'" in caught.value.faults[1]
    check_needs(Nodes(), _settings(0), costs=False)  # type: ignore[arg-type]


def test_settings_with_a_resource_of_their_own_are_measured_there(small_task: str) -> None:
    latency = ["pi=cpu:eager,resource=pi", "xeon=cpu:eager,threads=2"]
    problem = make_problem(
        make_config(
            {
                "space": "mobilenetv3-tiny", "task": small_task, "latency": latency,
                "objectives": ["latency_ms@pi:min", "latency_ms@xeon:min", "peak_memory_mb@pi:min"],
            }
        )
    )  # fmt: skip
    settings = executor_settings(problem)
    wanted = {"pi": ("latency_ms@pi", "peak_memory_mb@pi"), "latency_slot": ("latency_ms@xeon",)}
    assert settings.measured_by() == wanted
    cluster = Nodes(head={"CPU": 4.0, "latency_slot": 1.0}, board={"CPU": 0.0})
    with pytest.raises(ConfigError, match=r"1 'pi'.*measure latency_ms@pi, peak_memory_mb@pi.*\"pi\": 1"):
        check_needs(cluster, settings, costs=True)  # type: ignore[arg-type]
    assert _settings(1).measured_by() == {"latency_slot": None}


def test_measurements_are_elsewhere_on_clusters_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "RAY_JOB_CONFIG_JSON_ENV_VAR"):
        monkeypatch.delenv(name, raising=False)
    assert not measures_elsewhere("ray", None)  # a private cluster is this machine
    assert not measures_elsewhere("local", "auto")
    assert measures_elsewhere("ray", "auto")
    monkeypatch.setenv("RAY_ADDRESS", "http://h:8265")
    assert not measures_elsewhere("ray", None)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert measures_elsewhere("ray", None)
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert measures_elsewhere("ray", None)


def test_a_backend_of_the_target_need_not_be_here(small_task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(make_backend("onnxruntime")), "available", lambda _self, _device="cpu": "not installed")
    settings = {
        "space": "mobilenetv3-tiny",
        "task": small_task,
        "objectives": ["top1:max", "latency_ms:min", "latency_ms@wide:min"],
        "latency": ["cpu:onnxruntime,threads=2", "wide=cpu:eager,threads=3"],
    }
    for executor in ({}, {"name": "ray"}, {"name": "local", "address": "auto"}):
        with pytest.raises(ConfigError, match="cannot be measured"):
            make_problem(make_config(settings | {"executor": executor}))
    problem = make_problem(make_config(settings | {"executor": {"name": "ray", "address": "auto"}}))
    assert executor_settings(problem).latency_cpus == 3
