"""The Ray executor on a real cluster, shared by most tests of this file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from nassearch.errors import ConfigError, EvaluationError
from nassearch.evaluation import Job
from nassearch.executors import Executor, ExecutorSettings, make_executor
from nassearch.executors.conformance import SETTINGS, ExecutorConformance, ScriptedSource, run_all
from nassearch.executors.local import LocalExecutor
from nassearch.executors.ray import RayExecutor
from nassearch.executors.ray_cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ONE = ExecutorSettings(num_workers=1, retries=2)
TWO = replace(ONE, num_workers=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(TWO, 0)
    assert cluster.private
    yield cluster
    cluster.close()


def values(executor: Executor, archs: list[dict[str, object]]) -> dict[int, tuple[str, float | None, str | None]]:
    outcomes = run_all(executor, archs)
    return {i: (o.status, o.values.get("quality"), o.error) for i, o in sorted(outcomes.items())}


class TestRayExecutor(ExecutorConformance):
    @pytest.fixture(scope="class")
    def executor(self, cluster: Cluster) -> Iterator[Executor]:
        with RayExecutor(ScriptedSource(needs_cost=True), SETTINGS) as executor:
            yield executor


def test_same_outcomes_locally_and_with_any_number_of_workers(cluster: Cluster) -> None:
    archs: list[dict[str, object]] = [{"x": x / 7, "do": "raise" if x == 3 else ""} for x in range(8)]
    source = ScriptedSource()
    with LocalExecutor(source.build(source.arrays()), ONE) as local:
        expected = values(local, archs)
    for settings in (ONE, TWO):
        with make_executor("ray", source.build(source.arrays()), source, settings) as executor:
            assert executor.slots == settings.num_workers
            assert values(executor, archs) == expected


def test_lost_workers_cost_only_their_own_job(cluster: Cluster, tmp_path: Path) -> None:
    with RayExecutor(ScriptedSource(needs_cost=True), TWO) as executor:
        archs: list[dict[str, object]] = [{"x": x} for x in range(6)]
        archs[1] |= {"do": "die-once", "marker": str(tmp_path / "quality")}
        archs[4] |= {"do": "cost-die-once", "marker": str(tmp_path / "cost")}
        outcomes = run_all(executor, archs)
        assert {o.status for o in outcomes.values()} == {"ok"}
        assert {i: o.attempts for i, o in sorted(outcomes.items())} == {1: 1, 2: 2, 3: 1, 4: 1, 5: 2, 6: 1}
        assert [outcomes[i].values["quality"] for i in range(1, 7)] == [30.0 * x for x in range(6)]

        outcomes = run_all(executor, [{"x": 1, "do": "die"}, {"x": 2}])
        assert outcomes[2].status == "ok"
        assert outcomes[1].status == "failed"
        assert outcomes[1].attempts == 3
        assert "lost its worker" in str(outcomes[1].error)
        assert "\n" not in str(outcomes[1].error)


def test_worker_killed_from_outside(cluster: Cluster) -> None:
    with RayExecutor(ScriptedSource(), ONE) as executor:
        pid = int(run_all(executor, [{"x": 1}])[1].values["pid"])
        executor.submit([Job(2, {"x": 2, "do": "sleep", "s": 1.0})])
        time.sleep(0.3)
        os.kill(pid, signal.SIGKILL)
        (outcome,) = executor.wait()
        assert (outcome.status, outcome.attempts) == ("ok", 2)
        assert outcome.values["pid"] != pid


def test_costs_are_measured_while_nothing_else_runs(cluster: Cluster) -> None:
    with RayExecutor(ScriptedSource(needs_cost=True), TWO) as executor:
        executor.submit([Job(i, {"x": i, "do": "sleep", "s": 0.05 * i}) for i in range(1, 5)])
        outcomes = []
        late = 5
        while executor.in_flight:
            for outcome in executor.wait():
                outcomes.append(outcome)
                if late <= 7:  # more work while costs are still in the queue
                    executor.submit([Job(late, {"x": late, "do": "sleep", "s": 0.1})])
                    late += 1
    assert sorted(o.id for o in outcomes) == list(range(1, 8))
    quality = [(o.values["quality_begin"], o.values["quality_end"]) for o in outcomes]
    costs = [(o.values["cost_begin"], o.values["cost_end"]) for o in outcomes]
    assert len({o.values["cost_pid"] for o in outcomes}) == 1
    for begin, end in costs:
        assert all(e <= begin or b >= end for b, e in quality)
    ordered = sorted(costs)
    assert all(a[1] <= b[0] for a, b in pairwise(ordered))


def test_measurements_of_two_devices_never_mix(cluster: Cluster, tmp_path: Path) -> None:
    device = tmp_path / "device"
    device.write_text("one")
    with RayExecutor(ScriptedSource(needs_cost=True, device_file=str(device)), ONE) as executor:
        assert run_all(executor, [{"x": 1}])[1].status == "ok"
        device.write_text("two")
        with pytest.raises(EvaluationError, match="never mix"):
            run_all(executor, [{"x": 2}])


def test_worker_that_cannot_be_built(cluster: Cluster) -> None:
    with pytest.raises(EvaluationError, match="ImportError: no module named 'a_package_of_the_driver'"):
        RayExecutor(ScriptedSource(broken=True), ONE)


def test_missing_resources_are_config_errors(cluster: Cluster) -> None:
    with pytest.raises(ConfigError, match=r"'jetson'.*ray start"):
        RayExecutor(ScriptedSource(needs_cost=True), replace(ONE, latency_resource="jetson"))
    with pytest.raises(ConfigError, match="fewer `threads`"):
        RayExecutor(ScriptedSource(), replace(ONE, threads=64))
    RayExecutor(ScriptedSource(needs_cost=False), replace(ONE, latency_resource="jetson")).close()


def test_overhead(cluster: Cluster) -> None:
    with RayExecutor(ScriptedSource(), ONE) as executor:
        run_all(executor, [{"x": 1}])
        started = time.monotonic()
        for i in range(50):
            run_all(executor, [{"x": i}], first_id=i)
        assert (time.monotonic() - started) / 50 < 0.060


PRIVATE = """
import os, signal, sys, time
import ray, psutil
from nassearch.errors import EvaluationError
from nassearch.evaluation import Job
from nassearch.executors import ExecutorSettings
from nassearch.executors.conformance import ScriptedSource, run_all
from nassearch.executors.ray import RayExecutor

