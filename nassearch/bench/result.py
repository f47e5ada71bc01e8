"""What a comparison found: scores at checkpoints, evaluations to targets, own time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nassearch.bench.log import BenchSettings
from nassearch.bench.trial import Point
from nassearch.errors import ConfigError
from search_spaces.errors import did_you_mean

Values = NDArray[np.float64]

TARGETS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.985, 0.99, 0.995, 0.999)
_CHECKPOINTS = (50, 100, 150, 200, 250, 400, 800, 1600)
_MOST_TARGETS = 6
_TOLERANCE = 1e-9  # a score that was written and read again is the same one


@dataclass(frozen=True)
class Compared:
    """A strategy on a problem at one checkpoint.

    Attributes:
        problem: Name of the problem.
        strategy: The strategy with its options.
        evaluations: Distinct networks evaluated at most.
        seeds: Number of trials.
        score: First quartile, median and third quartile of the score.
        best: A single objective's best value in its own unit: the quartile that is worse, the median, the quartile
            that is better; NaN where no network meets the constraints; None with several objectives.
        regret: Distances of ``best`` to the best value of the table; None where that is unknown.
        own_s: Median seconds the strategy has taken for itself.
    """

    problem: str
    strategy: str
    evaluations: int
    seeds: int
    score: tuple[float, float, float]
    best: tuple[float, float, float] | None
    regret: tuple[float, float, float] | None
    own_s: float


@dataclass(frozen=True)
class Reached:
    """Evaluations that a strategy needs to reach a score on a problem.

    Attributes:
        problem: Name of the problem.
        strategy: The strategy with its options.
        target: The score.
        of_baseline: Whether the target is the baseline's median at the end of the budget.
        seeds: Number of trials.
        reached: Number of them that reach it.
        evaluations: First quartile, median and third quartile; infinite where it is not reached. Counted in whole
            batches.
        ratio: The baseline's median by this one's; NaN where either is infinite.
    """

    problem: str
    strategy: str
    target: float
    of_baseline: bool
    seeds: int
    reached: int
    evaluations: tuple[float, float, float]
    ratio: float


class BenchResult:
    """Trials, and what they say.

    Args:
        settings: Settings of the trials.
        points: Points of finished trials.
        checkpoints: Evaluations at which strategies are compared.
        targets: Scores to reach.
        baseline: The strategy that others are compared with.

    Raises:
        ConfigError: A checkpoint beyond the budget, or an unknown baseline.
    """

    def __init__(
        self,
        settings: BenchSettings,
        points: Sequence[Point],
        *,
        checkpoints: Sequence[int] | None = None,
        targets: Sequence[float] | None = None,
        baseline: str | None = None,
    ) -> None:
        self.settings = settings
        self._trials: dict[tuple[str, str], dict[int, list[Point]]] = {}
        for p in points:
            self._trials.setdefault((p.problem, p.strategy), {}).setdefault(p.seed, []).append(p)
        budget = settings.budget
        self.checkpoints = sorted(set(checkpoints)) if checkpoints else _round_numbers(budget)
        if wrong := [c for c in self.checkpoints if not 1 <= c <= budget]:
            raise ConfigError(f"checkpoints {wrong} are not within the budget of {budget} evaluations")
        self._targets = sorted(set(targets)) if targets else None
        self.baseline = baseline or ("random" if "random" in settings.strategies else next(iter(settings.strategies)))
        if self.baseline not in settings.strategies:
            listed = ", ".join(settings.strategies)
            raise ConfigError(
                f"baseline {baseline!r} is not among the strategies{did_you_mean(baseline, settings.strategies)}; "
                f"there are {listed}"
            )

    @property
    def points(self) -> list[Point]:
        """All points, trial by trial."""
        return [p for trials in self._trials.values() for trial in trials.values() for p in trial]

    @property
    def problems(self) -> list[str]:
        """Names of the problems that have trials."""
        return [p for p in self.settings.problems if any(problem == p for problem, _ in self._trials)]

    def strategies(self, problem: str) -> list[str]:
        """Return the strategies that have trials on a problem."""
        return [s for s in self.settings.strategies if (problem, s) in self._trials]

    def seeds(self, problem: str, strategy: str) -> list[int]:
        """Return the seeds of the trials."""
        return sorted(self._trials.get((problem, strategy), {}))

    def curves(self, problem: str, strategy: str, at: Sequence[int], field: str = "score") -> Values:
        """Return a field of `Point` after at most so many evaluations.

        Args:
            problem: Name of the problem.
            strategy: The strategy with its options.
            at: Numbers of evaluations.
            field: ``"score"``, ``"best"``, ``"own_s"`` or another one.

        Returns:
            float64 ``[n_seeds, len(at)]``; what the last whole batch gave, NaN before the first (0 for the score).
        """
        start = 0.0 if field in ("score", "own_s", "cpu_s", "front") else math.nan
        table = np.full((len(self.seeds(problem, strategy)), len(at)), start)
        for row, seed in zip(table, self.seeds(problem, strategy), strict=True):
            trial = self._trials[problem, strategy][seed]
            ends = np.array([p.evaluations for p in trial])
            values = np.array([getattr(p, field) for p in trial], dtype=np.float64)
            last = np.searchsorted(ends, np.asarray(at), side="right") - 1
            row[last >= 0] = values[last[last >= 0]]
        return table

    def batch_ends(self, problem: str) -> list[int]:
        """Return the numbers of evaluations at which any trial on the problem has a point, ascending."""
        return sorted({p.evaluations for (name, _), t in self._trials.items() if name == problem for trial in t.values()
                       for p in trial})  # fmt: skip

    # -- tables --------------------------------------------------------------------------------------

    def comparison(self) -> list[Compared]:
        """Return scores at the checkpoints, by problem and strategy."""
        rows = []
        for problem in self.problems:
            described = self.settings.problems[problem]
            single, optimum = len(described["objectives"]) == 1, described["optimum"]
            sign = -1.0 if described["objectives"][0].endswith(":max") else 1.0
            for strategy in self.strategies(problem):
                score = self.curves(problem, strategy, self.checkpoints)
                best = self.curves(problem, strategy, self.checkpoints, "best")
                own = self.curves(problem, strategy, self.checkpoints, "own_s")
                for j, n in enumerate(self.checkpoints):
                    value = _quartiles_of_best(best[:, j], sign) if single else None
                    regret = None
                    if value is not None and optimum is not None:
                        regret = abs(value[0] - optimum), abs(value[1] - optimum), abs(value[2] - optimum)
                    rows.append(
                        Compared(problem, strategy, n, len(score), _quartiles(score[:, j]), value, regret,
                                 float(np.median(own[:, j])))
                    )  # fmt: skip
        return rows

    def targets(self, problem: str) -> list[tuple[float, bool]]:
        """Return the scores to reach on a problem, and whether each is the baseline's at the end."""
        found = []
        if self.seeds(problem, self.baseline):
            end = self.curves(problem, self.baseline, [self.settings.budget])
            found.append((float(np.median(end)), True))
        wanted = self._targets if self._targets is not None else self._telling_targets(problem)
        return sorted(found + [(t, False) for t in wanted])

    def _telling_targets(self, problem: str) -> list[float]:
        """Return targets that at least one strategy reaches in the median, and not all with their first batch."""
        telling = []
        for target in TARGETS:
            medians = [_quartiles_up(self._first(problem, s, target))[1] for s in self.strategies(problem)]
            if any(math.isfinite(m) for m in medians) and max(medians) > self.settings.batch_size:
                telling.append(target)
        return telling[-_MOST_TARGETS:]

    def _first(self, problem: str, strategy: str, target: float) -> Values:
        """Return the evaluations at which each trial reaches a score, float64 ``[n_seeds]``; inf where it does not."""
        return np.array(
            [
                next((p.evaluations for p in trial if p.score >= target - _TOLERANCE), math.inf)
                for _, trial in sorted(self._trials[problem, strategy].items())
            ]
        )

    def evaluations_to_target(self) -> list[Reached]:
        """Return the evaluations that strategies need to reach targets, also relative to the baseline."""
        rows = []
        for problem in self.problems:
            for target, of_baseline in self.targets(problem):
                base = math.inf
                if self.seeds(problem, self.baseline):
                    base = _quartiles_up(self._first(problem, self.baseline, target))[1]
                    if of_baseline:  # half its trials are there at the end; with an even number none needs to be
                        base = min(base, float(self.settings.budget))
                for strategy in self.strategies(problem):
                    needed = self._first(problem, strategy, target)
                    quartiles = _quartiles_up(needed)
                    finite = math.isfinite(base) and math.isfinite(quartiles[1])
                    rows.append(
                        Reached(problem, strategy, target, of_baseline, len(needed), int(np.isfinite(needed).sum()),
                                quartiles, base / quartiles[1] if finite else math.nan)
                    )  # fmt: skip
        return rows

    def to_json(self) -> dict[str, Any]:
        """Return settings and tables as JSON data; what is infinite or unknown is null."""
        tables = {
            "comparison": [vars(row) for row in self.comparison()],
            "evaluations_to_target": [vars(row) for row in self.evaluations_to_target()],
        }
        data = {**self.settings.to_json(), "baseline": self.baseline, "checkpoints": self.checkpoints, **tables}
        cleaned: dict[str, Any] = _finite(data)
        return cleaned


