"""The contract of executors: submit architectures, collect finished evaluations."""

from __future__ import annotations

import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from nassearch.evaluation import Job, Part
from nassearch.store import Outcome


@dataclass(frozen=True)
class ExecutorSettings:
    """How evaluations are run.

    Attributes:
        num_workers: Evaluations at a time. On Ray 0 is allowed: for jobs of costs alone.
        threads: Threads of each evaluation, the same in every executor.
        timeout_s: Limit of one attempt; None means none.
        retries: Further attempts after a lost worker or a time-out. An evaluation that raises is not tried
            again: it would raise again.
        address: Address of a cluster; None means this machine.
        latency_resource: Name of the resource of the nodes that measure latency.
        resources: Metric -> resource of the nodes that measure it, for every measured metric; empty where all are
            measured by the nodes with ``latency_resource``.
        exclusive_latency: Measure only while no other evaluation runs.
        latency_cpus: Cores that a measurement reserves where others run beside it.
        devices: Metric -> fingerprint of the device that measured it before; others are avoided.
        start_timeout_s: Limit for the start of a worker: installing, loading, waiting for free cores.
    """

    num_workers: int = 1
    threads: int = 1
    timeout_s: float | None = None
    retries: int = 2
    address: str | None = None
    latency_resource: str = "latency_slot"
    resources: Mapping[str, str] = field(default_factory=dict)
    exclusive_latency: bool = True
    latency_cpus: int = 1
    devices: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 900.0

    def measured_by(self) -> dict[str, tuple[str, ...] | None]:
        """Return each resource with what the nodes that have it measure; None for everything."""
        if not self.resources:
            return {self.latency_resource: None}
        names = dict.fromkeys(self.resources.values())
        return {name: tuple(m for m, r in self.resources.items() if r == name) for name in names}


class Executor(ABC):
    """Runs evaluations; outcomes come back in the order in which they finish.

    A failed evaluation is an outcome too: only faults of the executor itself are raised.
    """

    @property
    @abstractmethod
    def in_flight(self) -> int:
        """Number of jobs submitted whose outcome has not been returned."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """Number of jobs that can run at a time."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs."""

    @abstractmethod
    def wait(self) -> list[Outcome]:
        """Block until at least one outcome is there and return all that are; empty when none is in flight."""

    @abstractmethod
    def close(self) -> None:
        """Stop the workers; jobs in flight are abandoned. Safe to call twice."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def succeeded(job: Job, part: Part, started: float, attempts: int, host: str | None = None) -> Outcome:
    """Return the outcome of a job whose parts are all there."""
    return Outcome(
        job.id,
        "ok",
        part.values,
        part.std,
        part.measured,
        None,
        host or socket.gethostname(),
        part.device,
        started,
        time.time() - started,
        attempts,
    )


def failed(job: Job, error: str, started: float, attempts: int, host: str | None = None) -> Outcome:
    """Return the outcome of a job that was given up."""
    return Outcome(
        job.id,
        "failed",
        error=error,
        host=host or socket.gethostname(),
        started=started,
        wall_s=time.time() - started,
        attempts=attempts,
    )


def describe_error(error: BaseException) -> str:
    """Return an error as one line for the store."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0] if text else 'no message'}"[:500]
