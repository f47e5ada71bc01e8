"""The tables, on trials written by hand."""

from __future__ import annotations

import math

import pytest

from nassearch.bench import BenchResult, Point
from nassearch.bench.log import BenchSettings
from nassearch.bench.output import summary, targets_csv

DESCRIBED = {"objectives": ["a:max", "b:min"], "reported": ["a", "b"], "constraints": [], "optimum": None,
             "front_known": True}  # fmt: skip


def trial(strategy: str, seed: int, scores: list[float], best: list[float] | None = None) -> list[Point]:
    nan = [math.nan] * len(scores)
    return [
        Point("p", strategy, seed, i + 1, 10 * (i + 1), 10 * (i + 1), s, b, 1, i + 1.0, i + 1.0, i + 1 == len(scores))
        for i, (s, b) in enumerate(zip(scores, best or nan, strict=True))
    ]


def made(points: list[Point], described: dict[str, object] = DESCRIBED, **options: object) -> BenchResult:
    names = dict.fromkeys(p.strategy for p in points)
    settings = BenchSettings(40, 10, {"p": described}, {n: {} for n in names})
    return BenchResult(settings, points, **options)  # type: ignore[arg-type]


SLOW = [trial("random", s, [0.2, 0.3, 0.4, 0.5 + 0.05 * s]) for s in range(3)]
FAST = [trial("quick", s, [0.3, 0.55, 0.7, 0.9 if s else 0.65]) for s in range(3)]
POINTS = [p for t in SLOW + FAST for p in t]


def test_scores_at_checkpoints_are_those_of_the_last_whole_batch() -> None:
    result = made(POINTS, checkpoints=[5, 10, 25, 40])
    rows = {(r.strategy, r.evaluations): r for r in result.comparison()}
    assert rows["random", 5].score == (0, 0, 0)
    assert rows["random", 25].score == pytest.approx((0.3, 0.3, 0.3))
    assert rows["random", 40].score == pytest.approx((0.525, 0.55, 0.575))
    assert rows["quick", 40].own_s == 4
    assert rows["quick", 40].best is None


def test_evaluations_to_a_target_and_times_fewer_than_the_baseline() -> None:
    result = made(POINTS, targets=[0.55, 0.9])
    rows = {(r.strategy, r.target): r for r in result.evaluations_to_target() if not r.of_baseline}
    assert rows["quick", 0.55].evaluations == (20, 20, 20)
    assert rows["quick", 0.55].ratio == 2.0
    assert rows["random", 0.55].reached == 2
    assert rows["quick", 0.9].evaluations[1] == 40
    assert math.isnan(rows["quick", 0.9].ratio)
    assert rows["random", 0.9].evaluations[1] == math.inf
    (of_baseline,) = [r for r in result.evaluations_to_target() if r.of_baseline and r.strategy == "quick"]
    assert of_baseline.target == pytest.approx(0.55)
    assert of_baseline.ratio == 2.0
    assert "random,3,0,,," in targets_csv(result)
    assert "> 40 [0/3]" in summary(result)


def test_the_baseline_needs_its_budget_for_its_own_median_with_any_number_of_trials() -> None:
    result = made([p for t in SLOW[:2] + FAST for p in t], targets=[0.5])
    rows = [r for r in result.evaluations_to_target() if r.of_baseline and r.strategy == "quick"]
    assert rows[0].ratio == 40 / 20


def test_targets_that_tell_apart_are_chosen() -> None:
    chosen = [t for t, of_baseline in made(POINTS).targets("p") if not of_baseline]
    assert chosen
    assert max(chosen) == 0.9
    assert min(chosen) > 0.3


def test_single_objectives_show_value_and_regret() -> None:
    described = DESCRIBED | {"objectives": ["a:max"], "reported": ["a"], "optimum": 80.0}
    points = [p for s, best in enumerate([[math.nan, 70], [60, 71], [61, 75]]) for p in trial("x", s, [0, 0.5], best)]
    rows = {r.evaluations: r for r in made(points, described, checkpoints=[10, 20]).comparison()}
    assert rows[20].best == (70.5, 71, 73)
    assert rows[20].regret == (9.5, 9, 7)
    assert rows[10].best is not None
    assert rows[10].best[1] == 60
    assert "regret 9" in summary(made(points, described, checkpoints=[20]))


def test_trials_that_ended_early_keep_their_score() -> None:
    short = trial("random", 0, [0.2, 0.6])
    result = made(short, checkpoints=[40])
    assert result.comparison()[0].score[1] == 0.6
