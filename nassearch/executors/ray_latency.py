"""The place of a `RayExecutor` where costs are measured: an actor on a node that has a resource, always the same."""

from __future__ import annotations

from collections import deque
from typing import Any

from nassearch.errors import EvaluationError
from nassearch.evaluation import Job
from nassearch.executors.base import ExecutorSettings
from nassearch.executors.ray_cluster import Cluster
from nassearch.executors.ray_needs import latency_cores
from nassearch.executors.ray_worker import Launcher, Run, Worker


class LatencyPlace:
    """One actor that measures, holding one unit of a resource, and the runs that wait for it.

    Args:
        resource: Name of the resource of the nodes that may measure here.
        metrics: What is measured here; None for everything.
        cluster: The cluster.
        settings: Of the executor.
        launcher: Makes actors.
        exclusive: Measure only while no quality evaluation runs.
    """

    def __init__(
        self,
        resource: str,
        metrics: tuple[str, ...] | None,
        cluster: Cluster,
        settings: ExecutorSettings,
        launcher: Launcher,
        exclusive: bool,
    ) -> None:
        self.resource, self.exclusive = resource, exclusive
        self._metrics, self._cluster, self._settings = metrics, cluster, settings
        self.queue: deque[Run] = deque()
        self.node: str | None = None
        self._rejected: set[str] = set()
        self._started: Worker | None = None
        self._started = self.worker = Worker(launcher, self._options)

    @property
    def measuring(self) -> bool:
        """Whether a measurement runs."""
        return self.worker.run is not None

    def costs_of(self, job: Job) -> tuple[str, ...] | None:
        """Return what of a job is measured here; None for everything, empty for nothing."""
        if self._metrics is None:
            return job.costs
        return self._metrics if job.costs is None else tuple(m for m in self._metrics if m in job.costs)

    def _options(self) -> dict[str, Any]:
        """Return where the next actor starts: at first anywhere, then where the last one measured."""
        left, pinned = self._nodes_left(), None
        failed_before = self._started is not None and self._started.starts_failed > 0
        # Workers that were replaced may hold the cores meant for it: without them it measures while they are idle.
        self.exclusive = self.exclusive or failed_before
        if self.node in left and not failed_before:
            pinned = self.node
        elif self._rejected and left:
            pinned = left[0]
        nodes = left if pinned is None else [pinned]
        cores = 0 if self.exclusive else latency_cores(self._cluster, self._settings, nodes)
        options: dict[str, Any] = {"num_cpus": cores, "resources": {self.resource: 1}}
        if pinned is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node_id=pinned, soft=False)
        return options

    def _nodes_left(self) -> list[str]:
        return [node for node in self._cluster.nodes_with(self.resource, 1) if node not in self._rejected]

    def move(self, run: Run, node: str) -> None:
        """Measure again elsewhere: the worker came up on another device, whose figures must not mix.

        Raises:
            EvaluationError: There is no other node.
        """
        self.queue.appendleft(run)
        self._rejected.add(node)
        if not self._nodes_left():
            raise EvaluationError(
                f"costs were measured on one device so far, but only another one is left ({run.host}), and figures "
                "of different devices never mix; bring the first one back and resume, or start a new run"
            )
        self.worker.replace()
