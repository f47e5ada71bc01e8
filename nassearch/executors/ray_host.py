"""What runs in a worker process of Ray: one evaluator, rebuilt from the object store."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nassearch.evaluation import EvaluatorSource, Part, measured
from nassearch.executors.base import describe_error


@dataclass(frozen=True)
class HostInfo:
    """Where a worker runs, and whether its evaluator measures costs."""

    host: str
    node_id: str
    pid: int
    needs_cost: bool


@dataclass(frozen=True)
class Answer:
    """What came of one half of an evaluation: a part, or an error in one line; and its seconds."""

    part: Part | None
    error: str | None
    seconds: float


class EvaluationHost:
    """Holds an evaluator in a worker; an actor of Ray is made from this class.

    The constructor does nothing, so that whatever goes wrong in building the evaluator comes back as the error
    of `start`.
    """

    def start(self, source: EvaluatorSource, arrays: Mapping[str, Any], threads: int) -> HostInfo:
        """Build the evaluator.

        Args:
            source: How to make it, without its arrays.
            arrays: References to the arrays in the object store; they become read-only views without a copy.
            threads: Threads of each evaluation.
        """
        import ray

        views = dict(zip(arrays, ray.get(list(arrays.values())), strict=True))
        self._evaluator = source.build(views)
        # The environment of this process has told the libraries already; torch is told again as it can be.
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(threads)
        node = ray.get_runtime_context().get_node_id()
        return HostInfo(socket.gethostname(), node, os.getpid(), bool(self._evaluator.needs_cost))

    def quality(self, arch: Mapping[str, Any], split: str) -> Answer:
        """Evaluate quality on a split, and analytic metrics."""
        return _answer(self._evaluator.quality, arch, split)

    def cost(self, arch: Mapping[str, Any], metrics: tuple[str, ...] | None = None) -> Answer:
        """Measure all costs on this device, or some."""
        return _answer(measured, self._evaluator, arch, metrics)


def _answer(evaluate: Callable[..., Part], *words: Any) -> Answer:
    """Evaluate, with an error as text: not every exception survives the way to another process."""
    started = time.monotonic()
    try:
        part = evaluate(*words)
    except Exception as error:  # recorded in the store as this evaluation's outcome
        return Answer(None, describe_error(error), time.monotonic() - started)
    return Answer(part, None, time.monotonic() - started)
