"""One evaluation after another, in this process."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from nassearch.evaluation import Evaluator, Job, Part, measured
from nassearch.executors.base import Executor, ExecutorSettings, describe_error, failed, succeeded
from nassearch.store import Outcome


class _TimedOut(BaseException):
    """No `Exception`: what an evaluation catches and rewords must not be its own time-out."""


@contextmanager
def _time_limit(seconds: float | None) -> Iterator[None]:
    """Raise `_TimedOut` in the main thread after ``seconds``; elsewhere, where signals do not reach, never.

    The signal is seen between Python instructions: one long native call is interrupted only when it returns.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise _TimedOut

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, previous)


class LocalExecutor(Executor):
    """Evaluates in this process, in the order of submission.

    Args:
        evaluator: What evaluates.
        settings: Threads and time limit; a job that times out is tried again ``retries`` times.
    """

    def __init__(self, evaluator: Evaluator, settings: ExecutorSettings) -> None:
        self._evaluator, self._settings = evaluator, settings
        self._queue: deque[Job] = deque()

    @property
    def in_flight(self) -> int:
        """Number of queued jobs."""
        return len(self._queue)

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def submit(self, jobs: Sequence[Job]) -> None:
        """Queue jobs; they run in `wait`."""
        self._queue.extend(jobs)

    def wait(self) -> list[Outcome]:
        """Run the next job and return its outcome."""
        if not self._queue:
            return []
        outcome = self._run(self._queue[0])
        self._queue.popleft()
        return [outcome]

    def _run(self, job: Job) -> Outcome:
        from predictors.backends.base import pinned_threads

        started = time.time()
        limit = self._settings.timeout_s
        for attempt in range(1, self._settings.retries + 2):
            try:
                with pinned_threads(self._settings.threads), _time_limit(limit):
                    part = Part() if job.split is None else self._evaluator.quality(job.arch, job.split)
                    if self._evaluator.needs_cost and job.costs != ():
                        part = part.joined(measured(self._evaluator, job.arch, job.costs))
                return succeeded(job, part, started, attempt)
            except _TimedOut:
                continue
            except Exception as error:  # recorded in the store as this evaluation's outcome
                return failed(job, describe_error(error), started, attempt)
        return failed(job, f"timed out after {limit:g} s, {attempt} times", started, attempt)

    def close(self) -> None:
        """Drop what is queued."""
        self._queue.clear()
