"""Running, resuming and refusing; what is written."""

from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nassearch.bench import TabularProblem, bench, run_trial
from nassearch.bench.log import TRIALS
from nassearch.bench.trial import Contender, Point
from nassearch.errors import ConfigError, EvaluationError, RunFolderError
from nassearch.strategies import Strategy, register_strategy
from nassearch.strategies import registry as registry_module
from search_spaces import Rows

SMALL = {"seeds": 2, "budget": 30, "batch_size": 10}


def stable(points: list[Point]) -> list[tuple[object, ...]]:
    """What must be the same in every run: everything but times."""
    return [(*p.key, p.batch, p.evaluations, p.asked, round(p.score, 8), p.front, p.done) for p in points]


def test_trials_count_distinct_networks_batch_by_batch(problem: TabularProblem) -> None:
    points = run_trial(problem, Contender("random"), 3, budget=25, batch_size=10)
    assert [p.evaluations for p in points] == [10, 20, 25]
    assert [p.done for p in points] == [False, False, True]
    assert all(a.score <= b.score and a.own_s <= b.own_s for a, b in pairwise(points))
    assert 0 < points[-1].score < 1


def test_a_space_smaller_than_the_budget_ends_the_trial_at_the_best(problem: TabularProblem) -> None:
    last = run_trial(problem, Contender("random"), 0, budget=1000, batch_size=50)[-1]
    assert last.done
    assert last.evaluations == problem.space.n_distinct == 216
    assert last.score == pytest.approx(1.0)


def test_two_proposals_of_one_network_are_one_evaluation(problem: TabularProblem) -> None:
    class Paired(TabularProblem):
        def networks(self, G: Rows) -> list[int]:
            return [int(row[1] * 3 + row[2]) for row in G]  # 18 networks

    last = run_trial(Paired(problem.table), Contender("random"), 0, budget=15, batch_size=5)[-1]
    assert last.evaluations == 15
    assert last.asked > 15


def test_same_seed_same_points_and_other_seed_others(problem: TabularProblem) -> None:
    first, again, other = (
        stable(run_trial(problem, Contender("nsga2"), seed, budget=40, batch_size=10)) for seed in (0, 0, 1)
    )
    assert first == again
    assert [p[6] for p in first] != [p[6] for p in other]


def test_what_is_written(problem: TabularProblem, tmp_path: Path) -> None:
    result = bench([problem], ["random", "nsga2"], out=tmp_path / "b", **SMALL)
    names = {"bench.json", TRIALS, "comparison.csv", "evaluations_to_target.csv", "summary.md", "curves.png",
             "report.html"}  # fmt: skip
    assert names <= {p.name for p in (tmp_path / "b").iterdir()}
    rows = list(csv.DictReader((tmp_path / "b" / TRIALS).open()))
    assert len(rows) == 2 * 2 * 3
    assert (tmp_path / "b" / "curves.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "b" / "report.html").read_text()
    assert "made-up" in page
    assert "http-equiv" in page
    assert "<script src" not in page
    compared = list(csv.DictReader((tmp_path / "b" / "comparison.csv").open()))
    medians = {(r["strategy"], r["evaluations"]): float(r["score_median"]) for r in compared}
    ends = [float(r["score"]) for r in rows if r["strategy"] == "nsga2" and r["done"] == "1"]
    assert medians["nsga2", "30"] == pytest.approx(np.median(ends), abs=1e-5)
    json.dumps(result.to_json(), allow_nan=False)


def test_resume_runs_only_what_is_missing_and_drops_torn_trials(problem: TabularProblem, tmp_path: Path) -> None:
    whole = bench([problem], ["random", "nsga2"], out=tmp_path / "whole", **SMALL)
    bench([problem], ["random"], out=tmp_path / "b", **(SMALL | {"seeds": 1}))
    bench([problem], ["random", "nsga2"], out=tmp_path / "b", **SMALL)
    path = tmp_path / "b" / TRIALS
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-2][:9])  # as if it had been killed while writing
    ran: list[str] = []
    result = bench(
        [problem], ["random", "nsga2"], out=tmp_path / "b", progress=lambda f, i, n: ran.append(str(f.trial)), **SMALL
    )
    assert len(ran) == 1
    assert sorted(stable(result.points)) == sorted(stable(whole.points))
    assert len(path.read_text().splitlines()) == len(lines)


