from __future__ import annotations

from collections.abc import Iterator

import pytest

from nassearch.errors import ConfigError
from nassearch.evaluation import Job
from nassearch.executors import Executor, ExecutorSettings, make_executor
from nassearch.executors.conformance import SETTINGS, ExecutorConformance, ScriptedSource
from nassearch.executors.local import LocalExecutor


class TestLocalExecutor(ExecutorConformance):
    @pytest.fixture(scope="class")
    def executor(self) -> Iterator[Executor]:
        source = ScriptedSource(needs_cost=True)
        with LocalExecutor(source.build(source.arrays()), SETTINGS) as executor:
            yield executor


def test_costs_are_measured_only_where_needed() -> None:
    source = ScriptedSource(needs_cost=False)
    with LocalExecutor(source.build(source.arrays()), ExecutorSettings()) as executor:
        executor.submit([Job(1, {"x": 1})])
        (outcome,) = executor.wait()
    assert "cost" not in outcome.values


def test_close_abandons_the_queue_and_may_be_repeated() -> None:
    source = ScriptedSource()
    executor = LocalExecutor(source.build(source.arrays()), ExecutorSettings())
    executor.submit([Job(1, {"x": 1})])
    executor.close()
    executor.close()
    assert executor.in_flight == 0


def test_make_executor_by_name() -> None:
    source = ScriptedSource()
    evaluator = source.build(source.arrays())
    assert isinstance(make_executor("local", evaluator, source, ExecutorSettings()), LocalExecutor)
    with pytest.raises(ConfigError, match="did you mean 'ray'"):
        make_executor("rey", evaluator, source, ExecutorSettings())
