"""What every executor must do, as a suite of tests, with an evaluator whose architectures are orders.

Subclass `ExecutorConformance` in a test module, with fixtures ``executor`` (for `ScriptedSource` with
``needs_cost=True``) that has the settings `SETTINGS`::

    class TestLocalExecutor(ExecutorConformance):
        @pytest.fixture(scope="class")
        def executor(self):
            source = ScriptedSource(needs_cost=True)
            with LocalExecutor(source.build(source.arrays()), SETTINGS) as executor:
                yield executor
"""
# ruff: noqa: S101 - it is a suite of tests

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.evaluation import EvaluatorSource, Job, Part
from nassearch.executors.base import Executor, ExecutorSettings
from nassearch.store import Outcome

SETTINGS = ExecutorSettings(num_workers=2, threads=1, timeout_s=2.0, retries=1)
"""Settings of the executor under test."""

DEVICE_VARIABLE = "NASSEARCH_SCRIPTED_DEVICE"
SCALE = np.arange(5.0)


class ScriptedEvaluator:
    """Does what the architecture says.

    The gene ``do`` is one of: ``"sleep"`` for ``s`` seconds; ``"raise"`` a ValueError; ``"hang"``; ``"die"``,
    killing the own process; ``"die-once"`` and ``"hang-once"``, unless the file ``marker`` is there, which they
    leave. ``cost-…`` does the same in the measurement. ``x`` makes the value. The fingerprint of the measuring device
    is in the environment variable `DEVICE_VARIABLE`, or in a file that is read anew for each measurement.
    """

    def __init__(self, scale: NDArray[Any], needs_cost: bool, device_file: str | None) -> None:
        self.needs_cost, self._scale, self._device_file = needs_cost, scale, device_file

    def quality(self, arch: Mapping[str, Any], split: str = "search") -> Part:
        """Obey, and return ``quality`` and the times of begin and end."""
        begin = time.time()
        order = str(arch.get("do", ""))
        _obey("" if order.startswith("cost-") else order, arch)
        value = float(self._scale @ self._scale) * float(arch.get("x", 0))
        times = {"quality_begin": begin, "quality_end": time.time(), "pid": float(os.getpid())}
        return Part({"quality": value, **times}, measured={"quality": f"{split}-split"})

    def cost(self, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
        """Obey orders for the measurement, and return ``cost`` and the times of begin and end."""
        begin = time.time()
        order = str(arch.get("do", ""))
        _obey(order.removeprefix("cost-") if order.startswith("cost-") else "", arch)
        device = os.environ.get(DEVICE_VARIABLE, "one")
        if self._device_file:
            device = Path(self._device_file).read_text(encoding="utf-8")
        times = {"cost_begin": begin, "cost_end": time.time(), "cost_pid": float(os.getpid())}
        wanted = metrics or ("cost",)
        values = dict.fromkeys(wanted, 2.0 * float(arch.get("x", 0)))
        devices = {metric: {"fingerprint": device} for metric in wanted}
        return Part(values | times, dict.fromkeys(wanted, 0.1), {}, devices)


def _obey(order: str, arch: Mapping[str, Any]) -> None:
    if order.endswith("-once"):
        marker = Path(str(arch["marker"]))
        if marker.exists():
            return
        marker.touch()
    match order.removesuffix("-once"):
        case "sleep":
            time.sleep(float(arch["s"]))
        case "raise":
            raise ValueError(f"told to raise, x is {arch.get('x')}\nwith a second line")
        case "hang":
            time.sleep(600.0)
        case "die":
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            return


@dataclass(frozen=True)
class ScriptedSource(EvaluatorSource):
    """Makes a `ScriptedEvaluator`.

    Attributes:
        needs_cost: Whether the evaluator measures.
        device_file: File with the fingerprint of the measuring device.
        broken: Raise in `build`.
    """

    needs_cost: bool = False
    device_file: str | None = None
    broken: bool = False

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the one array that qualities are computed from."""
        return {"scale": SCALE}

    def build(self, arrays: Mapping[str, NDArray[Any]]) -> ScriptedEvaluator:
        """Make the evaluator."""
        if self.broken:
            raise ImportError("no module named 'a_package_of_the_driver'")
        return ScriptedEvaluator(arrays["scale"], self.needs_cost, self.device_file)


def run_all(
    executor: Executor, archs: list[dict[str, Any]], first_id: int = 1, split: str | None = "search"
) -> dict[int, Outcome]:
    """Submit architectures together and return all outcomes by id."""
    executor.submit([Job(first_id + i, arch, split) for i, arch in enumerate(archs)])
    outcomes: dict[int, Outcome] = {}
    while executor.in_flight:
        arrived = executor.wait()
        assert arrived, "wait() returned nothing while jobs were in flight"
        for outcome in arrived:
            assert outcome.id not in outcomes, f"job {outcome.id} came back twice"
            outcomes[outcome.id] = outcome
    return outcomes


class ExecutorConformance:
    """The suite; see the module."""

    def test_a_job_is_measured_as_far_as_it_asks(self, executor: Executor) -> None:
        """Quality and costs are evaluated where a job names them, all costs unless it names some."""
        asked = [("search", None), ("search", ()), (None, ("cost",)), (None, ())]
        executor.submit([Job(i, {"x": 1}, split, costs) for i, (split, costs) in enumerate(asked)])
        found: dict[int, Outcome] = {}
        while executor.in_flight:
            found |= {outcome.id: outcome for outcome in executor.wait()}
        assert [found[i].status for i in range(4)] == ["ok"] * 4
        assert ["quality" in found[i].values for i in range(4)] == [True, True, False, False]
        assert ["cost" in found[i].values for i in range(4)] == [True, False, True, False]

    def test_outcomes_carry_both_halves(self, executor: Executor) -> None:
        """Values, spreads, origins and devices of both halves are in the outcome."""
        before = time.time()
        outcomes = run_all(executor, [{"x": x} for x in range(5)])
        assert sorted(outcomes) == [1, 2, 3, 4, 5]
        for id_, outcome in outcomes.items():
            assert outcome.status == "ok"
            assert outcome.values["quality"] == 30.0 * (id_ - 1)
            assert outcome.values["cost"] == 2.0 * (id_ - 1)
            assert outcome.std == {"cost": 0.1}
            assert outcome.measured == {"quality": "search-split"}
            assert outcome.device == {"cost": {"fingerprint": "one"}}
            assert outcome.attempts == 1
            assert outcome.error is None
            assert outcome.host
            assert before <= outcome.started <= time.time()
            assert 0.0 <= outcome.wall_s <= time.time() - before

    def test_split_belongs_to_the_job(self, executor: Executor) -> None:
        """One executor serves every split."""
        executor.submit([Job(1, {"x": 1}, "report"), Job(2, {"x": 2})])
        measured: dict[int, str] = {}
        while executor.in_flight:
            measured |= {o.id: o.measured["quality"] for o in executor.wait()}
        assert measured == {1: "report-split", 2: "search-split"}

    def test_costs_alone(self, executor: Executor) -> None:
        """Without a split costs are measured, with retries and errors as ever, and nothing else is evaluated."""
        outcomes = run_all(executor, [{"x": 1}, {"x": 2, "do": "cost-raise"}, {"x": 3, "do": "raise"}], split=None)
        assert [outcomes[i].status for i in (1, 2, 3)] == ["ok", "failed", "ok"]
        assert outcomes[1].values["cost"] == 2.0
        assert "quality" not in outcomes[1].values
        assert [outcomes[i].attempts for i in (1, 2, 3)] == [1, 1, 1]
        assert outcomes[1].started > 0

    def test_nothing_in_flight(self, executor: Executor) -> None:
        """`wait` with nothing in flight returns at once."""
        assert executor.in_flight == 0
        assert executor.wait() == []
        assert executor.slots >= 1

    def test_in_flight_counts_until_returned(self, executor: Executor) -> None:
        """A job is in flight from `submit` until `wait` has returned its outcome."""
        executor.submit([Job(1, {"x": 1}), Job(2, {"x": 2}), Job(3, {"x": 3})])
        left = 3
        while left:
            assert executor.in_flight == left
            left -= len(executor.wait())
        assert executor.in_flight == 0

    def test_error_is_recorded_and_not_retried(self, executor: Executor) -> None:
        """An evaluation that raises is an outcome, with its error in one line."""
        outcomes = run_all(executor, [{"x": 1}, {"x": 2, "do": "raise"}, {"x": 3}, {"x": 4, "do": "cost-raise"}])
        assert [outcomes[i].status for i in (1, 2, 3, 4)] == ["ok", "failed", "ok", "failed"]
        assert outcomes[2].error == "ValueError: told to raise, x is 2"
        assert outcomes[4].error == "ValueError: told to raise, x is 4"
        assert outcomes[2].attempts == outcomes[4].attempts == 1
        assert dict(outcomes[2].values) == {}

    def test_time_limit(self, executor: Executor) -> None:
        """An evaluation that hangs is stopped and tried again, as often as the settings say."""
        started = time.monotonic()
        outcomes = run_all(executor, [{"x": 1, "do": "hang"}, {"x": 2}])
        assert outcomes[1].status == "failed"
        assert "timed out after 2 s" in str(outcomes[1].error)
        assert outcomes[1].attempts == SETTINGS.retries + 1
        assert outcomes[2].status == "ok"
        assert 2.0 * (SETTINGS.retries + 1) <= time.monotonic() - started < 120.0

    def test_time_limit_then_success(self, executor: Executor, tmp_path: Path) -> None:
        """The second attempt may succeed."""
        outcomes = run_all(executor, [{"x": 1, "do": "hang-once", "marker": str(tmp_path / "marker")}])
        assert outcomes[1].status == "ok"
        assert outcomes[1].attempts == 2
        assert math.isclose(outcomes[1].values["quality"], 30.0)

    def test_time_in_the_queue_does_not_count(self, executor: Executor) -> None:
        """The time limit counts from the start of an evaluation."""
        archs = [{"x": x, "do": "sleep", "s": 0.7} for x in range(6)]
        outcomes = run_all(executor, archs)
        assert {o.status for o in outcomes.values()} == {"ok"}
        assert all(0.7 <= o.wall_s < 2.0 for o in outcomes.values())