def _finite(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, dict):
        return {k: _finite(v) for k, v in data.items()}
    return [_finite(v) for v in data] if isinstance(data, list | tuple) else data


def _round_numbers(budget: int) -> list[int]:
    """Return checkpoints up to the budget; quarters of it where it is small."""
    found = [c for c in _CHECKPOINTS if c < budget]
    if not found:
        found = [budget // 4, budget // 2]
    return sorted({c for c in found if c > 0} | {budget})


def _quartiles(values: Values) -> tuple[float, float, float]:
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return first, median, third


def _quartiles_of_best(values: Values, sign: float) -> tuple[float, float, float]:
    """Return quartiles from worse to better; a trial without a value is worse than any other."""
    F = np.where(np.isnan(values), np.inf, sign * values)
    worse, median, better = (_quartiles if np.isfinite(F).all() else _quartiles_up)(F)[::-1]
    found = [sign * v if math.isfinite(v) else math.nan for v in (worse, median, better)]
    return found[0], found[1], found[2]


def _quartiles_up(values: Values) -> tuple[float, float, float]:
    """Return quartiles that are values of the sample, the upper one of two: infinite ones cannot be averaged."""
    ordered = np.sort(values)
    first, median, third = (float(ordered[math.ceil(q * (len(ordered) - 1))]) for q in (0.25, 0.5, 0.75))
    return first, median, third
