"""Where evaluations run: in this process, or on the workers of a Ray cluster."""

from __future__ import annotations

from nassearch.errors import ConfigError
from nassearch.evaluation import Evaluator, EvaluatorSource
from nassearch.executors.base import Executor, ExecutorSettings
from search_spaces.errors import did_you_mean

EXECUTORS = ("local", "ray")


def measures_elsewhere(name: str, address: str | None) -> bool:
    """Return whether the costs of a run may be measured on another machine than this one.

    Args:
        name: Name of the executor.
        address: Address of its cluster as the user gave it.
    """
    if name != "ray":
        return False
    from nassearch.executors.ray_cluster import cluster_address, connected

    return connected() or cluster_address(address) is not None


def make_executor(name: str, evaluator: Evaluator, source: EvaluatorSource, settings: ExecutorSettings) -> Executor:
    """Make an executor by name.

    Args:
        name: ``"local"`` or ``"ray"``.
        evaluator: The evaluator of this process.
        source: How other processes make theirs.
        settings: Workers, threads, time limit, ….

    Raises:
        ConfigError: The name is unknown, or the cluster cannot be used.
    """
    if name == "local":
        from nassearch.executors.local import LocalExecutor

        return LocalExecutor(evaluator, settings)
    if name == "ray":
        from nassearch.executors.ray import RayExecutor

        return RayExecutor(source, settings)
    raise ConfigError(f"unknown executor {name!r}{did_you_mean(name, EXECUTORS)}; available: {', '.join(EXECUTORS)}")


__all__ = ["EXECUTORS", "Executor", "ExecutorSettings", "make_executor", "measures_elsewhere"]
