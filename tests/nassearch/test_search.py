"""The loop on a toy problem: resume equals uninterrupted, failures are recorded, budgets end cleanly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nassearch.constraints import Constraint
from nassearch.errors import EvaluationError
from nassearch.evaluation import Part
from nassearch.executors.base import ExecutorSettings
from nassearch.executors.local import LocalExecutor
from nassearch.goal import Goal
from nassearch.objectives import Objective
from nassearch.search import Search, SearchSettings
from nassearch.store import Outcome, Store
from nassearch.strategies import make_strategy
from search_spaces import Gene, SearchSpace

SPACE = SearchSpace(
    "toy",
    [Gene(f"w.{i}", [1, 2, 3, 4], active_when={} if i < 3 else {"d": {2}}) for i in range(6)] + [Gene("d", [1, 2])],
)
OBJECTIVES = (Objective("top1", "max"), Objective("macs_m", "min"))
GOAL = Goal(OBJECTIVES)


class _Crash(BaseException):
    """Ends the process's work as a kill would: nothing may catch it."""


class ToyEvaluator:
    """Deterministic values of an architecture; may crash or fail on demand."""

    needs_cost = False

    def __init__(self, crash_at: int | None = None, fail: Any = lambda _arch: False) -> None:
        self.crash_at, self.fail, self.seen = crash_at, fail, []

    def quality(self, arch: Mapping[str, Any], split: str = "search") -> Part:
        if self.crash_at is not None and len(self.seen) == self.crash_at:
            raise _Crash
        self.seen.append(dict(arch))
        if self.fail(arch):
            raise RuntimeError("this network does not fit")
        widths = [arch[f"w.{i}"] for i in range(6 if arch["d"] == 2 else 3)]
        return Part(
            {"top1": 50 + 10 * np.tanh(np.dot(widths, np.arange(1, len(widths) + 1)) / 20), "macs_m": sum(widths)}
        )

    def cost(self, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
        raise AssertionError("nothing is measured here")


def _run(
    folder: Path,
    evaluator: ToyEvaluator,
    strategy: str = "nsga2",
    *,
    budget: int = 30,
    asynchronous: bool = False,
    goal: Goal = GOAL,
    max_failures: int = 10,
    retry_failed: bool = False,
) -> dict[int, tuple[tuple[int, ...], float, str]]:
    path = folder / "evaluations.sqlite"
    with Store(path, SPACE, create=not path.exists()) as store:
        made = make_strategy(
            strategy, SPACE, objectives=goal.objectives, constraints=goal.constraints, seed=5, budget=60
        )
        settings = SearchSettings(budget, 7, 5, strategy, asynchronous, max_failures, retry_failed)
        Search(made, LocalExecutor(evaluator, ExecutorSettings()), store, goal, settings).run()
        return _logged(store)


def _logged(store: Store) -> dict[int, tuple[tuple[int, ...], float, str]]:
    outcomes = store.outcomes()
    return {
        i: (p.row, outcomes[i].values.get("top1", np.nan), outcomes[i].status) for i, p in store.proposals().items()
    }


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("strategy", ["random", "nsga2", "linas"])
def test_a_search_crashed_at_any_moment_and_resumed_equals_the_uninterrupted_one(
    tmp_path: Path, strategy: str, asynchronous: bool
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    whole = _run(tmp_path / "whole", ToyEvaluator(), strategy, asynchronous=asynchronous)
    assert len(whole) == 30
    rng, evaluations = np.random.default_rng(1), 0
    for _ in range(5):
        evaluator = ToyEvaluator(crash_at=int(rng.integers(0, 7)))
        with pytest.raises(_Crash):
            _run(tmp_path / "parts", evaluator, strategy, asynchronous=asynchronous)
        evaluations += len(evaluator.seen)
    evaluator = ToyEvaluator()
    assert _run(tmp_path / "parts", evaluator, strategy, asynchronous=asynchronous) == whole
    assert evaluations + len(evaluator.seen) == 30  # nothing finished was evaluated again


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("strategy", ["nsga2", "linas"])
def test_a_warm_start_is_replayed_and_what_is_reused_is_not_evaluated(
    tmp_path: Path, strategy: str, asynchronous: bool
) -> None:
    rows = SPACE.sample(40, np.random.default_rng(3))
    archs = SPACE.decode(rows)
    parts = [ToyEvaluator().quality(a) for a in archs]
    reused = {
        tuple(row): replace(p, measured=dict.fromkeys(p.values, "reused from old"))
        for row, p in zip(rows.tolist(), parts, strict=True)
    }
    known = {"top1": np.array([p.values["top1"] for p in parts])}
    prior = {"macs_m": np.array([3.0 * p.values["macs_m"] + 1 for p in parts])}

    def run(folder: Path, evaluator: ToyEvaluator) -> Any:
        path = folder / "evaluations.sqlite"
        with Store(path, SPACE, create=not path.exists()) as store:
            made = make_strategy(strategy, SPACE, objectives=OBJECTIVES, seed=5, budget=60)
            made.warm_start(rows, known, prior)
            settings = SearchSettings(30, 7, 5, strategy, asynchronous)
            executor = LocalExecutor(evaluator, ExecutorSettings())
            Search(made, executor, store, GOAL, settings, reused=reused).run()
            return _logged(store), {i: o.measured for i, o in store.outcomes().items()}, made.diagnostics()

    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    evaluator = ToyEvaluator()
    whole = run(tmp_path / "whole", evaluator)
    if strategy == "linas":
        assert not whole[2]["fallback"]
    again = [i for i, (row, _, _) in whole[0].items() if row in reused]
    assert again[:10] == list(range(1, 11))
    assert {i for i, how in whole[1].items() if how.get("top1") == "reused from old"} == set(again)
    assert not [a for a in evaluator.seen if a in archs]
    assert len(evaluator.seen) == 30 - len(again)
    evaluations = 0
    for crash_at in (0, 3, 5):
        evaluator = ToyEvaluator(crash_at=crash_at)
        with pytest.raises(_Crash):
            run(tmp_path / "parts", evaluator)
        evaluations += len(evaluator.seen)
    evaluator = ToyEvaluator()
    assert run(tmp_path / "parts", evaluator)[:2] == whole[:2]
    assert evaluations + len(evaluator.seen) == 30 - len(again)


def test_no_network_is_evaluated_twice_and_a_small_space_ends_the_search(tmp_path: Path) -> None:
    evaluator = ToyEvaluator()
    logged = _run(tmp_path, evaluator, budget=5000)
    assert len(logged) == SPACE.n_distinct == 4**3 + 4**6
    assert len({row for row, _, _ in logged.values()}) == len(logged)


def test_failed_evaluations_are_recorded_with_their_error_and_the_search_goes_on(tmp_path: Path) -> None:
    logged = _run(tmp_path, ToyEvaluator(fail=lambda a: a["w.0"] == 4))
    failed = [i for i, (_, _, status) in logged.items() if status == "failed"]
    assert 0 < len(failed) < 30
    with Store(tmp_path / "evaluations.sqlite", SPACE) as store:
        assert store.outcomes()[failed[0]].error == "RuntimeError: this network does not fit"


def test_a_row_of_failures_ends_the_run_with_everything_saved(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"4 evaluations failed in a row, .*does not fit.*--resume"):
        _run(tmp_path, ToyEvaluator(fail=lambda _a: True), max_failures=4)
    with Store(tmp_path / "evaluations.sqlite", SPACE) as store:
        assert [o.status for o in store.outcomes().values()] == ["failed"] * 4
    # What failed stays failed; the mended evaluator gets the rest.
    logged = _run(tmp_path, ToyEvaluator())
    assert [s for _, _, s in logged.values()] == ["failed"] * 4 + ["ok"] * 26


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("strategy", ["random", "nsga2", "linas", "cmaes"])
def test_failed_evaluations_are_done_again_where_asked_and_the_search_stays_exact(
    tmp_path: Path, strategy: str, asynchronous: bool
) -> None:
    goal = Goal(OBJECTIVES[:1]) if strategy == "cmaes" else GOAL

    def run(name: str, evaluator: ToyEvaluator, budget: int, retry: bool = False) -> Any:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        return _run(
            folder, evaluator, strategy, budget=budget, asynchronous=asynchronous, goal=goal, retry_failed=retry
        )

    for name in ("whole", "parts"):
        first = run(name, ToyEvaluator(fail=lambda a: a["w.0"] == 4), 20)
    failed = [i for i, (_, _, status) in first.items() if status == "failed"]
    assert len(failed) >= 2
    assert run("whole", ToyEvaluator(), 20) == first  # not unless asked

    # All of them again: most succeed, and the search goes on knowing that; then once more, and to the end.
    evaluator = ToyEvaluator(fail=lambda a: a["w.0"] == 4 and a["w.1"] == 4)
    whole = run("whole", evaluator, 25, retry=True)
    assert len(evaluator.seen) == len(failed) + 5
    assert {i: r for i, (r, _, _) in whole.items() if i <= 20} == {i: r for i, (r, _, _) in first.items()}
    assert any(whole[i][2] == "ok" for i in failed)
    whole = run("whole", ToyEvaluator(), 32, retry=True)
    assert {status for _, _, status in whole.values()} == {"ok"}

    # The same with crashes: what an interrupted round still has to do is done without asking again.
    seen = 0
    for crash, retry in ((1, True), (0, False), (len(failed) - 1, False), (2, False)):
        evaluator = ToyEvaluator(crash, fail=lambda a: a["w.0"] == 4 and a["w.1"] == 4)
        with pytest.raises(_Crash):
            run("parts", evaluator, 25, retry)
        seen += len(evaluator.seen)
    evaluator = ToyEvaluator(fail=lambda a: a["w.0"] == 4 and a["w.1"] == 4)
    run("parts", evaluator, 25)
    assert seen + len(evaluator.seen) == len(failed) + 5
    assert run("parts", ToyEvaluator(), 32, retry=True) == whole
    with Store(tmp_path / "parts" / "evaluations.sqlite", SPACE) as store:
        assert {i for i, o in store.first_outcomes().items() if o.status == "failed"} >= set(failed)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_failed_again_in_a_stopped_round_of_retries_is_done_again(tmp_path: Path, asynchronous: bool) -> None:
    def run(evaluator: ToyEvaluator, retry: bool = False) -> dict[int, tuple[tuple[int, ...], float, str]]:
        return _run(tmp_path, evaluator, budget=8, asynchronous=asynchronous, max_failures=4, retry_failed=retry)

    for retry in (False, False, True):  # 8 failures, then the round stops after 4 of them
        with pytest.raises(EvaluationError, match="--retry-failed"):
            run(ToyEvaluator(fail=lambda _: True), retry)
    mended = ToyEvaluator()
    assert [status for _, _, status in run(mended, retry=True).values()] == ["ok"] * 8
    assert len(mended.seen) == 8  # what was not done yet is not done twice


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_came_together_with_the_failure_that_ends_a_run_is_saved(tmp_path: Path, asynchronous: bool) -> None:
    class Together(LocalExecutor):
        @property
        def slots(self) -> int:
            return 6

        def wait(self) -> list[Outcome]:
            return [outcome for _ in range(self.in_flight) for outcome in super(Together, self).wait()]

    settings = SearchSettings(6, 6, 5, "random", asynchronous, max_consecutive_failures=2)
    strategy = make_strategy("random", SPACE, objectives=OBJECTIVES, constraints=(), seed=5, budget=6)
    with Store(tmp_path / "evaluations.sqlite", SPACE, create=True) as store:
        executor = Together(ToyEvaluator(fail=lambda _: True), ExecutorSettings())
        with pytest.raises(EvaluationError, match="2 evaluations failed in a row"):
            Search(strategy, executor, store, GOAL, settings).run()
        assert len(store.outcomes()) == 6


def test_a_metric_that_is_missing_or_not_finite_is_a_failure(tmp_path: Path) -> None:
    class Nan(ToyEvaluator):
        def quality(self, arch: Mapping[str, Any], split: str = "search") -> Part:
            part = super().quality(arch, split)
            return Part({"top1": float("nan")}) if len(self.seen) % 3 == 0 else part

    _run(tmp_path, Nan(), "random")
    with Store(tmp_path / "evaluations.sqlite", SPACE) as store:
        outcomes = list(store.outcomes().values())
    assert [o.status for o in outcomes[:3]] == ["ok", "ok", "failed"]
    assert "no finite value of top1, macs_m" in str(outcomes[2].error)


def test_constraints_steer_the_search_to_feasible_networks(tmp_path: Path) -> None:
    # The best top1 is that of the largest network: only the constraint keeps the search among small ones.
    goal = Goal(OBJECTIVES[:1], (Constraint.parse("macs_m <= 11").resolve(),))
    (tmp_path / "free").mkdir()
    (tmp_path / "bound").mkdir()
    shares = []
    for name, g in (("free", Goal(OBJECTIVES[:1])), ("bound", goal)):
        _run(tmp_path / name, ToyEvaluator(), goal=g, budget=150)
        with Store(tmp_path / name / "evaluations.sqlite", SPACE) as store:
            late = [o.values["macs_m"] for i, o in store.outcomes().items() if i > 90]
        shares.append(np.mean(np.array(late) <= 11))
    assert shares[0] < 0.2 < 0.4 < shares[1]


def test_a_larger_budget_goes_on_where_the_run_ended(tmp_path: Path) -> None:
    first = _run(tmp_path, ToyEvaluator(), budget=14)
    more = _run(tmp_path, ToyEvaluator(), budget=21)
    assert len(more) == 21
    assert {i: more[i] for i in first} == first


def test_figures_of_different_devices_never_mix(tmp_path: Path) -> None:
    class Measuring(ToyEvaluator):
        needs_cost = True

        def __init__(self, machine: str) -> None:
            super().__init__()
            self.machine = machine

        def cost(self, arch: Mapping[str, Any], metrics: Sequence[str] | None = None) -> Part:
            return Part(
                {"latency_ms": 1.0}, device={"latency_ms": {"device": {"fingerprint": self.machine, "cpu": "C"}}}
            )

    _run(tmp_path, Measuring("a"), budget=7)
    with pytest.raises(EvaluationError, match=r"latency_ms was measured on C \(a\) before and would now be on C \(b\)"):
        _run(tmp_path, Measuring("b"), budget=14)
    assert len(_run(tmp_path, Measuring("a"), budget=14)) == 14
