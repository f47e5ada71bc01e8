"""One trial: a strategy on a problem with one seed."""

from __future__ import annotations

import json
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nassearch.bench.problem import TabularProblem
from nassearch.errors import ConfigError
from nassearch.strategies import Strategy, make_strategy, strategy_options

_ASKS = 20  # proposals for each evaluation of the budget, where a table gives many of them the same network


@dataclass(frozen=True)
class Contender:
    """A strategy and its options.

    Attributes:
        name: Name of the strategy.
        options: Options that were given.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Contender:
        """Read ``NAME[,option=value…]``; values are JSON, anything else is a text.

        Raises:
            ConfigError: A part that is no option.
        """
        name, *words = (part.strip() for part in text.split(","))
        options: dict[str, Any] = {}
        for word in words:
            key, equals, value = (part.strip() for part in word.partition("="))
            if not equals or not key or key in options:
                what = "is given twice" if key in options else "is no option"
                raise ConfigError(f"strategy {text!r}: {word!r} {what}; write {name},option=value")
            try:
                options[key] = json.loads(value)
            except ValueError:
                options[key] = value
        return cls(name, options)

    def __str__(self) -> str:
        words = [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in sorted(self.options.items())]
        return ",".join([self.name, *words])

    def resolved(self) -> dict[str, Any]:
        """Return all options, defaults included: what decides the results.

        Raises:
            ConfigError: There is no such strategy.
        """
        return {**strategy_options(self.name), **self.options}

    def build(self, problem: TabularProblem, seed: int, budget: int) -> Strategy:
        """Make the strategy for a problem.

        Raises:
            ConfigError: Unknown strategy or option, or a problem that it does not handle.
        """
        return make_strategy(
            self.name,
            problem.space,
            objectives=problem.objectives,
            constraints=problem.constraints,
            seed=seed,
            analytic=problem.analytic,
            budget=budget,
            **self.options,
        )


@dataclass(frozen=True)
class Point:
    """Where a trial stands after a batch.

    Attributes:
        problem: Name of the problem.
        strategy: The strategy with its options.
        seed: Its seed.
        batch: Number of batches so far.
        evaluations: Distinct networks evaluated so far.
        asked: Proposals so far; more than ``evaluations`` where several are the same network.
        score: See `TabularProblem`.
        best: Best value of a single objective, in its own unit; NaN with several objectives.
        front: Networks on the front.
        own_s: Seconds the strategy took for itself so far.
        cpu_s: Processor seconds of that, of all threads of the process.
        done: Whether the trial ended here.
    """

    problem: str
    strategy: str
    seed: int
    batch: int
    evaluations: int
    asked: int
    score: float
    best: float
    front: int
    own_s: float
    cpu_s: float
    done: bool

    @property
    def key(self) -> tuple[str, str, int]:
        """Problem, strategy and seed."""
        return self.problem, self.strategy, self.seed


def run_trial(
    problem: TabularProblem, contender: Contender, seed: int, *, budget: int, batch_size: int, threads: int = 1
) -> list[Point]:
    """Run a strategy until the budget of distinct networks is spent or the space is exhausted.

    Args:
        problem: The problem.
        contender: The strategy.
        seed: Its seed.
        budget: Distinct networks to evaluate.
        batch_size: Proposals a batch.
        threads: Threads of the numerical libraries, set also here because figures can depend on them.

    Returns:
        One point a batch, at least one.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(threads):
        return _run(problem, contender, seed, budget, batch_size)


def _run(problem: TabularProblem, contender: Contender, seed: int, budget: int, batch_size: int) -> list[Point]:
    clock = _Clock()
    with clock:
        strategy = contender.build(problem, seed, budget)
    m, c = len(problem.objectives), len(problem.constraints)
    values, violations, reported = np.empty((0, m)), np.empty((0, c)), np.empty((0, m))
    seen: set[Hashable] = set()
    points: list[Point] = []
    while True:
        with clock:
            G = strategy.ask(min(batch_size, budget - len(seen)))
        if len(G):
            figures = problem.evaluate(G)
            new, missed = problem.values(figures), problem.violations(figures)
            with clock:
                strategy.tell(G, new, missed)
            seen.update(problem.networks(G))
            values, violations = np.concatenate([values, new]), np.concatenate([violations, missed])
            reported = np.concatenate([reported, problem.reported_values(figures)])
        done = len(seen) >= budget or len(values) >= _ASKS * budget or not len(G)
        points.append(
            Point(
                problem.name, str(contender), seed, len(points) + 1, len(seen), len(values),
                problem.score(values, violations, reported),
                problem.best(values, violations, reported) if m == 1 else float("nan"),
                problem.front_size(values, violations), clock.wall_s, clock.cpu_s, done,
            )
        )  # fmt: skip
        if done:
            return points


class _Clock:
    """Adds up the time spent inside ``with`` blocks."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0

    def __enter__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter() - self._wall
        self.cpu_s += time.process_time() - self._cpu
