"""A place in the pool of a `RayExecutor`: one actor at a time, replaced when it is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from nassearch.evaluation import EvaluatorSource, Job, Part
from nassearch.executors.base import describe_error, failed, succeeded
from nassearch.executors.ray_host import EvaluationHost, HostInfo
from nassearch.store import Outcome

if TYPE_CHECKING:
    from nassearch.executors.ray_latency import LatencyPlace

MAX_STARTS = 3
"""Failed starts in a row after which a place is given up."""


@dataclass
class Run:
    """A job on its way: what is there of it, how often it was tried, and the seconds it took.

    Attributes:
        job: The job.
        started: Unix time of its first attempt; 0 before.
        attempts: Attempts begun.
        part: What is finished of it.
        seconds: Seconds of all attempts.
        attempt_s: Seconds of this attempt's finished half, which its time limit includes.
        host: Where it ran last.
        places: Where costs of it are still to be measured, in order.
    """

    job: Job
    started: float = 0.0
    attempts: int = 0
    part: Part | None = None
    seconds: float = 0.0
    attempt_s: float = 0.0
    host: str | None = None
    places: list[LatencyPlace] = field(default_factory=list)

    def succeeded(self, part: Part) -> Outcome:
        """Return the outcome of the finished job, without its time in queues."""
        return self._timed(succeeded(self.job, part, self.started, self.attempts, self.host))

    def failed(self, error: str) -> Outcome:
        """Return the outcome of the job that is given up."""
        return self._timed(failed(self.job, error, self.started, self.attempts, self.host))

    def _timed(self, outcome: Outcome) -> Outcome:
        return replace(outcome, wall_s=self.seconds)


class Launcher(Protocol):
    """Makes actors; the only thing about Ray that a `Worker` knows."""

    def launch(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Start an actor and return it with the reference of its `HostInfo`."""

    def kill(self, actor: Any) -> None:
        """Kill an actor, whatever it is doing."""


class RayLauncher:
    """Starts actors that build the evaluator from arrays in the object store.

    Args:
        ray: The module ``ray``, connected.
        source: How to make the evaluator; its arrays are put into the object store here, once.
        threads: Threads of each evaluation.
        environment: Environment of the workers, where they do not have it from their cluster.
    """

    def __init__(self, ray: Any, source: EvaluatorSource, threads: int, environment: Mapping[str, str] | None) -> None:
        self._ray, self._threads = ray, threads
        self._arrays = {name: ray.put(array) for name, array in source.arrays().items()}
        self._source = ray.put(source.without_arrays())
        self._actor_class = ray.remote(EvaluationHost)
        self._common: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0}
        if environment is not None:
            self._common["runtime_env"] = {"env_vars": dict(environment)}

    def launch(self, options: Mapping[str, Any]) -> tuple[Any, Any]:
        """Start an actor and return it with the reference of its `HostInfo`."""
        actor = self._actor_class.options(**self._common, **options).remote()
        return actor, actor.start.remote(self._source, self._arrays, self._threads)

    def kill(self, actor: Any) -> None:
        """Kill an actor, whatever it is doing."""
        self._ray.kill(actor, no_restart=True)


class Worker:
    """One place in the pool.

    Args:
        launcher: Makes its actors.
        options: Returns the options of an actor: cores, resources, where to run; asked at every start.
    """

    def __init__(self, launcher: Launcher, options: Callable[[], Mapping[str, Any]]) -> None:
        self._launcher, self._options = launcher, options
        self.starts_failed = 0
        self.error: str | None = None
        self.run: Run | None = None
        self.spawn()

    def spawn(self) -> None:
        """Start an actor; it is `ready` when `started` has been called with its answer."""
        self.info: HostInfo | None = None
        self.run = None
        self.since = time.monotonic()
        self.deadline = float("inf")
        self._actor, self.ref = self._launcher.launch(self._options())

    @property
    def given_up(self) -> bool:
        """Whether the place is given up, its starts having failed too often."""
        return self.starts_failed >= MAX_STARTS

    @property
    def starting(self) -> bool:
        """Whether its actor is on the way."""
        return self.info is None and not self.given_up

    @property
    def node_id(self) -> str:
        """Id of the node its actor runs on; empty while it starts."""
        return self.info.node_id if self.info is not None else ""

    @property
    def idle(self) -> bool:
        """Whether it can take a job."""
        return self.info is not None and self.run is None

    def started(self, info: HostInfo) -> None:
        """Take the answer of the actor's start."""
        self.info, self.ref, self.starts_failed, self.error = info, None, 0, None

    def start_failed(self, error: str) -> None:
        """Note that the actor did not start, and start another one unless that was the last."""
        self.starts_failed += 1
        self.error = error
        self.stop()
        if not self.given_up:
            self.spawn()

    def begin(self, run: Run, half: str, timeout_s: float | None, costs: tuple[str, ...] | None = None) -> None:
        """Run one half of a job, ``"quality"`` or ``"cost"`` (all or some); the time limit counts from now."""
        assert self.info is not None  # noqa: S101 - for the type checker: only idle workers are given jobs
        if not run.started:
            run.started = time.time()
        run.host = self.info.host
        self.run, self.since = run, time.monotonic()
        if timeout_s is not None:
            self.deadline = self.since + max(timeout_s - run.attempt_s, 0.0)
        words = (dict(run.job.arch), run.job.split if half == "quality" else costs)
        self.ref = getattr(self._actor, half).remote(*words)

    def end(self, seconds: float | None = None) -> Run:
        """Take the job off the worker, with the time it took."""
        assert self.run is not None  # noqa: S101 - for the type checker: only busy workers end
        run, self.run, self.ref, self.deadline = self.run, None, None, float("inf")
        run.seconds += time.monotonic() - self.since if seconds is None else seconds
        return run

    def replace(self) -> None:
        """Kill the actor and start another one."""
        self.stop()
        self.spawn()

    def stop(self) -> None:
        """Kill the actor."""
        if self._actor is not None:
            self._launcher.kill(self._actor)
        self._actor = self.ref = self.info = None


def reason(error: BaseException) -> str:
    """Return in one line why Ray lost a worker: the innermost error, not the first line of a long story."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, BaseException):
        return describe_error(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if getattr(error, "actor_init_failed", False) and lines:
        return lines[-1][:500]
    facts = [line for line in lines if not line.startswith(("class_name:", "actor_id:", "pid:", "namespace:", "ip:"))]
    return f"{type(error).__name__}: {' '.join(facts) or 'no message'}"[:500]
