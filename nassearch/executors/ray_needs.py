"""What a run needs of a Ray cluster, checked before any work."""

from __future__ import annotations

from nassearch.errors import ConfigError
from nassearch.executors.base import ExecutorSettings
from nassearch.executors.ray_cluster import Cluster


def check_needs(cluster: Cluster, settings: ExecutorSettings, *, costs: bool) -> None:
    """Refuse a cluster without nodes for the workers that evaluate and for the one that measures.

    Args:
        cluster: The cluster.
        settings: What is asked of it.
        costs: Whether costs are measured.

    Raises:
        ConfigError: Saying what is missing, and how to bring it.
    """
    faults = []
    if settings.num_workers and not cluster.nodes_with("CPU", settings.threads):
        faults.append(
            f"no node of the Ray cluster has {settings.threads} 'CPU'; ask for fewer `threads`, or add a node with as "
            "many cores"
        )
    for name, metrics in settings.measured_by().items() if costs else ():
        if not cluster.nodes_with(name, 1):
            what = "latency" if metrics is None else ", ".join(metrics)
            faults.append(
                f"no node of the Ray cluster has 1 {name!r}; it marks the nodes that measure {what}: start one with "
                f"`ray start --address=HEAD:6379 --resources='{{\"{name}\": 1}}'`, name another one "
                "(--latency-resource, or resource=NAME in --latency), or leave the measured metrics out"
            )
    if faults:
        raise ConfigError(faults)


def latency_cores(cluster: Cluster, settings: ExecutorSettings, nodes: list[str]) -> int:
    """Return how many cores a measurement may reserve: a node for it alone is often started with none to give away.

    Args:
        cluster: The cluster.
        settings: What is wanted.
        nodes: Ids of the nodes that may measure.
    """
    most = max((cluster.resource(node, "CPU") for node in nodes), default=0.0)
    return min(settings.latency_cpus, int(most))


def room_beside(cluster: Cluster, settings: ExecutorSettings) -> bool:
    """Return whether the cluster has cores for all workers and for a measurement beside them.

    If not, the workers may hold every core of the node that measures, and the measurement would wait for ever.
    """
    return all(_room_at(cluster, settings, name) for name in settings.measured_by())


def _room_at(cluster: Cluster, settings: ExecutorSettings, resource: str) -> bool:
    slots = cluster.nodes_with(resource, 1)
    wanted = latency_cores(cluster, settings, slots)
    free = {node: cluster.resource(node, "CPU") for node in cluster.nodes_with("CPU", 0.0)}

    def workers(spared: str) -> int:
        left = {node: cores - (wanted if node == spared else 0) for node, cores in free.items()}
        return sum(int(max(cores, 0.0) // settings.threads) for cores in left.values())

    able = [node for node in slots if free.get(node, 0.0) >= wanted]
    return any(workers(node) >= settings.num_workers for node in able)
