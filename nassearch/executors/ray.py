"""Evaluations on the workers of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence

from nassearch.devices import devices_of
from nassearch.errors import EvaluationError
from nassearch.evaluation import EvaluatorSource, Job, Part
from nassearch.executors.base import Executor, ExecutorSettings
from nassearch.executors.ray_cluster import Cluster, require_ray, worker_environment
from nassearch.executors.ray_host import Answer
from nassearch.executors.ray_latency import LatencyPlace
from nassearch.executors.ray_needs import check_needs, room_beside
from nassearch.executors.ray_worker import RayLauncher, Run, Worker, reason
from nassearch.store import Outcome

_POLL_S = 1.0
_CHECK_EVERY_S = 10.0
_START_DISTURBS_S = 60.0  # a worker that starts keeps the cores busy for less; after that it only waits for a place


class RayExecutor(Executor):
    """Evaluates on a pool of Ray actors, and measures costs on one actor that holds the latency slot.

    Quality is evaluated by ``num_workers`` actors. Costs are measured one after another by an actor that holds
    one unit of ``settings.latency_resource``, or by one such actor for each of ``settings.resources``; with
    ``exclusive_latency`` only while no quality evaluation runs, is queued, or is about to. An actor that dies, or
    exceeds the time limit and is killed, costs its own job only: both are replaced, the job at most ``retries``
    times.

    Args:
        source: How the workers make their evaluator; its arrays are sent once, through the object store.
        settings: Workers, threads, limits, address.

    Raises:
        ConfigError: Ray or the cluster cannot be used, or no node of it has what the workers need.
        EvaluationError: No worker could be started.
    """

    def __init__(self, source: EvaluatorSource, settings: ExecutorSettings) -> None:
        self._settings = settings
        self._queue: deque[Run] = deque()
        self._finished: list[Outcome] = []
        self._workers: list[Worker] = []
        self._places: list[LatencyPlace] = []
        self._fingerprints = dict(settings.devices)
        self._closed = False
        arrays = source.arrays()
        self._cluster = Cluster(settings, sum(a.nbytes for a in arrays.values()))
        try:
            self._ray = require_ray()
            check_needs(self._cluster, settings, costs=False)
            environment = None if self._cluster.private else worker_environment(settings)
            self._launcher = RayLauncher(self._ray, source, settings.threads, environment)
            for _ in range(settings.num_workers):
                self._workers.append(Worker(self._launcher, lambda: {"num_cpus": settings.threads}))
            self._needs_cost = self._first_answer()
            exclusive = settings.exclusive_latency or not self._room_beside()
            if self._needs_cost:
                check_needs(self._cluster, settings, costs=True)
                for name, metrics in settings.measured_by().items():
                    place = LatencyPlace(name, metrics, self._cluster, settings, self._launcher, exclusive)
                    self._places.append(place)
        except BaseException:
            self.close()
            raise

    # -- starting ------------------------------------------------------------------------------------

    def _first_answer(self) -> bool:
        """Wait for the first worker and return whether its evaluator measures costs; without workers it only does."""
        if not self._workers:
            return True
        while True:
            for worker in self._workers:
                if worker.info is not None:
                    return worker.info.needs_cost
            self._collect(_POLL_S)

    def _room_beside(self) -> bool:
        """Return whether a measurement has cores of its own beside the quality evaluations."""
        if not self._cluster.private:
            return room_beside(self._cluster, self._settings)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        s = self._settings
        return s.num_workers * s.threads + s.latency_cpus * len(s.measured_by()) <= cores

    # -- the executor's contract ---------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Number of jobs submitted whose outcome has not been returned."""
        running = sum(worker.run is not None for worker in self._all())
        waiting = sum(len(place.queue) for place in self._places)
        return len(self._queue) + waiting + running + len(self._finished)

    @property
    def slots(self) -> int:
        """Number of workers, and one more where costs are measured beside them."""
        return self._settings.num_workers + sum(not place.exclusive for place in self._places)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs and give them to idle workers."""
        for job in jobs:
            if job.split is not None:
                self._queue.append(Run(job))
            else:
                self._measure_next(Run(job, places=self._places_of(job)))
        self._dispatch()

    def wait(self) -> list[Outcome]:
        """Block until an outcome is there.

        Raises:
            EvaluationError: The cluster is gone, or has no worker left that starts; or the device that
                measured so far is not there any more.
        """
        checked = time.monotonic()
        while not self._finished and self.in_flight:
            self._dispatch()
            if self._collect(_POLL_S):
                checked = time.monotonic()
            elif time.monotonic() - checked > _CHECK_EVERY_S:
                if not self._cluster.alive():
                    raise EvaluationError("the Ray cluster does not answer any more; start it again and resume")
                checked = time.monotonic()
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        """Kill the workers, and the cluster if it was started here."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._ray_connected() and not self._cluster.lost:
                for worker in self._all():
                    worker.stop()
        finally:
            self._workers, self._places, self._launcher = [], [], None  # type: ignore[assignment]
            self._queue.clear()
            self._finished.clear()
            self._cluster.close()

    def _ray_connected(self) -> bool:
        return hasattr(self, "_ray") and bool(self._ray.is_initialized())

    # -- the loop ------------------------------------------------------------------------------------

    def _all(self) -> Iterator[Worker]:
        yield from self._workers
        for place in self._places:
            yield place.worker

    def _place(self, worker: Worker) -> LatencyPlace | None:
        """Return the place whose worker this is; None for one that evaluates quality."""
        return next((place for place in self._places if place.worker is worker), None)

    def _places_of(self, job: Job) -> list[LatencyPlace]:
        """Return where the costs of a job are measured."""
        return [place for place in self._places if place.costs_of(job) != ()]

    def _measure_next(self, run: Run) -> None:
        """Queue a run where its next costs are measured, or finish it."""
        if run.places:
            run.places[0].queue.append(run)
            return
        if run.part is None:  # nothing was to be done
            run.started, run.attempts = time.time(), 1
        self._finished.append(run.succeeded(run.part or Part()))

    def _dispatch(self) -> None:
        """Give work to idle workers."""
        if not any(place.exclusive and place.measuring for place in self._places):
            for worker in self._workers:
                if self._queue and worker.idle:
                    run = self._queue.popleft()
                    run.attempts += 1
                    run.attempt_s = 0.0
                    worker.begin(run, "quality", self._settings.timeout_s)
        for place in self._places:
            if place.queue and place.worker.idle and not self._measured_beside(place):
                if place.exclusive and self._disturbed():
                    continue
                run = place.queue.popleft()
                run.attempts = max(run.attempts, 1)  # costs alone come here without an evaluation before
                place.worker.begin(run, "cost", self._settings.timeout_s, place.costs_of(run.job))

    def _measured_beside(self, place: LatencyPlace) -> bool:
        """Return whether another measurement runs on the same node: they would disturb each other."""
        return any(p.measuring and p.worker.node_id == place.worker.node_id for p in self._places if p is not place)

    def _disturbed(self) -> bool:
        """Return whether quality evaluations run, or workers start, which would slow a measurement down."""
        now = time.monotonic()
        return bool(self._queue) or any(
            worker.run is not None or (worker.starting and now - worker.since < _START_DISTURBS_S)
            for worker in self._workers
        )

    def _collect(self, timeout_s: float) -> bool:
        """Wait for answers and handle them, and the time limits; return whether anything was answered."""
        pending = {worker.ref: worker for worker in self._all() if worker.ref is not None}
        if pending:
            deadline = min(worker.deadline for worker in pending.values())
            timeout_s = max(min(timeout_s, deadline - time.monotonic()), 0.0)
            ready, _ = self._ray.wait(list(pending), timeout=timeout_s)
            if ready and len(pending) > 1:
                ready, _ = self._ray.wait(list(pending), num_returns=len(pending), timeout=0)
        else:
            ready = []
        for ref in ready:
            self._take(pending[ref])
        self._enforce_limits()
        self._raise_if_stuck()
        return bool(ready)

    def _take(self, worker: Worker) -> None:
        """Handle the answer of a worker: of its start, or of its job."""
        try:
            answer = self._ray.get(worker.ref)
        except self._ray.exceptions.RayTaskError as error:
            # Errors of evaluations come as text: this is an answer that could not be sent, or a failed start.
            if worker.run is None:
                worker.start_failed(reason(error))
            else:
                self._finished.append(worker.end().failed(reason(error)))
        except self._ray.exceptions.RayError as error:
            if worker.run is None:
                worker.start_failed(reason(error))
            else:
                self._lost(worker, f"lost its worker: {reason(error)}")
        else:
            if worker.run is None:
                worker.started(answer)
            else:
                self._finish(worker, answer)

    def _finish(self, worker: Worker, answer: Answer) -> None:
        run, node, place = worker.end(answer.seconds), worker.node_id, self._place(worker)
        if answer.part is None:
            self._finished.append(run.failed(answer.error or "no message"))
        elif place is None:
            run.part, run.attempt_s, run.places = answer.part, answer.seconds, self._places_of(run.job)
            self._measure_next(run)
        elif self._same_device(answer.part, place, node):
            run.part = answer.part if run.part is None else run.part.joined(answer.part)
            run.attempt_s += answer.seconds
            del run.places[0]
            self._measure_next(run)
        else:
            place.move(run, node)

    def _enforce_limits(self) -> None:
        now = time.monotonic()
        for worker in self._all():
            if worker.run is not None and now >= worker.deadline:
                self._lost(worker, f"timed out after {self._settings.timeout_s:g} s")
            elif worker.starting and now - worker.since > self._settings.start_timeout_s:
                worker.start_failed(
                    f"it did not start in {self._settings.start_timeout_s:g} s: the cluster has no free "
                    f"{'latency slot' if self._place(worker) else 'cores'}, or is slow in installing"
                )

    def _lost(self, worker: Worker, error: str) -> None:
        """Replace a worker that is lost, and try its job again unless that was the last attempt."""
        run, place = worker.end(), self._place(worker)
        if run.attempts > self._settings.retries:
            times = f", attempt {run.attempts} of {run.attempts}" if run.attempts > 1 else ""
            self._finished.append(run.failed(error + times))
        elif place is not None:
            run.attempts += 1
            run.attempt_s = 0.0
            place.queue.appendleft(run)
        else:
            self._queue.appendleft(run)
        worker.replace()

    def _raise_if_stuck(self) -> None:
        places = {"evaluates": self._workers}
        places |= {f"measures costs ({place.resource})": [place.worker] for place in self._places}
        for what, workers in places.items():
            if workers and all(worker.given_up for worker in workers):
                raise EvaluationError(
                    f"no Ray worker that {what} could be started, last: {workers[0].error}; see that the nodes have "
                    "the packages, the data and the free resources that workers need, then resume"
                )

    # -- one device for all measurements of a metric ---------------------------------------------------

    def _same_device(self, part: Part, place: LatencyPlace, node: str) -> bool:
        """Return whether a measurement comes from the device of the first one of the run, which decides."""
        found = {metric: device.fingerprint for metric, device in devices_of(part.device).items()}
        if any(self._fingerprints.get(key, value) != value for key, value in found.items()):
            return False
        self._fingerprints |= found
        place.node = node
        return True
