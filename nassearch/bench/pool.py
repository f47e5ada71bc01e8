"""Where trials run: one after another here, or on the workers of a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nassearch.bench.problem import TabularProblem
from nassearch.bench.trial import Contender, Point, run_trial
from nassearch.config import import_plugins
from nassearch.errors import EvaluationError
from nassearch.executors.base import ExecutorSettings, describe_error

_OBJECT_STORE_BYTES = 64 * 2**20  # a problem's tables are a few megabytes
_RETRIES = 2
_POLL_S = 2.0
_CHECK_EVERY_S = 20.0


@dataclass(frozen=True)
class Trial:
    """A trial to run: keys of its problem and contender, and a seed."""

    problem: str
    strategy: str
    seed: int

    def __str__(self) -> str:
        return f"{self.strategy} on {self.problem}, seed {self.seed}"


@dataclass(frozen=True)
class Finished:
    """What became of a trial: its points, or why there are none."""

    trial: Trial
    points: list[Point]
    error: str | None = None


@dataclass(frozen=True)
class Work:
    """Everything that trials share."""

    problems: Mapping[str, TabularProblem]
    contenders: Mapping[str, Contender]
    budget: int
    batch_size: int
    threads: int
    plugins: tuple[str, ...] = ()


def run_here(work: Work, trials: Sequence[Trial]) -> Generator[Finished, None, None]:
    """Run trials one after another in this process."""
    for trial in trials:
        yield _finish(work.problems[trial.problem], work.contenders[trial.strategy], work, trial)


def _finish(problem: TabularProblem, contender: Contender, work: Work, trial: Trial) -> Finished:
    """Run a trial; whatever the strategy raises is the trial's error, and the other trials go on."""
    try:
        points = run_trial(
            problem, contender, trial.seed, budget=work.budget, batch_size=work.batch_size, threads=work.threads
        )
    except Exception as error:  # a strategy may raise anything
        return Finished(trial, [], describe_error(error))
    return Finished(trial, points)


def _remote(problem: TabularProblem, contender: Contender, work: Work, trial: Trial) -> Finished:
    """As `_finish` in a worker process."""
    import_plugins(work.plugins)
    return _finish(problem, contender, work, trial)


def run_on_ray(
    work: Work, trials: Sequence[Trial], *, workers: int, address: str | None = None
) -> Generator[Finished, None, None]:
    """Run trials on Ray, ``workers`` at a time; they come back in the order in which they finish.

    Args:
        work: What they share; each problem is sent once, through the object store.
        trials: The trials.
        workers: Trials at a time.
        address: Of a cluster. Default: that of ``RAY_ADDRESS``, or a private one on this machine.

    Raises:
        ConfigError: Ray or the cluster cannot be used.
        EvaluationError: The cluster was lost.
    """
    from nassearch.executors.ray_cluster import Cluster, require_ray, worker_environment

    settings = ExecutorSettings(num_workers=workers, threads=work.threads, address=address, latency_cpus=0)
    cluster = Cluster(settings, _OBJECT_STORE_BYTES)
    try:
        ray = require_ray()
        options: dict[str, Any] = {"num_cpus": work.threads, "max_retries": _RETRIES}
        if not cluster.private:
            options["runtime_env"] = {"env_vars": worker_environment(settings)}
        task = ray.remote(_remote).options(**options)
        problems = {name: ray.put(problem) for name, problem in work.problems.items()}
        shared = ray.put(Work({}, {}, work.budget, work.batch_size, work.threads, work.plugins))
        waiting = list(reversed(trials))
        running: dict[Any, Trial] = {}
        checked = time.monotonic()
        while waiting or running:
            while waiting and len(running) < workers:
                trial = waiting.pop()
                reference = task.remote(problems[trial.problem], work.contenders[trial.strategy], shared, trial)
                running[reference] = trial
            ready, _ = ray.wait(list(running), timeout=_POLL_S)
            if not ready and time.monotonic() - checked > _CHECK_EVERY_S:
                checked = time.monotonic()
                if not cluster.alive():
                    raise EvaluationError("the Ray cluster does not answer any more; start it again and resume")
            for reference in ready:
                trial = running.pop(reference)
                yield _collected(ray, reference, trial)
    finally:
        cluster.close()


def _collected(ray: Any, reference: Any, trial: Trial) -> Finished:
    try:
        found: Finished = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Finished(trial, [], describe_error(error))
    return found