handler = signal.getsignal(signal.SIGTERM)
environment = {k: v for k, v in os.environ.items() if k != "RAY_AUTH_MODE"}
executor = RayExecutor(ScriptedSource(), ExecutorSettings(threads=1))
assert run_all(executor, [{"x": 1}])[1].values["quality"] == 30.0
processes = psutil.Process().children(recursive=True)
folder = str(executor._cluster._folder.path)
assert os.path.isdir(folder)
"""


def in_private(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a process of its own, as this one is connected to the shared cluster."""
    path = folder / "private.py"
    path.write_text(PRIVATE + script)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=400, env=environment, check=False
    )


def test_private_cluster_is_on_loopback_and_leaves_nothing(tmp_path: Path) -> None:
    script = """
assert signal.getsignal(signal.SIGTERM) is handler
after = {k: os.environ.get(k) for k in environment}
assert after == environment, set(after.items()) ^ set(environment.items())
listening = 0
for process in [psutil.Process(), *processes]:
    for connection in process.net_connections(kind="tcp"):
        if connection.status == psutil.CONN_LISTEN:
            listening += 1
            assert connection.laddr.ip in ("127.0.0.1", "::1", "::ffff:127.0.0.1"), (process, connection)
assert listening >= 3
assert run_all(executor, [{"x": 1, "do": "die-once", "marker": folder + "/marker"}])[1].attempts == 2
time.sleep(2.0)
executor.submit([Job(2, {"x": 2, "do": "hang"})])
executor.close()
executor.close()
assert executor.in_flight == 0
assert not os.path.exists(folder)
psutil.wait_procs(processes, timeout=10)
print("left", [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE])
"""
    result = in_private(script, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.strip() == "left []", result.stdout + result.stderr
    assert "A worker died" in result.stderr  # Ray says so, but not among our output


def test_dead_cluster_is_an_error_and_not_an_endless_wait(tmp_path: Path) -> None:
    script = """
executor.submit([Job(2, {"x": 2, "do": "hang"})])
for process in processes:
    try:
        process.kill()
    except psutil.NoSuchProcess:
        continue
try:
    print("returned", executor.wait())
except EvaluationError as error:
    print("raised", error, flush=True)
executor.close()
print("closed", os.path.exists(folder), flush=True)
"""
    result = in_private(script, tmp_path)
    assert "raised the Ray cluster does not answer any more" in result.stdout, result.stdout + result.stderr
    assert "closed False" in result.stdout, result.stdout + result.stderr


def test_a_real_supernet_gives_the_same_bits_everywhere(cluster: Cluster) -> None:
    import numpy as np

    from nassearch.config import make_config
    from nassearch.evaluation import SupernetEvaluator, SupernetEvaluatorSource
    from nassearch.problem import make_problem

    problem = make_problem(
        make_config(
            {"space": "mobilenetv3-tiny", "task": "digits", "objectives": ["top1:max", "latency_ms:min", "macs_m:min"]}
        )
    )
    net = problem.build_supernet()
    evaluator = SupernetEvaluator(net, problem.task, problem.evaluation_settings())
    source = SupernetEvaluatorSource.of(evaluator)
    assert sum(array.nbytes for array in source.without_arrays().arrays().values()) == 0
    archs = [dict(a) for a in net.space.decode(net.space.sample(6, np.random.default_rng(0)))]
    exact = ("top1", "macs_m")
    with LocalExecutor(evaluator, ONE) as local:
        expected = {i: [o.values[m] for m in exact] for i, o in run_all(local, archs).items()}
    assert len({tuple(v) for v in expected.values()}) > 1
    with RayExecutor(source, TWO) as executor:
        outcomes = run_all(executor, archs)
    assert {i: [o.values[m] for m in exact] for i, o in outcomes.items()} == expected
    assert all(o.values["latency_ms"] > 0.0 and o.device["latency_ms"] for o in outcomes.values())
    fingerprints = {str(o.device["latency_ms"]) for o in outcomes.values() if "fingerprint" in str(o.device)}
    assert fingerprints, "the executor tells devices apart by the fingerprints in `device`"