def test_trials_of_other_settings_are_refused(problem: TabularProblem, tmp_path: Path) -> None:
    out = tmp_path / "b"
    bench([problem], ["random"], out=out, **SMALL)
    before = (out / TRIALS).read_text()
    with pytest.raises(RunFolderError, match="budget 30, now 20"):
        bench([problem], ["random"], out=out, **(SMALL | {"budget": 20}))
    with pytest.raises(RunFolderError, match="batch_size 10, now 5"):
        bench([problem], ["random"], out=out, **(SMALL | {"batch_size": 5}))
    other = TabularProblem(problem.table, constraints=["latency_ms <= 9"])
    with pytest.raises(RunFolderError, match=r"problem 'made-up' with constraints \[\], now \['latency_ms <= 9'\]"):
        bench([other], ["random"], out=out, **SMALL)
    assert (out / TRIALS).read_text() == before


def test_folders_of_something_else_are_refused(problem: TabularProblem, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / TRIALS).write_text("a,b\n")
    with pytest.raises(RunFolderError, match=r"no bench\.json"):
        bench([problem], ["random"], out=tmp_path / "b", **SMALL)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        bench([problem], ["random"], out=tmp_path / "file", **SMALL)


def test_faults_are_reported_together_before_any_trial(problem: TabularProblem) -> None:
    with pytest.raises(ConfigError) as error:
        bench([problem, problem, "table:/nowhere.json"], ["randm", "nsga2,generation=3", "random,x"], budget=0)
    text = str(error.value)
    for part in ("budget must be at least 1", "did you mean 'random'", "two problems", "/nowhere.json", "'x' is no"):
        assert part in text


def test_unknown_options_of_strategies(problem: TabularProblem) -> None:
    with pytest.raises(ConfigError, match="on made-up: strategy 'linas' has no option 'starup'; did you mean"):
        bench([problem], ["linas,starup=3"])


def test_options_are_part_of_the_name(problem: TabularProblem) -> None:
    result = bench([problem], ["nsga2", "nsga2, population=8"], seeds=1, budget=20, batch_size=10)
    assert result.strategies("made-up") == ["nsga2", "nsga2,population=8"]


def test_bad_checkpoints_and_baselines_are_found_before_any_trial(problem: TabularProblem) -> None:
    with pytest.raises(ConfigError, match=r"checkpoints \[50\]"):
        bench([problem], ["random"], checkpoints=[50], **SMALL)
    with pytest.raises(ConfigError, match="baseline 'nsga' is not among the strategies"):
        bench([problem], ["random"], baseline="nsga", **SMALL)


def test_a_failing_strategy_costs_only_its_own_trials(
    problem: TabularProblem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_REGISTRY", dict(registry_module._REGISTRY))

    @register_strategy("fails-late")
    class FailsLate(Strategy):
        def _propose(self, n: int, rng: np.random.Generator) -> Rows:
            if self.batch == 2:
                raise RuntimeError("no more ideas")
            return self.random_rows(n, rng)

    with pytest.raises(EvaluationError, match=r"2 of 4 trials failed(.|\n)*seed 0: RuntimeError: no more ideas"):
        bench([problem], ["fails-late", "random"], out=tmp_path / "b", **SMALL)
    result = bench([problem], ["random"], out=tmp_path / "b", **SMALL)
    assert result.seeds("made-up", "random") == [0, 1]
    assert not result.seeds("made-up", "fails-late")


def test_failed_evaluations_do_not_stop_a_trial(problem: TabularProblem) -> None:
    class Failing(TabularProblem):
        def evaluate(self, G: Rows, metrics: object = None) -> dict[str, np.ndarray]:
            figures = super().evaluate(G, metrics)  # type: ignore[arg-type]
            return {k: np.where(G[:, 3] == 1, np.nan, v) for k, v in figures.items()} if len(G) <= 10 else figures

    last = run_trial(Failing(problem.table), Contender("nsga2"), 0, budget=60, batch_size=10)[-1]
    assert last.evaluations == 60
    assert math.isfinite(last.score)


@pytest.mark.slow
def test_workers_on_ray_give_the_same_points(problem: TabularProblem, tmp_path: Path) -> None:
    here = bench([problem], ["random", "nsga2"], **SMALL)
    there = bench([problem], ["random", "nsga2"], workers=2, out=tmp_path / "b", **SMALL)
    assert sorted(stable(there.points)) == sorted(stable(here.points))
